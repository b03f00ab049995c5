"""Recipes with a section [share]: trained in two phases, taken up again when cut off, looked up in hardware."""

from pathlib import Path

import pytest

from karui.flows.build_folder import BuildFolder
from karui.flows.compiling import run_compile
from karui.flows.recipe import HardwareConfig, load_recipe
from karui.flows.settings import Settings
from karui.flows.simulating import run_simulate
from karui.flows.training import run_train
from karui.sw.configuration import ConfigurationError
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.loop import EpochRecord

RECIPE = """
description = "digits, rows of few vectors"
[data]
name = "digits"
[model]
family = "binary-mlp"
in_features = 64
hidden = [128, 128]
threshold = 8
[train]
epochs = 4
learning_rate = 0.02
[share]
vector = 8
codes = [8]
epochs = 3
learning_rate = 0.01
"""


def test_from_the_recipe_to_looked_up_weights_in_rtl(tmp_path: Path) -> None:
    (tmp_path / "digits.toml").write_text(RECIPE)
    folder = BuildFolder(path=tmp_path / "build")
    hardware = HardwareConfig(initiation_interval=256, images=40)
    settings = Settings(recipe=str(tmp_path / "digits.toml"), hardware=hardware)
    settings.save(folder)
    epochs: list[str] = []

    def stop(phase: str, record: EpochRecord) -> None:
        if (phase, record.epoch) == ("share", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_train(folder, settings, on_epoch=stop)
    assert not folder.checkpoint.exists()
    trained = run_train(folder, settings, on_epoch=lambda phase, record: epochs.append(f"{phase} {record.epoch}"))
    assert epochs == ["share 3"]
    assert [line["epoch"] for line in trained["history"]] == list(range(1, 8))
    assert load_checkpoint(folder.trained).metadata["share"]["codes"] == [8]
    assert set(trained["metadata"]["accuracies"]) == {"unshared", "model"}

    compiled = run_compile(folder, settings)
    assert compiled["golden_vs_model"]["mismatches"] == 0
    assert compiled["accuracy"]["golden"] == trained["accuracy"]
    layers = {layer["name"]: layer for layer in compiled["layers"] if layer["weight_bits"]}
    # Look-ups do not pay in a first layer of half the size.
    assert [layer["storage"] for layer in layers.values()] == ["raw", "shared in vectors of 8", "raw"]
    assert layers["dense2"]["stored_weight_bits"] <= 128 * 128 // 8 * 3 + 8 * 8
    played = run_simulate(folder, settings)
    assert all(run["images"] for run in played["runs"])
    assert played["runs"][0]["initiation_interval"]["mean"] == compiled["predicted"]["initiation_interval"]["mean"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("codes = [8]", "code = [8]"), r"digits.toml \[share\]: unknown key 'code'; did you mean 'codes'"),
        (("vector = 8", "vector = 3"), "vector must be 4, 8 or 16 weights, not 3"),
        (
            ('"binary-mlp"\nin_features = 64\nhidden = [128, 128]\nthreshold = 8', '"lenet-300-100"'),
            "family must be binary-mlp or binary-cnn, not 'lenet-300-100'; networks of integers are shared by",
        ),
    ],
)
def test_wrong_sections_are_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "digits.toml").write_text(RECIPE.replace(*change))
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(tmp_path / "digits.toml")
