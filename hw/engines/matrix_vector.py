"""The matrix-vector engine: PE outputs of a layer at a time, from SIMD inputs a cycle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Signal

from karui.hw.activations.threshold import ThresholdConfig
from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.arithmetic.popcount import LutInputs
from karui.hw.engines.lane_group import (
    LaneGroup,
    LaneGroupConfig,
    ProductsConfig,
    ScalingConfig,
    SumActivation,
    products,
)
from karui.hw.engines.replayed_engine import ReplayedEngine
from karui.hw.engines.staggered_groups import connect_groups, staggered_latency
from karui.hw.memory.memory_style import Storage
from karui.hw.memory.replay_buffer import REPLAY_DELAY, ReplayBufferConfig
from karui.hw.memory.weight_rom import WEIGHT_ROM_LATENCY
from karui.hw.memory.word_source import WeightSource
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import FIFO_LATENCY, delayed
from karui.hw.streams.timing import Cycles, Schedule, divisors, require_divisor
from karui.sw.numerics import BIPOLAR, NumberFormat, format_for_range

_NARROW_ENGINE = 16
"""Up to so many processing elements form groups of 2, more of them groups of 4: what one set of control registers can
drive fast (784 x 256 on ECP5-85F: 236 to 255 MHz with 2, 232 with 4) against the registers that bring many groups
together again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MatrixVectorConfig:
    """Parameters of a `MatrixVector`.

    Parameters
    ----------
    outputs, inputs : int
        Elements M of a result and K of a vector.
    blocks : int
        Equal parts of a vector, and of its result, that have nothing to do with each other (a grouped convolution):
        outputs of block b are sums over the inputs of block b alone. The matrix has M rows of K / blocks weights.
    pe, simd : int
        Outputs computed together and inputs taken a cycle; they divide M and K, of a block.
    input_format, weight_format : NumberFormat
        Format of an input element and of a weight: bipolar, unsigned or signed.
    accumulator : NumberFormat
        Format of the sums, wide enough for every product of the matrix.
    bias : ndarray of shape (M,), optional
        Integers that are added to the sums.
    activation : ThresholdConfig, RequantizeConfig or DoubleRoundingConfig, optional
        Applied to the sums before they leave; for M channels, in lanes of `pe`. Without it the sums leave.
    positions : int
        Vectors a frame.
    weight_latency : int
        Latency of the weight source, 3 or more.
    storage : {"block", "distributed", "auto"}
        Memory that holds the vectors while they are replayed.
    multiplier : {"dsp", "lut"}
        What products with integer weights are made of.
    lut_inputs : {4, 6}
        Inputs of the target's look-up tables; a population count is built from them.

    Raises
    ------
    ValueError
        If a folding factor does not divide its dimension, or formats and shapes do not fit each other.
    """

    outputs: int
    inputs: int
    pe: int
    simd: int
    input_format: NumberFormat
    accumulator: NumberFormat
    weight_format: NumberFormat = BIPOLAR
    blocks: int = 1
    bias: npt.NDArray[Any] | None = None
    activation: ThresholdConfig | ScalingConfig | None = None
    positions: int = 1
    weight_latency: int = WEIGHT_ROM_LATENCY
    storage: Storage = "auto"
    multiplier: Multiplier = "dsp"
    lut_inputs: LutInputs = 4

    def __post_init__(self) -> None:
        for total, what in ((self.outputs, "outputs"), (self.inputs, "inputs")):
            require_divisor("blocks", self.blocks, total, what)
        of_a_block = "" if self.blocks == 1 else " of a block"
        require_divisor("pe", self.pe, self.outputs // self.blocks, f"outputs{of_a_block}")
        require_divisor("simd", self.simd, self.inputs // self.blocks, f"inputs{of_a_block}")
        if self.accumulator.kind != "signed":
            raise ValueError(f"accumulator must be signed, not {self.accumulator}")
        if self.bias is not None and self.bias.shape != (self.outputs,):
            raise ValueError(f"bias must be of shape ({self.outputs},), not {self.bias.shape}")
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
    def output_fold(self) -> int:
        """Beats of a result: M / PE."""
        return self.outputs // self.pe

    @property
    def input_fold(self) -> int:
        """Beats of a block's part of a vector: K / blocks / SIMD."""
        return self.inputs // self.blocks // self.simd

    @property
    def output_format(self) -> NumberFormat:
        """Format of a result."""
        return self.accumulator if self.activation is None else self.activation.output_format

    @property
    def products(self) -> ProductsConfig:
        """The dot products of a cycle."""
        return products(
            self.pe,
            self.simd,
            self.input_format,
            self.weight_format,
            multiplier=self.multiplier,
            lut_inputs=self.lut_inputs,
        )

    @property
    def groups(self) -> int:
        """Groups of processing elements."""
        return pe_groups(self.pe)

    @property
    def weight_source(self) -> WeightSource:
        """Signature of the weights."""
        return WeightSource(groups=self.groups, width=self.pe // self.groups * self.simd * self.weight_format.bits)

    @property
    def interval(self) -> int:
        """Cycles a frame: positions * (M / PE) * (K / blocks / SIMD)."""
        return self.positions * self.output_fold * self.input_fold

    @property
    def replay(self) -> ReplayBufferConfig:
        """The buffer at the input, of the parts of vectors that blocks multiply."""
        return ReplayBufferConfig(
            number_format=self.input_format,
            lanes=self.simd,
            words=self.input_fold,
            passes=self.output_fold // self.blocks,
            latency=self.weight_latency - self.products.prepare_latency,
            storage=self.storage,
        )

    @property
    def pipeline_latency(self) -> int:
        """Cycles from the take of a fold's last word to its valid tag at the end of the pipeline."""
        return self.weight_latency + staggered_latency(self.group_latencies)

    @cached_property
    def group_latencies(self) -> tuple[int, ...]:
        """Cycles from the operands of each group to its results."""
        return tuple(self.lane_group(index).latency for index in range(self.groups))

    @property
    def latency(self) -> int:
        """Cycles from the transfer of a vector's last beat to the first beat of its result, in an idle engine."""
        return REPLAY_DELAY + self.pipeline_latency + FIFO_LATENCY

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat, with weights that are always available; see `Schedule`."""
        accepted, last_takes = self.replay.takes(arrivals)
        return Schedule(accepted=accepted, departures=last_takes.reshape(-1) + self.pipeline_latency + FIFO_LATENCY)

    def lane_group(self, group: int) -> LaneGroupConfig:
        """The processing elements of one group.

        They add up terms to ``p``, which is ``(y - c) / scale`` for a sum ``y``: in general ``p`` is the
        dot product itself and ``c`` the bias; of bipolar vectors ``p`` counts equal bits, ``y = 2 p - K + bias``.
        Instead of comparing ``y`` with a threshold ``t``, ``p`` is compared with ``ceil((t - c) / scale)``; a single
        threshold costs no comparator at all: the sum starts from its negative, and the sign is the result.
        """
        lanes = self.pe // self.groups
        first = group * lanes
        constant = np.zeros(self.outputs, dtype=np.int64) if self.bias is None else self.bias.astype(np.int64)
        scale: Literal[1, 2] = 1
        term = self.products.term_format
        # What formats allow, and what the accumulator was proven to hold.
        low = max(self.input_fold * term.minimum, self.accumulator.minimum - int(constant.max()))
        high = min(self.input_fold * term.maximum, self.accumulator.maximum - int(constant.min()))
        if self.input_format.is_bipolar and self.weight_format.is_bipolar:
            length = self.inputs // self.blocks
            constant = constant - length
            scale, low, high = 2, 0, length
        initial, sum_format = constant, self.accumulator
        activation: SumActivation = None
        if isinstance(self.activation, ScalingConfig):
            activation = replace(self.activation.lane_slice(first, lanes), period=self.input_fold)
        elif self.activation is not None:
            # Out of the range of p a threshold is reached always or never, as it is at the range's edge.
            reached = -((constant[:, None] - self.activation.thresholds) // scale)
            reached = reached.clip(low, high + 1)
            scale = 1
            if reached.shape[1] == 1:
                initial = -reached[:, 0]
                sum_format = format_for_range(low - (high + 1), high - low)
                activation = "sign"
            else:
                initial = np.zeros_like(constant)
                sum_format = format_for_range(low, high)
                ladder = replace(self.activation, thresholds=reached, input_format=sum_format, period=self.input_fold)
                activation = ladder.lane_slice(first, lanes)
        by_fold = initial.reshape(self.output_fold, self.pe)
        return LaneGroupConfig(
            lanes=lanes,
            simd=self.simd,
            terms=self.input_fold,
            input_format=self.input_format,
            weight_format=self.weight_format,
            output_format=self.output_format,
            scale=scale,
            sum_format=sum_format,
            initial=by_fold[:, first : first + lanes],
            activation=activation,
            multiplier=self.multiplier,
            lut_inputs=self.lut_inputs,
        )


def pe_groups(pe: int) -> int:
    """Number of groups that `pe` processing elements form."""
    largest = 2 if pe <= _NARROW_ENGINE else 4
    return pe // max(size for size in divisors(pe) if size <= largest)


class MatrixVector(ReplayedEngine):
    """Multiplies vectors by a matrix, bit-exactly.

    For each vector, for each block of it, for each fold of PE outputs, the engine takes K / blocks / SIMD words of
    activations and weights, one pair a cycle, and yields a beat of PE results: (M / PE) * (K / blocks / SIMD) cycles a
    vector, back to back. A block's words are kept in a `ReplayBuffer`; those of the next are accepted meanwhile. The
    processing elements form groups, each a cycle behind the one before, so that no register drives more than one group;
    the results are brought together again at the end. A fold starts only when the output has a place for its result.

    Parameters
    ----------
    config : MatrixVectorConfig

    Members
    -------
    i : In(stream)
        Vectors, `simd` elements a beat.
    weights : In(WeightSource)
        Weights in the order of the loop; latency ``config.weight_latency``.
    o : Out(stream)
        Results, `pe` a beat.
    """

    def __init__(self, config: MatrixVectorConfig) -> None:
        self.config = config
        super().__init__(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        issue = Signal()
        word = cycle(m, "word", config.input_fold, step=issue)
        replay, output = self.issue_words(m, config, issue=issue, is_first=word.is_first, cycles=config.input_fold)
        valid = delayed(m, issue, config.weight_latency, name="valid", control=True)
        activations = config.products.prepare(m, replay.o.data)
        connect_groups(
            m,
            [LaneGroup(config.lane_group(index)) for index in range(config.groups)],
            latencies=config.group_latencies,
            valid=valid,
            activations=activations,
            weights=[self.weights.data[index] for index in range(config.groups)],
            output=output,
        )
        return m
