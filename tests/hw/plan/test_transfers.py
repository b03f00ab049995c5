"""Every transfer of every component comes in the cycle that follows from the others, at any back-pressure."""

from typing import Any

import numpy as np
import pytest

from karui.hw.engines.add import AddConfig
from karui.hw.engines.arg_max import ArgMaxConfig
from karui.hw.engines.channel_shuffle import ChannelShuffleConfig
from karui.hw.engines.concat import ConcatConfig
from karui.hw.engines.gather import GatherConfig
from karui.hw.engines.pool_config import PoolConfig
from karui.hw.engines.repeat import RepeatConfig
from karui.hw.engines.sliding_window import SlidingWindowConfig
from karui.hw.engines.walsh_hadamard import WalshHadamardConfig
from karui.hw.memory.deep_fifo import DeepFifo, DeepFifoConfig
from karui.hw.plan.components import component, engine
from karui.hw.plan.estimate import Fold
from karui.hw.plan.event_graph import EventGraph
from karui.hw.plan.fifo_depths import Queue
from karui.hw.plan.stages import stages
from karui.hw.plan.transfers import connect
from karui.hw.streams.fork import Fork, ForkConfig
from karui.hw.streams.width_converter import WidthConverter, WidthConverterConfig
from karui.sim.stream_testbench import run_streams
from karui.sw.ir import GraphBuilder, Sparse, WalshHadamard
from karui.sw.numerics import signed, unsigned

ELEMENT = unsigned(3)
FRAMES = 5


def engine_of(build: GraphBuilder, name: str, fold: Fold) -> Any:
    (stage,) = stages(build.finish(name))
    return engine(stage.op, stage, fold).config


def matrix_vector(*, pe: int, simd: int, groups: int = 1, sparse: bool = False) -> Any:
    build = GraphBuilder("dense")
    edge = build.input("map", (3, 3, 8), ELEMENT)
    weights = np.random.default_rng(0).choice([-1, 1], (6, 8 // groups))
    if sparse:
        weights *= np.random.default_rng(1).random(weights.shape) < 0.4
        edge = build.matrix_vector("dense", edge, weights, storage=Sparse(gap_bits=2))
    else:
        edge = build.matrix_vector("dense", edge, weights, groups=groups)
    return engine_of(build, edge, Fold(simd=simd, pe=pe))


def bit_planes(*, pe: int, simd: int, groups: int = 1, planes: int = 1, bases: int = 1) -> Any:
    random = np.random.default_rng(0)
    build = GraphBuilder("planes")
    edge = build.input("map", (3, 3, 8), ELEMENT)
    signs = random.choice([-1, 1], (6, 2, 8 // groups))
    edge = build.binary_bases("planes", edge, signs, random.integers(-9, 9, (6, 2)), groups=groups)
    return engine_of(build, edge, Fold(simd=simd, pe=pe, planes=planes, bases=bases))


def depthwise(*, stride: int, simd: int, size: int = 6, kernel: int = 3) -> Any:
    build = GraphBuilder("depthwise")
    weights = np.random.default_rng(0).integers(-3, 4, (kernel, kernel, 4))
    edge = build.depthwise_conv(
        "depthwise",
        build.input("map", (size, size, 4), ELEMENT),
        weights,
        stride=(stride,) * 2,
        padding=(kernel // 2,) * 4,
        pad_value=0,
    )
    return engine_of(build, edge, Fold(simd=simd, pe=2))


def requantize() -> Any:
    build = GraphBuilder("requantize")
    edge = build.requantize(
        "requantize", build.input("map", (4, 4, 8), ELEMENT), np.array([3]), np.array([1]), shift=2, output=unsigned(2)
    )
    return engine_of(build, edge, Fold(simd=2, pe=2))


def window(kernel: int, stride: int, height: int = 7) -> SlidingWindowConfig:
    return SlidingWindowConfig(
        element=ELEMENT,
        height=height,
        width=6,
        channels=4,
        lanes=2,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(kernel // 2,) * 4,
        pad_value=0,
    )


def pool(kernel: int, stride: int) -> PoolConfig:
    return PoolConfig(
        reduction="max",
        element=ELEMENT,
        result=ELEMENT,
        height=7,
        width=6,
        channels=4,
        lanes=2,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(0 if kernel == stride else kernel // 2,) * 4,
    )


def converter(lanes_in: int, lanes_out: int) -> WidthConverterConfig:
    return WidthConverterConfig(element=signed(4), elements=120, lanes_in=lanes_in, lanes_out=lanes_out)


def wide_converter(lanes_in: int, lanes_out: int) -> WidthConverterConfig:
    return WidthConverterConfig(element=signed(32), elements=120, lanes_in=lanes_in, lanes_out=lanes_out)


def shuffle(lanes: int) -> ChannelShuffleConfig:
    return ChannelShuffleConfig(element=ELEMENT, channels=12, groups=3, positions=6, lanes=lanes)


def transform(lanes: int) -> WalshHadamardConfig:
    return WalshHadamardConfig(transform=WalshHadamard(size=16), element=ELEMENT, elements=48, lanes=lanes)


def squash(lanes: int) -> Any:
    build = GraphBuilder("squash")
    words, output = signed(6, fraction=4), signed(8, fraction=7)
    return engine_of(build, build.squash("y", build.input("x", (6, 8), words), 8, output), Fold(simd=lanes, pe=lanes))


def squared_length(lanes: int) -> Any:
    build = GraphBuilder("lengths")
    edge = build.squared_length("y", build.input("x", (40,), signed(4)), 4)
    return engine_of(build, edge, Fold(simd=lanes, pe=lanes))


def routing(iterations: int, lanes: int, capsules: int = 3, *, kept: bool = True) -> Any:
    build = GraphBuilder("routing")
    passes = () if kept else (iterations,)
    edge = build.routing(
        "y",
        build.input("x", (*passes, capsules * 2 * 4), signed(8, fraction=6)),
        outputs=2,
        length=4,
        iterations=iterations,
        sums=signed(16, fraction=11),
        output=signed(8, fraction=7),
        logits=signed(16, fraction=10),
    )
    return engine_of(build, edge, Fold(simd=lanes, pe=lanes))


def complexity(shape: tuple[int, int, int], lanes: int) -> Any:
    build = GraphBuilder("complexity")
    return engine_of(build, build.complexity("y", build.input("x", shape, unsigned(4))), Fold(simd=lanes, pe=1))


def repeat(elements: int, times: int) -> RepeatConfig:
    return RepeatConfig(element=ELEMENT, elements=elements, times=times, lanes=2)


def gather(*indices: int) -> GatherConfig:
    return GatherConfig(element=ELEMENT, channels=12, indices=np.array(indices), positions=4, lanes=2)


ADD = AddConfig(input_formats=(ELEMENT, ELEMENT), output_format=unsigned(4), elements=60, lanes=2)
CONCAT = ConcatConfig(element=ELEMENT, channels=(2, 6, 4), positions=7, lanes=2)
ARG_MAX = ArgMaxConfig(element=ELEMENT, elements=12, lanes=2)
FORK = ForkConfig(element=ELEMENT, elements=60, lanes=2, readers=3)

# Parameters, beats a frame at the inputs and at the outputs.
CASES: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...]]] = {
    "window": (window(3, 1), (84,), (7 * 6 * 9 * 2,)),
    "strided window": (window(3, 2), (84,), (4 * 3 * 9 * 2,)),
    "window of single positions": (window(1, 2), (84,), (4 * 3 * 2,)),
    "window whose last rows are not read": (window(1, 4, 8), (96,), (2 * 2 * 2,)),
    "vectors replayed": (matrix_vector(pe=1, simd=4), (18,), (54,)),
    "vectors passed on": (matrix_vector(pe=6, simd=2), (36,), (9,)),
    "single words": (matrix_vector(pe=2, simd=8), (9,), (27,)),
    "blocks": (matrix_vector(pe=1, simd=2, groups=2), (36,), (54,)),
    "sparse vectors": (matrix_vector(pe=2, simd=4, sparse=True), (18,), (27,)),
    "bit planes": (bit_planes(pe=1, simd=4), (18,), (54,)),
    "bit planes of whole results": (bit_planes(pe=6, simd=2), (36,), (9,)),
    "bit planes of whole results, word by word": (bit_planes(pe=6, simd=1), (72,), (9,)),
    "bit planes at once": (bit_planes(pe=3, simd=8, planes=3), (9,), (18,)),
    "bit planes and bases at once": (bit_planes(pe=6, simd=4, planes=3, bases=2), (18,), (9,)),
    "bit planes of single words": (bit_planes(pe=6, simd=8, bases=2), (9,), (9,)),
    "blocks of bit planes": (bit_planes(pe=1, simd=2, groups=2), (36,), (54,)),
    "depthwise": (depthwise(stride=1, simd=9), (72,), (72,)),
    "strided depthwise": (depthwise(stride=2, simd=9), (72,), (18,)),
    "strided depthwise by columns": (depthwise(stride=2, simd=3), (72,), (18,)),
    "depthwise whose last rows are not read": (depthwise(stride=4, simd=1, size=8, kernel=1), (128,), (8,)),
    "pool": (pool(3, 1), (84,), (84,)),
    "strided pool": (pool(3, 2), (84,), (24,)),
    "adjoining pool": (pool(2, 2), (84,), (18,)),
    "requantize": (requantize(), (64,), (64,)),
    "arg max": (ARG_MAX, (6,), (1,)),
    "shuffle": (shuffle(2), (36,), (36,)),
    "wired shuffle": (shuffle(12), (6,), (6,)),
    "transform": (transform(1), (48,), (48,)),
    "transform of a few beats": (transform(4), (12,), (12,)),
    "transform of a beat": (transform(16), (3,), (3,)),
    "gather": (gather(*range(12)), (24,), (24,)),
    "gather of more": (gather(*range(12), *[-1] * 6), (24,), (36,)),
    "gather of fewer": (gather(0, 7, 3, 9), (24,), (8,)),
    "squash": (squash(2), (24,), (24,)),
    "squash of whole vectors": (squash(8), (6,), (6,)),
    "squared lengths": (squared_length(2), (20,), (10,)),
    "squared lengths of whole vectors": (squared_length(4), (10,), (10,)),
    "one iteration": (routing(1, 2), (12,), (4,)),
    "one iteration of few capsules": (routing(1, 4, 1), (2,), (2,)),
    "iterations": (routing(3, 2), (12,), (4,)),
    "iterations of whole vectors": (routing(2, 4, 5), (10,), (2,)),
    "one iteration of predictions made anew": (routing(1, 2, kept=False), (12,), (4,)),
    "one iteration of few capsules made anew": (routing(1, 4, 1, kept=False), (2,), (2,)),
    "iterations of predictions made anew": (routing(3, 2, kept=False), (36,), (4,)),
    "iterations of many predictions made anew": (routing(2, 1, 30, kept=False), (480,), (8,)),
    "iterations of whole vectors made anew": (routing(2, 4, 5, kept=False), (20,), (2,)),
    "repeat": (repeat(12, 3), (6,), (18,)),
    "repeat of a beat": (repeat(2, 4), (1,), (4,)),
    "repeat of few beats": (repeat(6, 2), (3,), (6,)),
    "repeat once": (repeat(12, 1), (6,), (6,)),
    "complexity": (complexity((16, 12, 1), 2), (192,), (1,)),
    "complexity of a small image": (complexity((4, 6, 1), 1), (24,), (1,)),
    "complexity of colours": (complexity((8, 8, 3), 4), (192,), (1,)),
    "twice as wide": (converter(2, 4), (60,), (30,)),
    "wider": (converter(2, 10), (60,), (12,)),
    "wider in groups": (wide_converter(2, 12), (60,), (10,)),
    "narrower": (converter(12, 2), (10,), (60,)),
    "shifted wider": (converter(4, 6), (30,), (20,)),
    "shifted narrower": (converter(10, 4), (12,), (30,)),
    "add": (ADD, (30, 30), (30,)),
    "concat": (CONCAT, (7, 21, 14), (42,)),
    "fork": (FORK, (30,), (30, 30, 30)),
    "fifo": (DeepFifoConfig(element=ELEMENT, lanes=2, depth=5), (30,), (30,)),
}


def build(config: Any) -> Any:
    match config:
        case WidthConverterConfig():
            return WidthConverter(config)
        case ForkConfig():
            return Fork(config)
        case DeepFifoConfig():
            return DeepFifo(config)
    return component(config)


def pauses(count: int, pace: int, random: np.random.Generator) -> np.ndarray:
    """Cycles in which beats are offered or may be taken: some at once, some after a pause."""
    return np.cumsum(random.choice([0, 1, 2, pace], count, p=[0.3, 0.4, 0.2, 0.1]))


@pytest.mark.parametrize("slow", ["sink", "both"])
@pytest.mark.parametrize("case", CASES)
def test_transfers_come_when_they_are_said_to(case: str, slow: str) -> None:
    config, beats_in, beats_out = CASES[case]
    random = np.random.default_rng(len(case + slow))
    paces = [1 if slow == "sink" else 12, 25]
    offered = [pauses(beats, paces[0], random) for beats in beats_in]
    wanted = [pauses(beats, paces[1], random) for beats in beats_out]
    # Frames at a distance at which they repeat one another, though each begins while others are under way.
    slowest = max(cycles[-1] + 1 for cycles in (*offered, *wanted))
    period = int(max(slowest, getattr(config, "interval", 0)) * 1.1) + 3

    graph = EventGraph()
    inputs, outputs = ([graph.events(beats) for beats in sizes] for sizes in (beats_in, beats_out))
    also = []
    if isinstance(config, DeepFifoConfig):
        queue = Queue.connect(graph, inputs[0], outputs[0], bits=6)
        also = queue.room(graph, config.depth)
    else:
        connect(config, graph, inputs, outputs)
    start = graph.every(0)
    for events, cycles in zip((*inputs, *outputs), (*offered, *wanted), strict=True):
        start[events] = cycles
    alone = graph.earliest(start, also=also, rounds=1000)
    repeated = graph.earliest(start, period=period, also=also, rounds=1000)
    assert alone is not None
    assert repeated is not None

    built = build(config)
    names_in = [name for name in ("i", "i_0", "i_1", "i_2") if hasattr(built, name)]
    names_out = [name for name in ("o", "o_0", "o_1", "o_2") if hasattr(built, name)]
    frames = np.arange(FRAMES)[:, None] * period
    beats = {
        name: np.zeros((FRAMES * count, getattr(built, name).payload.shape().length), dtype=np.int64)
        for name, count in zip(names_in, beats_in, strict=True)
    }
    accepted, taken = run_streams(
        built,
        beats,
        {name: FRAMES * count for name, count in zip(names_out, beats_out, strict=True)},
        arrivals={name: (frames + cycles).reshape(-1) for name, cycles in zip(names_in, offered, strict=True)},
        takes={name: (frames + cycles).reshape(-1) for name, cycles in zip(names_out, wanted, strict=True)},
    )
    ends = [(accepted[name].accepted, events) for name, events in zip(names_in, inputs, strict=True)]
    ends += [(taken[name].taken, events) for name, events in zip(names_out, outputs, strict=True)]
    for cycles, events in ends:
        by_frame = cycles.reshape(FRAMES, -1)
        assert by_frame[0].tolist() == alone[events].tolist()
        assert (by_frame[-1] - frames[-1]).tolist() == repeated[events].tolist()


def test_an_unknown_component_is_named() -> None:
    with pytest.raises(TypeError, match="which transfers of a str wait for which is not known"):
        connect("unknown", EventGraph(), [], [])
