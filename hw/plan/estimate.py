"""What a stage costs and how long it takes, as a function of its folding: one function an operation.

The logic costs are fitted to mapped ECP5 designs (`karui bench estimate` measures their error); cycle counts
are exact.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import singledispatch
from typing import Any

from karui.hw.arithmetic.integer_dot_product import IntegerDotProductConfig, Multiplier
from karui.hw.arithmetic.popcount import LutInputs
from karui.hw.engines.channel_shuffle import DISTRIBUTED_BANK_WORDS
from karui.hw.engines.matrix_vector import pe_groups
from karui.hw.engines.pool_config import PoolConfig
from karui.hw.engines.sliding_window import SlidingWindowConfig
from karui.hw.engines.tap_window import MEMORY_DISTANCE, TapWindowConfig
from karui.hw.engines.walsh_hadamard import WalshHadamardConfig
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, DISTRIBUTED_ROM_WORDS
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.memory.shared_weights import BOOK_WORDS, SharedWeightsConfig
from karui.hw.plan.activation_cost import activation_lane, cyclic_rom_cost
from karui.hw.plan.bit_plane_stage import bit_plane_cost, bit_plane_engine
from karui.hw.plan.capsule_stage import capsule_cost, capsule_engine
from karui.hw.plan.complexity_stage import complexity_engine
from karui.hw.plan.generated_stage import generated_cost, generated_layers, least_interval
from karui.hw.plan.sparse_stage import is_sparse, sparse_cost, sparse_engine
from karui.hw.plan.stages import Stage, UnsupportedNode
from karui.sw.ir import (
    Add,
    ArgMax,
    BinaryBases,
    ChannelShuffle,
    Complexity,
    Concat,
    Constant,
    DepthwiseConv,
    DoubleRounding,
    Gather,
    GeneratedLayers,
    MatrixVector,
    MaxPool,
    Op,
    Repeat,
    Requantize,
    Routing,
    Shared,
    SlidingWindow,
    SquaredLength,
    Squash,
    SumPool,
    Threshold,
    WalshHadamard,
)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Parallelism of a stage.

    Parameters
    ----------
    simd : int
        Elements taken a cycle.
    pe : int
        Elements of the result produced together.
    planes, bases : int
        Of binary bases: bit planes of an element and bases of an output that are taken at once.
    multiplier : {"dsp", "lut"}
        What products of integers are made of, where the stage has any.
    lut_inputs : {4, 6}
        Inputs of the target's look-up tables, which population counts are built for.
    far : bool
        Whether the stage may lie far from those before it, as in a design that fills its device: what it tells them
        passes a register.
    """

    simd: int
    pe: int
    planes: int = 1
    bases: int = 1
    multiplier: Multiplier = "dsp"
    lut_inputs: LutInputs = 4
    far: bool = False

    @property
    def of_engine(self) -> dict[str, Any]:
        """What concerns the engine itself, by name: all but the registers before it."""
        return {name: value for name, value in asdict(self).items() if name != "far"}

    def __str__(self) -> str:
        further = "".join(
            f" x {count} {what}" for count, what in ((self.planes, "planes"), (self.bases, "bases")) if count > 1
        )
        made = " in look-up tables" if self.multiplier == "lut" else ""
        return f"SIMD {self.simd} x PE {self.pe}{further}{made}"


def multipliers(stage: Stage) -> tuple[Multiplier, ...]:
    """What a stage's products can be made of; the default alone where nothing is multiplied."""
    if isinstance(stage.op, BinaryBases | Squash | SquaredLength | Routing):
        return ("dsp", "lut")
    if isinstance(stage.op, MatrixVector | DepthwiseConv) and not weights_of(stage).number_format.is_bipolar:
        return ("dsp", "lut")
    return (Fold.multiplier,)


def weights_of(stage: Stage) -> Constant:
    """The weights of a stage that multiplies."""
    return stage.graph.constants[stage.node.inputs[1]]


@singledispatch
def cycles(op: Op, stage: Stage, fold: Fold) -> int:
    """Cycles that a frame occupies a stage.

    Raises
    ------
    UnsupportedNode
        If the operation has no engine.
    """
    raise UnsupportedNode(f"node {stage.name}: {type(op).__name__} has no engine")


@singledispatch
def cost(op: Op, stage: Stage, fold: Fold) -> Resources:
    """Cells of a stage; refuses as `cycles` does."""
    raise UnsupportedNode(f"node {stage.name}: {type(op).__name__} has no engine")


@cycles.register
def _(op: MatrixVector, stage: Stage, fold: Fold) -> int:
    if is_sparse(stage):
        return sparse_engine(stage, simd=fold.simd, pe=fold.pe, multiplier=fold.multiplier).interval
    return stage.positions * (_outputs(stage) // fold.pe) * (stage.source.shape[-1] // op.groups // fold.simd)


@cost.register
def _(op: MatrixVector, stage: Stage, fold: Fold) -> Resources:
    if is_sparse(stage):
        return sparse_cost(stage, simd=fold.simd, pe=fold.pe, multiplier=fold.multiplier)
    inputs, outputs = stage.source.shape[-1] // op.groups, _outputs(stage)
    groups = pe_groups(fold.pe)
    weight_format = weights_of(stage).number_format
    weights = _weights(weights_of(stage), fold, groups)
    bits = stage.source.number_format.bits
    replay = Resources()
    if outputs // op.groups > fold.pe:
        replay = memory_cost(2 * (inputs // fold.simd), fold.simd * bits, distributed=DISTRIBUTED_RAM_WORDS)
    accumulator = op.accumulator.bits
    per_element, dsps = 2.0 * accumulator, 0
    # An XNOR and its share of the popcount tree; a wider input is gated and summed by carry chains.
    products_luts = fold.pe * fold.simd * (3.3 if bits == 1 else 1.0 + 2.0 * (bits + 1))
    if not weight_format.is_bipolar:
        products = IntegerDotProductConfig(
            rows=fold.pe // groups,
            simd=fold.simd,
            input_format=stage.source.number_format,
            weight_format=weight_format,
            multiplier=fold.multiplier,
        )
        dsps += groups * products.dsps
        # Four bits of distributed RAM and the logic that writes them take six look-up tables.
        products_luts = groups * products.luts + 0.5 * replay.luts
        # The queue at the output, distributed RAM too.
        per_element += 1.5 * stage.result.number_format.bits
    lane = Resources() if stage.activation is None else activation_lane(stage.activation, stage, outputs // fold.pe)
    return Resources(
        luts=round(products_luts + fold.pe * (per_element + lane.luts)) + 170 + weights.luts * groups + replay.luts,
        block_rams=weights.block_rams * groups + replay.block_rams + fold.pe * lane.block_rams,
        dsps=dsps + fold.pe * lane.dsps,
    )


def _weights(weights: Constant, fold: Fold, groups: int) -> Resources:
    """The memory that a group of processing elements has its weights from."""
    words = weights.values.size // (fold.pe * fold.simd)
    rows = fold.pe // groups
    if not isinstance(weights.storage, Shared):
        return memory_cost(words, rows * fold.simd * weights.number_format.bits, distributed=DISTRIBUTED_ROM_WORDS)
    shared = SharedWeightsConfig(
        weights=weights.values,
        vector=weights.storage.vector,
        pe=fold.pe,
        simd=fold.simd,
        weight_format=weights.number_format,
    )
    look_ups = shared.look_ups // groups
    indices = memory_cost(words // shared.parts, look_ups * shared.index_format.bits, distributed=DISTRIBUTED_ROM_WORDS)
    book = memory_cost(
        len(shared.book) * shared.parts, shared.looked_up * weights.number_format.bits, distributed=BOOK_WORDS
    )
    return Resources(
        luts=indices.luts + look_ups * book.luts, block_rams=indices.block_rams + look_ups * book.block_rams
    )


@cycles.register
def _(op: BinaryBases, stage: Stage, fold: Fold) -> int:
    return bit_plane_engine(stage, **fold.of_engine).interval


@cost.register
def _(op: BinaryBases, stage: Stage, fold: Fold) -> Resources:
    return bit_plane_cost(stage, bit_plane_engine(stage, **fold.of_engine))


@cycles.register
def _(op: DepthwiseConv, stage: Stage, fold: Fold) -> int:
    return TapWindowConfig.for_node(op, stage.source, lanes=fold.pe, taps=fold.simd).frame_steps


@cost.register
def _(op: DepthwiseConv, stage: Stage, fold: Fold) -> Resources:
    windows = TapWindowConfig.for_node(op, stage.source, lanes=fold.pe, taps=fold.simd)
    weight_format = weights_of(stage).number_format
    bits = stage.source.number_format.bits
    per_product, dsps = float(bits + 2), 0
    if not weight_format.is_bipolar:
        products = IntegerDotProductConfig(
            rows=1,
            simd=fold.simd,
            input_format=stage.source.number_format,
            weight_format=weight_format,
            multiplier=fold.multiplier,
        )
        dsps = fold.pe * products.dsps
        # Behind multipliers a tree of adders; in look-up tables, a dot product a bit of the weights and one more.
        per_product = products.product_format.bits if dsps else (products.plane_count + 1) * (bits + 5) + 2 * bits
    words = windows.pixel_beats * windows.words_per_window
    weights = memory_cost(words, fold.pe * fold.simd * weight_format.bits, distributed=DISTRIBUTED_ROM_WORDS)
    has_bias = len(stage.node.inputs) == 3
    per_sum = op.accumulator.bits * (1.5 + 2 * (has_bias or windows.words_per_window > 1) + has_bias)
    return Resources(luts=round(fold.pe * (fold.simd * per_product + per_sum)), dsps=dsps) + weights + _taps(windows)


def _taps(windows: TapWindowConfig) -> Resources:
    """Cells of the line buffer and of all that puts taps side by side."""
    bits = windows.lanes * windows.element.bits
    row = memory_cost(windows.row_beats_in, bits, distributed=DISTRIBUTED_RAM_WORDS)
    column = windows.kernel[0] * bits
    # A multiplexer of the rows for each bit of a column.
    luts = (140 if windows.taps == "window" else 230) + 0.75 * windows.buffer_rows * column
    earlier = Resources()
    if windows.taps == "window" and windows.pixel_beats >= MEMORY_DISTANCE:
        earlier = memory_cost(windows.pixel_beats, (windows.kernel[1] - 1) * column, distributed=DISTRIBUTED_RAM_WORDS)
    # Distributed RAM is half as dear again as a ROM.
    return Resources(
        luts=round(luts + 1.5 * (row.luts * windows.buffer_rows + earlier.luts)),
        block_rams=row.block_rams * windows.buffer_rows + earlier.block_rams,
    )


@cycles.register
def _(op: SlidingWindow, stage: Stage, fold: Fold) -> int:
    return max(stage.source.elements, stage.result.elements) // fold.simd


@cost.register
def _(op: SlidingWindow, stage: Stage, fold: Fold) -> Resources:
    words = SlidingWindowConfig.for_node(op, stage.source, fold.simd).buffer_words
    luts = 195 + 2.4 * _width(stage, fold.simd) + (60 if op.groups > 1 else 0)
    return Resources(luts=round(luts)) + memory_cost(words, _width(stage, fold.simd), distributed=DISTRIBUTED_RAM_WORDS)


@cycles.register
def _(op: Squash | SquaredLength | Repeat | Routing, stage: Stage, fold: Fold) -> int:
    return capsule_engine(stage, fold.simd, fold.multiplier).interval


@cost.register
def _(op: Squash | SquaredLength | Repeat | Routing, stage: Stage, fold: Fold) -> Resources:
    return capsule_cost(capsule_engine(stage, fold.simd, fold.multiplier))


@cycles.register
def _(op: Complexity, stage: Stage, fold: Fold) -> int:
    return complexity_engine(stage, fold.simd).interval


@cost.register
def _(op: Complexity, stage: Stage, fold: Fold) -> Resources:
    return complexity_engine(stage, fold.simd).cost


@cycles.register
def _(op: GeneratedLayers, stage: Stage, fold: Fold) -> int:
    return least_interval(generated_layers(stage, pe=fold.pe, simd=fold.simd), op.last_depth)


@cost.register
def _(op: GeneratedLayers, stage: Stage, fold: Fold) -> Resources:
    return generated_cost(generated_layers(stage, pe=fold.pe, simd=fold.simd))


@cycles.register
def _(op: Gather, stage: Stage, fold: Fold) -> int:
    return max(stage.source.elements, stage.result.elements) // fold.simd


@cycles.register(Add)
@cycles.register(ChannelShuffle)
@cycles.register(Threshold)
@cycles.register(Requantize)
@cycles.register(DoubleRounding)
@cycles.register(ArgMax)
@cycles.register(WalshHadamard)
def _(op: Op, stage: Stage, fold: Fold) -> int:
    return stage.source.elements // fold.simd


@cost.register
def _(op: Threshold | Requantize | DoubleRounding, stage: Stage, fold: Fold) -> Resources:
    lane = activation_lane(stage.node, stage, stage.granule // fold.simd)
    return Resources(
        luts=30 + fold.simd * lane.luts, block_rams=fold.simd * lane.block_rams, dsps=fold.simd * lane.dsps
    )


@cycles.register(MaxPool)
@cycles.register(SumPool)
def _(op: MaxPool | SumPool, stage: Stage, fold: Fold) -> int:
    return _pool(op, stage, fold).frame_steps


@cost.register(MaxPool)
@cost.register(SumPool)
def _(op: MaxPool | SumPool, stage: Stage, fold: Fold) -> Resources:
    pool = _pool(op, stage, fold)
    width = fold.simd * stage.result.number_format.bits
    if pool.adjoins:
        words = pool.output_width * pool.pixel_beats
        per_bit = 3.6 if pool.reduction == "sum" else 5.3
        return Resources(luts=round(85 + per_bit * width)) + memory_cost(
            words, width, distributed=DISTRIBUTED_RAM_WORDS
        )
    reductions = pool.windows.word_taps - (pool.windows.words_per_window == 1)
    per_bit = 1.5 if pool.reduction == "sum" else 2.5 if pool.element.bits > 1 else 0.5
    bits = fold.simd * pool.element.bits
    return Resources(luts=round(per_bit * reductions * bits + 1.5 * width)) + _taps(pool.windows)


def _pool(op: MaxPool | SumPool, stage: Stage, fold: Fold) -> PoolConfig:
    return PoolConfig.for_node(op, stage.source, stage.result.number_format, fold.simd)


@cost.register
def _(op: ArgMax, stage: Stage, fold: Fold) -> Resources:
    return Resources(luts=30 + fold.simd * 2 * stage.source.number_format.bits)


@cycles.register
def _(op: Concat, stage: Stage, fold: Fold) -> int:
    return stage.result.elements // fold.simd


@cost.register
def _(op: Add, stage: Stage, fold: Fold) -> Resources:
    return Resources(luts=30 + fold.simd * 2 * stage.result.number_format.bits + _queue(stage, fold))


@cost.register
def _(op: Concat, stage: Stage, fold: Fold) -> Resources:
    return Resources(luts=30 + _width(stage, fold.simd) * (len(stage.reads) - 1) + _queue(stage, fold))


@cost.register
def _(op: ChannelShuffle, stage: Stage, fold: Fold) -> Resources:
    bits, lanes = stage.source.number_format.bits, fold.simd
    words = stage.source.shape[-1] // lanes
    if words == 1:
        return Resources(luts=_width(stage, lanes))
    bank = memory_cost(2 * words, bits, distributed=DISTRIBUTED_BANK_WORDS)
    # Two crossbars of a multiplexer a bit, and their tables with the addresses', 16 words a look-up table.
    selected = (lanes - 1).bit_length()
    tables = -(-words // 16) * lanes * (2 * selected + (words - 1).bit_length())
    crossbars = 2 * (lanes - 1) * _width(stage, 1) * lanes * 2 // 3
    return Resources(
        luts=110 + crossbars + tables + bank.luts * lanes + _queue(stage, fold), block_rams=bank.block_rams * lanes
    )


@cost.register
def _(op: Gather, stage: Stage, fold: Fold) -> Resources:
    lanes, width = fold.simd, _width(stage, fold.simd)
    words_in, words_out = stage.source.shape[-1] // lanes, stage.result.shape[-1] // lanes
    copy = memory_cost(2 << (words_in - 1).bit_length(), width, distributed=DISTRIBUTED_RAM_WORDS)
    choice = (words_in - 1).bit_length() + (lanes - 1).bit_length() + 1
    table = cyclic_rom_cost(words_out, lanes * choice)
    # Each lane selects among the elements of a beat.
    luts = 100 + lanes * (3 * copy.luts // 2) + (lanes - 1) * width * 2 // 3 + width + _queue(stage, fold)
    return Resources(luts=luts, block_rams=lanes * copy.block_rams) + table


@cost.register
def _(op: WalshHadamard, stage: Stage, fold: Fold) -> Resources:
    config = WalshHadamardConfig.for_node(op, stage.source, fold.simd)
    total = Resources(luts=90 + 2 * _queue(stage, fold))
    for stage_number, arithmetic in enumerate(config.sums):
        # A sum for each element of a beat, or a difference; butterflies have both, and choose what they hold.
        width = arithmetic.operand.width + 1
        total += Resources(luts=fold.simd * width)
        if stage_number < len(config.butterflies):
            butterfly = config.butterflies[stage_number]
            groups, counters = len(config.groups), 2 * butterfly.distance.bit_length() + 6
            total += Resources(luts=2 * fold.simd * width + groups * counters)
            if not butterfly.in_registers:
                delay = memory_cost(butterfly.distance, butterfly.lanes * width, distributed=DISTRIBUTED_RAM_WORDS)
                # Distributed RAM is half as dear again as a ROM.
                total += Resources(luts=groups * (3 * delay.luts // 2), block_rams=groups * delay.block_rams)
    return total


def _queue(stage: Stage, fold: Fold) -> int:
    """Look-up tables of a short queue in distributed RAM at a stage's output."""
    return 2 * fold.pe * stage.result.number_format.bits


def _outputs(stage: Stage) -> int:
    return int(stage.graph.tensors[stage.name].shape[-1])


def _width(stage: Stage, lanes: int) -> int:
    return lanes * stage.source.number_format.bits
