"""The whole pipeline on small images: from the seed to shared integers, resumable, then the integer graph."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from karui.sw.compress.config import CompressConfig, PruneConfig, ShareConfig, StructureConfig, TeacherConfig
from karui.sw.compress.pipeline import CompressionRun, Stage, compress
from karui.sw.compress.structure import weight_layers, widened
from karui.sw.configuration import ConfigurationError
from karui.sw.data.datasets import load
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.models.lenet import LeNet300Config
from karui.sw.models.mobilenet import MobileNetConfig
from karui.sw.nn.precision import Precision
from karui.sw.train.config import TrainConfig
from karui.sw.train.loop import EpochRecord
from karui.sw.train.recipe import DataConfig, TrainingRecipe

INTEGERS = Precision(weight_bits=8, activation_bits=8, per_channel=False)
RECIPE = TrainingRecipe(
    name="small",
    data=DataConfig(name="digits"),
    model=LeNet300Config(image=(1, 8, 8), hidden=(40, 30), precision=INTEGERS),
    train=TrainConfig(epochs=8, learning_rate=0.01, batch_size=64),
)
COMPRESS = CompressConfig(
    structure=StructureConfig(widths=(30, 20), epochs=2, learning_rate=0.01),
    prune=PruneConfig(epochs=8, learning_rate=0.01, keep=(0.15,), every=3),
    share=ShareConfig(epochs=3, learning_rate=0.002, codes=(6,)),
    teacher=TeacherConfig(),
)


class Interrupted(Exception):
    pass


def run(
    tmp_path: Path | None = None, stop: tuple[str, int] | None = None, epochs: list[str] | None = None
) -> list[Stage]:
    def on_epoch(phase: str, record: EpochRecord) -> None:
        if epochs is not None:
            epochs.append(f"{phase} {record.epoch}")
        if (phase, record.epoch) == stop:
            raise Interrupted

    return compress(
        CompressionRun(recipe=RECIPE, compress=COMPRESS, dataset=load("digits"), state_dir=tmp_path, on_epoch=on_epoch)
    )


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return run()


def test_stages_and_their_promises(stages: list[Stage]) -> None:
    assert [stage.phase for stage in stages] == ["dense", "structure", "prune", "share"]
    dense, structured, pruned, shared = stages
    assert structured.config == LeNet300Config(image=(1, 8, 8), hidden=(30, 20))
    total = sum(layer.weight.numel() for layer in weight_layers(structured.model).values())
    kept = sum(int(layer.weight.count_nonzero()) for layer in weight_layers(pruned.model).values())
    assert 0.9 * round(0.15 * total) < kept <= round(0.15 * total)
    for layer in weight_layers(shared.model).values():
        integers = layer.integer_weight()
        assert len(torch.unique(integers[integers != 0])) <= 6
        assert torch.equal(layer.weight, layer.forward_weight())
        assert isinstance(layer.weight, nn.Parameter), "no parametrization is left on it"
    assert shared.config.precision == INTEGERS
    assert dense.accuracy > 0.9
    assert shared.accuracy > 0.85
    # What was trained is what hardware computes, at the width of the recipe's model.
    assert isinstance(RECIPE.model, LeNet300Config)
    model, data = widened(shared.model, RECIPE.model), load("digits")
    agreement = compare_with_golden(model, lower(model, data.image_shape, classes=data.classes), data.test_images)
    assert agreement.mismatches == 0
    assert float((agreement.golden_classes == data.test_labels).mean()) == shared.accuracy


@pytest.mark.parametrize("stop", [("dense", 3), ("prune", 5), ("share", 1)])
def test_an_interrupted_run_ends_with_the_same_bits(stop: tuple[str, int], stages: list[Stage], tmp_path: Path) -> None:
    expected = stages[-1].model.state_dict()
    with pytest.raises(Interrupted):
        run(tmp_path, stop)
    epochs: list[str] = []
    resumed = run(tmp_path, epochs=epochs)[-1].model.state_dict()
    assert epochs[0] == f"{stop[0]} {stop[1] + 1}"
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_recipes_that_cannot_be_compressed() -> None:
    dataset = load("digits")
    for model, message in [
        (MobileNetConfig(image=(1, 8, 8), classes=10), "family must be .* or capsule-vgg, not 'mobilenet'"),
        (LeNet300Config(image=(1, 8, 8)), "compression ends with integers on one grid a layer"),
        (
            LeNet300Config(image=(1, 8, 8), precision=Precision(weight_bits=8, activation_bits=8)),
            "per_channel = false",
        ),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            CompressionRun(recipe=replace(RECIPE, model=model), compress=COMPRESS, dataset=dataset)
