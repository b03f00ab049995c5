"""What a quantized network may not contain is refused by name."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from karui.sw.ir import GraphError
from karui.sw.lower.from_torch import lower
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.nn import (
    BinaryActivation,
    BinaryConv2d,
    FixedPointReLU,
    GlobalAveragePool,
    LogitScale,
    QuantConv2d,
    QuantLinear,
    QuantReLU,
)

SHAPE = (4, 6, 6)


class Joined(nn.Module):
    """Layers, then any function."""

    def __init__(self, join: Callable[[Tensor], Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.layers(x))


def conv(**options: int) -> QuantConv2d:
    return QuantConv2d(4, 4, 3, weight_bits=4, padding=1, **options)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(QuantConv2d(4, 2, 3)),
            "0: layer QuantConv2d without weight_bits, whose weights are real, cannot",
        ),
        (nn.Sequential(conv(), QuantReLU()), "1: layer QuantReLU without bits, whose outputs are real, cannot"),
        (
            nn.Sequential(nn.AvgPool2d(2), nn.BatchNorm2d(4)),
            "1: layer BatchNorm2d elsewhere than right behind a linear",
        ),
        (
            nn.Sequential(conv(), nn.BatchNorm2d(4), nn.MaxPool2d(2)),
            "2: layer BatchNorm2d without an activation behind",
        ),
        (
            nn.Sequential(conv(), nn.BatchNorm2d(4, track_running_stats=False), QuantReLU(bits=4)),
            "1: layer BatchNorm2d without running statistics",
        ),
        (nn.Sequential(nn.AvgPool2d(2), conv()), "1: layer AvgPool2d without a quantizing activation right behind it"),
        (nn.Sequential(nn.AvgPool2d(2), nn.MaxPool2d(2)), "1: layer AvgPool2d without a quantizing activation"),
        (nn.Sequential(GlobalAveragePool()), "output: layer GlobalAveragePool without a quantizing activation"),
        (Joined(lambda x: x + x), "output: an addition without a quantizing activation right behind it"),
        (Joined(lambda x: x + x + x), "add: an addition without a quantizing activation right behind it"),
        (Joined(lambda x: torch.cat([x + x, x], dim=1)), "concat: an addition without a quantizing activation"),
        (
            nn.Sequential(nn.AvgPool2d(3, padding=1, count_include_pad=False)),
            "0: AvgPool2d .* without count_include_pad",
        ),
        (nn.Sequential(nn.AvgPool2d(3, ceil_mode=True)), "0: AvgPool2d with ceil_mode or divisor_override"),
        (nn.Sequential(nn.AvgPool2d(2, divisor_override=3)), "0: AvgPool2d with ceil_mode or divisor_override"),
        (nn.Sequential(nn.MaxPool2d(2, dilation=2)), "0: MaxPool2d with dilation"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, padding_mode="reflect")), "0: layer Conv2d cannot be lowered"),
        (nn.Sequential(conv(), nn.Sigmoid()), "1: layer Sigmoid cannot be lowered"),
        (Joined(lambda x: x + 1, conv()), "add: operation .*add.* on something other than 2 tensors"),
        (Joined(lambda x: torch.add(x, x, alpha=2)), "add: operation .*add.* cannot be lowered"),
        (Joined(lambda x: torch.cat([x, x], dim=2)), "cat: operation .*cat.* cannot be lowered"),
        (Joined(lambda x: torch.cat([x, x])), "cat: operation .*cat.* cannot be lowered"),
        (Joined(lambda x: functional.max_pool2d(x, 2)), "max_pool2d: operation .* cannot be lowered"),
        (
            nn.Sequential(conv(), nn.BatchNorm2d(4), QuantReLU(bits=4), conv(), Joined(lambda x: x + x)),
            "add: an addition of channels with scales of their own",
        ),
        (nn.Sequential(conv(), nn.ChannelShuffle(2)), "1: layer ChannelShuffle of channels with scales of their own"),
        (nn.Sequential(conv(), conv()), "1: layer QuantConv2d of channels with scales of their own"),
        (nn.Sequential(conv(), nn.Flatten()), "1: layer Flatten of channels with scales of their own"),
        (
            nn.Sequential(conv(), FixedPointReLU(4)),
            "1: layer FixedPointReLU behind a layer whose outputs are no integers",
        ),
        (
            nn.Sequential(nn.Flatten(), QuantLinear(144, 3, weight_bits=4), LogitScale(3)),
            "2: layer LogitScale behind a layer whose outputs are no integers",
        ),
    ],
)
def test_layers_and_operations(model: nn.Module, message: str) -> None:
    for module in model.modules():
        # Rows of different scales, whatever the random weights are.
        if isinstance(module, QuantConv2d | QuantLinear) and module.weight_bits is not None:
            module.weight.data[0] *= 16
    with pytest.raises(UnsupportedLayer, match=message):
        lower(model, SHAPE)


def test_a_concatenation_of_bits_and_words() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sign = nn.Sequential(BinaryConv2d(4, 4, 1), BinaryActivation())
            self.word = nn.Sequential(conv(), QuantReLU(bits=4))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.sign(x), self.word(x)], dim=1)

    with pytest.raises(UnsupportedLayer, match="concat: a concatenation of differing formats, bipolar and u4"):
        lower(Mixed(), SHAPE)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(QuantConv2d(3, 4, 3, weight_bits=4)),
            "0: QuantConv2d.* takes a map of 3 channels, not .*4, 6, 6",
        ),
        (nn.Sequential(QuantLinear(144, 4, weight_bits=4)), "0: QuantLinear.* takes vectors of 144 features, not"),
        (nn.Sequential(nn.ChannelShuffle(3)), "0: ChannelShuffle.* does not divide the channels of .*4, 6, 6"),
        (nn.Sequential(nn.Flatten(), nn.MaxPool2d(2)), "1: MaxPool2d.* takes a feature map, not .*144"),
        (nn.Sequential(QuantConv2d(4, 4, 7, weight_bits=4)), "a kernel of 7x7 does not fit a map of 6x6"),
        (
            nn.Sequential(QuantConv2d(4, 4, 7, groups=4, weight_bits=4), QuantReLU(bits=4)),
            "a kernel of 7x7 does not fit",
        ),
    ],
)
def test_shapes(model: nn.Module, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        lower(model, SHAPE)


def test_additions_and_concatenations_of_other_shapes() -> None:
    class Pooled(nn.Module):
        def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
            super().__init__()
            self.pool = nn.MaxPool2d(2)
            self.join = join

        def forward(self, x: Tensor) -> Tensor:
            return self.join(x, self.pool(x))

    with pytest.raises(
        GraphError, match=r"add: an addition takes tensors of equal shape, not \(4, 6, 6\) and \(4, 3, 3\)"
    ):
        lower(Pooled(lambda x, y: x + y), SHAPE)
    with pytest.raises(GraphError, match=r"concat: a concatenation takes tensors equal but for their channels, not"):
        lower(Pooled(lambda x, y: torch.cat((x, y), 1)), SHAPE)


def test_groups_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="groups must divide the channels, in_channels=4 and out_channels=6, not 3"):
        QuantConv2d(4, 6, 3, groups=3, weight_bits=4)


def test_two_inputs() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(UnsupportedLayer, match="y: a network of more than one input"):
        lower(Two(), SHAPE)


def test_a_bias_finer_than_its_inputs() -> None:
    layers = [nn.Flatten(), QuantLinear(144, 2, weight_bits=4, bias=False), QuantReLU(bits=2, limit=64.0)]
    model = nn.Sequential(*layers, QuantLinear(2, 3, weight_bits=4))
    lower(model, SHAPE)
    model[3].bias.data.copy_(torch.from_numpy(np.array([0.0, 1.0, 0.0])))
    model[3].weight.data.copy_(torch.tensor([[1.0, 7.0]] * 3))
    with pytest.raises(
        UnsupportedLayer, match="3: layer QuantLinear with a bias finer than its inputs, multiples of 16,"
    ):
        lower(model, SHAPE)
