"""Convolutions of integers through generator and Verilator."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from karui.flows.synthesize import find_device
from karui.flows.synthesize.block_ram_register import absorb_output_registers
from karui.flows.synthesize.multiplier_register import absorb_multiplier_registers
from karui.flows.synthesize.yosys import map_netlist, write_netlist
from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.emit.manifest import Manifest
from karui.hw.plan.estimate import Fold, multipliers
from karui.hw.plan.folding import Folding, engines_cost, fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.netlist import ecp5_models, write_netlist_design
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import Overflow, Rounding, read_memory_image, unsigned


def convolutional(seed: int, *, weight_bits: int, groups: int) -> Graph:
    """Two convolutions, the second of so many groups, and a dense layer."""
    rng = np.random.default_rng(seed)
    limit = 1 << (weight_bits - 1)
    build = GraphBuilder("convolutional")
    edge = build.input("pixels", (9, 9, 2), unsigned(8))
    channels = 2
    for name, outputs, parts in (("first", 4, 1), ("second", 8, groups)):
        edge = build.sliding_window(f"{name}.window", edge, (3, 3), padding=(1, 1, 1, 1), pad_value=0, groups=parts)
        weights = rng.integers(-limit, limit, (outputs, 9 * channels // parts))
        edge = build.matrix_vector(name, edge, weights, rng.integers(-300, 301, outputs), groups=parts)
        edge = build.requantize(
            f"{name}.scale",
            edge,
            rng.integers(40, 80, outputs),
            rng.integers(-2000, 4000, outputs),
            shift=weight_bits + 6,
            rounding=Rounding.HALF_EVEN,
            overflow=Overflow.SATURATE,
            output=unsigned(8),
        )
        channels = outputs
    edge = build.max_pool("pool", edge, (3, 3), (3, 3))
    edge = build.flatten("flat", edge)
    weights = rng.integers(-limit, limit, (5, build.tensor(edge).elements))
    return build.finish(build.matrix_vector("last", edge, weights, rng.integers(-3000, 3000, 5)))


def generate(graph: Graph, folding: Folding, folder: Path) -> Accelerator:
    accelerator = Accelerator(graph=graph, folding=folding)
    write_design(accelerator, folder)
    return accelerator


def frames_of(graph: Graph, count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, *graph.inputs[graph.input_name].shape))


@pytest.mark.parametrize(
    ("weight_bits", "groups", "multiplier", "interval"), [(8, 1, "dsp", 1500), (4, 2, "lut", 6000)]
)
def test_convolutions_are_bit_exact_and_as_fast_as_predicted(
    weight_bits: int, groups: int, multiplier: str, interval: int, tmp_path: Path
) -> None:
    graph = convolutional(interval, weight_bits=weight_bits, groups=groups)
    pipeline = stages(graph)
    folds = fold_for_interval(pipeline, interval).folds
    made = {
        stage.name: replace(folds[stage.name], multiplier=multiplier)
        for stage in pipeline
        if len(multipliers(stage)) > 1
    }
    assert list(made) == ["first", "second", "last"]
    folding = Folding(folds={**folds, **made})
    accelerator = generate(graph, folding, tmp_path)
    frames = frames_of(graph, 24)
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 100
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=3)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            measured = (result.initiation_interval, result.latency)
            assert measured == (accelerator.predicted.initiation_interval, accelerator.predicted.latency)


def test_netlist_with_the_multipliers_own_registers(tmp_path: Path) -> None:
    """Two rows of 4-bit weights to a multiplier, and a requantization, as they are mapped to an ECP5."""
    rng = np.random.default_rng(5)
    build = GraphBuilder("dense")
    edge = build.input("values", (24,), unsigned(8))
    edge = build.matrix_vector("dense", edge, rng.integers(-8, 8, (8, 12)), rng.integers(-99, 99, 8), groups=2)
    scales = rng.integers(200, 300, 8), rng.integers(300_000, 700_000, 8)
    graph = build.finish(build.requantize("scale", edge, *scales, shift=12, output=unsigned(8)))
    accelerator = generate(graph, Folding(folds={"dense": Fold(simd=3, pe=2)}), tmp_path)
    manifest = Manifest.load(tmp_path)
    mapped = tmp_path / "mapped"
    mapped.mkdir()
    netlist = map_netlist(
        [tmp_path / source for source in manifest.sources],
        top=manifest.top,
        clock=manifest.clock,
        device=find_device("ecp5-85f-8"),
        folder=mapped,
    )
    kinds = [cell["type"] for cell in netlist.design["cells"].values()]
    assert kinds.count("MULT18X18D") == engines_cost(accelerator.stages, accelerator.folding).dsps == 3 + 2
    absorption = absorb_output_registers(netlist.design) + absorb_multiplier_registers(netlist.design, clock_mhz=250)
    # Both operands and the product of each multiplier.
    assert (absorption.ports, absorption.refused) == (3 * 5, {})
    write_netlist(netlist, mapped)
    write_netlist_design(tmp_path, mapped / "netlist.v", tmp_path / "netlist")
    frames = frames_of(graph, 40)
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 100
    for mode in (BackPressure.NONE, BackPressure.RANDOM):
        result = run_regression(tmp_path / "netlist", frames, expected, back_pressure=mode, libraries=ecp5_models())
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            measured = (result.initiation_interval, result.latency)
            assert measured == (accelerator.predicted.initiation_interval, accelerator.predicted.latency)


def test_a_corrupted_weight_is_caught(tmp_path: Path) -> None:
    graph = convolutional(0, weight_bits=4, groups=2)
    generate(graph, fold_for_interval(stages(graph), 6000), tmp_path)
    frames = frames_of(graph, 40)
    image = next(tmp_path / name for name in Manifest.load(tmp_path).memories if name.startswith("second_weights"))
    words = read_memory_image(image)
    words[0] ^= 8
    digits = len(image.read_text().splitlines()[0])
    image.write_text("".join(f"{word:0{digits}x}\n" for word in words))
    result = run_regression(tmp_path, frames, evaluate(graph, frames))
    assert not result.passed
    assert "word: frame" in result.failure()
