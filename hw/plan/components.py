"""From a stage and its folding to the engine that computes it: one function an operation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Protocol

from amaranth.lib import wiring

from karui.hw.activations.double_rounding import DoubleRounding, DoubleRoundingConfig
from karui.hw.activations.requantize import Requantize, RequantizeConfig
from karui.hw.activations.threshold import Threshold, ThresholdConfig
from karui.hw.compressed.sparse_matrix_vector import SparseMatrixVector, SparseMatrixVectorConfig
from karui.hw.engines.add import Add, AddConfig
from karui.hw.engines.arg_max import ArgMax, ArgMaxConfig
from karui.hw.engines.channel_shuffle import ChannelShuffle, ChannelShuffleConfig
from karui.hw.engines.complexity import Complexity
from karui.hw.engines.complexity_config import ComplexityConfig
from karui.hw.engines.concat import Concat, ConcatConfig
from karui.hw.engines.constant_engine import ConstantEngine, ConstantEngineConfig
from karui.hw.engines.depthwise_conv import ConstantDepthwiseConv, ConstantDepthwiseConvConfig, DepthwiseConvConfig
from karui.hw.engines.gather import Gather, GatherConfig
from karui.hw.engines.matrix_vector import MatrixVectorConfig, pe_groups
from karui.hw.engines.pool import pool
from karui.hw.engines.pool_config import PoolConfig
from karui.hw.engines.repeat import Repeat, RepeatConfig
from karui.hw.engines.routing import Routing, RoutingConfig
from karui.hw.engines.sliding_window import SlidingWindow, SlidingWindowConfig
from karui.hw.engines.squared_length import SquaredLength, SquaredLengthConfig
from karui.hw.engines.squash import Squash, SquashConfig
from karui.hw.engines.tap_window import TapWindowConfig
from karui.hw.engines.walsh_hadamard import WalshHadamard, WalshHadamardConfig
from karui.hw.generated.generated_layers import GeneratedLayers
from karui.hw.memory.shared_weights import SharedWeightsConfig
from karui.hw.memory.weight_rom import WeightRomConfig
from karui.hw.plan.bit_plane_stage import bit_plane_engine
from karui.hw.plan.capsule_stage import capsule_engine
from karui.hw.plan.complexity_stage import complexity_engine
from karui.hw.plan.estimate import Fold
from karui.hw.plan.generated_stage import GeneratedStageConfig
from karui.hw.plan.sparse_stage import is_sparse, sparse_engine
from karui.hw.plan.stages import Stage, UnsupportedNode
from karui.hw.plan.transfers import connect
from karui.sw import ir

ActivationConfig = ThresholdConfig | RequantizeConfig | DoubleRoundingConfig


class StreamConfig(Protocol):
    """What the parameters of every streaming component tell of its timing."""

    @property
    def interval(self) -> int:
        """Cycles a frame at full rate."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
    """A streaming component of the pipeline, not yet built.

    Parameters
    ----------
    name : str
        Of the stage.
    config : StreamConfig
        The component's parameters.
    lanes_in, lanes_out : int
        Elements a beat at its two sides.
    lanes_beside : int, optional
        Elements a beat at its inputs but the first, if not as many.
    """

    name: str
    config: StreamConfig
    lanes_in: int
    lanes_out: int
    lanes_beside: int | None = None

    def lanes_at(self, port: int) -> int:
        """Elements a beat at an input."""
        return self.lanes_in if port == 0 or self.lanes_beside is None else self.lanes_beside

    @property
    def depths(self) -> range:
        """Depths of frames, where cycles depend on it; otherwise none."""
        return self.config.depths if isinstance(self.config, GeneratedStageConfig) else range(0)

    def at_depth(self, depth: int) -> Engine:
        """The same, its cycles predicted for frames of a depth."""
        if not isinstance(self.config, GeneratedStageConfig):
            return self
        return replace(self, config=replace(self.config, depth=depth))


@singledispatch
def engine(op: ir.Op, stage: Stage, fold: Fold) -> Engine:
    """The engine of a stage.

    Raises
    ------
    UnsupportedNode
        If there is none for the operation or its formats.
    """
    raise UnsupportedNode(f"node {stage.name}: {type(op).__name__} has no engine")


@engine.register
def _(op: ir.MatrixVector, stage: Stage, fold: Fold) -> Engine:
    if is_sparse(stage):
        sparse = sparse_engine(stage, simd=fold.simd, pe=fold.pe, multiplier=fold.multiplier)
        lanes = sparse.segments.lanes
        sparse = replace(sparse, activation=_activation(stage, lanes))
        return Engine(name=stage.name, config=sparse, lanes_in=fold.simd, lanes_out=lanes)
    constants = [stage.graph.constants[name] for name in stage.node.inputs[1:]]
    weights = constants[0]
    config = MatrixVectorConfig(
        outputs=weights.values.shape[0],
        inputs=weights.values.shape[1] * op.groups,
        blocks=op.groups,
        pe=fold.pe,
        simd=fold.simd,
        input_format=stage.source.number_format,
        weight_format=weights.number_format,
        accumulator=op.accumulator,
        bias=constants[1].values if len(constants) == 2 else None,
        activation=_activation(stage, fold.pe),
        positions=stage.positions,
        multiplier=fold.multiplier,
        lut_inputs=fold.lut_inputs,
    )
    source = weight_source(weights, fold)
    both = ConstantEngineConfig(engine=replace(config, weight_latency=source.latency), weights=source)
    return Engine(name=stage.name, config=both, lanes_in=fold.simd, lanes_out=fold.pe)


@engine.register
def _(op: ir.BinaryBases, stage: Stage, fold: Fold) -> Engine:
    config = replace(bit_plane_engine(stage, **fold.of_engine), activation=_activation(stage, fold.pe))
    bases = stage.graph.constants[stage.node.inputs[1]].values
    both = ConstantEngineConfig(engine=config, weights=config.rom(bases))
    return Engine(name=stage.name, config=both, lanes_in=fold.simd, lanes_out=fold.pe)


def weight_source(weights: ir.Constant, fold: Fold) -> WeightRomConfig | SharedWeightsConfig:
    """Where an engine of a folding reads constant weights, by their storage."""
    groups = pe_groups(fold.pe)
    match weights.storage:
        case ir.Shared(vector=vector):
            return SharedWeightsConfig(
                weights=weights.values,
                vector=vector,
                pe=fold.pe,
                simd=fold.simd,
                weight_format=weights.number_format,
                groups=groups,
            )
        case _:
            return WeightRomConfig(
                weights=weights.values,
                pe=fold.pe,
                simd=fold.simd,
                weight_format=weights.number_format,
                groups=groups,
                relayed=True,
            )


@engine.register
def _(op: ir.Threshold | ir.Requantize | ir.DoubleRounding, stage: Stage, fold: Fold) -> Engine:
    config = _activation_of(stage, stage.node, fold.simd, stage.granule, stage.source.elements // stage.granule)
    return Engine(name=stage.name, config=config, lanes_in=fold.simd, lanes_out=fold.simd)


@engine.register
def _(op: ir.SlidingWindow, stage: Stage, fold: Fold) -> Engine:
    config = SlidingWindowConfig.for_node(op, stage.source, fold.simd)
    return Engine(name=stage.name, config=config, lanes_in=fold.simd, lanes_out=fold.simd)


@engine.register
def _(op: ir.DepthwiseConv, stage: Stage, fold: Fold) -> Engine:
    weights, *bias = (stage.graph.constants[name] for name in stage.node.inputs[1:])
    config = DepthwiseConvConfig(
        windows=TapWindowConfig.for_node(op, stage.source, lanes=fold.pe, taps=fold.simd),
        weight_format=weights.number_format,
        accumulator=op.accumulator,
        bias=bias[0].values if bias else None,
        multiplier=fold.multiplier,
    )
    both = ConstantDepthwiseConvConfig(engine=config, weights=weights.values)
    return Engine(name=stage.name, config=both, lanes_in=fold.pe, lanes_out=fold.pe)


@engine.register(ir.MaxPool)
@engine.register(ir.SumPool)
def _(op: ir.MaxPool | ir.SumPool, stage: Stage, fold: Fold) -> Engine:
    config = PoolConfig.for_node(op, stage.source, stage.result.number_format, fold.simd)
    return Engine(name=stage.name, config=config, lanes_in=fold.simd, lanes_out=fold.simd)


@engine.register
def _(op: ir.Squash | ir.SquaredLength | ir.Repeat | ir.Routing, stage: Stage, fold: Fold) -> Engine:
    config = capsule_engine(stage, fold.simd, fold.multiplier)
    lanes_out = 1 if isinstance(op, ir.SquaredLength) else fold.simd
    return Engine(name=stage.name, config=config, lanes_in=fold.simd, lanes_out=lanes_out)


@engine.register
def _(op: ir.Complexity, stage: Stage, fold: Fold) -> Engine:
    return Engine(name=stage.name, config=complexity_engine(stage, fold.simd), lanes_in=1, lanes_out=1)


@engine.register
def _(op: ir.GeneratedLayers, stage: Stage, fold: Fold) -> Engine:
    config = GeneratedStageConfig.for_stage(stage, pe=fold.pe, simd=fold.simd, connect=connect)
    lanes_out = config.layers.lanes_out
    return Engine(name=stage.name, config=config, lanes_in=fold.simd, lanes_out=lanes_out, lanes_beside=1)


@engine.register
def _(op: ir.ArgMax, stage: Stage, fold: Fold) -> Engine:
    config = ArgMaxConfig(element=stage.source.number_format, elements=stage.source.elements, lanes=fold.simd)
    return Engine(name=stage.name, config=config, lanes_in=fold.simd, lanes_out=1)


@engine.register
def _(op: ir.Add, stage: Stage, fold: Fold) -> Engine:
    first, second = stage.sources
    config = AddConfig(
        input_formats=(first.number_format, second.number_format),
        shifts=op.shifts,
        output_format=stage.result.number_format,
        elements=stage.result.elements,
        lanes=fold.simd,
    )
    return Engine(name=stage.name, config=config, lanes_in=fold.simd, lanes_out=fold.simd)


@engine.register
def _(op: ir.Concat, stage: Stage, fold: Fold) -> Engine:
    config = ConcatConfig(
        element=stage.result.number_format,
        channels=tuple(tensor.shape[-1] for tensor in stage.sources),
        positions=stage.positions,
        lanes=fold.simd,
    )
    return Engine(name=stage.name, config=config, lanes_in=fold.simd, lanes_out=fold.simd)


@engine.register
def _(op: ir.ChannelShuffle, stage: Stage, fold: Fold) -> Engine:
    config = ChannelShuffleConfig(
        element=stage.source.number_format,
        channels=stage.source.shape[-1],
        groups=op.groups,
        positions=stage.positions,
        lanes=fold.simd,
    )
    return Engine(name=stage.name, config=config, lanes_in=fold.simd, lanes_out=fold.simd)


@engine.register
def _(op: ir.WalshHadamard, stage: Stage, fold: Fold) -> Engine:
    config = WalshHadamardConfig.for_node(op, stage.source, fold.simd)
    return Engine(name=stage.name, config=config, lanes_in=fold.simd, lanes_out=fold.simd)


@engine.register
def _(op: ir.Gather, stage: Stage, fold: Fold) -> Engine:
    config = GatherConfig(
        element=stage.source.number_format,
        channels=stage.source.shape[-1],
        indices=stage.graph.constants[stage.node.inputs[1]].values,
        positions=stage.source.elements // stage.source.shape[-1],
        lanes=fold.simd,
    )
    return Engine(name=stage.name, config=config, lanes_in=fold.simd, lanes_out=fold.simd)


def _activation(stage: Stage, lanes: int) -> ActivationConfig | None:
    if stage.activation is None:
        return None
    channels = stage.graph.tensors[stage.name].shape[-1]
    return _activation_of(stage, stage.activation, lanes, channels, stage.positions)


def _activation_of(stage: Stage, node: ir.Node, lanes: int, channels: int, positions: int) -> ActivationConfig:
    match node.op:
        case ir.Threshold():
            return _threshold(stage, node, lanes, channels, positions)
        case ir.Requantize() as op:
            return _requantize(op, stage, node, lanes, channels, positions)
        case ir.DoubleRounding() as op:
            return _double_rounding(op, stage, node, lanes, channels, positions)
        case _:
            raise UnsupportedNode(f"node {node.name}: {type(node.op).__name__} is no activation of an engine")


def _threshold(stage: Stage, node: ir.Node, lanes: int, channels: int, positions: int) -> ThresholdConfig:
    return ThresholdConfig(
        channels=channels,
        lanes=lanes,
        thresholds=stage.graph.constants[node.inputs[1]].values,
        input_format=stage.graph.tensors[node.inputs[0]].number_format,
        output_format=stage.graph.tensors[node.name].number_format,
        positions=positions,
    )


def _requantize(
    op: ir.Requantize, stage: Stage, node: ir.Node, lanes: int, channels: int, positions: int
) -> RequantizeConfig:
    multipliers, offsets = (stage.graph.constants[name].values for name in node.inputs[1:])
    return RequantizeConfig(
        channels=channels,
        lanes=lanes,
        multipliers=multipliers,
        offsets=offsets,
        shift=op.shift,
        rounding=op.rounding,
        overflow=op.overflow,
        input_format=stage.graph.tensors[node.inputs[0]].number_format,
        output_format=op.output,
        positions=positions,
    )


def _double_rounding(
    op: ir.DoubleRounding, stage: Stage, node: ir.Node, lanes: int, channels: int, positions: int
) -> DoubleRoundingConfig:
    multipliers, exponents = (stage.graph.constants[name].values for name in node.inputs[1:])
    return DoubleRoundingConfig(
        channels=channels,
        lanes=lanes,
        multipliers=multipliers,
        exponents=exponents,
        zero_point=op.zero_point,
        minimum=op.minimum,
        maximum=op.maximum,
        input_format=stage.graph.tensors[node.inputs[0]].number_format,
        output_format=op.output,
        positions=positions,
    )


@singledispatch
def component(config: StreamConfig) -> wiring.Component:
    """Build the component of a configuration."""
    raise TypeError(f"{type(config).__name__} is not the configuration of a streaming component")


@component.register
def _(config: SparseMatrixVectorConfig) -> wiring.Component:
    return SparseMatrixVector(config)


@component.register
def _(config: ThresholdConfig) -> wiring.Component:
    return Threshold(config)


@component.register
def _(config: RequantizeConfig) -> wiring.Component:
    return Requantize(config)


@component.register
def _(config: DoubleRoundingConfig) -> wiring.Component:
    return DoubleRounding(config)


@component.register
def _(config: SlidingWindowConfig) -> wiring.Component:
    return SlidingWindow(config)


@component.register
def _(config: ConstantDepthwiseConvConfig) -> wiring.Component:
    return ConstantDepthwiseConv(config)


@component.register
def _(config: PoolConfig) -> wiring.Component:
    return pool(config)


@component.register
def _(config: SquashConfig) -> wiring.Component:
    return Squash(config)


@component.register
def _(config: SquaredLengthConfig) -> wiring.Component:
    return SquaredLength(config)


@component.register
def _(config: RepeatConfig) -> wiring.Component:
    return Repeat(config)


@component.register
def _(config: RoutingConfig) -> wiring.Component:
    return Routing(config)


@component.register
def _(config: ComplexityConfig) -> wiring.Component:
    return Complexity(config)


@component.register
def _(config: GeneratedStageConfig) -> wiring.Component:
    return GeneratedLayers(config.layers)


@component.register
def _(config: ArgMaxConfig) -> wiring.Component:
    return ArgMax(config)


@component.register
def _(config: AddConfig) -> wiring.Component:
    return Add(config)


@component.register
def _(config: ConcatConfig) -> wiring.Component:
    return Concat(config)


@component.register
def _(config: ChannelShuffleConfig) -> wiring.Component:
    return ChannelShuffle(config)


@component.register
def _(config: GatherConfig) -> wiring.Component:
    return Gather(config)


@component.register
def _(config: WalshHadamardConfig) -> wiring.Component:
    return WalshHadamard(config)


@component.register
def _(config: ConstantEngineConfig) -> wiring.Component:
    return ConstantEngine(config)
