import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from karui.sw.ir import Constant, GraphError
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.lower.layers import lower_layer
from karui.sw.lower.step_function import ladder
from karui.sw.lower.unsupported import SUPPORTED, UnsupportedLayer
from karui.sw.nn.binary_activation import BinaryActivation, InputBinarize
from karui.sw.nn.binary_conv import BinaryConv2d
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.binary_weight import use_real_valued_weights
from karui.sw.nn.fixed_point_relu import FixedPointReLU
from karui.sw.nn.logit_scale import LogitScale
from karui.sw.nn.quant_activation import QuantActivation


def trained_like(model: nn.Module, shape: tuple[int, ...], seed: int) -> nn.Module:
    """Give batch norms the statistics and gains of a trained network, zero and negative gains included."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
            module.weight.data.copy_(torch.randn(module.num_features, generator=generator))
            module.bias.data.copy_(torch.randn(module.num_features, generator=generator) * 0.3)
            module.weight.data[0] = 0.0
        if isinstance(module, LogitScale):
            module.bias.data.copy_(torch.randn(module.features, generator=generator) * 3)
    with torch.no_grad():
        model.train()(torch.randint(0, 256, (200, *shape), generator=generator).float())
    return model.eval()


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        InputBinarize(100),
        BinaryLinear(48, 12),
        nn.BatchNorm1d(12),
        BinaryActivation(),
        BinaryLinear(12, 16),
        BinaryActivation(),
        nn.Sequential(BinaryLinear(16, 5), LogitScale(5, initial_scale=0.3)),
    )


def fixed_point_perceptron() -> nn.Module:
    model = nn.Sequential(
        nn.Flatten(), BinaryLinear(48, 12), FixedPointReLU(12), BinaryLinear(12, 5), LogitScale(5, initial_scale=0.3)
    )
    generator = torch.Generator().manual_seed(1)
    model[2].set_parameters(
        torch.randint(-300, 300, (12,), generator=generator), torch.randint(-9000, 9000, (12,), generator=generator), 10
    )
    return model


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = BinaryConv2d(3, 6, 3, padding=1, pad_value=0)
        self.norm = nn.BatchNorm2d(6)
        self.fire = BinaryActivation()
        self.pool = nn.MaxPool2d(2)
        self.second = BinaryConv2d(6, 4, 3, padding=1, pad_value=1)
        self.norm2 = nn.BatchNorm2d(4)
        self.last = BinaryLinear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.fire(self.norm(self.first(x))))
        x = self.pool(self.fire(self.norm2(self.second(x))))
        return self.last(x.flatten(1))


@pytest.mark.parametrize(
    ("build", "shape"), [(perceptron, (3, 4, 4)), (fixed_point_perceptron, (3, 4, 4)), (Convolutional, (3, 8, 8))]
)
@pytest.mark.parametrize("seed", range(4))
def test_golden_equals_the_network_to_the_last_bit(build, shape, seed: int) -> None:
    torch.manual_seed(seed)
    model = trained_like(build(), shape, seed)
    lowered = lower(model, shape, classes="abcde")
    images = np.random.default_rng(seed).integers(0, 256, (300, *shape), dtype=np.uint8)
    agreement = compare_with_golden(model, lowered, images, chunk=128)
    assert (agreement.images, agreement.mismatches) == (300, 0)
    assert np.array_equal(agreement.model_classes, agreement.golden_classes)
    assert len(np.unique(agreement.golden_classes)) > 1


def test_a_wrong_threshold_is_seen() -> None:
    torch.manual_seed(0)
    model = trained_like(perceptron(), (3, 4, 4), 0)
    lowered = lower(model, (3, 4, 4))
    name = "dense2.threshold.thresholds"
    constants = dict(lowered.graph.constants)
    constants[name] = Constant(
        values=constants[name].values + 2, number_format=replace(constants[name].number_format, bits=8)
    )
    wrong = replace(lowered, graph=replace(lowered.graph, constants=constants))
    images = np.random.default_rng(0).integers(0, 256, (300, 3, 4, 4), dtype=np.uint8)
    assert compare_with_golden(model, wrong, images).mismatches > 0


def test_nodes_bear_the_networks_names() -> None:
    graph = lower(Convolutional(), (3, 8, 8)).graph
    assert [node.name for node in graph.nodes] == [
        "first.window", "first", "first.threshold", "pool",
        "second.window", "second", "second.threshold", "pool_2",
        "flatten", "last", "class",
    ]  # fmt: skip


@settings(deadline=None)
@given(st.data())
def test_ladder_reproduces_any_monotone_function(data: st.DataObject) -> None:
    levels = data.draw(st.integers(2, 5))
    low, high = -9, 13
    table = np.array(
        [
            sorted(data.draw(st.lists(st.integers(0, levels - 1), min_size=23, max_size=23)), reverse=falling)
            for falling in (False, True, False)
        ]
    )
    steps = ladder(
        lambda x: np.stack([table[c, x[:, c] - low] for c in range(3)], axis=1),
        low=low, high=high, channels=3, levels=levels,
    )  # fmt: skip
    for channel in range(3):
        x = np.arange(low, high + 1) * (-1 if steps.falling[channel] else 1)
        reached = (x[:, None] >= steps.thresholds[channel]).sum(axis=1)
        assert np.array_equal(reached, table[channel])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "0: layer Conv2d cannot be lowered .* supported are BinaryLinear"),
        (nn.Sequential(nn.BatchNorm2d(3)), "0: layer BatchNorm2d elsewhere than right behind a linear layer"),
        (nn.Sequential(nn.Flatten(), BinaryActivation()), "1: layer BinaryActivation elsewhere"),
        (nn.Sequential(nn.Flatten(), BinaryLinear(48, 4), nn.BatchNorm1d(4)), "BatchNorm1d without an activation"),
        (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), "0: MaxPool2d with dilation or ceil_mode"),
    ],
)
def test_unsupported_layers_are_named(model: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedLayer, match=message):
        lower(model, (3, 4, 4))


def test_the_refusal_lists_all_that_is_supported() -> None:
    """Every layer with a lowering, a base by its subclasses."""
    layers = [layer for layer in lower_layer.registry if layer is not object]
    named = [
        kind.__name__ for layer in layers for kind in (layer.__subclasses__() if layer is QuantActivation else [layer])
    ]
    assert len(named) > 15
    assert [name for name in named if name not in re.split(r"[ ,;]+", SUPPORTED)] == []


def test_real_valued_weights_are_refused() -> None:
    model = nn.Sequential(nn.Flatten(), BinaryLinear(48, 4))
    use_real_valued_weights(model)
    with pytest.raises(UnsupportedLayer, match="1: layer BinaryLinear with real-valued weights cannot be lowered"):
        lower(model, (3, 4, 4))


def test_unsupported_operations_are_named() -> None:
    class Residual(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x

    with pytest.raises(UnsupportedLayer, match="mul: operation <built-in function mul> cannot be lowered"):
        lower(Residual(), (3, 4, 4))


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(GraphError, match=r"1: BinaryLinear\(47, 4.* takes vectors of 47 features, not .*\(48,\)"):
        lower(nn.Sequential(nn.Flatten(), BinaryLinear(47, 4)), (3, 4, 4))
    with pytest.raises(GraphError, match="but 2 classes are named"):
        lower(perceptron(), (3, 4, 4), classes=("yes", "no"))
