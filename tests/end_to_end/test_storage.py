"""One graph through the generator with its weights in every storage: the same words, and the predicted cycles."""

from pathlib import Path

import numpy as np
import pytest

from karui.flows.synthesize import find_device
from karui.flows.synthesize.block_ram_register import absorb_output_registers
from karui.flows.synthesize.yosys import map_netlist, write_netlist
from karui.hw.compressed.sparse_entries import HuffmanEntriesConfig
from karui.hw.compressed.sparse_images import ImageError, check_images
from karui.hw.compressed.sparse_matrix_vector import SparseMatrixVectorConfig
from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.emit.manifest import CycleRange
from karui.hw.plan.estimate import Fold
from karui.hw.plan.folding import Folding, fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.netlist import ecp5_models, write_netlist_design
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder, Huffman, Raw, Shared, Sparse, Storage, with_storage
from karui.sw.lower.compressed_storage import with_compressed_storage
from karui.sw.lower.share_binary_weights import share_binary_weights
from karui.sw.numerics import BIPOLAR, memory_image, read_memory_image, signed, unsigned

STORAGES: dict[str, Storage] = {
    "raw": Raw(),
    "shared": Shared(),
    "shared-4": Shared(vector=4),
    "sparse": Sparse(gap_bits=4),
    "huffman": Huffman(gap_bits=3, max_length=7),
}


def pruned(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Ternary-like weights of few values, most of them zero."""
    return random.choice([-9, -4, 3, 7, 11], shape) * (random.random(shape) < 0.2)


def network() -> Graph:
    """A convolution, a hidden layer with a bias, and scores."""
    random = np.random.default_rng(5)
    build = GraphBuilder("pruned")
    edge = build.input("pixels", (10, 10, 4), unsigned(4))
    edge = build.sliding_window("window", edge, (3, 3), stride=(2, 2))
    edge = build.matrix_vector("conv", edge, pruned(random, (8, 36)), random.integers(-30, 30, 8))
    edge = build.requantize("conv.relu", edge, np.array([1]), np.array([0]), shift=3, output=unsigned(5))
    edge = build.flatten("flat", edge)
    edge = build.matrix_vector("hidden", edge, pruned(random, (24, 128)), random.integers(-30, 30, 24))
    edge = build.threshold("hidden.levels", edge, np.sort(random.integers(-300, 300, (24, 3))), unsigned(2))
    edge = build.matrix_vector("scores", edge, pruned(random, (10, 24)), random.integers(-5, 5, 10))
    return build.finish(build.requantize("out", edge, np.array([1]), np.array([0]), shift=0, output=signed(9)))


def stored(name: str) -> Graph:
    graph = network()
    return with_storage(graph, {f"{node}.weights": STORAGES[name] for node in ("conv", "hidden", "scores")})


@pytest.mark.parametrize("name", STORAGES)
def test_results_do_not_depend_on_storage(name: str, tmp_path: Path) -> None:
    graph = stored(name)
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 700))
    write_design(accelerator, tmp_path)
    frames = np.random.default_rng(1).integers(0, 16, (60, 10, 10, 4))
    expected = evaluate(network(), frames)
    assert len(np.unique(expected)) > 10
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=3)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval == CycleRange.fixed(accelerator.interval)
            assert result.latency == CycleRange.fixed(accelerator.latency)


def test_images_hold_the_weights_and_a_flipped_bit_is_caught(tmp_path: Path) -> None:
    graph = stored("huffman")
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 2000))
    write_design(accelerator, tmp_path)
    (engine,) = (engine for engine in accelerator.engines if engine.name == "scores")
    assert isinstance(engine.config, SparseMatrixVectorConfig)
    entries = engine.config.entries
    assert isinstance(entries, HuffmanEntriesConfig)
    table = (tmp_path / "scores_entries_codes_code.txt").read_text()
    for symbol, length in enumerate(entries.codes.code.lengths.tolist()):
        assert f"{symbol:6}  {length:6}  " in table
    check_images(entries, tmp_path, "scores_entries")

    frames = np.random.default_rng(1).integers(0, 16, (40, 10, 10, 4))
    expected = evaluate(graph, frames)
    assert run_regression(tmp_path, frames, expected).passed
    stream, symbols = "scores_entries_codes_lane_0.mem", "scores_entries_codes.mem"
    for name, bits in ((stream, entries.codes.images[0].word_bits), (symbols, entries.codes.symbol_bits)):
        image = tmp_path / name
        good = image.read_text()
        words = read_memory_image(image)
        words[len(words) // 2] ^= 2
        image.write_text(memory_image(words, bits))
        with pytest.raises(ImageError, match="scores_entries"):
            check_images(entries, tmp_path, "scores_entries")
        result = run_regression(tmp_path, frames, expected)
        assert not result.passed
        assert "word: frame" in result.failure()
        image.write_text(good)


def test_binary_weights_of_few_vectors_are_looked_up(tmp_path: Path) -> None:
    """A convolution and a layer of binary inputs, made of few vectors, which is then how their storage is chosen."""
    random = np.random.default_rng(7)
    build = GraphBuilder("binary")
    edge = build.threshold("bits", build.input("pixels", (6, 6, 8), unsigned(4)), np.array([[7]]), BIPOLAR)
    for name, inputs, outputs in (("conv", 72, 32), ("hidden", 512, 64)):
        edge = build.sliding_window("window", edge, (3, 3)) if name == "conv" else build.flatten("flat", edge)
        edge = build.matrix_vector(name, edge, random.choice([-1, 1], (outputs, inputs)))
        edge = build.threshold(f"{name}.fire", edge, random.integers(-6, 7, (outputs, 1)), BIPOLAR)
    given = build.finish(build.matrix_vector("scores", edge, random.choice([-1, 1], (10, 64))))
    frames = random.integers(0, 16, (60, 6, 6, 8))
    shared = share_binary_weights(given, frames, vector=8, codes=16)
    graph = with_compressed_storage(shared)
    chosen = {name: graph.constants[f"{name}.weights"].storage for name in ("conv", "hidden", "scores")}
    assert chosen == {"conv": Shared(vector=8), "hidden": Shared(vector=8), "scores": Raw()}

    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 700))
    write_design(accelerator, tmp_path)
    expected = evaluate(shared, frames)
    assert len(np.unique(expected)) > 10
    assert not np.array_equal(expected, evaluate(given, frames))
    result = run_regression(tmp_path, frames, expected)
    assert result.passed, result.failure()
    assert result.initiation_interval == CycleRange.fixed(accelerator.interval)
    assert result.latency == CycleRange.fixed(accelerator.latency)


@pytest.mark.slow
def test_netlist_of_code_books_and_decoders(tmp_path: Path) -> None:
    """Weights looked up and decoded, vectors and sums in block RAM, as Yosys maps them."""
    random = np.random.default_rng(8)
    build = GraphBuilder("netlist")
    edge = build.input("values", (64,), unsigned(6))
    edge = build.matrix_vector("shared", edge, pruned(random, (80, 64)), storage=Shared(vector=4))
    edge = build.requantize("scale", edge, np.array([1]), np.array([0]), shift=4, output=unsigned(6))
    edge = build.matrix_vector(
        "coded", edge, pruned(random, (20, 80)), random.integers(-40, 40, 20), storage=Huffman(gap_bits=4)
    )
    graph = build.finish(edge)
    folds = {"shared": Fold(simd=4, pe=4), "coded": Fold(simd=2, pe=3)}
    accelerator = Accelerator(graph=graph, folding=Folding(folds=folds))
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
    write_netlist(netlist, mapped)
    write_netlist_design(tmp_path, mapped / "netlist.v", tmp_path / "netlist")
    frames = random.integers(0, 64, (30, 64))
    expected = evaluate(graph, frames)
    for mode in (BackPressure.NONE, BackPressure.RANDOM):
        result = run_regression(tmp_path / "netlist", frames, expected, back_pressure=mode, libraries=ecp5_models())
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval == CycleRange.fixed(accelerator.interval)
