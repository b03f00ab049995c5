"""Recipes with a section [compress]: the stage train writes the packed file, and takes it up again when cut off."""

import json
from pathlib import Path

import numpy as np
import pytest

from karui.flows.bench.lenet_compression import TARGETS
from karui.flows.build_folder import BuildFolder
from karui.flows.recipe import find_recipe, load_recipe
from karui.flows.settings import Settings
from karui.flows.training import load_network, run_train
from karui.sw.compress.config import CodingConfig
from karui.sw.compress.packed_network import read_network
from karui.sw.compress.report import report_file
from karui.sw.configuration import ConfigurationError, from_mapping
from karui.sw.data.datasets import load
from karui.sw.golden import trace
from karui.sw.ir import GraphBuilder, Huffman
from karui.sw.lower.agreement import compare_with_golden, to_graph_layout
from karui.sw.lower.compressed_storage import with_compressed_storage
from karui.sw.lower.from_torch import lower
from karui.sw.numerics import unsigned
from karui.sw.train.evaluate import held_out_accuracy
from karui.sw.train.loop import EpochRecord

RECIPE = """
description = "digits, compressed"
[data]
name = "digits"
[model]
family = "lenet-300-100"
image = [1, 8, 8]
hidden = [30, 20]
precision = { weight_bits = 8, activation_bits = 8, per_channel = false }
[train]
epochs = 6
learning_rate = 0.01
batch_size = 64
[compress]
prune = { epochs = 6, learning_rate = 0.01, keep = [0.2], every = 3 }
share = { epochs = 2, learning_rate = 0.002, codes = [5] }
"""


def test_train_packs_a_network_that_lowers_to_compressed_storage(tmp_path: Path) -> None:
    (tmp_path / "digits.toml").write_text(RECIPE)
    folder, settings = BuildFolder(path=tmp_path / "build"), Settings(recipe=str(tmp_path / "digits.toml"))
    epochs: list[str] = []

    def stop(phase: str, record: EpochRecord) -> None:
        epochs.append(f"{phase} {record.epoch}")
        if epochs[-1] == "prune 2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_train(folder, settings, on_epoch=stop)
    assert not folder.packed.exists()
    epochs.clear()
    result = run_train(folder, settings, on_epoch=lambda phase, record: epochs.append(f"{phase} {record.epoch}"))
    assert epochs == [f"prune {epoch}" for epoch in range(3, 7)] + ["share 1", "share 2"]
    assert [line["epoch"] for line in result["history"]] == list(range(1, 15))
    assert result["accuracy"] == result["metadata"]["accuracies"]["model"] > 0.8
    assert folder.trained == folder.packed
    assert not folder.training_state.exists()
    assert "kept and shared" in folder.packed.with_suffix(".svg").read_text()

    dataset = load("digits")
    model = load_network(folder.packed)
    lowered = lower(model, dataset.image_shape, classes=dataset.classes)
    agreement = compare_with_golden(model, lowered, dataset.test_images)
    assert agreement.mismatches == 0
    assert float((agreement.golden_classes == dataset.test_labels).mean()) == result["accuracy"]

    compressed = with_compressed_storage(lowered.graph)
    kinds = [type(compressed.constants[f"ip{index}.weights"].storage) for index in (1, 2, 3)]
    assert kinds[0] is kinds[1] is Huffman
    frames = to_graph_layout(dataset.test_images[:20])
    outputs, expected = (trace(graph, frames)[graph.output_name] for graph in (compressed, lowered.graph))
    assert np.array_equal(outputs, expected)


def test_no_epochs_before_compression_need_a_network_to_start_from(tmp_path: Path) -> None:
    model = """family = "capsnet"
image = [1, 8, 8]
kernel = 3
"""
    lenet = RECIPE[RECIPE.index('family = "lenet') : RECIPE.index("precision")]
    path = tmp_path / "digits.toml"
    text = RECIPE.replace(lenet, model).replace("epochs = 6\n", 'epochs = 0\nstart = "digits-whole"\n')
    path.write_text(text)
    assert load_recipe(path).training.start == tmp_path / "digits-whole.npz"
    path.write_text(text.replace('start = "digits-whole"\n', ""))
    with pytest.raises(ConfigurationError, match=r"epochs must be 1 or more, not 0, .* \[compress\] has a network to"):
        load_recipe(path)
    path.write_text(text[: text.index("[compress]")])
    with pytest.raises(ConfigurationError, match="epochs must be 1 or more, not 0"):
        load_recipe(path)


def test_a_recipe_may_choose_the_widths_of_indices_and_code_words() -> None:
    random = np.random.default_rng(5)
    weights = random.choice([-3, 1, 2], (20, 64)) * (random.random((20, 64)) < 0.1)
    build = GraphBuilder("layers")
    edge = build.matrix_vector("first", build.input("x", (64,), unsigned(4)), weights)
    edge = build.requantize("relu", edge, np.array([1]), np.array([0]), shift=4, output=unsigned(4))
    graph = build.finish(build.matrix_vector("second", edge, weights[:16, :20]))

    def storages(**keys: object) -> list[object]:
        coding = from_mapping(CodingConfig, keys, "recipe")
        return [constant.storage for constant in with_compressed_storage(graph, coding).constants.values()][:1]

    (smallest,) = storages()
    assert isinstance(smallest, Huffman)
    assert smallest.max_length == 15
    assert storages(gap_bits=[2], longest_code=6) == [Huffman(gap_bits=2, max_length=6)]
    assert storages(gap_bits=[3, 4]) == [Huffman(gap_bits=3)]
    with pytest.raises(ValueError, match="gap_bits has widths for 3 layers; give 1, or one for each of the 2"):
        storages(gap_bits=[3, 3, 3])
    with pytest.raises(ValueError, match="rows of 20 weights have gaps of 1 to 4 bits, not 5"):
        storages(gap_bits=[5])
    with pytest.raises(ConfigurationError, match=r"gap_bits must be 1 to 8 a layer, not \[9\]"):
        storages(gap_bits=[9])
    with pytest.raises(ConfigurationError, match="longest_code must be 1 to 15 bits, not 16"):
        storages(longest_code=16)


def test_a_packed_file_beside_a_recipe_ships_with_it(tmp_path: Path) -> None:
    path = tmp_path / "digits.toml"
    path.write_text(RECIPE)
    trained = BuildFolder(path=tmp_path / "trained")
    made = run_train(trained, Settings(recipe=str(path)))
    assert load_recipe(path).checkpoint is None
    path.with_suffix(".karui").write_bytes(trained.packed.read_bytes())
    assert load_recipe(path).checkpoint == path.with_suffix(".karui")
    folder = BuildFolder(path=tmp_path / "shipped")
    folder.path.mkdir()
    folder.checkpoint.write_text("of another recipe")
    result = run_train(folder, Settings(recipe=str(path)))
    assert result["source"] == "shipped"
    assert result["accuracy"] == made["accuracy"]
    drawing = folder.packed.with_suffix(".svg").read_text()
    assert "kept and shared" in drawing
    assert ">dense<" in trained.packed.with_suffix(".svg").read_text()
    assert ">dense<" not in drawing
    assert folder.packed.read_bytes() == trained.packed.read_bytes()
    assert not folder.checkpoint.exists()
    assert json.loads(folder.record("train").read_text())["inputs"].keys() == {"checkpoint.karui"}


def test_wrong_keys_are_named(tmp_path: Path) -> None:
    path = tmp_path / "digits.toml"
    for before, after, message in [
        (
            "keep = [0.2]",
            "kept = [0.2]",
            r"digits.toml \[compress\], key 'prune': unknown key 'kept'; did you mean 'keep'",
        ),
        ("keep = [0.2]", "keep = [2.0]", r"keep must be fractions in \(0, 1\]"),
        ("codes = [5]", "codes = [300]", "codes must be 1 to 256 values a layer"),
    ]:
        path.write_text(RECIPE.replace(before, after))
        with pytest.raises(ConfigurationError, match=message):
            load_recipe(path)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_shipped_file_reaches_its_target(name: str, shared_data: Path) -> None:
    recipe = find_recipe(name)
    assert recipe.checkpoint is not None
    packed = read_network(recipe.checkpoint)
    assert packed.config == recipe.training.model
    report = report_file(recipe.checkpoint)
    assert report.account.total == 8 * recipe.checkpoint.stat().st_size
    assert report.ratio >= TARGETS[name].ratio
    accuracy = held_out_accuracy(packed.model, load(recipe.training.data.name, shared_data))
    assert round(100 * (1 - accuracy), 2) <= TARGETS[name].error
