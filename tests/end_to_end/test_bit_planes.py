"""Networks of binary bases through generator and Verilator."""

from pathlib import Path

import numpy as np
import pytest

from karui.flows.synthesize import find_device
from karui.flows.synthesize.yosys import map_netlist
from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.emit.manifest import Manifest
from karui.hw.plan.estimate import Fold
from karui.hw.plan.folding import Folding, check, engines_cost, fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import BinaryBases, Graph, GraphBuilder
from karui.sw.numerics import BIPOLAR, NumberFormat, read_memory_image, unsigned


def bases_of(random: np.random.Generator, outputs: int, count: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Bases of falling weight, as a decomposition has them."""
    scale = 1000 * 0.6 ** np.arange(count)
    coefficients = np.rint(scale * random.uniform(0.7, 1.4, (outputs, count))).astype(int)
    return random.choice([-1, 1], (outputs, count, inputs)), coefficients


def quantized(build: GraphBuilder, name: str, edge: str, words: NumberFormat, frames: np.ndarray) -> str:
    """Requantize so that nearly all that frames make of the sums becomes words."""
    low, high = np.quantile(evaluate(build.finish(edge), frames), (0.02, 0.98)).astype(int)
    shift = int(high - low).bit_length() + 7
    multiplier = (words.maximum << shift) // (high - low)
    return build.requantize(
        f"{name}.quantize", edge, np.array([multiplier]), np.array([-low * multiplier]), shift=shift, output=words
    )


def network(frames: np.ndarray, *, bits: int, bases: int, groups: int) -> Graph:
    """A convolution padded with a word that is not 0, a grouped and a depthwise one, and two dense layers."""
    random = np.random.default_rng(0)
    words = unsigned(bits)
    build = GraphBuilder("decomposed")
    edge = build.input("pixels", (8, 8, 2), words)
    channels = 2
    for name, outputs, parts in (("first", 4, 1), ("grouped", 8, groups), ("depthwise", 8, 8)):
        edge = build.sliding_window(
            f"{name}.window", edge, (3, 3), padding=(1, 1, 1, 1), pad_value=min(3, words.maximum), groups=parts
        )
        signs, coefficients = bases_of(random, outputs, bases, 9 * channels // parts)
        edge = build.binary_bases(name, edge, signs, coefficients, random.integers(-300, 301, outputs), groups=parts)
        if name == "grouped":
            edge = build.max_pool("pool", edge, (2, 2))
        edge = quantized(build, name, edge, words, frames)
        channels = outputs
    edge = build.flatten("flat", edge)
    edge = build.binary_bases("dense", edge, *bases_of(random, 6, bases, build.tensor(edge).elements))
    levels = np.linspace(0, 1, words.levels + 1)[1:-1]
    thresholds = np.quantile(evaluate(build.finish(edge), frames), levels, axis=0).T.astype(int)
    edge = build.threshold("dense.fire", edge, thresholds, words)
    return build.finish(build.binary_bases("last", edge, *bases_of(random, 5, bases, 6), np.arange(5)))


def frames_of(bits: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 1 << bits, (20, 8, 8, 2))


def played(graph: Graph, folding: Folding, folder: Path, frames: np.ndarray) -> None:
    """Every word is the golden model's at any back-pressure, and every cycle the predicted one."""
    accelerator = Accelerator(graph=graph, folding=check(stages(graph), folding))
    write_design(accelerator, folder)
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) >= 24
    for mode in BackPressure:
        result = run_regression(folder, frames, expected, back_pressure=mode, seed=3)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            measured = (result.initiation_interval, result.latency)
            assert measured == (accelerator.predicted.initiation_interval, accelerator.predicted.latency)


@pytest.mark.parametrize(
    ("bits", "bases", "groups", "interval"), [(4, 2, 2, 4000), (3, 3, 1, 1200), (1, 1, 4, 2400), (8, 4, 2, 9000)]
)
def test_networks_are_bit_exact_and_as_fast_as_predicted(
    bits: int, bases: int, groups: int, interval: int, tmp_path: Path
) -> None:
    frames = frames_of(bits)
    graph = network(frames, bits=bits, bases=bases, groups=groups)
    played(graph, fold_for_interval(stages(graph), interval), tmp_path, frames)


def test_every_factor_folds(tmp_path: Path) -> None:
    """Lanes that share a multiplier, planes and bases at once, groups of lanes, one after another in one design."""
    frames = frames_of(4)
    graph = network(frames, bits=4, bases=4, groups=2)
    folds = {
        "first": Fold(simd=2, pe=4, planes=2),
        "grouped": Fold(simd=2, pe=2, bases=2, multiplier="lut"),
        "depthwise": Fold(simd=1, pe=1, planes=4, bases=4),
        "dense": Fold(simd=8, pe=3, planes=2, bases=2),
        "last": Fold(simd=6, pe=5, planes=4, bases=4),
    }
    others = fold_for_interval(stages(graph), 6000).folds
    played(graph, Folding(folds={**others, **folds}), tmp_path, frames)


def test_behind_a_binary_layer_and_before_a_threshold(tmp_path: Path) -> None:
    """One plane, 0 and 1; and the sums become bits."""
    random = np.random.default_rng(3)
    build = GraphBuilder("bits")
    edge = build.input("words", (4, 4, 6), unsigned(1))
    edge = build.binary_bases("bases", edge, *bases_of(random, 8, 3, 6))
    edge = build.threshold("fire", edge, random.integers(-900, 900, (8, 1)), BIPOLAR)
    graph = build.finish(build.matrix_vector("binary", edge, random.choice([-1, 1], (70, 8))))
    frames = random.integers(0, 2, (20, 4, 4, 6))
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 1120))
    write_design(accelerator, tmp_path)
    result = run_regression(tmp_path, frames, evaluate(graph, frames))
    assert result.passed, result.failure()


def test_a_corrupted_base_is_caught(tmp_path: Path) -> None:
    frames = frames_of(4)
    graph = network(frames, bits=4, bases=2, groups=2)
    write_design(Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 4000)), tmp_path)
    image = next(tmp_path / name for name in Manifest.load(tmp_path).memories if name.startswith("grouped_weights"))
    words = read_memory_image(image)
    words[0] ^= 1
    digits = len(image.read_text().splitlines()[0])
    image.write_text("".join(f"{word:0{digits}x}\n" for word in words))
    result = run_regression(tmp_path, frames, evaluate(graph, frames))
    assert not result.passed
    assert "word: frame" in result.failure()


def test_solver_uses_every_factor() -> None:
    """A slow rate takes one plane and one base at a time, a fast one several before more outputs."""
    graph = network(frames_of(4), bits=4, bases=4, groups=1)
    pipeline = tuple(stage for stage in stages(graph) if isinstance(stage.op, BinaryBases))
    slow, fast = fold_for_interval(pipeline, 1 << 20).folds, fold_for_interval(pipeline, 1200).folds
    for name in ("first", "grouped", "depthwise", "dense"):
        assert (slow[name].pe, slow[name].planes, slow[name].bases) == (1, 1, 1)
    for name in ("first", "grouped", "depthwise"):
        assert fast[name].planes > 1
        assert fast[name].bases > 1


@pytest.mark.slow
def test_multipliers_are_as_many_as_estimated(tmp_path: Path) -> None:
    device = find_device("ecp5-85f-8")
    graph = network(frames_of(4), bits=4, bases=4, groups=1)
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 4000))
    write_design(accelerator, tmp_path)
    manifest = Manifest.load(tmp_path)
    (tmp_path / "mapped").mkdir()
    netlist = map_netlist(
        [tmp_path / source for source in manifest.sources],
        top=manifest.top,
        clock=manifest.clock,
        device=device,
        folder=tmp_path / "mapped",
    )
    kinds = [cell["type"] for cell in netlist.design["cells"].values()]
    assert kinds.count("MULT18X18D") == engines_cost(accelerator.stages, accelerator.folding).dsps
