"""Generated layers: against loops over plain integers, on disk, and their refusals."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from karui.sw.golden import evaluate, trace
from karui.sw.ir import (
    Constant,
    EulerGenerator,
    GeneratedLayers,
    Graph,
    GraphBuilder,
    GraphError,
    LowRankGenerator,
    graphs_equal,
    load_graph,
    save_graph,
    verify,
)
from karui.sw.ir.generated_bounds import generator_ranges
from karui.sw.ir.generated_kernels import depths_of, kernels_of, levels_of
from karui.sw.numerics import signed, unsigned

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
# The same with shifts so small, and constants so large, that words of every kind go beyond both their ends.
LIMITED_EULER = replace(EULER, pattern_shift=4, depthwise_shift=6, kernel_shift=7)
LIMITED_LOW_RANK = replace(LOW_RANK, a_shift=5, u_shift=5, kernel_shift=19)
FACTOR_ENDS = -(1 << 13), (1 << 13) - 1
STATE_ENDS = -(1 << 15), (1 << 15) - 1
KERNEL_ENDS = -128, 127
# Names of words, and on which sides of their ends they were: -1, 0 within, 1.
Sides = defaultdict[str, set[int]]
RESIDUALS = pytest.mark.parametrize("residual", [False, True])
GENERATORS = pytest.mark.parametrize("generator", [EULER, LOW_RANK])
LIMITED = pytest.mark.parametrize("generator", [LIMITED_EULER, LIMITED_LOW_RANK])


def random_constants(op: GeneratedLayers, channels: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    ends = {
        "base": (-1500, 1500),
        "step": (500, 1000),
        "phi": (-2048, 2048),
        "multipliers": (3, 12),
        "offsets": (-400000, 500000),
    }
    shapes = op.constants(channels)
    constants = {name: rng.integers(*ends.get(name, (-128, 128)), shape) for name, shape in shapes.items()}
    if op.generator == LIMITED_EULER:
        constants["base"] = np.array([-9000, -3000, 0, 3000, 9000])
        constants["step"] += 3000
    return constants


def network(generator: EulerGenerator | LowRankGenerator, *, residual: bool = False, channels: int = 4) -> Graph:
    """Layers whose complexity is their map's brightness, 12 bits of it."""
    rng = np.random.default_rng(7)
    build = GraphBuilder("puppet")
    edge = build.input("x", (6, 7, channels), unsigned(8))
    bright = build.flatten("brightness", build.sum_pool("pooled", edge, (6, 7), (6, 7)))
    bright = build.matrix_vector("weighed", bright, np.full((1, channels), 64 // channels))
    h = build.requantize("h", bright, np.array([1]), np.array([0]), shift=0, output=unsigned(20))
    # A frame of brightness b has h = 64 * 42 * b.
    unit = 64 * 42
    op = GeneratedLayers(
        generator=generator,
        first_depth=2,
        depth_steps=(60 * unit, 100 * unit),
        level_shift=16,
        first_level=1,
        accumulator=signed(32),
        shift=12,
        output=unsigned(8),
        residual=residual,
    )
    constants = random_constants(op, channels, rng)
    layers = build.generated_layers(
        "layers",
        edge,
        h,
        generator,
        constants,
        first_depth=op.first_depth,
        depth_steps=op.depth_steps,
        level_shift=op.level_shift,
        first_level=op.first_level,
        shift=op.shift,
        residual=residual,
    )
    return build.finish(layers)


def random_frames(count: int, channels: int = 4) -> np.ndarray:
    rng = np.random.default_rng(8)
    scale = np.linspace(0.2, 1, count)[:, None, None, None]
    return (rng.integers(0, 256, (count, 6, 7, channels)) * scale).astype(np.int64)


def operands(graph: Graph) -> tuple[GeneratedLayers, dict[str, np.ndarray]]:
    node = graph.node("layers")
    assert isinstance(node.op, GeneratedLayers)
    names = node.op.constants(graph.tensors["x"].shape[-1])
    return node.op, {name: graph.constants[f"layers.{name}"].values for name in names}


def half_up(value: int, shift: int, low: int, high: int) -> int:
    return max(low, min(high, (2 * value + (1 << shift)) // (2 << shift)))


def limited(sides: Sides, name: str, value: int, shift: int, ends: tuple[int, int]) -> int:
    word = half_up(value, shift, -(1 << 60), 1 << 60)
    sides[name].add((word > ends[1]) - (word < ends[0]))
    return max(ends[0], min(ends[1], word))


def plain_euler(
    g: EulerGenerator, c: dict[str, np.ndarray], level: int, depth: int, sides: Sides
) -> list[dict[tuple[int, ...], int]]:
    """Kernels as {(output, place, input): weight}, layer by layer."""
    v = {name: values.tolist() for name, values in c.items()}
    channels = range(len(v["u"]))
    state = {}
    for i in channels:
        for k in range(9):
            for o in channels:
                terms = sum(v["u"][o][r] * v["v"][i][r] * v["t"][k][r] for r in range(g.rank))
                pattern = limited(sides, "pattern", terms, g.pattern_shift, STATE_ENDS)
                state[i, k, o] = limited(sides, "base sum", v["base"][level] + pattern, 0, STATE_ENDS)
    layers = []
    for _ in range(depth):
        smooth = {
            (i, k, o): limited(
                sides,
                "depthwise",
                sum(
                    state.get((i + dy, k + dx, o), 0) * v["depthwise"][dy + 1][dx + 1][o]
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                ),
                g.depthwise_shift,
                STATE_ENDS,
            )
            for i, k, o in state
        }
        after = {}
        for i, k, o in state:
            slope = sum(v["pointwise"][o][p] * smooth[i, k, p] for p in channels)
            slope = limited(sides, "slope", slope, g.pointwise_shift, (-g.limit, g.limit))
            change = half_up(slope * v["step"][level], g.step_shift, -(1 << 40), 1 << 40)
            after[i, k, o] = limited(sides, "state", state[i, k, o] + change, 0, STATE_ENDS)
        state = after
        layers.append(
            {
                (o, k, i): limited(sides, "kernel", word, g.kernel_shift, KERNEL_ENDS)
                for (i, k, o), word in state.items()
            }
        )
    return layers


def plain_low_rank(
    g: LowRankGenerator, c: dict[str, np.ndarray], level: int, depth: int, sides: Sides
) -> list[dict[tuple[int, ...], int]]:
    v = {name: values.tolist() for name, values in c.items()}
    channels, terms = range(len(v["u"])), range(g.rank)
    layers = []
    for layer in range(depth):
        row = v["phi"][sum(range(2, depth)) + layer]
        a = []
        for r in terms:
            shifted = [
                half_up(v["c1"][p][r] * (level - g.centre), g.h_shift, -(1 << 40), 1 << 40) for p in range(g.terms)
            ]
            total = sum(row[p] * (v["c0"][p][r] + shifted[p]) for p in range(g.terms))
            a.append(limited(sides, "coefficient", total, g.a_shift, FACTOR_ENDS))
        factor = [
            [limited(sides, "factor", v["u"][o][r] * a[r], g.u_shift, FACTOR_ENDS) for r in terms] for o in channels
        ]
        layers.append(
            {
                (o, k, i): limited(
                    sides,
                    "kernel",
                    sum(factor[o][r] * v["v"][i][r] * v["t"][k][r] for r in terms),
                    g.kernel_shift,
                    KERNEL_ENDS,
                )
                for o in channels
                for k in range(9)
                for i in channels
            }
        )
    return layers


PLAIN: dict[type, Callable[..., list[dict[tuple[int, ...], int]]]] = {
    EulerGenerator: plain_euler,
    LowRankGenerator: plain_low_rank,
}


@GENERATORS
def test_kernels_are_those_of_plain_loops(generator: EulerGenerator | LowRankGenerator) -> None:
    op, constants = operands(network(generator))
    levels = np.array([0, 4, 1])
    for depth in op.depths:
        kernels = kernels_of(op, constants, depth, levels)
        assert kernels.shape == (3, depth, 4, 9, 4)
        for index, level in enumerate(levels.tolist()):
            for layer, words in enumerate(PLAIN[type(generator)](generator, constants, level, depth, defaultdict(set))):
                assert {place: int(kernels[index, layer][place]) for place in words} == words
        # Neither nearly all limited nor nearly all alike: the test can tell wrong ones.
        assert 0.01 < np.mean(np.isin(kernels, (-128, 127))) < 0.5
        assert len(np.unique(kernels)) > 150


@LIMITED
def test_words_beyond_both_ends_are_those_of_plain_loops(generator: EulerGenerator | LowRankGenerator) -> None:
    """Words of every kind are limited at either end and left alone within, as plain integers are."""
    op, constants = operands(network(generator))
    sides: Sides = defaultdict(set)
    levels = np.arange(generator.levels)
    for depth in op.depths:
        kernels = kernels_of(op, constants, depth, levels)
        for level in levels.tolist():
            for layer, words in enumerate(PLAIN[type(generator)](generator, constants, level, depth, sides)):
                assert {place: int(kernels[level, layer][place]) for place in words} == words
    euler = ("pattern", "base sum", "depthwise", "slope", "state", "kernel")
    names = euler if generator is LIMITED_EULER else ("coefficient", "factor", "kernel")
    assert sides == {name: {-1, 0, 1} for name in names}


@pytest.mark.parametrize("generator", [EULER, LOW_RANK, LIMITED_EULER, LIMITED_LOW_RANK])
@RESIDUALS
def test_layers_are_those_of_plain_loops(generator: EulerGenerator | LowRankGenerator, residual: bool) -> None:
    graph = network(generator, residual=residual)
    op, constants = operands(graph)
    frames = random_frames(5)
    traced = trace(graph, frames)
    seen = set()
    for frame, h, result in zip(frames.tolist(), traced["h"][:, 0].tolist(), traced["layers"], strict=True):
        depth = 2 + sum(h >= step for step in op.depth_steps)
        level = max(0, min(4, h // (1 << op.level_shift) - op.first_level))
        seen.add((depth, level))
        x = {(row, column, c): frame[row][column][c] for row in range(6) for column in range(7) for c in range(4)}
        for layer, kernel in enumerate(PLAIN[type(generator)](generator, constants, level, depth, defaultdict(set))):
            after = {}
            for row, column, o in x:
                total = sum(
                    kernel[o, k, i] * x.get((row + k // 3 - 1, column + k % 3 - 1, i), 0)
                    for k in range(9)
                    for i in range(4)
                )
                scale, offset = (int(constants[name][layer, o]) for name in ("multipliers", "offsets"))
                y = half_up(total * scale + offset, op.shift, -(1 << 40), 1 << 40)
                after[row, column, o] = max(0, min(255, y + (x[row, column, o] if residual else 0)))
            x = after
        assert {place: int(result[place]) for place in x} == x
        assert len(set(x.values())) > 10
    assert {depth for depth, _ in seen} == {2, 3, 4}
    assert {level for _, level in seen} >= {0, 4}


def test_depths_and_levels() -> None:
    op, _ = operands(network(EULER))
    low, high = op.depth_steps
    words = np.array([0, low - 1, low, high - 1, high, (1 << 20) - 1])
    assert depths_of(op, words).tolist() == [2, 2, 3, 3, 4, 4]
    assert op.depths == range(2, 5)
    edges = np.array([0, 2 << 16, (3 << 16) - 1, 3 << 16, 5 << 16, 15 << 16])
    assert levels_of(op, edges).tolist() == [0, 1, 1, 2, 4, 4]


def test_ranges_hold_what_kernels_are_made_of() -> None:
    op, constants = operands(network(EULER))
    ranges = generator_ranges(op.generator, constants)
    terms = np.einsum("or,ir,kr->iko", constants["u"], constants["v"], constants["t"])
    assert ranges["pattern"][0] <= terms.min()
    assert terms.max() <= ranges["pattern"][1]
    assert ranges["step"] == (-EULER.limit * constants["step"].max(), EULER.limit * constants["step"].max())
    op, constants = operands(network(LOW_RANK))
    ranges = generator_ranges(op.generator, constants)
    outer = np.einsum("ir,kr->ikr", constants["v"], constants["t"])
    assert ranges["outer"] == (outer.min(), outer.max())
    assert ranges["kernel"][1] >= np.abs(outer).sum(axis=-1).max() * FACTOR_ENDS[1]


@GENERATORS
def test_survives_the_disk(generator: EulerGenerator | LowRankGenerator, tmp_path: Path) -> None:
    graph = network(generator, residual=True)
    save_graph(graph, tmp_path)
    loaded = load_graph(tmp_path)
    assert graphs_equal(loaded, graph)
    frames = random_frames(3)
    assert np.array_equal(evaluate(loaded, frames), evaluate(graph, frames))


def changed(graph: Graph, op: GeneratedLayers) -> Graph:
    nodes = tuple(replace(node, op=op) if node.name == "layers" else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def test_refuses_what_means_nothing() -> None:
    graph = network(EULER)
    op, constants = operands(graph)
    verify(changed(graph, replace(op, accumulator=signed(32))))
    with pytest.raises(
        GraphError, match="layers: sums reach from -1175040 to 1165860, more than the accumulator format s21"
    ):
        verify(changed(graph, replace(op, accumulator=signed(21))))
    with pytest.raises(GraphError, match=r"multipliers of GeneratedLayers has shape \(5, 4\), not \(4, 4\)"):
        verify(changed(graph, replace(op, depth_steps=(1, 2, 3))))
    with pytest.raises(GraphError, match="takes a map of the same"):
        verify(changed(graph, replace(op, output=unsigned(7))))
    wide = Constant(values=constants["pointwise"] << 12, number_format=signed(24))
    with pytest.raises(GraphError, match="the pointwise are words of s16"):
        verify(replace(graph, constants={**graph.constants, "layers.pointwise": wide}))
    wide = Constant(values=constants["offsets"] + (1 << 62) - (1 << 20), number_format=signed(63))
    with pytest.raises(GraphError, match="scaled sums reach"):
        verify(replace(graph, constants={**graph.constants, "layers.offsets": wide}))
    with pytest.raises(ValueError, match="depth_steps ascend"):
        replace(op, depth_steps=(5, 5))
    with pytest.raises(ValueError, match="limit is 1, 2, 4"):
        replace(EULER, limit=3000)
    with pytest.raises(ValueError, match="an Euler generator: rank is 1 or more, not 0"):
        replace(EULER, rank=0)
    with pytest.raises(ValueError, match="a low-rank generator: u_shift is 0 to 62, not -1"):
        replace(LOW_RANK, u_shift=-1)
    with pytest.raises(ValueError, match="an Euler generator: step_shift is 0 to 62, not 63"):
        replace(EULER, step_shift=63)
    with pytest.raises(ValueError, match="generated layers: level_shift is 0 to 62, not 64"):
        replace(op, level_shift=64)
    for centre in (-1, LOW_RANK.levels):
        with pytest.raises(ValueError, match=f"centre is a level of 0 to {LOW_RANK.levels - 1}, not {centre}"):
            replace(LOW_RANK, centre=centre)
