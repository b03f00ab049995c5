"""The sweep of MobileNet's multipliers, on small digits: what it measures, keeps, resumes and refuses."""

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from karui.flows import sweeping
from karui.flows.cli import main
from karui.flows.recipe import Recipe, load_recipe
from karui.flows.sweep_plot import plot
from karui.flows.sweeping import plan, sweep
from karui.sw.models.build import input_shape
from karui.sw.train.checkpoint import load_checkpoint

RECIPE = """
description = "Small"
[data]
name = "digits"
[model]
family = "mobilenet"
image = [1, 8, 8]
classes = 10
stem = 8
stem_stride = 1
stages = [{ channels = 16, stride = 2 }]
precision = { weight_bits = 4, activation_bits = 4 }
[train]
epochs = 5
learning_rate = 0.01
pretrain = { epochs = 20, learning_rate = 0.01 }
[hardware]
device = "ecp5-25f-6"
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file)


def test_points(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sweep(recipe, tmp_path / "sweep", alphas=[1.0, 0.5], rhos=[1.0, 0.75], epochs=2)
    assert [(point.alpha, point.rho) for point in result.points] == [(1.0, 1.0), (1.0, 0.75), (0.5, 1.0), (0.5, 0.75)]
    assert [point.image for point in result.points] == [(1, 8, 8), (1, 6, 6), (1, 8, 8), (1, 6, 6)]
    wide, low, narrow, both = result.points
    assert wide.parameters == low.parameters > narrow.parameters == both.parameters
    assert wide.macs > low.macs > both.macs
    assert wide.macs > narrow.macs > both.macs
    for point in result.points:
        assert set(point.accuracies) == {"float", "model"}
        assert point.hardware is not None
        assert 0 < point.hardware.luts <= 0.6 * 24_288
        model = load_checkpoint(tmp_path / "sweep" / f"alpha-{point.alpha:g}-rho-{point.rho:g}" / "checkpoint.npz")
        assert input_shape(model.config) == point.image
    intervals = [point.hardware.cycles for point in result.points if point.hardware is not None]
    assert intervals[1] < intervals[0]
    assert intervals[3] < intervals[2]
    document = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [point["macs"] for point in document["points"]] == [point.macs for point in result.points]

    def untrainable(*arguments: object, **options: object) -> None:
        raise AssertionError("a finished point was trained again")

    monkeypatch.setattr(sweeping, "train_recipe", untrainable)
    assert sweep(recipe, tmp_path / "sweep", alphas=[1.0, 0.5], rhos=[1.0, 0.75], epochs=2) == result
    with pytest.raises(AssertionError, match="trained again"):
        sweep(recipe, tmp_path / "sweep", alphas=[1.0], rhos=[1.0], epochs=3)

    plot(result, tmp_path / "first.svg")
    plot(result, tmp_path / "second.svg")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
    ElementTree.parse(tmp_path / "first.svg")


@pytest.mark.parametrize(("epochs", "phases"), [(1, (1, None)), (2, (1, 1)), (10, (3, 7)), (5, (2, 3))])
def test_epochs_are_shared_by_the_phases(recipe: Recipe, epochs: int, phases: tuple[int, int | None]) -> None:
    train = plan(recipe.training, alpha=1.0, rho=1.0, epochs=epochs).train
    assert (train.epochs, None if train.pretrain is None else train.pretrain.epochs) == phases


def test_command(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["sweep", str(recipe_file), "--out", str(out), "--alpha", "1/2", "--rho", "1,0.5", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["karui", *arguments])
    main()
    shown = capsys.readouterr().out
    assert "1x8x8" in shown
    assert "1x4x4" in shown
    assert (out / "sweep.svg").is_file()
    assert len(json.loads((out / "sweep.json").read_text())["points"]) == 2


def test_refusals(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="epochs of a sweep must be 1 to 10, not 11"):
        sweep(recipe, tmp_path, alphas=[1.0], rhos=[1.0], epochs=11)
    with pytest.raises(ValueError, match="alpha must be positive"):
        sweep(recipe, tmp_path, alphas=[0.0], rhos=[1.0])
    (tmp_path / "flat.toml").write_text(
        RECIPE.split("[model]")[0]
        + '[model]\nfamily = "binary-mlp"\nin_features = 64\nhidden = [8]\n[train]\nepochs = 1\n'
    )
    with pytest.raises(ValueError, match="flat has no alpha and rho to sweep"):
        sweep(load_recipe(tmp_path / "flat.toml"), tmp_path, alphas=[1.0], rhos=[1.0])
