"""Quantized layers: exact forward values, straight-through gradients, refusals."""

import pytest
import torch
from torch import nn

from karui.sw.nn import FLOAT, GlobalAveragePool, Precision, QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from karui.sw.nn.quant_weight import QuantWeightLayer, quant_weight_layers

BITS = range(2, 9)


def integer_convolution(maps: torch.Tensor, layer: QuantConv2d) -> torch.Tensor:
    """The grouped convolution by its definition, in int64."""
    count, _, height, width = maps.shape
    pad, kernel, groups = layer.padding, layer.kernel_size, layer.groups
    padded = torch.zeros(count, layer.in_channels, height + 2 * pad, width + 2 * pad, dtype=torch.int64)
    padded[:, :, pad : pad + height, pad : pad + width] = maps
    rows = range(0, padded.shape[2] - kernel + 1, layer.stride)
    columns = range(0, padded.shape[3] - kernel + 1, layer.stride)
    weight = layer.integer_weight()
    output = torch.empty(count, layer.out_channels, len(rows), len(columns), dtype=torch.int64)
    for m in range(layer.out_channels):
        group = m // (layer.out_channels // groups)
        first, last = (index * (layer.in_channels // groups) for index in (group, group + 1))
        for y, row in enumerate(rows):
            for x, column in enumerate(columns):
                window = padded[:, first:last, row : row + kernel, column : column + kernel]
                output[:, m, y, x] = (window * weight[m]).sum((1, 2, 3))
    return output


def steps(layer: QuantWeightLayer, input_fraction: int) -> torch.Tensor:
    """The step of each output's accumulator grid, in float64."""
    return 2.0 ** -(layer.weight_fraction() + input_fraction).double()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    ("out_channels", "kernel_size", "stride", "padding", "groups"),
    [(8, 3, 1, 1, 1), (8, 1, 1, 0, 1), (6, 3, 2, 1, 6), (12, 3, 1, 1, 6), (4, 1, 1, 0, 2), (9, 5, 3, 2, 3)],
)
def test_convolution_is_an_integer_one(
    bits: int, per_channel: bool, out_channels: int, kernel_size: int, stride: int, padding: int, groups: int
) -> None:
    generator = torch.Generator().manual_seed(bits)
    torch.manual_seed(bits)
    layer = QuantConv2d(
        6,
        out_channels,
        kernel_size,
        stride=stride,
        padding=padding,
        groups=groups,
        weight_bits=bits,
        per_channel=per_channel,
    )
    maps = torch.randint(-128, 128, (2, 6, 9, 8), generator=generator)
    outputs = layer(maps.float() * 2.0**-5)
    scale = steps(layer, 5).view(1, -1, 1, 1)
    assert torch.equal(outputs.double(), integer_convolution(maps, layer) * scale)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_linear_with_bias_is_an_integer_product(bits: int, per_channel: bool) -> None:
    """The bias lies on the weights' grid, so the accumulator holds it shifted by the input's fraction."""
    torch.manual_seed(bits)
    layer = QuantLinear(300, 7, weight_bits=bits, per_channel=per_channel)
    assert layer.bias is not None
    layer.bias.data = torch.randn(7)
    features = torch.randint(0, 256, (20, 300))
    outputs = layer(features.float() * 2.0**-6)
    accumulators = features @ layer.integer_weight().T + (layer.integer_bias() << 6)
    assert torch.equal(outputs.double(), accumulators * steps(layer, 6))
    assert layer.integer_bias().any()


def test_convolution_with_bias() -> None:
    torch.manual_seed(0)
    layer = QuantConv2d(3, 5, 3, bias=True, weight_bits=4)
    assert layer.bias is not None
    layer.bias.data = torch.randn(5)
    maps = torch.randint(0, 256, (2, 3, 6, 6))
    expected = integer_convolution(maps, layer) + layer.integer_bias().view(1, -1, 1, 1)
    assert torch.equal(layer(maps.float()).double(), expected * steps(layer, 0).view(1, -1, 1, 1))


def test_bias_gets_the_gradient_of_its_rounded_value() -> None:
    layer = QuantLinear(4, 3, weight_bits=3)
    layer(torch.randn(5, 4)).backward(torch.ones(5, 3))
    assert layer.bias is not None
    assert layer.bias.grad is not None
    assert layer.bias.grad.tolist() == [5.0] * 3


def test_wide_convolution_is_exact() -> None:
    """No fast algorithm that rounds may stand in for the direct sum, forward in the order that training uses."""
    torch.manual_seed(2)
    layer = QuantConv2d(64, 64, 3, padding=1, weight_bits=8)
    maps = torch.randint(0, 256, (2, 64, 12, 12))
    outputs = layer(maps.float() * 2.0**-6)
    assert torch.equal(outputs.double(), integer_convolution(maps, layer) * steps(layer, 6).view(1, -1, 1, 1))
    assert outputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bits", [None, 2, 8])
def test_weight_gradient_is_that_of_the_forward_weights(bits: int | None) -> None:
    torch.manual_seed(3)
    layer = QuantConv2d(4, 6, 3, padding=1, groups=2, weight_bits=bits)
    maps = torch.randn(3, 4, 5, 5, requires_grad=True)
    upstream = torch.randn(3, 6, 5, 5)
    layer(maps).backward(upstream)
    weight = layer.forward_weight().detach().requires_grad_()
    same = maps.detach().clone().requires_grad_()
    nn.functional.conv2d(same, weight, padding=1, groups=2).backward(upstream)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, weight.grad)
    torch.testing.assert_close(maps.grad, same.grad)


def test_real_layers_are_those_of_torch() -> None:
    torch.manual_seed(4)
    conv, linear = QuantConv2d(4, 6, 3, stride=2, padding=1, groups=2), QuantLinear(5, 3)
    maps, features = torch.randn(2, 4, 7, 7), torch.randn(2, 5)
    torch.testing.assert_close(
        conv(maps), nn.functional.conv2d(maps, conv.weight, stride=2, padding=1, groups=2), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(linear(features), nn.functional.linear(features, linear.weight, linear.bias))
    with pytest.raises(ValueError, match="build it with weight_bits"):
        conv.integer_weight()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("limit", [0.5, 1.0, 4.0])
def test_activations_by_their_definition(bits: int, limit: float) -> None:
    """Every step, every tie, and beyond both ends: Python's round is half to even too."""
    for layer, lowest, levels in (
        (QuantReLU(bits=bits, limit=limit), 0, 2**bits),
        (QuantIdentity(bits=bits, limit=limit), -(2 ** (bits - 1)), 2**bits),
    ):
        step = limit / 2**bits if lowest == 0 else 2 * limit / 2**bits
        assert step == 2.0**-layer.fraction
        quarters = torch.arange(4 * (lowest - 3), 4 * (lowest + levels + 3))
        outputs = layer(quarters * (step / 4))
        expected = [min(max(round(q / 4), lowest), lowest + levels - 1) * step for q in quarters.tolist()]
        assert outputs.tolist() == expected
        assert len(outputs.unique()) == levels


def test_real_activations_clamp() -> None:
    values = torch.tensor([-9.0, -1.25, 0.0, 3.3, 4.0, 7.0])
    assert torch.equal(QuantReLU()(values), values.clamp(0, 4))
    assert torch.equal(QuantIdentity(limit=1.0)(values), values.clamp(-1, 1))
    with pytest.raises(ValueError, match="QuantReLU without bits has real values"):
        QuantReLU().fraction  # noqa: B018


@pytest.mark.parametrize("bits", [None, 2, 8])
def test_activation_gradient_passes_within_the_range(bits: int | None) -> None:
    values = [-5.0, -3.9, -0.1, 0.1, 3.9, 5.0]
    upstream = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    for layer, expected in ((QuantReLU(bits=bits), [0, 0, 0, 4, 5, 0]), (QuantIdentity(bits=bits), [0, 2, 3, 4, 5, 0])):
        real = torch.tensor(values, requires_grad=True)
        layer(real).backward(upstream)
        assert real.grad is not None
        assert real.grad.tolist() == expected


def test_activation_keeps_the_order_of_memory() -> None:
    maps = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert QuantReLU(bits=4)(maps).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(7, 7), (3, 5), (1, 1)])
def test_global_average_divides_the_exact_sum_once(size: tuple[int, int]) -> None:
    maps = torch.randint(0, 256, (4, 6, *size))
    for order in (torch.contiguous_format, torch.channels_last):
        means = GlobalAveragePool()((maps.float() / 64).contiguous(memory_format=order))
        exact = (maps.sum((2, 3)).double() / 64).float() / (size[0] * size[1])
        assert torch.equal(means, exact)


def test_layers_are_found_in_order() -> None:
    model = nn.Sequential(QuantConv2d(1, 2, 1), nn.Sequential(QuantConv2d(2, 3, 1), nn.ReLU()), QuantLinear(3, 4))
    assert [len(layer.weight) for layer in quant_weight_layers(model)] == [2, 3, 4]


def test_precision() -> None:
    assert FLOAT.edge_weight_bits is None
    assert Precision(weight_bits=4, activation_bits=4).edge_weight_bits == 8
    assert Precision(weight_bits=4, activation_bits=4, edge_bits=None).edge_weight_bits == 4
    assert Precision(weight_bits=4, activation_bits=4, edge_bits=5).edge_weight_bits == 5
    with pytest.raises(ValueError, match="weight_bits must be 2 to 8, not 9"):
        Precision(weight_bits=9, activation_bits=4)
    with pytest.raises(ValueError, match="edge_bits must be 2 to 8, not 1"):
        Precision(weight_bits=4, activation_bits=4, edge_bits=1)
    with pytest.raises(ValueError, match="must be given together"):
        Precision(weight_bits=4, activation_bits=None)


def test_wrong_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="groups must divide the channels, in_channels=6 and out_channels=8, not 3"):
        QuantConv2d(6, 8, 3, groups=3)
    with pytest.raises(ValueError, match="stride=0"):
        QuantConv2d(1, 1, 3, stride=0)
    with pytest.raises(ValueError, match="out_features=0"):
        QuantLinear(4, 0)
    with pytest.raises(ValueError, match="weight_bits must be 2 to 8, not 1"):
        QuantLinear(4, 4, weight_bits=1)
    with pytest.raises(ValueError, match="bits must be 2 to 8, not 12"):
        QuantReLU(bits=12)
    with pytest.raises(ValueError, match=r"limit must be a power of two such as 0\.5, 1 or 4, not 3"):
        QuantIdentity(limit=3.0)
