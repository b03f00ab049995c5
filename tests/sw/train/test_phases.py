"""Training in two phases: one float phase for all widths, resumable, and a quantized network at the end."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from karui.sw.configuration import ConfigurationError
from karui.sw.data.datasets import load
from karui.sw.models.blocks import Stage
from karui.sw.models.mobilenet import MobileNetConfig
from karui.sw.nn.precision import FLOAT, Precision
from karui.sw.nn.quant_weight import quant_weight_layers
from karui.sw.train.augment import AugmentConfig
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.config import DistillationConfig, PretrainConfig, TrainConfig
from karui.sw.train.evaluate import held_out_accuracy
from karui.sw.train.loop import EpochRecord
from karui.sw.train.optimizer import build_optimizer
from karui.sw.train.phases import state_path
from karui.sw.train.recipe import DataConfig, TrainingRecipe
from karui.sw.train.run import TrainedRecipe, save_trained, train_recipe

MODEL = MobileNetConfig(
    image=(1, 8, 8),
    classes=10,
    stem=8,
    stem_stride=1,
    stages=(Stage(channels=16, stride=2),),
    precision=Precision(weight_bits=8, activation_bits=8),
)
TRAIN = TrainConfig(
    epochs=2,
    batch_size=50,
    learning_rate=0.005,
    augment=AugmentConfig(shift=0.5),
    pretrain=PretrainConfig(epochs=3, learning_rate=0.02),
)
RECIPE = TrainingRecipe(name="tiny", data=DataConfig(name="digits"), model=MODEL, train=TRAIN)
FOUR_BITS = replace(RECIPE, model=replace(MODEL, precision=Precision(weight_bits=4, activation_bits=4)))


class InterruptionError(Exception):
    pass


def run(recipe: TrainingRecipe, state_dir: Path | None, interrupt_at: int | None = None) -> tuple[TrainedRecipe, str]:
    """The trained recipe, and which epochs it took: f1 f2 ... of the float phase, q1 ... of the quantized one."""
    epochs: list[str] = []

    def note(phase: str, record: EpochRecord) -> None:
        epochs.append(f"{phase}{record.epoch}")
        if len(epochs) == interrupt_at:
            raise InterruptionError

    trained = train_recipe(
        recipe,
        state_dir=state_dir,
        on_epoch=lambda record, _: note("q", record),
        on_pretrain_epoch=lambda record, _: note("f", record),
    )
    return trained, " ".join(epochs)


def same_state(left: nn.Module, right: nn.Module) -> bool:
    states = left.state_dict(), right.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.fixture(scope="module")
def whole() -> TrainedRecipe:
    trained, epochs = run(RECIPE, None)
    assert epochs == "f1 f2 f3 q1 q2"
    return trained


def test_a_quantized_network_comes_out(whole: TrainedRecipe, tmp_path: Path) -> None:
    assert set(whole.accuracies) == {"float", "model"}
    assert whole.accuracies["model"] > 0.6
    assert all(layer.weight_bits == 8 for layer in quant_weight_layers(whole.model))
    dataset = load("digits")
    assert held_out_accuracy(whole.model, dataset) == whole.accuracies["model"]
    save_trained(tmp_path / "tiny.npz", whole)
    checkpoint = load_checkpoint(tmp_path / "tiny.npz")
    assert checkpoint.metadata["accuracies"] == whole.accuracies
    images = torch.tensor(dataset.test_images).float()
    assert torch.equal(checkpoint.model(images), whole.model(images))


@pytest.mark.parametrize("interrupt_at", [2, 3, 4])
def test_interrupted_phases_end_with_the_same_bits(whole: TrainedRecipe, tmp_path: Path, interrupt_at: int) -> None:
    with pytest.raises(InterruptionError):
        run(RECIPE, tmp_path, interrupt_at)
    resumed, epochs = run(RECIPE, tmp_path)
    assert epochs.split() == ["f1", "f2", "f3", "q1", "q2"][interrupt_at:]
    assert same_state(resumed.model, whole.model)
    assert resumed.accuracies == whole.accuracies


def test_widths_share_the_float_phase(whole: TrainedRecipe, tmp_path: Path) -> None:
    eight, _ = run(RECIPE, tmp_path)
    four, epochs = run(FOUR_BITS, tmp_path)
    assert epochs == "q1 q2"
    assert four.accuracies["float"] == eight.accuracies["float"]
    assert same_state(eight.model, whole.model)
    assert not same_state(four.model, whole.model)
    assert len(list(tmp_path.glob("float-*.pt"))) == 1
    assert len(list(tmp_path.glob("quantized-*.pt"))) == 2


def test_float_networks_train_in_one_phase() -> None:
    real = replace(RECIPE, model=replace(MODEL, precision=FLOAT), train=replace(TRAIN, pretrain=None))
    trained, epochs = run(real, None)
    assert epochs == "q1 q2"
    assert set(trained.accuracies) == {"model"}


def test_states_are_named_by_what_determines_them(tmp_path: Path) -> None:
    def name(*values: object) -> str:
        path = state_path(tmp_path, "float", *values)
        assert path is not None
        return path.name

    assert name(MODEL, TRAIN) == name(replace(MODEL), replace(TRAIN, optimizer="adam"))
    others = [
        name(MODEL, TRAIN),
        name(replace(MODEL, stages=(Stage(channels=16),)), TRAIN),
        name(replace(MODEL, precision=Precision(weight_bits=8, activation_bits=8, per_channel=False)), TRAIN),
        name(MODEL, replace(TRAIN, seed=2)),
        name(MODEL, replace(TRAIN, augment=AugmentConfig(shift=1.0))),
        name("mnist", MODEL, TRAIN),
    ]
    assert len(set(others)) == len(others)
    assert state_path(None, "float", MODEL) is None


def test_an_older_state_without_the_newer_keys_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(InterruptionError):
        run(RECIPE, tmp_path, 2)
    (path,) = tmp_path.glob("float-*.pt")
    state = torch.load(path, weights_only=True)
    for key in ("optimizer", "weight_decay", "label_smoothing", "pretrain"):
        del state["config"][key]
    torch.save(state, path)
    assert run(RECIPE, tmp_path)[1] == "f3 q1 q2"


def test_weight_decay_holds_for_weights_alone() -> None:
    for optimizer in ("adam", "sgd"):
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
        config = TrainConfig(epochs=1, learning_rate=0.1, optimizer=optimizer, weight_decay=0.5)  # type: ignore[arg-type]
        before = {name: values.clone() for name, values in model.state_dict().items()}
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        build_optimizer(model, config).step()
        after = model.state_dict()
        assert after["0.weight"].abs().sum() < before["0.weight"].abs().sum()
        assert all(torch.equal(after[name], before[name]) for name in before if name != "0.weight")


def test_wrong_phases_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"pretrain comes before a quantized phase; give \[model\] a precision"
    ):
        replace(RECIPE, model=replace(MODEL, precision=FLOAT))
    with pytest.raises(ConfigurationError, match="distillation is for the binary families"):
        replace(RECIPE, train=replace(TRAIN, distillation=DistillationConfig(epochs=1)))
    with pytest.raises(ValueError, match="float phase's learning_rate must be at least final_learning_rate"):
        replace(TRAIN, final_learning_rate=0.004, pretrain=PretrainConfig(epochs=1, learning_rate=0.001))
    with pytest.raises(ValueError, match="float phase's epochs must be at least 1, not 0"):
        PretrainConfig(epochs=0, learning_rate=0.1)
    with pytest.raises(ValueError, match='optimizer must be "adam" or "sgd"'):
        TrainConfig(epochs=1, optimizer="lamb")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="label_smoothing requires loss"):
        TrainConfig(epochs=1, loss="squared_hinge", label_smoothing=0.1)
