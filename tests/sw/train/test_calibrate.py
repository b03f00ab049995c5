"""From real to integer activations."""

import pytest
import torch
from torch import Tensor, nn

from karui.sw.data.datasets import load
from karui.sw.models.binary_connect import BinaryConnectConfig
from karui.sw.models.build import build_model
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.binary_weight import binary_layers
from karui.sw.nn.fixed_point_relu import FixedPointReLU
from karui.sw.nn.logit_scale import LogitScale
from karui.sw.train.batch_norm import reestimate_batch_norm
from karui.sw.train.calibrate import calibrate
from karui.sw.train.config import TrainConfig
from karui.sw.train.evaluate import predict, tensors
from karui.sw.train.loop import train
from karui.sw.train.seeding import seeded

CONFIG = BinaryConnectConfig(in_features=64, hidden=(48, 32))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.tensor(load("digits").train_images)


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    """Trained on digits, with some gains made negative as training may do."""
    dataset = load("digits")
    trained = seeded(1, lambda: build_model(CONFIG))
    config = TrainConfig(epochs=10, batch_size=50, learning_rate=0.01)
    train(trained, *tensors(dataset.train_images, dataset.train_labels), config)
    norm, following = trained[2], trained[4]
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(following, BinaryLinear)
    norm.weight.data[:5] *= -1
    return trained


def test_integer_model_decides_as_the_real_one(model: nn.Sequential, images: Tensor) -> None:
    integer = calibrate(model, CONFIG, images, activation_bits=8)
    agreement = (predict(integer, images) == predict(model, images)).double().mean()
    assert agreement > 0.985
    coarse = calibrate(model, CONFIG, images, activation_bits=2)
    assert (predict(coarse, images) == predict(model, images)).double().mean() < agreement


def test_activations_approximate_the_real_ones(model: nn.Sequential, images: Tensor) -> None:
    """Each first-layer activation is within half a step of the scaled real one, plus the multiplier's rounding."""
    integer = calibrate(model, CONFIG, images, activation_bits=8)
    real = model[:4](images.float())
    words = integer[:3](images.float())
    ceiling = real.flatten().sort().values[-len(real.flatten()) // 10_000 :][0]
    expected = (real * 255 / ceiling).clamp(max=255)
    assert (words - expected).abs().max() < 0.6


def test_all_values_are_integers_and_multipliers_fill_their_bits(model: nn.Sequential, images: Tensor) -> None:
    integer = calibrate(model, CONFIG, images, activation_bits=8)
    values = images.float()
    for layer in integer[:-1]:
        values = layer(values)
        assert torch.equal(values, values.round())
        if isinstance(layer, FixedPointReLU):
            assert values.min() == 0
            assert values.max() == 255
            assert 1 << 14 <= int(layer.multiplier.abs().max()) < 1 << 15
    assert isinstance(integer[-1], LogitScale)
    assert torch.equal(integer[-1].bias, integer[-1].bias.round())


def test_model_is_left_as_it_was(model: nn.Sequential, images: Tensor) -> None:
    before = {name: values.clone() for name, values in model.state_dict().items()}
    calibrate(model, CONFIG, images, activation_bits=8)
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())


def test_reestimated_statistics_are_those_of_the_images(images: Tensor) -> None:
    torch.manual_seed(0)
    model = build_model(BinaryConnectConfig(in_features=64, hidden=(16,), stochastic=True))
    reestimate_batch_norm(model, images[:1000])
    accumulators = images[:1000].flatten(1).float() @ binary_layers(model)[0].binary_weight().T
    norm = model[2]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, accumulators.mean(0))
    torch.testing.assert_close(norm.running_var, accumulators.var(0))
    assert norm.momentum == 0.1
    assert not norm.training
