"""Training with weights stored in few bits."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from karui.sw.data.datasets import load
from karui.sw.models.blocks import Stage
from karui.sw.models.build import build_model
from karui.sw.models.mobilenet import MobileNetConfig
from karui.sw.train.config import LimitedPrecisionConfig, TrainConfig
from karui.sw.train.evaluate import evaluate, tensors
from karui.sw.train.limited_precision import dynamic_fraction, round_stored_weights, round_to_words
from karui.sw.train.loop import train
from karui.sw.train.seeding import seeded, threads

MODEL = MobileNetConfig(image=(1, 8, 8), classes=10, stem=8, stem_stride=1, stages=(Stage(channels=16, stride=2),))


def test_stochastic_rounding_keeps_the_mean() -> None:
    torch.manual_seed(0)
    values = torch.tensor([0.3, -0.3, 1.75, -2.0, 0.0])
    drawn = torch.stack([round_to_words(values, 8, 0, stochastic=True) for _ in range(20_000)])
    assert [sorted(column.unique().tolist()) for column in drawn.T] == [[0, 1], [-1, 0], [1, 2], [-2], [0]]
    # Five standard deviations of a mean of 20,000 draws at most.
    assert (drawn.mean(0) - values).abs().max() < 5 * 0.5 / 20_000**0.5


def test_words_saturate() -> None:
    values = torch.tensor([9.0, -9.0, 0.49, 0.25, 0.75])
    for stochastic in (True, False):
        rounded = round_to_words(values, 4, 1, stochastic=stochastic)
        assert rounded[:2].tolist() == [3.5, -4.0]
        assert torch.equal(rounded * 2, (rounded * 2).round())
    assert round_to_words(values, 4, 1, stochastic=False).tolist() == [3.5, -4.0, 0.5, 0.0, 1.0]


@pytest.mark.parametrize("bits", [2, 6, 8, 12])
def test_dynamic_scale_is_the_finest_with_few_overflows(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    for size in (10, 50_000):
        values = torch.randn(size, generator=generator) * 10 ** float(torch.rand(1, generator=generator) * 6 - 3)
        fraction = dynamic_fraction(values, bits)

        def overflowing(n: int, values: torch.Tensor = values) -> int:
            return int((values.double().abs() * 2.0**n >= 2 ** (bits - 1)).sum())

        assert overflowing(fraction) <= size * 1e-4 < overflowing(fraction + 1)


def test_dynamic_scale_of_vanished_weights_is_finite() -> None:
    values = torch.zeros(20_000)
    assert dynamic_fraction(values, 8) == 64
    values[0] = 1.0
    assert dynamic_fraction(values, 8) == 64
    assert dynamic_fraction(values[:100], 8) == 6


@pytest.mark.parametrize("scale", ["dynamic", "static"])
def test_weights_are_words_and_nothing_else_is(scale: str) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 50, 3), nn.BatchNorm2d(50), nn.Flatten(), nn.Linear(50, 10))
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.01
    before = [parameter.detach().clone() for parameter in model.parameters()]
    round_stored_weights(model, LimitedPrecisionConfig(bits=6, scale=scale))  # type: ignore[arg-type]
    for old, parameter in zip(before, model.parameters(), strict=True):
        if parameter.dim() == 1:
            assert torch.equal(parameter, old)
            continue
        step = 2.0 ** -(dynamic_fraction(old, 6) if scale == "dynamic" else 5)
        words = parameter / step
        assert torch.equal(words, words.round())
        assert (parameter - old).abs().max() < step


def test_stochastic_rounding_learns_where_rounding_to_nearest_stands_still() -> None:
    """Steps of 0.002 are below half of 2**-7, the step of 8-bit weights: to nearest, weights never move."""
    dataset = load("digits")
    images, labels = tensors(dataset.train_images, dataset.train_labels)
    accuracy = {}
    moved = {}
    for rounding in ("stochastic", "nearest"):
        model = seeded(1, lambda: build_model(MODEL))
        limited = LimitedPrecisionConfig(bits=8, rounding=rounding, scale="static")  # type: ignore[arg-type]
        config = TrainConfig(epochs=10, batch_size=50, learning_rate=0.002, limited_precision=limited)
        round_stored_weights(model, replace(limited, rounding="nearest"))
        before = [parameter.detach().clone() for parameter in model.parameters() if parameter.dim() > 1]
        with threads(1):
            train(model, images, labels, config)
        after = [parameter for parameter in model.parameters() if parameter.dim() > 1]
        moved[rounding] = any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
        accuracy[rounding] = evaluate(model, *tensors(dataset.test_images, dataset.test_labels))
    assert moved == {"stochastic": True, "nearest": False}
    assert accuracy["stochastic"] > accuracy["nearest"] + 0.1


def test_wrong_words_are_refused() -> None:
    with pytest.raises(ValueError, match="bits of limited_precision must be 2 to 16, not 1"):
        LimitedPrecisionConfig(bits=1)
    with pytest.raises(ValueError, match='rounding must be "stochastic" or "nearest"'):
        LimitedPrecisionConfig(bits=8, rounding="up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='scale must be "dynamic" or "static"'):
        LimitedPrecisionConfig(bits=8, scale="float")  # type: ignore[arg-type]
