"""Depthwise-separable graphs through generator and Verilator."""

from pathlib import Path

import numpy as np
import pytest

from karui.flows.synthesize import find_device
from karui.flows.synthesize.block_ram_register import absorb_output_registers
from karui.flows.synthesize.yosys import map_netlist, write_netlist
from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.plan.estimate import Fold
from karui.hw.plan.folding import Folding, fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.netlist import ecp5_models, write_netlist_design
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import Overflow, Rounding, unsigned


def separable(seed: int, *, stride: int) -> Graph:
    """Two depthwise-separable blocks, the second with a bias."""
    rng = np.random.default_rng(seed)
    build = GraphBuilder("separable")
    edge = build.input("pixels", (10, 10, 4), unsigned(4))
    channels = 4
    for name, outputs in (("first", 8), ("second", 6)):
        weights = rng.integers(-8, 8, (3, 3, channels))
        bias = rng.integers(-20, 20, channels) if name == "second" else None
        edge = build.depthwise_conv(
            f"{name}.depthwise", edge, weights, stride=(stride, stride), padding=(1, 1, 1, 1), pad_value=0, bias=bias
        )
        edge = _requantized(build, f"{name}.depthwise.relu", edge, rng)
        edge = build.matrix_vector(f"{name}.pointwise", edge, rng.integers(-8, 8, (outputs, channels)))
        edge = _requantized(build, f"{name}.pointwise.relu", edge, rng)
        channels = outputs
    edge = build.max_pool("pool", edge, (2, 2))
    edge = build.flatten("flat", edge)
    return build.finish(build.matrix_vector("last", edge, rng.integers(-8, 8, (5, build.tensor(edge).elements))))


def _requantized(build: GraphBuilder, name: str, edge: str, rng: np.random.Generator, *, offset: int = 200) -> str:
    channels = build.tensor(edge).shape[-1]
    return build.requantize(
        name,
        edge,
        rng.integers(20, 60, channels),
        offset + rng.integers(-300, 300, channels),
        shift=9,
        rounding=Rounding.HALF_EVEN,
        overflow=Overflow.SATURATE,
        output=unsigned(4),
    )


@pytest.mark.parametrize(("stride", "interval"), [(1, 220), (2, 100), (1, 5000)])
def test_separable_convolutions_are_bit_exact_and_as_fast_as_predicted(
    stride: int, interval: int, tmp_path: Path
) -> None:
    graph = separable(interval, stride=stride)
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), interval))
    write_design(accelerator, tmp_path)
    frames = np.random.default_rng(7).integers(0, 16, (24, 10, 10, 4))
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 20
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=3)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            measured = (result.initiation_interval, result.latency)
            assert measured == (accelerator.predicted.initiation_interval, accelerator.predicted.latency)


def test_netlist_of_a_depthwise_convolution(tmp_path: Path) -> None:
    """Block RAMs, distributed RAM and multipliers as Yosys maps them, with block RAM output registers absorbed."""
    rng = np.random.default_rng(5)
    build = GraphBuilder("depthwise")
    edge = build.input("pixels", (5, 12, 8), unsigned(4))
    weights = rng.integers(-8, 8, (3, 3, 8))
    graph = build.finish(
        build.depthwise_conv(
            "depthwise", edge, weights, stride=(1, 1), padding=(1, 1, 1, 1), pad_value=0, bias=rng.integers(-9, 9, 8)
        )
    )
    accelerator = Accelerator(graph=graph, folding=Folding(folds={"depthwise": Fold(simd=9, pe=2)}))
    manifest = write_design(accelerator, tmp_path)
    mapped = tmp_path / "mapped"
    mapped.mkdir()
    netlist = map_netlist(
        [tmp_path / source for source in manifest.sources],
        top=manifest.top,
        clock=manifest.clock,
        device=find_device("ecp5-85f-8"),
        folder=mapped,
    )
    absorb_output_registers(netlist.design)
    kinds = [cell["type"] for cell in netlist.design["cells"].values()]
    assert kinds.count("MULT18X18D") == 18
    write_netlist(netlist, mapped)
    write_netlist_design(tmp_path, mapped / "netlist.v", tmp_path / "netlist")
    frames = rng.integers(0, 16, (10, 5, 12, 8))
    for mode in (BackPressure.NONE, BackPressure.RANDOM):
        result = run_regression(
            tmp_path / "netlist", frames, evaluate(graph, frames), back_pressure=mode, libraries=ecp5_models()
        )
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval == accelerator.predicted.initiation_interval
            assert result.latency == accelerator.predicted.latency


def pooled(seed: int) -> Graph:
    """Grouped convolution, two kernels a channel, and pools of every kind."""
    rng = np.random.default_rng(seed)
    build = GraphBuilder("pooled")
    edge = build.input("pixels", (9, 8, 6), unsigned(4))
    edge = build.max_pool("overlapping", edge, (3, 3), (2, 2), padding=(1, 1, 1, 1))
    edge = build.sliding_window("grouped.window", edge, (3, 3), padding=(1, 1, 1, 1), pad_value=0, groups=2)
    edge = build.matrix_vector("grouped", edge, rng.integers(-8, 8, (8, 27)), groups=2)
    edge = _requantized(build, "grouped.relu", edge, rng, offset=3000)
    edge = build.sum_pool("average", edge, (3, 3), (1, 1), padding=(1, 1, 1, 1))
    edge = _requantized(build, "average.scaled", edge, rng)
    edge = build.sliding_window("multiplied.window", edge, (2, 2), stride=(3, 1), groups=8)
    edge = build.matrix_vector("multiplied", edge, rng.integers(-8, 8, (16, 4)), groups=8)
    edge = _requantized(build, "multiplied.relu", edge, rng, offset=3000)
    height, width, _ = build.tensor(edge).shape
    return build.finish(build.sum_pool("global", edge, (height, width)))


def test_pools_and_groups_are_bit_exact_and_as_fast_as_predicted(tmp_path: Path) -> None:
    graph = pooled(3)
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 600))
    write_design(accelerator, tmp_path)
    # Skewed to zero: among maxima of 9 few would differ.
    frames = np.random.default_rng(7).integers(0, 16, (3, 16, 9, 8, 6)).min(axis=0)
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 20
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=3)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            measured = (result.initiation_interval, result.latency)
            assert measured == (accelerator.predicted.initiation_interval, accelerator.predicted.latency)
