"""Layers with generated kernels against their definition: words at any pauses, and every cycle at every depth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.generated.euler_generator import EulerGeneratorConfig, EulerKernels
from karui.hw.generated.frame_orders import FrameOrders
from karui.hw.generated.generated_layers import GeneratedLayers
from karui.hw.generated.generated_layers_config import GeneratedLayersConfig
from karui.hw.generated.low_rank_generator import LowRankGeneratorConfig, LowRankKernels
from karui.hw.plan.event_graph import EventGraph
from karui.hw.plan.generated_stage import GeneratedStageConfig, least_interval
from karui.hw.plan.generated_transfers import GeneratedTransfers
from karui.hw.plan.transfers import connect
from karui.hw.streams.stream import lanes_of
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import InputRun, OutputRun, run_streams
from karui.sw.golden import compute
from karui.sw.ir import EulerGenerator, LowRankGenerator
from karui.sw.ir import GeneratedLayers as LayersOp
from karui.sw.ir.generated_bounds import convolution_range
from karui.sw.ir.generated_kernels import euler_step, initial_state, kernels_of, layer_factors
from karui.sw.ir.puppet_ops import FACTOR, KERNEL, STATE, Generator
from karui.sw.numerics import format_for_range, unsigned

EULER = EulerGenerator(
    levels=5,
    rank=3,
    pattern_shift=7,
    depthwise_shift=7,
    pointwise_shift=8,
    limit=1 << 12,
    step_shift=10,
    kernel_shift=6,
)
LOW_RANK = LowRankGenerator(levels=5, rank=6, terms=4, centre=2, h_shift=2, a_shift=8, u_shift=7, kernel_shift=15)
ENDS = {
    "base": (-1500, 1500),
    "step": (500, 1000),
    "phi": (-2048, 2048),
    "multipliers": (3, 12),
    "offsets": (-400_000, 500_000),
}
# Complexities from which frames are a layer deeper.
STEPS = (2000, 4000)


def _config(
    generator: Generator,
    *,
    size: tuple[int, int] = (4, 3),
    channels: int = 4,
    pe: int = 2,
    simd: int = 4,
    first_depth: int = 2,
    steps: tuple[int, ...] = STEPS,
    residual: bool = False,
) -> GeneratedLayersConfig:
    op = LayersOp(
        generator=generator,
        first_depth=first_depth,
        depth_steps=steps,
        level_shift=9,
        first_level=2,
        accumulator=format_for_range(*convolution_range(channels, unsigned(8))),
        shift=12 if channels == 4 else 13,
        output=unsigned(8),
        residual=residual,
    )
    rng = np.random.default_rng(7)
    constants = {
        name: rng.integers(*ENDS.get(name, (-128, 128)), shape) for name, shape in op.constants(channels).items()
    }
    return GeneratedLayersConfig(
        op=op,
        height=size[0],
        width=size[1],
        channels=channels,
        complexity=unsigned(13),
        constants=constants,
        pe=pe,
        simd=simd,
    )


def _complexity(config: GeneratedLayersConfig, depth: int) -> int:
    """The least complexity of a depth."""
    return (0, *config.op.depth_steps)[depth - config.op.first_depth]


def _play(
    config: GeneratedLayersConfig,
    depths: list[int],
    *,
    source: BackPressure = BackPressure.NONE,
    sink: BackPressure = BackPressure.NONE,
    built: GeneratedLayersConfig | None = None,
) -> tuple[bool, dict[str, InputRun], OutputRun]:
    """Whether frames of such depths come out right, and when."""
    rng = np.random.default_rng(len(depths))
    maps = rng.integers(0, 256, (len(depths), config.height, config.width, config.channels))
    complexity = np.array([[_complexity(config, depth) + rng.integers(1000)] for depth in depths])
    constants = [torch.from_numpy(config.constants[name]) for name in config.op.constants(config.channels)]
    expected = compute(config.op, torch.from_numpy(maps), torch.from_numpy(complexity), *constants).numpy()
    assert len(np.unique(expected)) > 15
    inputs, outputs = run_streams(
        GeneratedLayers(built or config),
        {"i_0": maps.reshape(-1, config.simd), "i_1": complexity},
        {"o": expected.size // config.lanes_out},
        source=source,
        sink=sink,
        seed=len(depths),
    )
    return np.array_equal(outputs["o"].words.reshape(expected.shape), expected), inputs, outputs["o"]


def _check_cycles(config: GeneratedLayersConfig, depth: int, frames: int = 3) -> int:
    """Every cycle of a lone frame, and the interval of frames that follow one another; returns it."""
    graph = EventGraph()
    maps, complexity = graph.events(config.entry.beats), graph.events(1)
    output = graph.events(config.elements // config.lanes_out)
    GeneratedTransfers(config, depth, graph, connect).connect(maps, complexity, output)
    cycles = graph.earliest(graph.every(0), rounds=1000)
    assert cycles is not None
    stage = GeneratedStageConfig(layers=config, depth=depth, connect=connect)
    equal, inputs, outputs = _play(config, [depth] * frames)
    assert equal
    departures = outputs.departures.reshape(frames, -1)
    assert departures[0].tolist() == cycles[output].tolist()
    assert inputs["i_0"].accepted[: config.entry.beats].tolist() == cycles[maps].tolist()
    steps = set(np.diff(departures[:, -1]).tolist())
    if stage.interval == depth * config.convolution.interval:
        assert steps == {stage.interval}
    else:
        assert steps <= {stage.interval - 1, stage.interval}
    return stage.interval


@pytest.mark.parametrize("generator", [EULER, LOW_RANK])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_depths(generator: Generator, depth: int) -> None:
    config = _config(generator, residual=depth == 3)
    assert _check_cycles(config, depth) == depth * config.convolution.interval


@pytest.mark.parametrize(
    ("generator", "shape"),
    [
        (EULER, {"pe": 4, "simd": 4, "size": (3, 3)}),
        (EULER, {"channels": 6, "pe": 6, "simd": 3, "size": (3, 3), "steps": (), "residual": True}),
        (replace(EULER, rank=1, levels=1), {"pe": 1, "simd": 2, "first_depth": 1, "steps": ()}),
        (LOW_RANK, {"pe": 4, "simd": 4, "size": (3, 3)}),
        (replace(LOW_RANK, rank=1, terms=1, levels=1, centre=0), {"pe": 1, "simd": 1, "first_depth": 1, "steps": ()}),
        (
            replace(LOW_RANK, terms=5),
            {"channels": 6, "pe": 6, "simd": 6, "size": (3, 3), "steps": (), "residual": True},
        ),
    ],
)
def test_shapes(generator: Generator, shape: dict[str, int]) -> None:
    config = _config(generator, **shape)
    depth = config.op.last_depth
    assert _check_cycles(config, depth) >= least_interval(config, depth)


@pytest.mark.parametrize(("rank", "size", "terms", "padded"), [(7, (6, 5), 3, 9), (10, (7, 7), 2, 10)])
def test_a_pattern_takes_as_few_terms_a_cycle_as_keep_up(
    rank: int, size: tuple[int, int], terms: int, padded: int
) -> None:
    config = _config(replace(EULER, rank=rank), size=size)
    assert isinstance(config.kernels, EulerGeneratorConfig)
    assert (config.kernels.terms, config.kernels.rank) == (terms, padded)
    assert _check_cycles(config, 3) == 3 * config.convolution.interval


class _Kernels(wiring.Component):
    """Complexities in, kernels out: the generator with nothing behind it."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: GeneratedLayersConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.complexity, 1))),
                "o": Out(stream.Signature(lanes_of(KERNEL, config.kernels.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kernels, readers = self.config.kernels, self.config.orders.readers - 2
        m.submodules.orders = orders = FrameOrders(replace(self.config.orders, readers=readers))
        m.submodules.kernels = component = (
            EulerKernels(kernels) if isinstance(kernels, EulerGeneratorConfig) else LowRankKernels(kernels)
        )
        wiring.connect(m, wiring.flipped(self.i), orders.i)
        for reader, order in enumerate(orders.outputs):
            wiring.connect(m, order, getattr(component, f"orders_{reader}"))
        m.d.comb += component.given.eq(orders.given)
        wiring.connect(m, component.o, wiring.flipped(self.o))
        return m


@pytest.mark.parametrize("generator", [EULER, LOW_RANK])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_generation_alone(generator: Generator, depth: int) -> None:
    config = _config(generator)
    beats = depth * config.memory.beats
    inputs, outputs = run_streams(_Kernels(config), {"i": np.array([[_complexity(config, depth)]])}, {"o": beats})
    stage = GeneratedStageConfig(layers=config, depth=depth, connect=connect)
    assert outputs["o"].departures[-1] - inputs["i"].accepted[0] == stage.generation
    assert stage.generation >= depth * config.kernels.layer_cycles


def _check_kernels(config: GeneratedLayersConfig) -> None:
    """Kernels of a frame of each level are those of the definition."""
    op, levels = config.op, np.arange(config.op.generator.levels)
    expected = kernels_of(op, config.constants, op.first_depth, levels).transpose(0, 1, 4, 3, 2)
    assert _has_ends(expected, KERNEL.minimum, KERNEL.maximum)
    complexities = (levels + op.first_level) << op.level_shift
    lanes = config.kernels.lanes
    _, outputs = run_streams(_Kernels(config), {"i": complexities[:, None]}, {"o": expected.size // lanes})
    assert outputs["o"].words.tolist() == expected.reshape(-1, lanes).tolist()


def _has_ends(values: np.ndarray, low: int, high: int) -> bool:
    """Whether some values are at both ends of their range, and enough between them."""
    return bool((values == low).any() and (values == high).any() and ((values > low) & (values < high)).mean() > 0.3)


def test_factors_that_saturate() -> None:
    """A low-rank generator's coefficients, factors and kernels beyond both ends of their formats become the ends."""
    generator = replace(LOW_RANK, a_shift=5, u_shift=6, kernel_shift=19)
    config = _config(generator, first_depth=3, steps=())
    constants, levels = config.constants, np.arange(generator.levels)
    # With columns of 1 factors are the coefficients themselves.
    ones = {**constants, "u": np.ones_like(constants["u"])}
    coefficients = layer_factors(replace(generator, u_shift=0), ones, levels)
    for values in (coefficients, layer_factors(generator, constants, levels)):
        assert _has_ends(values, FACTOR.minimum, FACTOR.maximum)
    _check_kernels(config)


def test_states_that_saturate() -> None:
    """What an Euler generator computes beyond both ends of a format, or of the slope's limits, becomes the ends."""
    generator = replace(
        EULER, pattern_shift=5, depthwise_shift=6, pointwise_shift=7, limit=1 << 14, step_shift=12, kernel_shift=7
    )
    config = _config(generator, first_depth=3, steps=())
    constants = config.constants | {"base": np.array([-12_000, -6000, 0, 6000, 12_000])}
    config = replace(config, constants=constants)
    levels = np.arange(generator.levels)
    pattern = initial_state(generator, constants | {"base": np.zeros_like(levels)}, levels)
    state = initial_state(generator, constants, levels)
    # What saturates anew: where the value before was within the range.
    within = (pattern > STATE.minimum) & (pattern < STATE.maximum)
    for values in (pattern, state[within]):
        assert _has_ends(values, STATE.minimum, STATE.maximum)
    own = constants | {"step": np.ones_like(levels)}
    slopes = euler_step(replace(generator, step_shift=0), own, levels, state) - state
    assert _has_ends(slopes, -generator.limit, generator.limit)
    # Halves of what the depthwise convolution yields: the ends only of words at the ends.
    most = 1 << STATE.bits - 2
    same = own | {"pointwise": np.eye(config.channels, dtype=np.int64)}
    halves = euler_step(replace(generator, pointwise_shift=1, limit=most, step_shift=0), same, levels, state) - state
    assert _has_ends(halves, -most, most)
    after = euler_step(generator, constants, levels, state)
    within = (state > STATE.minimum) & (state < STATE.maximum)
    assert _has_ends(after[within], STATE.minimum, STATE.maximum)
    _check_kernels(config)


@pytest.mark.parametrize("generator", [EULER, LOW_RANK])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("source", "sink"),
    [
        (BackPressure.NONE, BackPressure.NONE),
        (BackPressure.RANDOM, BackPressure.RANDOM),
        (BackPressure.BURSTY, BackPressure.BURSTY),
    ],
)
def test_depths_in_turn(generator: Generator, residual: bool, source: BackPressure, sink: BackPressure) -> None:
    config = _config(generator, size=(3, 4), pe=4, first_depth=1, residual=residual)
    depths = [1, 3, 1, 1, 2, 3]
    equal, _, outputs = _play(config, depths, source=source, sink=sink)
    assert equal
    if source is BackPressure.NONE:
        ends = outputs.departures.reshape(len(depths), -1)[:, -1]
        layer = max(config.convolution.interval, config.kernels.layer_cycles)
        # A frame takes its own depth's time, and not more than that of the kernels that it waits for.
        assert all(step <= (depth + 1) * layer for step, depth in zip(np.diff(ends), depths[1:], strict=True))


@pytest.mark.parametrize("generator", [EULER, LOW_RANK])
def test_a_wrong_constant_is_found(generator: Generator) -> None:
    config = _config(generator)
    for name in ("multipliers", "u", "pointwise" if generator is EULER else "phi"):
        wrong = config.constants[name].copy()
        wrong.flat[-1] ^= 64
        equal, _, _ = _play(
            config, [config.op.last_depth], built=replace(config, constants={**config.constants, name: wrong})
        )
        assert not equal, name


def test_generators_hide_behind_the_convolution() -> None:
    for generator in (EULER, LOW_RANK):
        slow, fast = (_config(generator, pe=folds, simd=folds, size=(6, 6)) for folds in (1, 4))
        assert slow.kernels.layer_cycles <= slow.convolution.interval
        assert fast.kernels.layer_cycles <= fast.convolution.interval
        assert slow.kernels.lanes * slow.kernels.simd < fast.kernels.lanes * fast.kernels.simd
    assert isinstance(_config(EULER).kernels, EulerGeneratorConfig)
    assert isinstance(_config(LOW_RANK).kernels, LowRankGeneratorConfig)


def test_refuses_foldings_and_depths_that_do_not_fit() -> None:
    """Lanes that do not divide what they fold, and depths that no frame has, are refused."""
    with pytest.raises(ValueError, match="pe must divide the 4 channels, not 3"):
        _config(EULER, pe=3)
    with pytest.raises(ValueError, match="frames have a depth of 2 to 4, not 5"):
        GeneratedStageConfig(layers=_config(EULER), depth=5, connect=connect)
    with pytest.raises(ValueError, match="lanes of a layer's scaling must divide the 4 channels, not 3"):
        replace(_config(EULER).scaling, lanes=3)
    with pytest.raises(ValueError, match="lanes of outer columns must divide the 6 terms, not 4"):
        replace(_config(LOW_RANK).kernels.columns, lanes=4)
