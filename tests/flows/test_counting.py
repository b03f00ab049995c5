"""`karui count`: every network and recipe, its options, its refusals, figures that are never cut short."""

import json
import sys

import pytest

from karui.flows.cli import main
from karui.flows.counting import count_network, parse_image, parse_ratio
from karui.flows.recipe import find_recipe, recipe_names
from karui.sw.models.build import build_model
from karui.sw.models.catalog import NETWORKS


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["karui", "count", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_are_counted(name: str) -> None:
    counted = count_network(name)
    model = build_model(find_recipe(name).training.model)
    assert counted.network.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert counted.network.macs > 0


def test_lists_the_networks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in NETWORKS)
    assert "8,357,403,496" in shown


def test_tables_have_whole_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "googlenet") == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert "1,582,671,872" in shown
    (row,) = [line.split() for line in shown.splitlines() if "120,422,400" in line]
    assert row[3:10] == ["784", "192", "25", "32", "120,422,400", "12,443,648", "12,443,648"]


def test_multipliers_beside_their_formula(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "mobilenet", "--alpha", "0.5", "--rho", "6/7") == 0
    shown = capsys.readouterr().out
    assert "105,477,120 MACs; counted: 105,477,120" in shown
    assert "1,331,592" in shown
    assert "109,970,432" in shown


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "shufflenet", "--groups", "8", "--classes", "10", "--image", "1x192x160", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    expected = count_network("shufflenet", {"groups": 8, "classes": 10, "image": (1, 192, 160)})
    assert found["input"] == [1, 192, 160]
    assert (found["parameters"], found["macs"]) == (expected.network.parameters, expected.network.macs)
    assert sum(layer["macs"] for layer in found["layers"]) == found["macs"]
    assert found["configuration"]["groups"] == 8
    assert found["separable_macs_predicted_by_multipliers"] is None


@pytest.mark.parametrize(
    ("arguments", "mentions"),
    [
        (("googelnet",), ("'googelnet'", "'googlenet'", "karui count")),
        (("bnn-tfcc",), ("'bnn-tfcc'", "'bnn-tfc'")),
        (("nowhere.toml",), ("nowhere.toml",)),
        (("resnet-50", "--alpha", "0.5"), ("resnet-50 has no alpha", "mobilenet-v2")),
        (("mobilenet", "--groups", "2"), ("mobilenet has no groups", "shufflenet")),
        (("mobilenet", "--alpha", "0"), ("alpha must be positive",)),
        (("mobilenet", "--rho", "6/0"), ("--rho", "'6/0'")),
        (("shufflenet", "--groups", "5"), ("1, 2, 3, 4, 8", "not 5")),
        (("mobilenet", "--image", "2x"), ("--image", "'2x'")),
        (("bnn-tfc", "--image", "28"), ("bnn-tfc takes vectors",)),
    ],
)
def test_refusals(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    mentions: tuple[str, ...],
) -> None:
    assert run(monkeypatch, *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert all(mention in line for mention in mentions)


def test_images_and_ratios() -> None:
    assert parse_image("32", "mobilenet-small") == (1, 32, 32)
    assert parse_image("32x28", "mobilenet") == (3, 32, 28)
    assert parse_image("4x32x28", "mobilenet") == (4, 32, 28)
    assert parse_ratio("--rho", "6/7") == pytest.approx(192 / 224, rel=1e-15)
    assert parse_ratio("--rho", "0.5") == 0.5
