"""The bit-plane engine: products with scaled binary bases, on the components of binary networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Array, Cat, Module, Signal, Value, unsigned
from amaranth.lib import data

from karui.hw.activations.threshold import ThresholdConfig
from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.arithmetic.popcount import LutInputs
from karui.hw.engines.bit_plane_group import BitPlaneGroup, BitPlaneGroupConfig
from karui.hw.engines.coefficient_sums import CoefficientSumsConfig
from karui.hw.engines.lane_group import ScalingConfig
from karui.hw.engines.plane_products import PlaneProductsConfig
from karui.hw.engines.replayed_engine import ReplayedEngine
from karui.hw.engines.staggered_groups import connect_groups, staggered_latency
from karui.hw.memory.memory_style import Storage
from karui.hw.memory.replay_buffer import REPLAY_DELAY, ReplayBufferConfig
from karui.hw.memory.weight_rom import WEIGHT_ROM_LATENCY, WeightRomConfig
from karui.hw.memory.word_source import WeightSource
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import FIFO_LATENCY, delayed
from karui.hw.streams.timing import Cycles, Schedule, divisors, require_divisor
from karui.sw.numerics import NumberFormat

Integers = npt.NDArray[np.int64]

LARGEST_GROUP = 8
"""Most lanes that share a multiplier, and the registers that drive them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BitPlaneEngineConfig:
    """Parameters of a `BitPlaneEngine`.

    Parameters
    ----------
    inputs : int
        Elements K of a vector.
    coefficients : ndarray of int64, shape (M, bases)
        What the products with each output's bases are multiplied with.
    negatives : ndarray of int64, shape (M, bases)
        How many weights of each base are -1.
    bias : ndarray of int64, shape (M,), optional
        What is added.
    blocks : int
        Equal parts of a vector, and of its result, that have nothing to do with each other: outputs of block b are sums
        over the inputs of block b alone.
    pe, simd : int
        Outputs computed together and inputs taken a cycle; they divide M and K, of a block.
    planes, bases : int
        Bit planes and bases at once; they divide those that there are.
    input_format : NumberFormat
        Format of an input element, unsigned.
    accumulator : NumberFormat
        Format of the results' sums, signed; finished sums must fit (in between they may wrap).
    activation : ThresholdConfig, RequantizeConfig or DoubleRoundingConfig, optional
        Applied to the sums before they leave; for M channels, in lanes of `pe`. Without it the sums leave.
    positions : int
        Vectors a frame.
    weight_latency : int
        Latency of the weight source, 3 or more.
    storage : {"block", "distributed", "auto"}
        Memory that holds the vectors while they are replayed.
    multiplier : {"dsp", "lut"}
        What products with coefficients are made of.
    lut_inputs : {4, 6}
        Inputs of the target's look-up tables; a population count is built from them.

    Raises
    ------
    ValueError
        If a folding factor does not divide its dimension, or formats and shapes do not fit each other.
    """

    inputs: int
    coefficients: Integers
    negatives: Integers
    pe: int
    simd: int
    input_format: NumberFormat
    accumulator: NumberFormat
    planes: int = 1
    bases: int = 1
    blocks: int = 1
    bias: Integers | None = None
    activation: ThresholdConfig | ScalingConfig | None = None
    positions: int = 1
    weight_latency: int = WEIGHT_ROM_LATENCY
    storage: Storage = "auto"
    multiplier: Multiplier = "dsp"
    lut_inputs: LutInputs = 4

    def __post_init__(self) -> None:
        if self.coefficients.ndim != 2 or self.negatives.shape != self.coefficients.shape:
            raise ValueError(
                f"coefficients and negatives must be of shape (outputs, bases), not {self.coefficients.shape} and "
                f"{self.negatives.shape}"
            )
        if self.bias is not None and self.bias.shape != (self.outputs,):
            raise ValueError(f"bias must be of shape ({self.outputs},), not {self.bias.shape}")
        for total, what in ((self.outputs, "outputs"), (self.inputs, "inputs")):
            require_divisor("blocks", self.blocks, total, what)
        of_a_block = "" if self.blocks == 1 else " of a block"
        require_divisor("pe", self.pe, self.outputs // self.blocks, f"outputs{of_a_block}")
        require_divisor("simd", self.simd, self.inputs // self.blocks, f"inputs{of_a_block}")
        require_divisor("planes", self.planes, self.input_format.bits, "bits of an input")
        require_divisor("bases", self.bases, self.coefficients.shape[1], "bases")
        if self.input_format.kind != "unsigned":
            raise ValueError(f"inputs of a bit-plane engine must be unsigned, not {self.input_format}")
        if self.accumulator.kind != "signed":
            raise ValueError(f"accumulator must be signed, not {self.accumulator}")
        if self.positions < 1:
            raise ValueError(f"positions must be 1 or more, not {self.positions}")
        if self.weight_latency < WEIGHT_ROM_LATENCY:
            raise ValueError(
                f"weight_latency must be {WEIGHT_ROM_LATENCY} or more, not {self.weight_latency}; delay the weights"
            )
        if self.activation is not None and (self.activation.channels, self.activation.lanes) != (self.outputs, self.pe):
            raise ValueError(
                f"the activation must have {self.outputs} channels in {self.pe} lanes, not "
                f"{self.activation.channels} in {self.activation.lanes}"
            )

    @property
    def outputs(self) -> int:
        """Elements M of a result."""
        return int(self.coefficients.shape[0])

    @property
    def output_fold(self) -> int:
        """Beats of a result: M / PE."""
        return self.outputs // self.pe

    @property
    def input_fold(self) -> int:
        """Beats of a block's part of a vector: K / blocks / SIMD."""
        return self.inputs // self.blocks // self.simd

    @property
    def rounds(self) -> int:
        """Runs of bases, one after another."""
        return int(self.coefficients.shape[1]) // self.bases

    @property
    def turns(self) -> int:
        """Runs of planes, one after another."""
        return self.input_format.bits // self.planes

    @property
    def round_cycles(self) -> int:
        """Cycles between two totals of a lane."""
        return self.turns * self.input_fold

    @property
    def result_cycles(self) -> int:
        """Cycles of a beat of results."""
        return self.rounds * self.round_cycles

    @property
    def interval(self) -> int:
        """Cycles a frame: positions * (M / PE) * (bases / at once) * (bits / planes) * (K / blocks / SIMD)."""
        return self.positions * self.output_fold * self.result_cycles

    @property
    def output_format(self) -> NumberFormat:
        """Format of a result."""
        return self.accumulator if self.activation is None else self.activation.output_format

    @property
    def group_lanes(self) -> int:
        """Lanes of a group: as many as one multiplier serves, up to `LARGEST_GROUP`."""
        return group_lanes(self.pe, self.bases, self.round_cycles)

    @property
    def groups(self) -> int:
        """Groups of lanes."""
        return self.pe // self.group_lanes

    @property
    def rows(self) -> int:
        """Weight vectors of a cycle."""
        return self.pe * self.bases

    @property
    def weight_source(self) -> WeightSource:
        """Signature of the bases' words."""
        return WeightSource(groups=self.groups, width=self.rows // self.groups * self.simd)

    @property
    def offsets(self) -> Integers:
        """What is added to products with coefficients: the bias, and what counts lack to be products."""
        bias = np.zeros(self.outputs, dtype=np.int64) if self.bias is None else self.bias
        if not self.products(1).counts:
            return bias
        lacking: Integers = (self.coefficients * self.negatives).sum(axis=1)
        return bias - self.input_format.maximum * lacking

    @property
    def prepare_latency(self) -> int:
        """Cycles from a word to the operand that its planes make."""
        return max(self.products(1).products.prepare_latency, int(self.turns > 1))

    @property
    def replay(self) -> ReplayBufferConfig:
        """The buffer at the input, of the parts of vectors that blocks multiply."""
        return ReplayBufferConfig(
            number_format=self.input_format,
            lanes=self.simd,
            words=self.input_fold,
            passes=self.output_fold // self.blocks * self.rounds * self.turns,
            latency=self.weight_latency - self.prepare_latency,
            storage=self.storage,
        )

    @property
    def pipeline_latency(self) -> int:
        """Cycles from the take of a fold's last word to its valid tag at the end of the pipeline."""
        return self.weight_latency + staggered_latency(self.group_latencies)

    @cached_property
    def group_latencies(self) -> tuple[int, ...]:
        """Cycles from the operands of each group to its results."""
        return tuple(self.group(index).latency for index in range(self.groups))

    @property
    def latency(self) -> int:
        """Cycles from the transfer of a vector's last beat to the first beat of its result, in an idle engine."""
        rest = self.result_cycles - self.input_fold
        return REPLAY_DELAY + rest + self.pipeline_latency + FIFO_LATENCY

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat, with weights that are always available; see `Schedule`."""
        accepted, last_takes = self.replay.takes(arrivals)
        ends = last_takes.reshape(-1, self.rounds * self.turns)[:, -1]
        return Schedule(accepted=accepted, departures=ends + self.pipeline_latency + FIFO_LATENCY)

    def rom(self, bases: Integers) -> WeightRomConfig:
        """The ROM of bases (M, k, K / blocks) of -1 and +1; a run of them comes again for each turn of planes."""
        outputs, count, inputs = bases.shape
        parts = bases.reshape(outputs // self.pe, self.pe, count // self.bases, self.bases, inputs)
        return WeightRomConfig(
            weights=parts.transpose(0, 2, 1, 3, 4).reshape(outputs * count, inputs),
            pe=self.rows,
            simd=self.simd,
            groups=self.groups,
            repeats=self.turns,
        )

    def products(self, rows: int) -> PlaneProductsConfig:
        """The products with so many bases."""
        return PlaneProductsConfig(
            rows=rows,
            simd=self.simd,
            words=self.input_fold,
            bits=self.input_format.bits,
            planes=self.planes,
            lut_inputs=self.lut_inputs,
        )

    def group(self, index: int) -> BitPlaneGroupConfig:
        """The lanes of one group."""
        lanes = self.group_lanes
        first = index * lanes
        by_fold = self.coefficients.reshape(self.output_fold, self.pe, -1)[:, first : first + lanes]
        activation = self.activation
        if activation is not None:
            sliced = activation.lane_slice(first, lanes)
            period = 1 if lanes > 1 else self.result_cycles
            activation = replace(sliced, channels=self.output_fold * lanes, lanes=1, period=period)
        products = self.products(lanes * self.bases)
        return BitPlaneGroupConfig(
            products=products,
            sums=CoefficientSumsConfig(
                total_format=products.total_format,
                sum_format=self.accumulator,
                coefficients=by_fold,
                offsets=self.offsets.reshape(self.output_fold, self.pe)[:, first : first + lanes],
                at_once=self.bases,
                products=next(few for few in divisors(self.bases) if lanes * self.bases // few <= self.round_cycles),
                multiplier=self.multiplier,
            ),
            activation=activation,
        )


def group_lanes(pe: int, bases: int, round_cycles: int) -> int:
    """Lanes that share a multiplier: their totals of so many bases are multiplied before the next ones are there."""
    most = max(1, min(LARGEST_GROUP, round_cycles // bases))
    return max(lanes for lanes in divisors(pe) if lanes <= most)


class BitPlaneEngine(ReplayedEngine):
    """Multiplies vectors of unsigned words by sums of scaled binary matrices, bit-exactly.

    For each vector, for each block of it, for each fold of PE outputs, for each run of bases, for each run of bit
    planes, the most significant first, the engine takes K / blocks / SIMD words of activations and bases, one pair a
    cycle, and yields a beat of PE results for each fold: (M / PE) * (bases / at once) * (bits / planes) *
    (K / blocks / SIMD) cycles a vector, back to back. Lanes form groups that share a multiplier for coefficients, each
    group a cycle behind the one before. A fold starts only when the output has a place for its result.

    Parameters
    ----------
    config : BitPlaneEngineConfig

    Members
    -------
    i : In(stream)
        Vectors, `simd` elements a beat.
    weights : In(WeightSource)
        Bases in the order of the loop; latency ``config.weight_latency``. In a group's part, element
        ``(lane * bases + base) * SIMD + j`` is of that lane and base.
    o : Out(stream)
        Results, `pe` a beat.
    """

    def __init__(self, config: BitPlaneEngineConfig) -> None:
        self.config = config
        super().__init__(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        issue = Signal()
        word = cycle(m, "word", config.input_fold, step=issue)
        turn = cycle(m, "turn", config.turns, step=issue & word.is_last)
        base = cycle(m, "base", config.rounds, step=issue & word.is_last & turn.is_last)
        is_first = word.is_first & turn.is_first & base.is_first
        replay, output = self.issue_words(m, config, issue=issue, is_first=is_first, cycles=config.result_cycles)
        valid = delayed(m, issue, config.weight_latency, name="valid", control=True)
        activations = self._operand(m, replay.o.data, turn.number)
        connect_groups(
            m,
            [BitPlaneGroup(config.group(index)) for index in range(config.groups)],
            latencies=config.group_latencies,
            valid=valid,
            activations=activations,
            weights=[self.weights.data[index] for index in range(config.groups)],
            output=output,
        )
        return m

    def _operand(self, m: Module, word: data.View[data.ArrayLayout], turn: Signal) -> Value:
        """What the planes of a turn make of the word that was taken in it."""
        config = self.config
        products, planes = config.products(1).products, config.planes
        runs = [
            Cat(word[index][first : first + planes] for index in range(config.simd))
            for first in range(0, config.input_format.bits, planes)
        ]
        runs.reverse()
        values = Signal(data.ArrayLayout(unsigned(planes), config.simd), name="planes")
        selected = runs[0] if len(runs) == 1 else Array(runs)[delayed(m, turn, config.replay.latency, name="turn")]
        m.d.comb += values.as_value().eq(selected)
        rest = config.prepare_latency - products.prepare_latency
        return delayed(m, products.prepare(m, values), rest, name="selected")
