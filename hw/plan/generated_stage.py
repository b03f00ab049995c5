"""Stages with generated kernels: their engine for frames of one depth, how long these take, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from karui.hw.activations.requantize import RequantizeConfig
from karui.hw.arithmetic.integer_dot_product import IntegerDotProductConfig
from karui.hw.engines.constant_engine import ConstantEngineConfig
from karui.hw.engines.depthwise_conv import ConstantDepthwiseConvConfig
from karui.hw.engines.lane_group import ProductsConfig
from karui.hw.engines.matrix_vector import MatrixVectorConfig
from karui.hw.engines.sliding_window import SlidingWindowConfig
from karui.hw.generated.euler_generator import EulerGeneratorConfig
from karui.hw.generated.generated_layers_config import GeneratedLayersConfig
from karui.hw.generated.layer_scaling import LayerScalingConfig
from karui.hw.generated.low_rank_generator import LowRankGeneratorConfig
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, DISTRIBUTED_ROM_WORDS
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.plan.event_graph import EventGraph
from karui.hw.plan.generated_transfers import GeneratedTransfers, InnerTransfers
from karui.hw.plan.stages import Stage
from karui.sw.ir import GeneratedLayers

_ROUNDS, _FRAMES = 10_000, 8
"""Rounds in which transfers settle, and frames by which they may be later than those of a lone frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneratedStageConfig:
    """Layers with generated kernels, and the depth of the frames that cycles are predicted for.

    Parameters
    ----------
    layers : GeneratedLayersConfig
        Parameters of the component.
    depth : int
        One of the depths that frames may have.
    connect : callable
        `karui.hw.plan.transfers.connect`, for the components inside.

    Raises
    ------
    ValueError
        If no frame has the depth.
    ArithmeticError
        From `interval` and `generation`, if transfers inside wait for one another forever, which is a fault of the
        prediction.
    """

    layers: GeneratedLayersConfig
    depth: int
    connect: InnerTransfers

    def __post_init__(self) -> None:
        depths = self.layers.op.depths
        if self.depth not in depths:
            raise ValueError(f"frames have a depth of {depths[0]} to {depths[-1]}, not {self.depth}")

    @classmethod
    def for_stage(cls, stage: Stage, *, pe: int, simd: int, connect: InnerTransfers) -> GeneratedStageConfig:
        """The layers of a stage, for the deepest frames."""
        layers = generated_layers(stage, pe=pe, simd=simd)
        return cls(layers=layers, depth=layers.op.last_depth, connect=connect)

    @property
    def depths(self) -> range:
        """Depths that frames may have."""
        return self.layers.op.depths

    @cached_property
    def interval(self) -> int:
        """Cycles a frame: the least at which all transfers inside keep to one schedule, frame after frame.

        Where generators set the pace, and not the convolution, a memory's two halves can make every other frame a cycle
        shorter.
        """
        graph = EventGraph()
        layers = self.layers
        maps, complexity = graph.events(layers.entry.beats), graph.events(1)
        output = graph.events(layers.elements // layers.lanes_out)
        GeneratedTransfers(layers, self.depth, graph, self.connect).connect(maps, complexity, output)
        alone = graph.earliest(graph.every(0), rounds=_ROUNDS)
        if alone is None:
            raise ArithmeticError(f"layers of depth {self.depth} do not settle")

        def keeps(period: int) -> bool:
            return graph.earliest(alone, period=period, rounds=_ROUNDS, within=_FRAMES * period) is not None

        least, step = least_interval(layers, self.depth), 1
        if keeps(least):
            return least
        # Too short an interval is known; one that is long enough is looked for in growing steps, then by halves.
        while not keeps(least + step):
            least, step = least + step, 2 * step
        most = least + step
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (least, middle) if keeps(middle) else (middle, most)
        return most

    @cached_property
    def generation(self) -> int:
        """Cycles from a frame's complexity to the last of its kernels, as a generator takes that nothing holds up."""
        graph = EventGraph()
        complexity = graph.events(1)
        kernels = GeneratedTransfers(self.layers, self.depth, graph, self.connect).kernels(complexity)
        alone = graph.earliest(graph.every(0), rounds=_ROUNDS)
        if alone is None:
            raise ArithmeticError(f"kernels of depth {self.depth} do not settle")
        return int(alone[kernels][-1] - alone[complexity][0])


def generated_layers(stage: Stage, *, pe: int, simd: int) -> GeneratedLayersConfig:
    """The engine of a stage of generated layers."""
    op, graph = stage.op, stage.graph
    if not isinstance(op, GeneratedLayers):
        raise TypeError(f"{type(op).__name__} generates no layers")
    feature_map, complexity = stage.sources
    height, width, channels = feature_map.shape
    constants = (graph.constants[name].values for name in stage.node.inputs[2:])
    return GeneratedLayersConfig(
        op=op,
        height=height,
        width=width,
        channels=channels,
        complexity=complexity.number_format,
        constants=dict(zip(op.constants(channels), constants, strict=True)),
        pe=pe,
        simd=simd,
    )


def least_interval(layers: GeneratedLayersConfig, depth: int) -> int:
    """Cycles of a frame whose layers follow one another without a gap."""
    return depth * max(layers.convolution.interval, layers.windows.frame_steps, layers.kernels.layer_cycles)


def generated_cost(layers: GeneratedLayersConfig) -> Resources:
    """Cells of such an engine, estimated."""
    total = _windows(layers.windows) + _products(layers.convolution) + _scaling(layers.scaling) + layers.memory.cost
    total += layers.loop_queue.cost + Resources(luts=320 + 3 * layers.pe * layers.op.accumulator.bits // 2)
    if layers.op.residual:
        total += layers.held.cost
    match layers.kernels:
        case EulerGeneratorConfig() as euler:
            return total + _euler(euler)
        case LowRankGeneratorConfig() as low_rank:
            return total + _low_rank(low_rank)


def _euler(euler: EulerGeneratorConfig) -> Resources:
    multiply, lanes = euler.loop.multiply, euler.lanes
    ends = Resources(luts=240 + 190 * lanes, dsps=lanes * multiply.multipliers)
    convolutions = _constant(euler.pattern) + _constant(euler.pointwise) + _depthwise(euler.depthwise)
    queues = euler.held.cost + euler.loop_queue.cost
    return ends + convolutions + queues + euler.columns.cost + _rounding(euler.smoothed)


def _low_rank(low_rank: LowRankGeneratorConfig) -> Resources:
    return low_rank.columns.cost + low_rank.factors.cost + low_rank.memory.cost + _products(low_rank.products)


def _constant(both: ConstantEngineConfig) -> Resources:
    """A product with constants."""
    assert isinstance(both.engine, MatrixVectorConfig)
    weights = both.weights
    rom = memory_cost(
        weights.weights.size // (weights.pe * weights.simd), weights.width, distributed=DISTRIBUTED_ROM_WORDS
    )
    return _products(both.engine) + Resources(
        luts=rom.luts * weights.groups, block_rams=rom.block_rams * weights.groups
    )


def _products(engine: MatrixVectorConfig) -> Resources:
    """A product, but for its weights."""
    replay = Resources()
    if engine.output_fold > 1:
        width = engine.simd * engine.input_format.bits
        replay = memory_cost(2 * engine.input_fold, width, distributed=DISTRIBUTED_RAM_WORDS)
    group = _integers(engine.lane_group(0).products)
    lane = 2.0 * engine.accumulator.bits + 1.5 * engine.output_format.bits
    total = Resources(luts=round(engine.pe * lane) + 170 + 3 * replay.luts // 2, block_rams=replay.block_rams)
    total += Resources(luts=round(engine.groups * group.luts), dsps=engine.groups * group.dsps)
    return total + (_rounding(engine.activation) if isinstance(engine.activation, RequantizeConfig) else Resources())


def _integers(products: ProductsConfig) -> IntegerDotProductConfig:
    assert isinstance(products, IntegerDotProductConfig)
    return products


def _rounding(rounding: RequantizeConfig) -> Resources:
    """Roundings that do not multiply."""
    return Resources(luts=rounding.lanes * (60 + 3 * rounding.input_format.bits))


def _depthwise(both: ConstantDepthwiseConvConfig) -> Resources:
    engine, windows = both.engine, both.engine.windows
    bits = windows.lanes * windows.element.bits
    row = memory_cost(windows.row_beats_in, bits, distributed=DISTRIBUTED_RAM_WORDS)
    rom = memory_cost(
        windows.pixel_beats * windows.words_per_window,
        engine.pe * engine.simd * engine.weight_format.bits,
        distributed=DISTRIBUTED_ROM_WORDS,
    )
    products = _integers(engine.lane(0).products)
    luts = 230 + 0.75 * windows.buffer_rows * windows.kernel[0] * bits + engine.pe * 3.5 * engine.accumulator.bits
    return rom + Resources(
        luts=round(luts + 1.5 * row.luts * windows.buffer_rows + engine.pe * products.luts),
        block_rams=row.block_rams * windows.buffer_rows,
        dsps=engine.pe * products.dsps,
    )


def _windows(windows: SlidingWindowConfig) -> Resources:
    bits = windows.lanes * windows.element.bits
    return Resources(luts=round(195 + 2.4 * bits)) + memory_cost(
        windows.buffer_words, bits, distributed=DISTRIBUTED_RAM_WORDS
    )


def _scaling(scaling: LayerScalingConfig) -> Resources:
    multiply = scaling.multiply
    added = 60 + 20 * (len(multiply.partials) - 1) + 1.7 * multiply.gates + 12 * scaling.op.residual
    constants = memory_cost(len(scaling.words), scaling.lanes * sum(scaling.constant_bits), distributed=0)
    return constants + Resources(luts=60 + round(scaling.lanes * added), dsps=scaling.lanes * multiply.multipliers)
