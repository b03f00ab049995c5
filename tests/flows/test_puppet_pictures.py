"""Drawings of networks with generated kernels: files, and what is in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from karui.flows import puppet_pictures
from karui.flows.puppet_pictures import cycles_by_depth, draw, images_by_complexity, stored_accuracies
from karui.flows.recipe import load_recipe
from karui.sw.data.dataset import Dataset
from karui.sw.data.datasets import load
from karui.sw.models.build import build_model
from karui.sw.train.checkpoint import save_checkpoint

RECIPE = """
description = "a puppet of digits"
[data]
name = "digits"
[model]
family = "puppet"
image = [1, 8, 8]
channels = 32
stem_stride = 1
first_depth = 3
last_depth = 4
precision = { weight_bits = 8, activation_bits = 8 }
[train]
epochs = 1
[hardware]
initiation_interval = 40000
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "puppet-digits.toml"
    path.write_text(RECIPE)
    config = load_recipe(path).training.model
    save_checkpoint(path.with_suffix(".npz"), build_model(config).eval(), config, {"accuracies": {"model": 0.1}})
    return path


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Digits as bytes: complexity is that of pixels of 8 bits."""
    digits = replace(load("digits"), pixel_maximum=255)
    monkeypatch.setattr(puppet_pictures, "load_data", lambda recipe, data_dir: digits)
    return digits


@pytest.mark.usefixtures("dataset")
def test_three_pictures_are_drawn_the_same_each_time(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file)
    first, second = draw(recipe, tmp_path / "one"), draw(recipe, tmp_path / "two")
    assert [path.name for path in first] == [
        f"puppet-digits-{name}.svg" for name in ("kernels", "complexity", "cycles")
    ]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert [layer in first[0].read_text() for layer in ("layer 1", "layer 4", "layer 5")] == [True, True, False]
    assert "images of 3 layers" in first[2].read_text()


def test_images_ascend_in_complexity() -> None:
    dataset = load("digits")
    words = torch.from_numpy(np.random.default_rng(1).permutation(len(dataset.test_images))) + 4096
    figure = images_by_complexity(dataset, words, torch.full_like(words, 3))
    titles = [axes.get_title() for axes in figure.axes]
    complexities = [float(title.split()[2]) for title in titles]
    assert complexities == sorted(complexities)
    assert titles[0] == "H = 1.00\n3 layers"
    assert np.array_equal(figure.axes[0].images[0].get_array(), dataset.test_images[int(words.argmin()), 0])


def test_deeper_frames_take_more_cycles(recipe_file: Path, dataset: Dataset) -> None:
    recipe = load_recipe(recipe_file)
    cycles = cycles_by_depth(recipe, build_model(recipe.training.model).eval(), dataset)
    # 64 positions of 9 * 32 inputs by 32 outputs, 64 products a cycle: the slowest convolution of the recipe's rate.
    assert cycles == {3: 3 * 64 * 144, 4: 4 * 64 * 144}


def test_stored_accuracies_are_those_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(puppet_pictures, "RESULTS", tmp_path)
    assert stored_accuracies("puppet-digits") == {}
    rows = {"puppet-digits": {"accuracy, %": 80.0}, "puppet-digits, stored, depth 4": {"accuracy, %": 91.5}}
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "puppet-table.json").write_text(json.dumps({"details": {"rows": rows}}))
    assert stored_accuracies("puppet-digits") == {4: 0.915}


def test_what_cannot_be_drawn_is_refused(recipe_file: Path, tmp_path: Path) -> None:
    checkpoint = recipe_file.with_suffix(".npz")
    checkpoint.unlink()
    with pytest.raises(ValueError, match="puppet-digits ships no network to draw"):
        draw(load_recipe(recipe_file), tmp_path)
    stored = RECIPE.replace("first_depth = 3", 'first_depth = 4\ngenerator = "stored"')
    recipe_file.write_text(stored)
    config = load_recipe(recipe_file).training.model
    save_checkpoint(checkpoint, build_model(config).eval(), config, {})
    with pytest.raises(ValueError, match="has stored kernels"):
        draw(load_recipe(recipe_file), tmp_path)
