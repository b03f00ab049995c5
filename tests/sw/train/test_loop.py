"""The training loop: it learns, repeats exactly, and resumes to the same bits after an interruption."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from karui.sw.data.datasets import load
from karui.sw.models.binary_connect import BinaryConnectConfig
from karui.sw.models.bnn import BinaryMLPConfig
from karui.sw.models.build import build_model
from karui.sw.models.teacher import build_teacher
from karui.sw.nn.binary_weight import binary_layers
from karui.sw.train.augment import AugmentConfig
from karui.sw.train.config import DistillationConfig, TrainConfig
from karui.sw.train.evaluate import evaluate, predict, tensors
from karui.sw.train.loop import EpochRecord, train
from karui.sw.train.seeding import seeded
from karui.sw.train.state import StateMismatchError

CONFIG = TrainConfig(
    epochs=4,
    batch_size=50,
    learning_rate=0.01,
    augment=AugmentConfig(shift=0.5, rotation=5, elastic=0.2),
    distillation=DistillationConfig(epochs=1),
)


class InterruptionError(Exception):
    pass


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    dataset = load("digits")
    return tensors(dataset.train_images[:300], dataset.train_labels[:300])


def new_model(stochastic: bool = True) -> nn.Sequential:
    config = BinaryConnectConfig(in_features=64, hidden=(32,), stochastic=stochastic)
    return seeded(1, lambda: build_model(config))


def new_teacher() -> nn.Sequential:
    return seeded(2, lambda: build_teacher((1, 8, 8), 10)).eval()


def same_state(left: nn.Module, right: nn.Module) -> bool:
    states = left.state_dict(), right.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_interrupted_training_ends_with_the_same_bits(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    """With random order, distortion, stochastic weights and a teacher, in the face of a generator used elsewhere."""
    torch.manual_seed(11)
    whole = new_model()
    train(whole, *digits, CONFIG, teacher=new_teacher())

    def interrupt(record: EpochRecord, _: nn.Module) -> None:
        if record.epoch == 2:
            raise InterruptionError

    state_path = tmp_path / "state.pt"
    with pytest.raises(InterruptionError):
        train(new_model(), *digits, CONFIG, teacher=new_teacher(), state_path=state_path, on_epoch=interrupt)
    torch.manual_seed(99)
    records: list[int] = []
    resumed = new_model()
    train(
        resumed,
        *digits,
        CONFIG,
        teacher=new_teacher(),
        state_path=state_path,
        on_epoch=lambda record, _: records.append(record.epoch),
    )
    assert records == [3, 4]
    assert same_state(whole, resumed)
    assert not resumed.training


def test_another_seed_ends_elsewhere(digits: tuple[Tensor, Tensor]) -> None:
    config = replace(CONFIG, epochs=1, distillation=None)
    left, right = new_model(), new_model()
    train(left, *digits, config)
    train(right, *digits, replace(config, seed=2))
    assert not same_state(left, right)


def test_every_epoch_has_its_own_order() -> None:
    class Recorder(nn.Linear):
        def forward(self, batch: Tensor) -> Tensor:
            seen.extend(batch.flatten().tolist())
            return super().forward(batch.flatten(1))

    seen: list[float] = []
    images = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1)
    train(Recorder(1, 2), images, torch.zeros(100, dtype=torch.int64), TrainConfig(epochs=2, batch_size=10))
    first, second = seen[:100], seen[100:]
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second


def test_state_of_another_training_is_refused(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    state_path = tmp_path / "state.pt"
    config = replace(CONFIG, epochs=1, distillation=None)
    train(new_model(), *digits, config, state_path=state_path)
    with pytest.raises(StateMismatchError, match="other values of epochs, seed"):
        train(new_model(), *digits, replace(config, epochs=2, seed=3), state_path=state_path)
    other = build_model(BinaryMLPConfig(in_features=64, hidden=(8,)))
    with pytest.raises(StateMismatchError, match="another model"):
        train(other, *digits, config, state_path=state_path)


@pytest.mark.parametrize("loss", ["squared_hinge", "cross_entropy"])
def test_digits_are_learned(loss: str) -> None:
    """A binary network gets far beyond what chance and a constant answer give, with either loss."""
    dataset = load("digits")
    model = seeded(1, lambda: build_model(BinaryMLPConfig(in_features=64, hidden=(64,), input="pixels")))
    config = TrainConfig(epochs=25, batch_size=50, learning_rate=0.01, loss=loss)  # type: ignore[arg-type]
    train(model, *tensors(dataset.train_images, dataset.train_labels), config)
    assert evaluate(model, *tensors(dataset.test_images, dataset.test_labels)) > 0.85
    for layer in binary_layers(model):
        assert layer.weight.abs().max() <= 1


def test_prediction_of_a_tie_is_the_lowest_class() -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([0.0, 2.0, 2.0, 1.0]).expand(len(images), 4)

    assert predict(Constant(), torch.zeros(5, 1, 2, 2, dtype=torch.uint8), batch_size=2).tolist() == [1] * 5


def test_learning_rate_falls_along_half_a_cosine() -> None:
    config = TrainConfig(epochs=1, learning_rate=0.1, final_learning_rate=0.02)
    assert config.learning_rate_at(0) == pytest.approx(0.1)
    assert config.learning_rate_at(0.5) == pytest.approx(0.06)
    assert config.learning_rate_at(1) == pytest.approx(0.02)


def test_wrong_configurations_are_refused() -> None:
    with pytest.raises(ValueError, match="epochs must not be negative, not -1"):
        TrainConfig(epochs=-1)
    with pytest.raises(ValueError, match=r"must lie between 0 and learning_rate = 0\.001"):
        TrainConfig(epochs=1, learning_rate=0.001, final_learning_rate=0.1)
    with pytest.raises(ValueError, match="distillation requires loss"):
        TrainConfig(epochs=1, loss="squared_hinge", distillation=DistillationConfig(epochs=1))
    with pytest.raises(ValueError, match=r"weight must lie in \(0, 1\], not 1.5"):
        DistillationConfig(epochs=1, weight=1.5)


def test_products_in_bfloat16_train_another_network_of_float32_weights(digits: tuple[Tensor, Tensor]) -> None:
    """Binary weights pass bfloat16 unchanged, so the digits are learned; the gradients are rounded."""
    models = new_model(stochastic=False), new_model(stochastic=False)
    config = replace(CONFIG, epochs=40, distillation=None, augment=AugmentConfig())
    train(models[0], *digits, config)
    train(models[1], *digits, replace(config, arithmetic="bfloat16"))
    assert not same_state(*models)
    assert all(value.dtype != torch.bfloat16 for value in models[1].state_dict().values())
    assert evaluate(models[1], *digits) > 0.9
