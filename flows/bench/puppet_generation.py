"""Generation of kernels by Euler steps and at once: time, share of the whole network's, accuracy, bytes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, percent
from karui.flows.bench.puppet_table import CONTINUOUS, JUDGED, POINTS_LOST, config_of
from karui.flows.bench.reference_data import data_folder
from karui.flows.recipe import find_recipe
from karui.sw.models.puppet import PuppetConfig, PuppetLayers, build_puppet
from karui.sw.models.puppet_size import stored_size
from karui.sw.nn.precision import FLOAT
from karui.sw.nn.puppeteer import Puppeteer
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import held_out_accuracy
from karui.sw.train.seeding import threads

SEED = 1
POLYNOMIALS = "puppet-fashion-polynomials"
RECIPES = {"Euler": JUDGED, "sines": CONTINUOUS, "polynomials": POLYNOMIALS}
BATCH = 128
REPEATS = 60
TIMES_FASTER = 5


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Time the shipped networks' generators, in real numbers, turn by turn; then whole networks."""
    rows: dict[str, dict[str, Any]] = {}
    generators: dict[str, Puppeteer] = {}
    networks: dict[str, nn.Sequential] = {}
    checks: list[Check] = []
    for title, name in RECIPES.items():
        recipe = find_recipe(name)
        if recipe.checkpoint is None:
            checks.append(Check(what=f"{name} ships", value=False, target="True", passed=False))
            continue
        config, checkpoint = config_of(recipe), load_checkpoint(recipe.checkpoint)
        dataset = load_data(recipe.training, data_folder(run.data_dir))
        size = stored_size(checkpoint.model, config)
        rows[title] = {
            "accuracy, %": percent(held_out_accuracy(checkpoint.model, dataset)),
            "bytes": size.bytes,
            "parameters": size.parameters,
        }
        networks[title] = real_twin(config, checkpoint.model)
        generators[title] = _puppet(networks[title]).layers.puppeteer
        images = torch.tensor(dataset.test_images[:BATCH]).float()
        run.progress(f"{title}: {rows[title]}")
    if len(rows) < len(RECIPES):
        return BenchmarkResult(checks=tuple(checks), details={"networks": rows}, seed=SEED)
    with threads(1):
        generation = [
            row
            for depth in _puppet(networks["Euler"]).layers.depth_range
            for row in _generation(generators, depth, run)
        ]
        whole = [_whole(networks, images[:count], run) for count in (BATCH, 1)]
    for row in generation:
        for title in ("sines", "polynomials"):
            what = f"depth {row['depth']}, {row['levels']} levels at a time: {title}, times as fast as Euler"
            checks.append(at_least(what, row["times as fast as Euler"][title], TIMES_FASTER))
    for title in ("sines", "polynomials"):
        lost = round(rows["Euler"]["accuracy, %"] - rows[title]["accuracy, %"], 2)
        checks.append(at_most(f"{title}: points below Euler", lost, POINTS_LOST))
    details = {
        "processor time": f"of one core, in ms, best of {REPEATS} calls, turn by turn",
        "networks": rows,
        "kernels kept for every depth and level, bytes": _kept(networks["Euler"]),
        "generation": generation,
        "whole network": whole,
        "torch": torch.__version__,
    }
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def real_twin(config: PuppetConfig, model: nn.Sequential) -> nn.Sequential:
    """A network of words as one of real numbers, of the same constants."""
    twin = build_puppet(replace(config, precision=FLOAT))
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def _puppet(model: nn.Sequential) -> PuppetLayers:
    puppet = model.get_submodule("puppet")
    assert isinstance(puppet, PuppetLayers)
    return puppet


def _kept(model: nn.Sequential) -> int:
    """Bytes of the kernels of all depths and levels, to generate none: another way to be fast."""
    layers = _puppet(model).layers
    weights = 9 * layers.channels**2
    return weights * sum(layers.depth_range) * layers.puppeteer.levels.count


@torch.no_grad()
def _generation(generators: dict[str, Puppeteer], depth: int, run: BenchmarkRun) -> list[dict[str, Any]]:
    """Kernels of all levels at a time, and of one."""
    rows = []
    count = next(iter(generators.values())).levels.count
    prepared = {title: generator.prepared(depth) for title, generator in generators.items()}
    for levels in (torch.arange(count), torch.tensor([count // 2])):
        times = _race({title: partial(generate, levels) for title, generate in prepared.items()})
        row = {
            "depth": depth,
            "levels": len(levels),
            "ms": {title: _milliseconds(seconds) for title, seconds in times.items()},
            "times as fast as Euler": {
                title: round(times["Euler"] / seconds, 2) for title, seconds in times.items() if title != "Euler"
            },
        }
        run.progress(f"generation: {row}")
        rows.append(row)
    return rows


@torch.no_grad()
def _whole(networks: dict[str, nn.Sequential], images: Tensor, run: BenchmarkRun) -> dict[str, Any]:
    """From pixels to scores, complexity and generation included."""
    times = _race({title: partial(network, images) for title, network in networks.items()})
    row = {
        "images": len(images),
        "ms": {title: _milliseconds(seconds) for title, seconds in times.items()},
        "times as fast as Euler": {
            title: round(times["Euler"] / seconds, 2) for title, seconds in times.items() if title != "Euler"
        },
    }
    run.progress(f"whole network: {row}")
    return row


def _race(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Best processor time of each, in turns that start with another one each time: calls find other caches."""
    best = dict.fromkeys(calls, math.inf)
    order = list(calls)
    for _ in range(REPEATS):
        for name in order:
            started = time.process_time()
            calls[name]()
            best[name] = min(best[name], time.process_time() - started)
        order = [*order[1:], order[0]]
    return best


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 4)


PUPPET_GENERATION = Benchmark(
    name="puppet-generation",
    description="kernels of the shipped networks generated by Euler steps and at once, of all levels at a time and one "
    "by one: time, that of the whole network, accuracy, bytes",
    target=f"at once >= {TIMES_FASTER} times as fast at every depth, at most {POINTS_LOST} points below",
    minutes=3,
    measure=measure,
)
