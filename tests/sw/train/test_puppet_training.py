"""Training of puppets: float phase, distillation of continuous generators, quantized phase, checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from karui.sw.configuration import ConfigurationError
from karui.sw.data.datasets import load
from karui.sw.models.puppet import PuppetConfig, build_puppet, fixed_twin
from karui.sw.nn.precision import Precision
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.config import DistillationConfig, PretrainConfig, TrainConfig
from karui.sw.train.kernel_regression import RegressionConfig, distilled, generated, images_by_kernels, relative_error
from karui.sw.train.recipe import DataConfig, TrainingRecipe
from karui.sw.train.run import TrainedRecipe, save_trained, train_recipe

MODEL = PuppetConfig(
    image=(1, 8, 8),
    channels=8,
    stem_stride=1,
    first_depth=3,
    last_depth=5,
    level_bits=2,
    pattern_rank=8,
    rank=12,
    terms=5,
    precision=Precision(weight_bits=8, activation_bits=8),
)
TRAIN = TrainConfig(epochs=1, batch_size=50, learning_rate=0.005, pretrain=PretrainConfig(epochs=4, learning_rate=0.03))
RECIPE = TrainingRecipe(name="tiny", data=DataConfig(name="digits"), model=MODEL, train=TRAIN)
CONTINUOUS = replace(
    RECIPE,
    model=replace(MODEL, generator="sines"),
    train=replace(TRAIN, regression=RegressionConfig(steps=200, learning_rate=0.03)),
)


def test_a_puppet_learns_and_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    trained = train_recipe(RECIPE)
    assert trained.accuracies["model"] > 0.4
    save_trained(tmp_path / "tiny.npz", trained)
    loaded = load_checkpoint(tmp_path / "tiny.npz")
    assert loaded.config == MODEL
    images = torch.randint(0, 17, (20, 1, 8, 8)).float()
    assert torch.equal(loaded.model(images), trained.model(images))


def test_a_continuous_generator_shares_the_float_phase_and_learns(tmp_path: Path) -> None:
    train_recipe(RECIPE, state_dir=tmp_path)
    (float_phase,) = tmp_path.glob("float-*.pt")
    written = float_phase.stat().st_mtime_ns
    trained = train_recipe(CONTINUOUS, state_dir=tmp_path)
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("float-*.pt")] == [written]
    assert list(trained.accuracies) == ["float", "distilled", "model"]
    assert trained.accuracies["model"] > 0.4


def test_a_continuous_generator_starts_from_a_trained_network(tmp_path: Path) -> None:
    save_trained(tmp_path / "euler.npz", train_recipe(RECIPE))
    train = replace(CONTINUOUS.train, pretrain=None, start="euler", epochs=3)
    recipe = replace(CONTINUOUS, train=train, start=tmp_path / "euler.npz")
    trained = train_recipe(recipe)
    assert list(trained.accuracies) == ["float", "distilled", "model"]
    # In real numbers what was trained in words does much the same.
    euler = load_checkpoint(tmp_path / "euler.npz").metadata["accuracies"]["model"]
    assert abs(trained.accuracies["float"] - euler) < 0.1
    assert trained.accuracies["model"] > 0.4
    for model, message in [
        (replace(MODEL, generator="sines", channels=16), "start = 'euler' must have channels = 16, not 8"),
        (replace(MODEL, generator="sines", pattern_rank=4), "start = 'euler' must have pattern_rank = 4, not 8"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            train_recipe(replace(recipe, model=model))
    with pytest.raises(ConfigurationError, match="start is for the family capsnet and for continuous generators"):
        replace(recipe, model=MODEL, train=replace(TRAIN, start="euler"))


def test_a_puppet_is_distilled_from_its_twin_of_stored_kernels(tmp_path: Path) -> None:
    soft = DistillationConfig(epochs=2, weight=1.0)
    recipe = replace(RECIPE, train=replace(TRAIN, pretrain=PretrainConfig(epochs=1, learning_rate=0.03)))
    taught = replace(recipe, train=replace(recipe.train, distillation=soft))
    networks = [train_recipe(one, state_dir=tmp_path) for one in (recipe, taught)]
    teacher = networks[1].teacher
    assert isinstance(teacher, nn.Sequential)
    assert networks[0].teacher is None
    kernels = [parameter for parameter in teacher.parameters() if parameter.dim() == 4]
    assert [tuple(kernel.shape) for kernel in kernels] == [(8, 1, 3, 3)] + [(8, 8, 3, 3)] * 5
    # All of the loss is the teacher's: what learned from it agrees with it more than what did not.
    images = torch.tensor(load(RECIPE.data.name).test_images).float()
    with torch.no_grad():
        wanted = functional.log_softmax(teacher(images), dim=1)
        apart = [
            functional.kl_div(
                functional.log_softmax(one.model(images), dim=1), wanted, reduction="batchmean", log_target=True
            )
            for one in networks
        ]
    assert apart[1] < apart[0]


@pytest.mark.parametrize("generator", ["sines", "polynomials"])
def test_kernels_are_fitted_and_the_rest_is_copied(generator: str) -> None:
    torch.manual_seed(0)
    taught = build_puppet(replace(MODEL.teaching, precision=Precision(weight_bits=None, activation_bits=None)))
    config = replace(MODEL, generator=generator, precision=Precision(weight_bits=None, activation_bits=None))
    images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8) // 60 * 60
    errors = []
    for steps in (1, 300):
        model = distilled(config, taught, images, RegressionConfig(steps=steps, learning_rate=0.03), seed=1)
        groups = images_by_kernels(taught, images)
        with torch.no_grad():
            wanted = generated(taught).puppeteer.kernels(groups.depths, groups.levels)
            errors.append(float(relative_error(generated(model).puppeteer, wanted, groups)))
    assert errors[1] < 0.5 < errors[0]
    for name, values in taught.state_dict().items():
        if ".puppeteer." not in name:
            assert torch.equal(model.state_dict()[name], values), name


def test_a_start_trained_again_is_another_training(tmp_path: Path) -> None:
    """A state of the one must not be taken for that of the other."""
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        euler = TrainedRecipe(recipe=RECIPE, model=build_puppet(MODEL), provenance="drawn", accuracies={})
        save_trained(tmp_path / "euler.npz", euler)
        train = replace(CONTINUOUS.train, pretrain=None, start="euler", regression=RegressionConfig(steps=1))
        train_recipe(replace(CONTINUOUS, train=train, start=tmp_path / "euler.npz"), state_dir=tmp_path / "states")
        states.append({path.name for path in (tmp_path / "states").glob("quantized-*.pt")})
    assert len(states[0]) == 1
    assert len(states[1]) == 2


def test_recipes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"fitted to an Euler generator: .*; add start or pretrain"):
        replace(CONTINUOUS, train=replace(TRAIN, pretrain=None))
    with pytest.raises(ConfigurationError, match="regression is for continuous generators"):
        replace(RECIPE, train=CONTINUOUS.train)
    with pytest.raises(ValueError, match="steps of the regression must be at least 1, not 0"):
        RegressionConfig(steps=0)
    with pytest.raises(ValueError, match=r"learning_rate of the regression must be positive, not -0\.1"):
        RegressionConfig(learning_rate=-0.1)
    with pytest.raises(ValueError, match="a network of stored kernels has no generated layers"):
        generated(build_puppet(fixed_twin(MODEL, 3)))
