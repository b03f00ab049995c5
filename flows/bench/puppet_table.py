"""Puppet-CNN beside networks of stored kernels: accuracy, what is stored, depths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, percent
from karui.flows.bench.reference_data import data_folder
from karui.flows.recipe import Recipe, find_recipe, recipe_names
from karui.sw.data.dataset import Dataset
from karui.sw.models.puppet import PuppetConfig, PuppetLayers, fixed_twin
from karui.sw.models.puppet_size import stored_size
from karui.sw.nn.euler_puppeteer import EulerPuppeteer
from karui.sw.nn.precision import FLOAT
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import held_out_accuracy
from karui.sw.train.kernel_regression import generated
from karui.sw.train.loop import EpochRecord
from karui.sw.train.recipe import TrainingRecipe
from karui.sw.train.run import train_recipe
from karui.sw.train.teacher import TWIN_LEARNING_RATE

JUDGED = "puppet-fashion"
CONTINUOUS = "puppet-fashion-continuous"
# States of the trainings: a run that was cut off goes on from them, and a later one finds them finished.
STATES = Path("out/puppet-table")
TIMES_FEWER, POINTS_BELOW, POINTS_LOST = 10, 1.5, 0.5


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Measure the recipes' networks, train their twins of stored kernels, and the equations without a pattern."""
    rows: dict[str, dict[str, Any]] = {}
    recipes = puppet_recipes()
    for name, recipe in recipes.items():
        if recipe.checkpoint is None:
            continue
        checkpoint = load_checkpoint(recipe.checkpoint)
        dataset = load_data(recipe.training, data_folder(run.data_dir))
        rows[name] = _row(checkpoint.model, config_of(recipe), dataset)
        rows[name] |= at_their_limits(checkpoint.model)
        rows[name] |= {f"{phase}, %": percent(value) for phase, value in checkpoint.metadata["accuracies"].items()}
        run.progress(f"{name}: {rows[name]}")
        if config_of(recipe).generator == "euler":
            for depth in rows[name]["depths, images"]:
                rows[f"{name}, stored, depth {depth}"] = _twin(recipe, int(depth), dataset, run)
    judged = recipes[JUDGED]
    rows["the equations without a pattern"] = _degenerate(judged, run)
    return BenchmarkResult(checks=tuple(_checks(rows)), details={"rows": rows}, seed=judged.training.train.seed)


def puppet_recipes() -> dict[str, Recipe]:
    """The recipes of generated kernels, by name."""
    found = {name: find_recipe(name) for name in recipe_names() if name.startswith("puppet-")}
    return {name: recipe for name, recipe in found.items() if isinstance(recipe.training.model, PuppetConfig)}


def config_of(recipe: Recipe) -> PuppetConfig:
    """The network of such a recipe."""
    assert isinstance(recipe.training.model, PuppetConfig)
    return recipe.training.model


@torch.no_grad()
def depth_counts(model: nn.Sequential, images: torch.Tensor) -> dict[str, int]:
    """Images of each depth; a network of stored kernels has one."""
    puppet = model.get_submodule("puppet")
    assert isinstance(puppet, PuppetLayers)
    depths = puppet.layers.depths(puppet.complexity(images))
    return {str(depth): int((depths == depth).sum()) for depth in puppet.layers.depth_range if (depths == depth).any()}


@torch.no_grad()
def at_their_limits(model: nn.Sequential) -> dict[str, float]:
    """Of all kernels that images may have the share at the ends of their range; of Euler's steps that of G's words."""
    layers = generated(model)
    puppeteer = layers.puppeteer
    step = 2.0**-puppeteer.kernel_fraction
    ends = torch.tensor([puppeteer.kernel_words.minimum * step, puppeteer.kernel_words.maximum * step])
    kernels, slopes = [], []
    for depth in layers.depth_range:
        levels = torch.tensor(layers.levels_of(depth))
        depths = torch.full_like(levels, depth)
        kernels.append(torch.isin(torch.stack(puppeteer.kernels(depths, levels)), ends).flatten())
        if isinstance(puppeteer, EulerPuppeteer):
            slopes.append((puppeteer.slopes(depths, levels).abs() == puppeteer.limit).flatten())
    found = {"kernels at their limits, %": percent(float(torch.cat(kernels).float().mean()))}
    return found | ({"G at its limits, %": percent(float(torch.cat(slopes).float().mean()))} if slopes else {})


def mean_depth(counts: dict[str, int]) -> float:
    """Of images counted by depth."""
    return sum(int(depth) * images for depth, images in counts.items()) / sum(counts.values())


def _checks(rows: dict[str, dict[str, Any]]) -> list[Check]:
    if JUDGED not in rows:
        return [Check(what=f"{JUDGED} ships", value=False, target="True", passed=False)]
    puppet = rows[JUDGED]
    twin = rows[f"{JUDGED}, stored, depth {round(mean_depth(puppet['depths, images']))}"]
    checks: list[Check] = []
    for name in (JUDGED, CONTINUOUS):
        if name in rows:
            fewer = round(twin["parameters"] / rows[name]["parameters"], 2)
            checks += [
                at_least(f"{name}: times fewer parameters than stored kernels", fewer, TIMES_FEWER),
                at_most(f"{name}: points below stored kernels", _below(rows[name], twin), POINTS_BELOW),
            ]
    if CONTINUOUS in rows:
        checks.append(at_most(f"{CONTINUOUS}: points below {JUDGED}", _below(rows[CONTINUOUS], puppet), POINTS_LOST))
    return checks


def _below(row: dict[str, Any], other: dict[str, Any]) -> float:
    below: float = round(other["accuracy, %"] - row["accuracy, %"], 2)
    return below


def _row(model: nn.Sequential, config: PuppetConfig, dataset: Dataset) -> dict[str, Any]:
    size = stored_size(model, config)
    row = {
        "accuracy, %": percent(held_out_accuracy(model, dataset)),
        "parameters": size.parameters,
        "bytes": size.bytes,
        "parts": {part.name: part.parameters for part in size.parts},
    }
    if config.generator != "stored":
        row["depths, images"] = depth_counts(model, torch.tensor(dataset.test_images))
    return row


def _twin(recipe: Recipe, depth: int, dataset: Dataset, run: BenchmarkRun) -> dict[str, Any]:
    """The network of stored kernels of a depth, trained as the puppet was, but for its teacher."""
    train = recipe.training.train
    assert train.pretrain is not None
    pretrain = replace(train.pretrain, learning_rate=TWIN_LEARNING_RATE)
    config = fixed_twin(config_of(recipe), depth)
    name = f"{recipe.name}, stored, depth {depth}"
    training = replace(recipe.training, model=config, train=replace(train, pretrain=pretrain, distillation=None))
    return _trained(name, training, config, dataset, run)


def _degenerate(recipe: Recipe, run: BenchmarkRun) -> dict[str, Any]:
    """The Euler generator from a constant state, trained as the recipe's float phase."""
    config = replace(config_of(recipe), pattern_rank=0, precision=FLOAT)
    train = recipe.training.train
    assert train.pretrain is not None
    train = replace(train, epochs=train.pretrain.epochs, learning_rate=train.pretrain.learning_rate, pretrain=None)
    dataset = load_data(recipe.training, data_folder(run.data_dir))
    training = replace(recipe.training, model=config, train=train)
    return _trained("no pattern", training, config, dataset, run)


def _trained(
    name: str, training: TrainingRecipe, config: PuppetConfig, dataset: Dataset, run: BenchmarkRun
) -> dict[str, Any]:
    def report(record: EpochRecord, model: nn.Module) -> None:
        run.progress(f"{name}: epoch {record.epoch} of {record.epochs}, {record.seconds:.0f} s")

    trained = train_recipe(
        training,
        data_dir=data_folder(run.data_dir),
        state_dir=STATES,
        on_epoch=report,
        on_pretrain_epoch=report,
    )
    row = _row(trained.model, config, dataset)
    return row | {f"{phase}, %": percent(value) for phase, value in trained.accuracies.items()}


PUPPET_TABLE = Benchmark(
    name="puppet-table",
    description="the shipped networks of generated kernels, by Euler steps and at once, beside trained ones of stored "
    "kernels of each depth: accuracy, parameters, bytes, images by depth; and the equations without a pattern",
    target=f"{JUDGED} and {CONTINUOUS}: >= {TIMES_FEWER} times fewer parameters than stored kernels of the mean depth, "
    f"at most {POINTS_BELOW} points below; continuous at most {POINTS_LOST} points below Euler",
    minutes=160,
    measure=measure,
)
