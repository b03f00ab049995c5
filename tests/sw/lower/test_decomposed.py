"""Networks of binary bases in the integer graph: every output word equal, whatever the network is made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from karui.hw.plan.folding import fold_for_interval
from karui.hw.plan.stages import UnsupportedNode, stages
from karui.sw.decompose.config import DecomposeConfig
from karui.sw.decompose.convert import convert
from karui.sw.golden import evaluate
from karui.sw.ir import BinaryBases, Flatten, GraphBuilder, GraphError, MaxPool, MaxUnpool, Requantize
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.lower.quantize_early import quantize_early
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.models.blocks import Convolution, Residual, Stage
from karui.sw.models.build import build_model
from karui.sw.models.resnet import ResNetConfig
from karui.sw.nn.decomposed import DecomposedConv2d
from karui.sw.nn.global_average_pool import GlobalAveragePool
from karui.sw.nn.normalize import Normalize
from karui.sw.nn.quant_conv import QuantConv2d
from karui.sw.nn.quant_linear import QuantLinear
from karui.sw.numerics import signed, unsigned

SHAPE = (3, 10, 12)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, *SHAPE), generator=torch.Generator().manual_seed(seed)).float()


def trained(model: nn.Module) -> nn.Module:
    """With batch norms and biases that training could have left."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = torch.rand(module.num_features, generator=generator) + 0.5
            module.bias.data = torch.randn(module.num_features, generator=generator)
            module.running_mean = torch.randn(module.num_features, generator=generator)
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
    return model.eval()


def normalize() -> Normalize:
    return Normalize((0.4, 0.5, 0.3), (0.2, 0.3, 0.25))


def residual() -> nn.Module:
    body = [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
    return nn.Sequential(
        normalize(), nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), Residual(body, nn.ReLU()), GlobalAveragePool(),
        nn.Linear(8, 5),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": lambda: nn.Sequential(
        normalize(), nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, (3, 1), stride=(2, 1), padding=(1, 0)), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5),
    ),
    "negative words": lambda: nn.Sequential(
        normalize(), nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3, padding=1), nn.MaxPool2d(2, padding=1), nn.Flatten(),
        nn.Linear(120, 7), nn.Linear(7, 5),
    ),
    "depthwise and grouped": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3, groups=4), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(12, 4, 1), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 5),
    ),
    "residual": residual,
    # Bounded activations in front of a sum and behind a mean.
    "bottlenecks": lambda: build_model(
        ResNetConfig(
            image=SHAPE, classes=5, stem=(Convolution(channels=8),), stages=(Stage(channels=2, repeat=2, stride=2),)
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize(("bases", "bits"), [(1, 1), (3, 4), (5, 8)])
@pytest.mark.parametrize("name", NETWORKS)
def test_network_is_golden_model(name: str, bases: int, bits: int) -> None:
    torch.manual_seed(len(name))
    model = trained(NETWORKS[name]())
    config = DecomposeConfig(bases=(bases,), activation_bits=(bits,), restarts=4)
    decomposed = convert(model, images(20), config).model
    lowered = lower(decomposed, SHAPE)
    # Beyond the calibration images too: words saturate.
    tested = np.concatenate([images(30, seed=1).numpy(), np.zeros((1, *SHAPE)), np.full((1, *SHAPE), 255)])
    agreement = compare_with_golden(decomposed, lowered, tested.astype(np.uint8))
    assert agreement.mismatches == 0
    layers = [node for node in lowered.graph.nodes if isinstance(node.op, BinaryBases)]
    linear = nn.Conv2d | nn.Linear | QuantConv2d | QuantLinear
    assert len(layers) == sum(isinstance(layer, linear) for layer in model.modules())


class Unpooled(nn.Module):
    """An encoder and a decoder of two stages, the ReLUs of which leave many zeros in a window."""

    def __init__(self, kernel: int = 2) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(kernel)
        self.back, self.out = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first, outer = self.pool(torch.relu(self.one(x)))
        second, inner = self.pool(torch.relu(self.two(first)))
        decoded = torch.relu(self.back(self.unpool(second, inner)))
        scores: Tensor = self.out(self.unpool(decoded, outer))
        return scores


@pytest.mark.parametrize("bits", [2, 6])
def test_unpooling_network_is_golden_model(bits: int) -> None:
    """Every score of every pixel; and the classes are named by pixel."""
    torch.manual_seed(0)
    shape = (3, 12, 8)
    tested = torch.randint(0, 256, (20, *shape), generator=torch.Generator().manual_seed(2))
    decomposed = convert(Unpooled(), tested.float(), DecomposeConfig(bases=(3,), activation_bits=(bits,))).model
    lowered = lower(decomposed, shape, classes="abcde")
    agreement = compare_with_golden(decomposed, lowered, tested.to(torch.uint8).numpy())
    assert agreement.mismatches == 0
    assert agreement.golden_classes.shape == (20, 12, 8)
    assert np.array_equal(agreement.golden_classes, agreement.model_classes)
    assert len(np.unique(agreement.golden_classes)) >= 3
    # The places are those of the values themselves: their words, of few bits, have more equals.
    unpooled = [node for node in lowered.graph.nodes if isinstance(node.op, MaxUnpool)]
    assert [lowered.graph.tensors[node.inputs[1]].number_format.bits > 8 for node in unpooled] == [True, True]


def test_a_hardware_without_unpooling_says_so() -> None:
    decomposed = convert(Unpooled(), images(3)[..., :8, :], DecomposeConfig(bases=(1,), restarts=1)).model
    graph = lower(decomposed, (3, 8, 12)).graph
    with pytest.raises(UnsupportedNode, match="node unpool: MaxUnpool has no engine"):
        fold_for_interval(stages(graph), 1 << 20)


def test_unpooling_elsewhere_than_to_its_own_windows_is_refused() -> None:
    model = convert(Unpooled(), images(3)[..., :8, :], DecomposeConfig(bases=(1,), restarts=1)).model
    model.unpool.kernel_size = (4, 4)
    with pytest.raises(UnsupportedLayer, match="unpool: MaxUnpool2d with other windows than those of its max pool"):
        lower(model, (3, 8, 12))
    model.unpool.kernel_size, model.pool.stride = (2, 2), 1
    with pytest.raises(UnsupportedLayer, match="pool: MaxPool2d with return_indices whose windows do not cover"):
        lower(model, (3, 8, 12))


def test_words_are_narrow_wherever_they_are_pooled() -> None:
    decomposed = convert(trained(NETWORKS["convolutions"]()), images(5), DecomposeConfig(bases=(2,), restarts=2)).model
    graph = lower(decomposed, SHAPE).graph
    assert all(graph.tensors[node.name].number_format.bits == 8 for node in graph.nodes if isinstance(node.op, MaxPool))
    # One requantization in front of each layer, none for a ReLU.
    requantizations = [node for node in graph.nodes if isinstance(node.op, Requantize)]
    assert len(requantizations) == sum(isinstance(node.op, BinaryBases) for node in graph.nodes) == 3


def _relu_chain(offset: int, shift: int, multiplier: int = 3) -> tuple[GraphBuilder, str]:
    build = GraphBuilder("chain")
    edge = build.input("x", (4, 4, 2), signed(8))
    one, none = np.array([1]), np.array([0])
    edge = build.requantize("relu", edge, one, none, shift=0, output=unsigned(7))
    edge = build.flatten("flat", build.max_pool("pool", edge, (2, 2)))
    edge = build.requantize("words", edge, np.array([multiplier]), np.array([offset]), shift=shift, output=unsigned(4))
    return build, build.gather("out", edge, np.arange(8)[::-1])


@pytest.mark.parametrize(("offset", "shift", "fused"), [(0, 4, True), (-40, 4, True), (7, 4, True), (8, 4, False)])
def test_a_relu_goes_where_zero_has_the_lowest_word(offset: int, shift: int, fused: bool) -> None:
    build, edge = _relu_chain(offset, shift)
    graph = build.finish(edge)
    early = quantize_early(graph)
    names = ["words", "pool", "flat", "out"] if fused else ["relu", "words", "pool", "flat", "out"]
    assert [node.name for node in early.nodes] == names
    words = np.random.default_rng(0).integers(-128, 128, (50, 4, 4, 2))
    assert np.array_equal(evaluate(early, words), evaluate(graph, words))


def test_a_falling_requantization_stays_behind_its_pool() -> None:
    build, edge = _relu_chain(0, 4, multiplier=-3)
    graph = build.finish(edge)
    assert [node.name for node in quantize_early(graph).nodes] == [node.name for node in graph.nodes]


def test_a_value_that_others_read_stays() -> None:
    build, edge = _relu_chain(0, 4)
    graph = build.finish(edge, "pool")
    assert [node.name for node in quantize_early(graph).nodes] == ["relu", "pool", "words", "flat", "out"]
    assert isinstance(quantize_early(graph).node("flat").op, Flatten)


def test_refusals() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    decomposed = convert(model, images(3), DecomposeConfig(bases=(1,))).model
    layer = decomposed.get_submodule("2")
    assert isinstance(layer, DecomposedConv2d)
    layer.quantizer.input_fraction += 1
    with pytest.raises(GraphError, match="2: the layer was decomposed for inputs of fraction"):
        lower(decomposed, SHAPE)
