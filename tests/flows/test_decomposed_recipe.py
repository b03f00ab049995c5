"""The recipe of a network that others trained: what ships, on all test images, and the stage that makes it."""

from pathlib import Path

import pytest
import torch

from karui.flows.build_folder import BuildFolder
from karui.flows.recipe import find_recipe, load_recipe
from karui.flows.settings import Settings
from karui.flows.training import load_network, run_train
from karui.sw.configuration import ConfigurationError
from karui.sw.data.datasets import load
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.nn.decomposed import DecomposedLayer
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.evaluate import evaluate, tensors

NAMES = ("conv1", "conv2", "fc1", "fc2")
RECIPE = """
description = "digits, decomposed"
[data]
name = "digits"
[model]
family = "mnist-cnn"
image = [1, 8, 8]
channels = [8, 8]
hidden = 16
[train]
epochs = 2
[decompose]
bases = [3]
activation_bits = [6]
restarts = 4
calibration_images = 100
"""


def test_the_shipped_network_is_small_and_right(shared_data: Path) -> None:
    """80 % smaller and at most 0.3 points worse, on every image of the test set; golden model on some."""
    recipe = find_recipe("decomposed-mnist-cnn")
    assert recipe.checkpoint is not None
    assert recipe.weights is not None
    floats = load_checkpoint(recipe.weights).model
    parameters = sum(parameter.numel() for parameter in floats.parameters())
    assert recipe.checkpoint.stat().st_size <= 0.2 * 4 * parameters
    dataset = load("mnist", shared_data)
    model = load_network(recipe.checkpoint)
    assert not list(model.parameters())
    images, labels = tensors(dataset.test_images, dataset.test_labels)
    assert evaluate(floats, images, labels) == 0.9905
    assert evaluate(model, images, labels) >= 0.9905 - 0.003
    lowered = lower(model, dataset.image_shape, classes=dataset.classes)
    assert compare_with_golden(model, lowered, dataset.test_images[:300]).mismatches == 0


@pytest.mark.slow
def test_the_shipped_file_is_made_again(shared_data: Path, tmp_path: Path) -> None:
    recipe = find_recipe("decomposed-mnist-cnn")
    assert recipe.checkpoint is not None
    folder = BuildFolder(path=tmp_path)
    run_train(folder, Settings(recipe="decomposed-mnist-cnn", retrain=True), data_dir=shared_data)
    assert folder.packed.read_bytes() == recipe.checkpoint.read_bytes()


def test_a_network_trained_here_is_decomposed(tmp_path: Path) -> None:
    (tmp_path / "digits.toml").write_text(RECIPE)
    folder = BuildFolder(path=tmp_path / "build")
    searched: list[tuple[str, int, int]] = []
    settings = Settings(recipe=str(tmp_path / "digits.toml"))
    result = run_train(folder, settings, on_search=lambda text, done, total: searched.append((text, done, total)))
    assert [entry["epoch"] for entry in result["history"]] == [1, 2]
    assert result["accuracy"] == result["metadata"]["accuracies"]["model"]
    assert abs(result["accuracy"] - result["metadata"]["accuracies"]["float"]) < 0.05
    layers = [layer for layer in load_network(folder.trained).modules() if isinstance(layer, DecomposedLayer)]
    assert [layer.bases for layer in layers] == [3] * 4
    assert all(layer.quantizer.bits == 6 and layer.codes.dtype == torch.uint8 for layer in layers)
    assert searched == [
        (f"{name} in 3 bases, filters", size, size) for name, size in zip(NAMES, (8, 8, 16, 10), strict=True)
    ]
    # The float network stays beside it: decomposed as given weights, it is the same file.
    floats = load_checkpoint(folder.floats)
    assert floats.metadata["accuracies"]["model"] == result["metadata"]["accuracies"]["float"]
    (tmp_path / "given.npz").write_bytes(folder.floats.read_bytes())
    given = RECIPE.replace("epochs = 2", "epochs = 0").replace("[decompose]", '[decompose]\nweights = "given.npz"')
    (tmp_path / "given.toml").write_text(given)
    again = BuildFolder(path=tmp_path / "again")
    run_train(again, Settings(recipe=str(tmp_path / "given.toml")))
    assert again.packed.read_bytes() == folder.packed.read_bytes()
    assert not again.floats.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs = 2", "epochs = 0"), "epochs must be 1 or more, not 0, unless .decompose. names a file of weights"),
        (("bases = [3]", 'bases = [3]\nweights = "none.npz"'), "there is no file .*none.npz"),
        (("bases = [3]", "bases = [9]"), r"\[decompose\]: bases must be 1 to 8"),
        (("restarts", "restart"), r"\[decompose\]: unknown key 'restart'; did you mean 'restarts'"),
        (
            ("[decompose]", "[compress]\nprune = { epochs = 1, learning_rate = 0.1, keep = [0.2] }\n"
             "share = { epochs = 1, learning_rate = 0.1, codes = [5] }\n[decompose]"),
            "one of the sections compress and decompose",
        ),
    ],
)  # fmt: skip
def test_wrong_recipes_are_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "digits.toml").write_text(RECIPE.replace(*change))
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(tmp_path / "digits.toml")


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    text = RECIPE.replace("epochs = 2", "epochs = 0").replace("bases = [3]", 'bases = [3]\nweights = "none.npz"')
    (tmp_path / "digits.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"there is no file .*none.npz"):
        load_recipe(tmp_path / "digits.toml")
