"""Decomposed networks against the float ones they came from, and each constant against its definition."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from karui.sw.configuration import ConfigurationError
from karui.sw.decompose.bases import decompose
from karui.sw.decompose.budget import LayerSize, by_error, by_size
from karui.sw.decompose.calibrate import Observed, choose_grid, observe, word_grid
from karui.sw.decompose.config import DecomposeConfig
from karui.sw.decompose.convert import convert
from karui.sw.decompose.fixed_point import layer_constants, plain_meaning, quantization_sublayer
from karui.sw.decompose.float_network import UnsupportedNetwork, float_network
from karui.sw.nn.decomposed import DecomposedConv2d, DecomposedLinear
from karui.sw.nn.normalize import Normalize
from karui.sw.nn.precision import FLOAT
from karui.sw.nn.quant_conv import QuantConv2d

FINE = DecomposeConfig(bases=(8,), activation_bits=(8,), restarts=8, clipping="none")


class MaxUnpooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)
        self.out = nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        pooled, indices = self.pool(torch.relu(self.conv(x)))
        unpooled: Tensor = self.out(self.unpool(pooled, indices))
        return unpooled


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.three = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.out(torch.cat([self.one(x), self.three(x)], 1))
        return joined


def pixels(count: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(1)).float()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "normalized": lambda: nn.Sequential(
        Normalize((0.5,), (0.3,)), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 3, 2)
    ),
    "clamped": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardtanh(-4, 4), nn.Conv2d(8, 3, 3)
    ),
    "dilated": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, dilation=2), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(8, 3, 3)
    ),
    "adaptive": lambda: nn.Sequential(
        nn.Conv2d(3, 9, 3, groups=3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(36, 4)
    ),
    "of karui": lambda: nn.Sequential(
        QuantConv2d(3, 8, 3, bias=True, weight_bits=FLOAT.weight_bits), nn.ReLU(), nn.Conv2d(8, 3, 1)
    ),
    "joined": Inception,
    "unpooled": MaxUnpooled,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_fine_decompositions_are_the_network(name: str) -> None:
    """With 8 bases and 8 bits a network's outputs differ by little; the network itself is not touched."""
    model = NETWORKS[name]().eval()
    images = pixels(10, 3, 8, 8)
    with torch.no_grad():
        before = model(images)
        decomposed = convert(model, images, FINE).model(images)
        assert torch.equal(model(images), before)
    # Near ties go to another place when they are unpooled.
    limit = 2e-2 if name == "unpooled" else 1e-3
    assert float((decomposed - before).square().mean() / before.var()) < limit


def test_the_layer_computes_its_definition() -> None:
    """y = sum_k C (sum_e 2^e (2 popcount(b_e & s) - popcount(b_e))) + O, popcounts of explicit bits."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 3))
    images = pixels(4, 20)
    decomposed = convert(model, images, DecomposeConfig(bases=(3,), activation_bits=(5,))).model
    layer = decomposed.get_submodule("0")
    assert isinstance(layer, DecomposedLinear)
    words = layer.quantizer(images).long()
    assert int(words.min()) >= 0
    assert int(words.max()) <= 31
    sums = layer.offset.clone().repeat(4, 1)
    for base, signs in enumerate(layer.signs().unbind(1)):
        for plane in range(5):
            bits = ((words >> plane) & 1)[:, None]
            counted = 2 * (bits & (signs == 1)).sum(-1) - bits.sum(-1)
            sums += layer.coefficients[:, base] * (counted << plane)
    assert torch.equal(layer(images), sums.double() * 2.0**-layer.fraction)


@settings(max_examples=200, deadline=None)
@given(
    low=st.floats(-1e3, 1e3),
    span=st.floats(0, 1e3),
    bits=st.integers(1, 8),
    holds_zero=st.booleans(),
)
def test_grids_hold_their_range(low: float, span: float, bits: int, holds_zero: bool) -> None:
    high = low + span
    grid = word_grid(low, high, bits, holds_zero=holds_zero)
    ends = torch.tensor([low, high], dtype=torch.float64)
    # Moving zero onto a word costs half a step at most, rounding another half.
    assert bool(((grid.round_trip(ends) - ends).abs() <= 1.001 * grid.step + 1e-12).all())
    if holds_zero:
        assert grid.minimum + grid.step * grid.zero_word == 0
        assert float(grid.round_trip(torch.zeros(1, dtype=torch.float64))[0]) == 0
    assert 0 <= grid.zero_word < 1 << bits


@pytest.mark.parametrize("holds_zero", [False, True])
@pytest.mark.parametrize("constant", [0.0, 3.5, -2.0])
def test_a_constant_map_is_exact(constant: float, holds_zero: bool) -> None:
    grid = word_grid(constant, constant, 3, holds_zero=holds_zero)
    value = torch.tensor([constant], dtype=torch.float64)
    torch.testing.assert_close(grid.round_trip(value), value, rtol=1e-12, atol=0)


def test_a_range_far_from_zero_keeps_its_offset() -> None:
    grid = word_grid(10.0, 11.0, 2, holds_zero=False)
    assert (grid.minimum, grid.step) == (10.0, pytest.approx(1 / 3))


def test_clipping_is_no_worse_than_the_whole_range() -> None:
    samples = torch.randn(4000, dtype=torch.float64)
    observed = Observed(minimum=float(samples.min()), maximum=float(samples.max()), samples=samples)
    losses = [
        float((choose_grid(observed, 3, holds_zero=True, clipping=way).round_trip(samples) - samples).square().mean())
        for way in ("none", "mse")
    ]
    assert losses[1] < 0.8 * losses[0]


@settings(max_examples=100, deadline=None)
@given(
    step=st.floats(1e-6, 1e4),
    gain=st.floats(1e-4, 1e4),
    reach=st.integers(1, 1 << 40),
    fraction=st.integers(0, 24),
    bits=st.integers(1, 8),
    width=st.integers(4, 20),
)
def test_the_sublayer_is_the_grid_in_integers(
    step: float, gain: float, reach: int, fraction: int, bits: int, width: int
) -> None:
    grid = word_grid(-2 * step, step * ((1 << bits) - 3), bits, holds_zero=True)
    meaning = plain_meaning(fraction, reach)
    meaning = type(meaning)(gain=meaning.gain * gain, shift=meaning.shift, fraction=fraction, reach=reach)
    sublayer = quantization_sublayer(grid, meaning, multiplier_bits=width)
    multiplier, offset = int(sublayer.multiplier[0]), int(sublayer.offset[0])
    assert multiplier * reach < 1 << 53
    factor = gain * 2.0**-fraction / grid.step
    if sublayer.shift:
        assert multiplier < 1 << width
        precision = min(width, 52 - reach.bit_length())
        assert multiplier / 2.0**sublayer.shift == pytest.approx(factor, rel=2.0 ** (1 - precision))
    assert offset == grid.zero_word << sublayer.shift
    integers = torch.linspace(-reach, reach, 101, dtype=torch.float64).round()
    words = sublayer((integers * 2.0**-fraction)[:, None])[:, 0]
    exact = [(int(x) * multiplier + offset + ((1 << sublayer.shift) >> 1)) >> sublayer.shift for x in integers.tolist()]
    assert words.tolist() == [min(max(word, 0), (1 << bits) - 1) for word in exact]


@pytest.mark.parametrize("width", [6, 16])
def test_coefficients_fill_their_width(width: int) -> None:
    weights = torch.randn(7, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bias = torch.arange(7.0)
    found = decompose(weights, 3)
    grid = word_grid(-1.0, 2.0, 4, holds_zero=False)
    constants = layer_constants(found, weights, bias, grid, coefficient_bits=width)
    limit = (1 << (width - 1)) - 1
    assert limit / 2 <= int(constants.coefficients.abs().max()) <= limit
    scale = 2.0**constants.fraction
    expected = (bias + grid.minimum * weights.sum(1)) * scale
    assert bool(((constants.offset - expected).abs() <= 0.5).all())
    assert bool(((constants.coefficients - found.coefficients * grid.step * scale).abs() <= 0.5).all())


def test_padding_is_zero() -> None:
    """A map of the word of zero gives what the offsets alone give, at the border as inside."""
    torch.manual_seed(0)
    model = nn.Sequential(Normalize((0.5,), (0.25,)), nn.Conv2d(1, 4, 3, padding=1))
    decomposed = convert(model, pixels(4, 1, 6, 6), DecomposeConfig(bases=(4,))).model
    layer = decomposed.get_submodule("1")
    assert isinstance(layer, DecomposedConv2d)
    assert layer.quantizer.zero_word > 0
    outputs = decomposed(torch.full((1, 1, 6, 6), 127.5))
    assert bool((outputs == outputs[:, :, :1, :1]).all())


def test_observed_ranges() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    images = pixels(30, 4)
    seen = observe(float_network(model, (4,)), images, batch_size=7)
    hidden = torch.relu(model[0](images)).detach()
    assert (seen["0"].minimum, seen["0"].maximum) == (float(images.min()), float(images.max()))
    assert seen["2"].maximum == pytest.approx(float(hidden.max()), rel=1e-6)
    assert seen["2"].minimum == 0


def test_folded_batch_norms_are_the_same_function() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    model.train()
    model(torch.randn(64, 3, 8, 8))
    model.eval()
    network = float_network(model, (3, 8, 8))
    assert not any(isinstance(layer, nn.BatchNorm2d) for _, layer in network.graph.named_children())
    images = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(network.graph(images), model(images), rtol=1e-4, atol=1e-5)


def test_budgets() -> None:
    errors = {"a": [0.36, 0.12, 0.035, 0.01], "b": [0.3, 0.1, 0.03, 0.009]}
    assert by_error(errors, 0.1) == {"a": 3, "b": 2}
    assert by_error(errors, 1e-9) == {"a": 4, "b": 4}
    sizes = {"a": LayerSize(filters=10, weights=1000), "b": LayerSize(filters=10, weights=10)}
    spent = sum(size.bits(1, 16) for size in sizes.values())
    # The small layer's bases cost next to nothing.
    assert by_size(errors, sizes, spent + 3 * 260, 16) == {"a": 1, "b": 4}
    assert by_size(errors, sizes, 10**9, 16) == {"a": 4, "b": 4}
    with pytest.raises(ConfigurationError, match="one base a layer takes"):
        by_size(errors, sizes, spent - 1, 16)


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_a_network_within_a_size_budget(share: float) -> None:
    model = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 40))
    network = convert(model, pixels(5, 100), DecomposeConfig(size_budget=share, restarts=2))
    assert 0.8 * share < network.size_share <= share
    assert math.isclose(network.size_share, sum(x.bits for x in network.layers) / (32 * (101 * 50 + 51 * 40)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)), "batch norm 0 does not follow a linear layer"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid()), "layer Sigmoid has no exact form"),
        (nn.Sequential(QuantConv2d(3, 3, 1, weight_bits=4)), "layer 0 has weights of 4 bits already"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.AvgPool2d(3, padding=1, count_include_pad=False)), "AvgPool2d with"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(3)), "windows of several sizes"),
        (nn.Sequential(Normalize((0.5,), (0.5,)), nn.ReLU(), nn.Conv2d(3, 3, 1)), "must reach a linear layer"),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")), "give rows and columns of zeros"),
        (nn.Sequential(nn.ReLU()), "no convolution and no linear layer"),
    ],
)
def test_refusals(model: nn.Module, message: str) -> None:
    with pytest.raises((UnsupportedNetwork, ValueError), match=message):
        convert(model, pixels(2, 3, 8, 8), FINE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give one of bases, error_budget and size_budget"),
        ({"bases": (9,)}, "1 to 8"),
        ({"bases": (4,), "activation_bits": (0,)}, "activation_bits must be 1 to 8"),
        ({"size_budget": 1.5}, "size_budget must lie between 0 and 1"),
    ],
)
def test_wrong_configurations(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecomposeConfig(**given)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="bases must be one number or one for each of 2 layers"):
        convert(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), pixels(2, 4), DecomposeConfig(bases=(1, 2, 3)))
