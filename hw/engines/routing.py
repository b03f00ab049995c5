"""Routing by agreement: predictions in, output capsules out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.engines.prediction_source import (
    KeptPredictions,
    KeptPredictionsConfig,
    PassingPredictions,
    PassingPredictionsConfig,
)
from karui.hw.engines.routing_couplings import Couplings, CouplingsConfig
from karui.hw.engines.routing_logits import Logits, LogitsConfig
from karui.hw.engines.squash import SquashConfig, SquashPipeline
from karui.hw.engines.weighted_sums import WeightedSums, WeightedSumsConfig
from karui.hw.memory.banked_ram import BankedRam, BankedRamConfig
from karui.hw.memory.deep_fifo import LEAST_DEPTH, DeepFifo, DeepFifoConfig
from karui.hw.memory.ring import ring
from karui.hw.streams.counters import cycle, level
from karui.hw.streams.skid_buffer import SkidBuffer
from karui.hw.streams.stream import FIFO_LATENCY, delayed, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.ir import Routing as RoutingOp
from karui.sw.numerics import NumberFormat

_BEHIND = 2
"""Turns of beats by which coefficients, and so products, are behind agreements."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RoutingConfig:
    """Parameters of a `Routing`.

    Parameters
    ----------
    op : karui.sw.ir.Routing
    element : NumberFormat
        Format of the predictions.
    capsules : int
        Capsules I that predict.
    lanes : int
        Elements of a prediction a cycle; divides its length.
    gains, powers, reciprocals : ndarray of int64
        The operation's tables.
    multiplier : {"dsp", "lut"}
        What products are made of, but for those that scale: two a coefficient or logit.
    kept : bool
        Whether predictions come once and are kept, or come again for each iteration.

    Raises
    ------
    ValueError
        If the lanes do not divide a prediction.
    """

    op: RoutingOp
    element: NumberFormat
    capsules: int
    lanes: int
    gains: npt.NDArray[np.int64]
    powers: npt.NDArray[np.int64]
    reciprocals: npt.NDArray[np.int64]
    multiplier: Multiplier = "dsp"
    kept: bool = True

    def __post_init__(self) -> None:
        require_divisor("lanes of a routing", self.lanes, self.op.length, "elements of a prediction")

    @property
    def folds(self) -> int:
        """Beats of a prediction, and of an output capsule."""
        return self.op.length // self.lanes

    @property
    def turn(self) -> int:
        """Beats of a capsule's predictions, and of the result."""
        return self.op.outputs * self.folds

    @property
    def beats(self) -> int:
        """Beats of a pass over the predictions."""
        return self.capsules * self.turn

    @property
    def pass_cycles(self) -> int:
        """Cycles of a pass over the predictions: two turns more, for the coefficients that are behind."""
        return (self.capsules + _BEHIND) * self.turn

    @property
    def predictions(self) -> KeptPredictionsConfig | PassingPredictionsConfig:
        """Where the predictions of a pass come from.

        Those that are not kept wait between passes. There is room for those that come meanwhile, one a cycle, and for
        those by which passes are late until they catch up with the next frame: so slow ones never wait.
        """
        if self.kept:
            return KeptPredictionsConfig(element=self.element, lanes=self.lanes, beats=self.beats)
        between = self.iteration_cycles - self.beats
        depth = between + self.vector_latency + self.folds + LEAST_DEPTH
        return PassingPredictionsConfig(element=self.element, lanes=self.lanes, folds=self.folds, depth=depth)

    @property
    def vectors(self) -> BankedRamConfig:
        """The memory of the output capsules of the iteration before."""
        return BankedRamConfig(words=self.turn, width=self.lanes * self.op.output.bits)

    @property
    def word_latency(self) -> int:
        """Cycles from a step of a pass to its prediction and the capsule's elements."""
        of_prediction = self.predictions.latency if self.kept else 0
        return max(of_prediction, self.vectors.latency)

    @property
    def logits(self) -> LogitsConfig:
        """What adds agreements up."""
        return LogitsConfig(
            op=self.op, element=self.element, capsules=self.capsules, lanes=self.lanes, multiplier=self.multiplier
        )

    @property
    def couplings(self) -> CouplingsConfig:
        """What makes coefficients of logits."""
        return CouplingsConfig(op=self.op, powers=self.powers, reciprocals=self.reciprocals)

    @property
    def sums(self) -> WeightedSumsConfig:
        """What adds weighted predictions up."""
        return WeightedSumsConfig(
            op=self.op, element=self.element, capsules=self.capsules, lanes=self.lanes, multiplier=self.multiplier
        )

    @property
    def squash(self) -> SquashConfig:
        """What makes output capsules of the sums."""
        return SquashConfig(
            channels=self.op.length,
            lanes=self.lanes,
            input_format=self.op.sums,
            output_format=self.op.output,
            gains=self.gains,
            shift=self.op.squash_shift,
            multiplier=self.multiplier,
        )

    @property
    def weigh_latency(self) -> int:
        """Cycles from a step to the product of the prediction of two turns before.

        The step's own prediction ends with its last beat; the coefficient then is held for as many beats.
        """
        return self.word_latency + self.folds - 1 + self.logits.latency + self.couplings.latency + 1

    @property
    def rings(self) -> tuple[int, ...]:
        """Lengths of the rings in which a prediction waits for its coefficient: two turns of steps, and then cycles.

        Steps that take kept predictions follow one another: then a single ring is enough, that turns in every cycle. A
        register is behind each ring.
        """
        steps, cycles = _BEHIND * self.turn, self.weigh_latency - self.word_latency
        return (steps + cycles - 1,) if self.kept else (steps, cycles - 2)

    @property
    def vector_latency(self) -> int:
        """Cycles from a step that completes a sum to the element of the output capsule, were it the last of it."""
        return self.weigh_latency + self.sums.latency + self.squash.latency

    @property
    def iteration_cycles(self) -> int:
        """Cycles from the start of a pass to that of the next one over the same frame, which needs its result."""
        return self.pass_cycles + self.vector_latency + 1

    @property
    def frame_cycles(self) -> int:
        """Cycles from the start of a frame's first pass to that of the next frame."""
        return (self.op.iterations - 1) * self.iteration_cycles + self.pass_cycles + 1

    @property
    def result_latency(self) -> int:
        """Cycles from the start of a frame's last pass to the first beat of the result."""
        return self.pass_cycles - self.turn + 1 + self.vector_latency + FIFO_LATENCY + 1

    @property
    def results(self) -> int:
        """Frames whose last pass has begun and whose results have not all left: enough for the full rate."""
        held = self.result_latency + self.turn
        return 1 + -(-held // min(self.interval, self.frame_cycles))

    @property
    def output(self) -> DeepFifoConfig:
        """The queue of results."""
        depth = max(LEAST_DEPTH, self.results * self.turn)
        return DeepFifoConfig(element=self.op.output, lanes=self.lanes, depth=depth)

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return max(self.beats, self.frame_cycles)


class Routing(wiring.Component):
    """Routes predictions by agreement, a pass over all of them for each iteration.

    Predictions are written to one half of a memory while those of the frame before, in the other half, are routed; or
    they come again for each pass, and none is kept but those that come between passes. In a pass each beat is read
    once: with the output capsule of the iteration before it makes an agreement, which is added to the prediction's
    logit; the J logits of a capsule become coefficients; the beat itself comes again, out of a ring that delays it, and
    is weighted and summed. So a pass takes I * J * D / lanes cycles, or as many as its predictions take to come, and
    two turns of J * D / lanes more. Behind its last beat the sums are squashed; the next pass begins when they are, a
    pass of the next frame at once. In a frame's first pass all coefficients are alike.

    Latency and throughput: ``config.iteration_cycles``, ``config.frame_cycles``, ``config.result_latency``.

    Parameters
    ----------
    config : RoutingConfig

    Members
    -------
    i : In(stream)
        Predictions in order (i, j, element), `lanes` elements a beat; if they are not kept, as often as there are
        iterations.
    o : Out(stream)
        Output capsules in order (j, element), likewise.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: RoutingConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.element, config.lanes))),
                "o": Out(stream.Signature(lanes_of(config.op.output, config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, op = self.config, self.config.op
        m.submodules.predictions = predictions = (
            KeptPredictions(config.predictions)
            if isinstance(config.predictions, KeptPredictionsConfig)
            else PassingPredictions(config.predictions)
        )
        wiring.connect(m, wiring.flipped(self.i), predictions.i)
        m.submodules.vectors = vectors = BankedRam(config.vectors)
        m.submodules.sums = sums = WeightedSums(config.sums)
        m.submodules.squash = squash = SquashPipeline(config.squash)
        m.submodules.output = output = DeepFifo(config.output)
        wiring.connect(m, sums.o, squash.i)
        # A block RAM answers late in the cycle: a register is left of it to what reads the stream.
        m.submodules.end = end = SkidBuffer(lanes_of(op.output, config.lanes))
        wiring.connect(m, output.o, end.i)
        wiring.connect(m, end.o, wiring.flipped(self.o))

        # Passes: a frame's first one waits for kept predictions, the others for the result of the one before; the last
        # one waits for room for its result besides. Each of a pass's steps waits for its prediction, if that is not
        # kept; those behind the last prediction wait for nothing.
        running, steps, ends_pass, starts = Signal(), Signal(), Signal(), Signal()
        is_real = Signal(init=1)
        beat = cycle(m, "beat", config.turn, step=steps)
        turn = cycle(m, "turn", config.capsules + _BEHIND, step=steps & beat.is_last)
        number = cycle(m, "pass", op.iterations, step=ends_pass)
        ends_frame, result_leaves = Signal(), Signal()
        m.d.comb += [
            steps.eq(running & (~is_real | predictions.is_there)),
            predictions.take.eq(steps & is_real),
            ends_pass.eq(steps & beat.is_last & turn.is_last),
            ends_frame.eq(ends_pass & number.is_last),
            predictions.ends_frame.eq(ends_frame),
        ]
        results = level(m, "results", config.results, up=starts & number.is_last, down=result_leaves)
        result_is_there = Signal()
        may_start = Mux(number.is_first, predictions.frame_is_there, result_is_there)
        m.d.comb += starts.eq(~running & may_start & ~(number.is_last & results.full))
        with m.If(starts):
            m.d.sync += running.eq(1)
        with m.Elif(ends_pass):
            m.d.sync += running.eq(0)

        # Of each step of a pass: whether it is of a prediction, and whether of one two turns before a product is made.
        weighs, begins = Signal(), Signal()
        with m.If(steps & beat.is_last):
            m.d.sync += [
                is_real.eq(turn.is_last | (is_real & (turn.number != config.capsules - 1))),
                weighs.eq(~turn.is_last & (weighs | (turn.number == _BEHIND - 1))),
                begins.eq(turn.number == _BEHIND - 1),
            ]
        m.d.comb += vectors.read_address.eq(beat.number)

        word = delayed(m, predictions.word, config.word_latency - config.predictions.latency, name="word")
        vector = delayed(m, vectors.read_data, config.word_latency - config.vectors.latency, name="vector")
        valid = delayed(m, steps, config.word_latency, name="word_valid", control=True)
        flags = delayed(m, Cat(is_real, number.number == 1), config.word_latency, name="word_flags")
        coupling = self._coupling(m, valid, word, vector, flags)

        weigh_flags = delayed(m, Cat(begins, turn.is_last, number.is_first), config.weigh_latency, name="weigh_flags")
        m.d.comb += [
            sums.i.valid.eq(delayed(m, steps & weighs, config.weigh_latency, name="weighs", control=True)),
            sums.i.payload.begins.eq(weigh_flags[0]),
            sums.i.payload.ends.eq(weigh_flags[1]),
            sums.i.payload.coupling.eq(Mux(weigh_flags[2], op.first_coupling, coupling)),
            sums.i.payload.word.as_value().eq(self._waited(m, word, valid)),
        ]
        self._results(m, squash, vectors, output, result_is_there, starts)
        sent = cycle(m, "sent", config.turn, step=self.o.valid & self.o.ready)
        m.d.comb += result_leaves.eq(self.o.valid & self.o.ready & sent.is_last)
        return m

    def _coupling(self, m: Module, valid: Value, word: Value, vector: Value, flags: Value) -> Value:
        """The coefficient of the prediction that is weighted, from the second pass on."""
        config = self.config
        if config.op.iterations == 1:
            return Value.cast(config.op.first_coupling)
        m.submodules.logits = logits = Logits(config.logits)
        m.submodules.couplings = couplings = Couplings(config.couplings)
        wiring.connect(m, logits.o, couplings.i)
        m.d.comb += [
            logits.i.valid.eq(valid),
            logits.i.payload.word.as_value().eq(word),
            logits.i.payload.capsule.as_value().eq(vector),
            logits.i.payload.is_real.eq(flags[0]),
            logits.i.payload.is_fresh.eq(flags[1]),
        ]
        held = Signal.like(couplings.o.payload, name="coupling", reset_less=True)
        with m.If(couplings.o.valid):
            m.d.sync += held.eq(couplings.o.payload)
        return held

    def _waited(self, m: Module, word: Value, step: Value) -> Value:
        """A beat when its coefficient is there."""
        *steps, cycles = self.config.rings
        for length in steps:
            word = delayed(m, ring(m, "behind", word, length, step=step), 1, name="behind_waiting")
        return delayed(m, ring(m, "waiting", word, cycles, step=Value.cast(1)), 1, name="waited")

    def _results(
        self,
        m: Module,
        squash: SquashPipeline,
        vectors: BankedRam,
        output: DeepFifo,
        result_is_there: Signal,
        starts: Signal,
    ) -> None:
        """Keep the capsules of all iterations but the last for the next pass; let those of the last one out."""
        config = self.config
        made = squash.o.valid
        place = cycle(m, "made", config.turn, step=made)
        number = cycle(m, "iteration", config.op.iterations, step=made & place.is_last)
        m.d.comb += [
            vectors.write_enable.eq(made),
            vectors.write_address.eq(place.number),
            vectors.write_data.eq(squash.o.payload),
            output.i.valid.eq(made & number.is_last),
            output.i.payload.eq(squash.o.payload),
        ]
        with m.If(made & place.is_last):
            m.d.sync += result_is_there.eq(~number.is_last)
        with m.Elif(starts):
            m.d.sync += result_is_there.eq(0)
