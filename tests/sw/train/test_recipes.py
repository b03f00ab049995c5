"""The recipes and the checkpoints that ship with them."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from karui.sw.configuration import ConfigurationError
from karui.sw.data.datasets import load
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_vgg import CapsuleVggConfig
from karui.sw.train.checkpoint import load_checkpoint, load_real_valued
from karui.sw.train.evaluate import held_out_accuracy
from karui.sw.train.recipe import load_training_recipe
from karui.sw.train.run import save_trained, train_recipe

RECIPES = Path(__file__).parents[3] / "flows" / "recipes"
LEAST_ACCURACY = {
    "bnn-tfc": 0.932,
    "bnn-sfc": 0.978,
    "bnn-lfc": 0.987,
    "bnn-lfc-shared": 0.986,
    "bnn-cnn": 0.992,
    "bnn-cnn-fashion": 0.895,
    "binaryconnect-deterministic": 0.986,
    "mobilenet-fashion": 0.935,
    "mobilenet-fashion-4bit": 0.93,
    "inception-fashion": 0.93,
    "inception-fashion-4bit": 0.93,
    "squeezenet-fashion": 0.93,
    "squeezenet-fashion-4bit": 0.925,
    "shufflenet-fashion": 0.925,
    "shufflenet-fashion-4bit": 0.915,
    "xception-fashion": 0.93,
    "xception-fashion-4bit": 0.925,
    "deep-fried-1024": 0.9935,
    "deep-fried-2048": 0.9935,
    "capsnet-compact": 0.995,
    "capsnet": 0.995,
    "puppet-fashion": 0.916,
    "puppet-fashion-continuous": 0.921,
    "puppet-fashion-polynomials": 0.92,
    "puppet-mnist": 0.985,
    "puppet-mnist-continuous": 0.986,
}
# Slow to evaluate on all test images.
LARGE = (
    "capsnet",
    "capsnet-compact",
    "inception-fashion",
    "inception-fashion-4bit",
    "mobilenet-fashion-4bit",
    "puppet-fashion",
    "puppet-fashion-continuous",
    "puppet-fashion-polynomials",
    "puppet-mnist",
    "puppet-mnist-continuous",
    "shufflenet-fashion-4bit",
    "squeezenet-fashion-4bit",
    "xception-fashion",
    "xception-fashion-4bit",
)
LARGEST_FILE = {"capsnet": 7_000_000}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in sorted(LEAST_ACCURACY)]
)
def test_shipped_checkpoint_reaches_its_target(name: str, shared_data: Path) -> None:
    recipe = load_training_recipe(RECIPES / f"{name}.toml")
    checkpoint = load_checkpoint(RECIPES / f"{name}.npz")
    accuracy = held_out_accuracy(checkpoint.model, load(recipe.data.name, shared_data))
    assert accuracy >= LEAST_ACCURACY[name]
    assert accuracy == checkpoint.metadata["accuracies"]["model"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("bnn-cnv", 0.755),
        ("mobilenet-cifar10", 0.81),
        ("mobilenet-cifar10-4bit", 0.81),
        ("capsnet-cifar10", 0.84),
        ("puppet-cifar10", 0.615),
        ("puppet-cifar10-continuous", 0.612),
    ],
)
def test_shipped_cifar10_network_reaches_its_target(name: str, least: float, shared_data: Path, tmp_path: Path) -> None:
    """On copies of CIFAR-10's images, brought into its binary form first."""
    convert = shared_data / "cifar10" / "to_binary.py"
    subprocess.run([sys.executable, str(convert), str(tmp_path / "cifar10")], check=True)
    checkpoint = load_checkpoint(RECIPES / f"{name}.npz")
    accuracy = held_out_accuracy(checkpoint.model, load("cifar10", tmp_path))
    assert accuracy >= least
    assert accuracy == checkpoint.metadata["accuracies"]["model"]


def test_shipped_stochastic_network(shared_data: Path) -> None:
    """At most 1.25 % error with the real-valued weights; the figure with binary ones is the one recorded."""
    path = RECIPES / "binaryconnect-stochastic.npz"
    recorded = load_checkpoint(path).metadata["accuracies"]
    dataset = load("mnist", shared_data)
    assert held_out_accuracy(load_real_valued(path), dataset) == recorded["real_weights"] >= 0.9875
    assert held_out_accuracy(load_checkpoint(path).model, dataset) == recorded["model"]


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.npz")), ids=lambda path: path.stem)
def test_checkpoint_is_of_the_recipe_beside_it(path: Path) -> None:
    recipe = load_training_recipe(path.with_suffix(".toml"))
    checkpoint = load_checkpoint(path)
    config = checkpoint.config
    if isinstance(config, CapsNetConfig | CapsuleVggConfig):
        # Ranges are found while a network is trained.
        assert config.ranges is not None
        config = replace(config, ranges=None)
    assert config == recipe.model
    assert checkpoint.metadata["train"]["epochs"] == recipe.train.epochs
    assert checkpoint.metadata["train"]["seed"] == recipe.train.seed
    assert path.stat().st_size < LARGEST_FILE.get(path.stem, 2_000_000)


def test_digits_recipe_trains_to_a_checkpoint(tmp_path: Path) -> None:
    """The road of every recipe on few epochs of the smallest: train, save, load, same accuracy."""
    text = (RECIPES / "digits-bnn.toml").read_text()
    assert "epochs = 500" in text
    (tmp_path / "digits-bnn.toml").write_text(text.replace("epochs = 500", "epochs = 3"))
    trained = train_recipe(load_training_recipe(tmp_path / "digits-bnn.toml"), state_dir=tmp_path)
    save_trained(tmp_path / "digits-bnn.npz", trained)
    loaded = load_checkpoint(tmp_path / "digits-bnn.npz")
    assert held_out_accuracy(loaded.model, load("digits")) == trained.accuracies["model"] > 0.5


def test_wrong_recipes(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    text = (RECIPES / "digits-bnn.toml").read_text()
    for before, after, message in [
        ("[train]", "[trian]", r"the section \[train\] is missing"),
        ("epochs", "epcohs", r"net.toml \[train\]: unknown key 'epcohs'; did you mean 'epochs'"),
        ("binary-mlp", "binary-cmn", r"family must be one of .*, not 'binary-cmn'; did you mean 'binary-cnn'"),
        ("[data]", "[data", "is not TOML"),
    ]:
        path.write_text(text.replace(before, after, 1))
        with pytest.raises(ConfigurationError, match=message):
            load_training_recipe(path)
