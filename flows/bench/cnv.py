"""CNV at FINN's rates: bit-exact, and its area on Xilinx 7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check
from karui.flows.bench.reference_data import dataset
from karui.flows.bench.regression import Array, play_at_interval
from karui.flows.recipe import find_recipe
from karui.flows.synthesize import find_device
from karui.sw.data.dataset import MissingDataError
from karui.sw.lower.agreement import to_graph_layout
from karui.sw.lower.from_torch import lower
from karui.sw.models.build import build_model
from karui.sw.train.batch_norm import reestimate_batch_norm
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.seeding import seeded

RECIPE = "bnn-cnv"
INTERVALS = (32_768, 9_130)
IMAGES = 8
SEED = 1
DEVICE = "xc7z045"
IMAGE_SHAPE = (3, 32, 32)
# Random images from which batch norm takes its statistics where no trained network ships.
CALIBRATION_IMAGES = 64


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Play images through both foldings, map both to Xilinx 7."""
    model, weights = _network()
    images, provenance = _images(run.data_dir)
    graph = lower(model, IMAGE_SHAPE, name=RECIPE).graph
    checks: list[Check] = []
    details: dict[str, Any] = {"weights": weights, "images": provenance}
    for interval in INTERVALS:
        label = f"at {interval} cycles"
        played = play_at_interval(
            graph,
            to_graph_layout(images),
            interval=interval,
            folder=run.folder / str(interval),
            label=label,
            progress=run.progress,
            latency_frames=1,
            lut_inputs=find_device(DEVICE).lut_inputs,
        )
        checks += played.checks(label, interval)
        run.progress(f"{label}: area on {DEVICE}")
        cells = played.design.synthesize(DEVICE).cells
        area = {"lut6": cells.lut, "carry": cells.carry, "ff": cells.ff, "bram": cells.bram, "dsp": cells.dsp}
        checks.append(
            Check(what=f"{label}: area by Yosys, {DEVICE}", value=area, target="stated", passed=cells.lut > 0)
        )
        details[label] = played.details
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def _network() -> tuple[nn.Module, str]:
    """The network that ships with the recipe; else random weights with batch norms that fit random images."""
    recipe = find_recipe(RECIPE)
    if recipe.checkpoint is not None:
        return load_checkpoint(recipe.checkpoint).model, f"checkpoint of {RECIPE}"
    model = seeded(SEED, lambda: build_model(recipe.training.model))
    reestimate_batch_norm(model, torch.from_numpy(_random_images(CALIBRATION_IMAGES)))
    return model, f"random (seed {SEED}), batch norm calibrated on {CALIBRATION_IMAGES} random images"


def _images(data_dir: Path | None) -> tuple[Array, str]:
    try:
        data = dataset("cifar10", data_dir)
        return data.test_images[:IMAGES], f"the first {IMAGES} test images of: {data.provenance}"
    except MissingDataError:
        return _random_images(IMAGES), f"random (seed {SEED})"


def _random_images(count: int) -> Array:
    return np.random.default_rng(SEED).integers(0, 256, (count, *IMAGE_SHAPE), dtype=np.uint8)


CNV = Benchmark(
    name="cnv",
    description="CNV (six binary convolutions, three dense layers, 32x32 colour images) in two foldings",
    target="every word equal, initiation interval <= 32,768 and <= 9,130 cycles, area stated",
    minutes=30,
    measure=measure,
)
