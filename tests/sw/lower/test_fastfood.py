"""Fastfood layers in the graph: golden model equal to network, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from karui.sw.golden import evaluate
from karui.sw.ir import Gather, GraphBuilder, GraphError, MatrixVector, Requantize, WalshHadamard, graphs_equal
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.lower.fuse_requantize import fuse_requantize
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.nn import (
    AdaptiveFastfood,
    BinaryActivation,
    BinaryLinear,
    PowerOfTwoScale,
    QuantFastfood,
    QuantLinear,
    QuantReLU,
    TruncatedLinear,
)
from karui.sw.numerics import Rounding, signed, unsigned


def network(layer: nn.Module, features: int) -> nn.Sequential:
    classifier = QuantLinear(features, 7, weight_bits=8, per_channel=False)
    return nn.Sequential(PowerOfTwoScale(fraction=8), layer, QuantReLU(bits=8), classifier)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize(
    ("inputs", "outputs", "shifts"),
    [(16, 16, None), (13, 40, None), (100, 60, None), (16, 32, ((0, 2, 0, 1), (1, 1, 1, 1))), (200, 512, None)],
)
def test_graph_computes_what_the_network_computes(
    inputs: int, outputs: int, shifts: tuple[tuple[int, ...], tuple[int, ...]] | None, rounding: Rounding
) -> None:
    torch.manual_seed(outputs)
    mixing, projecting = shifts or (None, None)
    layer = QuantFastfood(
        inputs,
        outputs,
        sigma=(inputs / 20) ** 0.5,
        bias=True,
        input_fraction=8,
        mixing_shifts=mixing,
        projecting_shifts=projecting,
        rounding=rounding,
    )
    nn.init.normal_(layer.bias)
    model = network(layer, outputs)
    lowered = lower(model, (inputs,))
    agreement = compare_with_golden(model, lowered, torch.randint(0, 256, (300, inputs)).numpy())
    assert agreement.mismatches == 0
    assert len(set(agreement.golden_classes.tolist())) > 1
    ops = [type(node.op) for node in lowered.graph.nodes]
    assert ops.count(WalshHadamard) == 2
    # B; G; S together with the activation.
    assert ops.count(Requantize) == 3
    assert ops.count(Gather) == 1 + (inputs < layer.size or outputs > layer.size) + (outputs % layer.size > 0)


def test_wide_words_take_float64() -> None:
    torch.manual_seed(0)
    model = network(QuantFastfood(256, 256, sigma=4.0, word_bits=18), 256)
    lowered = lower(model, (256,))
    assert lowered.float_type == torch.float64
    assert compare_with_golden(model, lowered, torch.randint(0, 256, (200, 256)).numpy()).mismatches == 0


def test_words_finer_than_the_products_shift_the_multipliers() -> None:
    torch.manual_seed(0)
    layer = QuantFastfood(4, 4, sigma=8.0, limit_exponent=4, word_bits=18, weight_bits=2)
    model = nn.Sequential(layer, QuantReLU(bits=8), QuantLinear(4, 3, weight_bits=8, per_channel=False))
    lowered = lower(model, (4,), input_format=unsigned(4))
    (gaussian,) = (node for node in lowered.graph.nodes if node.name.endswith("gaussian"))
    assert isinstance(gaussian.op, Requantize)
    assert gaussian.op.shift == 0
    assert compare_with_golden(model, lowered, torch.randint(0, 16, (200, 4)).numpy()).mismatches == 0


def test_bipolar_words() -> None:
    torch.manual_seed(0)

    def after_signs(features: int) -> nn.Sequential:
        tail = QuantFastfood(features, 32), QuantReLU(bits=8), QuantLinear(32, 5, weight_bits=8, per_channel=False)
        return nn.Sequential(BinaryLinear(10, features), BinaryActivation(), *tail)

    model = after_signs(16)
    images = torch.randint(0, 256, (200, 10)).numpy()
    assert compare_with_golden(model, lower(model, (10,)), images).mismatches == 0
    with pytest.raises(UnsupportedLayer, match="15 bipolar words, which zeros would pad"):
        lower(after_signs(15), (10,))


def test_truncated_layers_are_two_products() -> None:
    torch.manual_seed(0)
    model = network(TruncatedLinear(20, 12, rank=4, weight_bits=8), 12)
    lowered = lower(model, (20,))
    assert sum(isinstance(node.op, MatrixVector) for node in lowered.graph.nodes) == 3
    assert compare_with_golden(model, lowered, torch.randint(0, 256, (200, 20)).numpy()).mismatches == 0


def test_refusals() -> None:
    with pytest.raises(UnsupportedLayer, match="1: layer AdaptiveFastfood cannot be lowered"):
        lower(network(AdaptiveFastfood(8, 8), 8), (8,))
    with pytest.raises(GraphError, match="takes vectors, not a tensor of shape"):
        lower(network(QuantFastfood(8, 8), 8), (1, 2, 4))
    layer = QuantFastfood(8, 8, input_fraction=7, mixing_shifts=(1, 1, 1))
    with pytest.raises(GraphError, match="trained for inputs of fraction 7, but they have 8"):
        lower(network(layer, 8), (8,))


@pytest.mark.parametrize(("shift", "bits", "fused"), [(0, 16, True), (1, 16, False), (0, 12, False)])
def test_only_exact_multiplications_are_fused(shift: int, bits: int, fused: bool) -> None:
    rng = np.random.default_rng(0)
    build = GraphBuilder("two")
    edge = build.input("x", (6,), signed(8))
    first = build.requantize(
        "first", edge, rng.integers(-127, 128, 6), rng.integers(-90, 90, 6), shift=shift, output=signed(bits)
    )
    last = build.requantize("last", first, np.array([5]), rng.integers(-90, 90, 6), shift=9, output=signed(8))
    graph = build.finish(last)
    passed = fuse_requantize(graph)
    assert len(passed.nodes) == (1 if fused else 2)
    assert graphs_equal(passed, graph) is not fused
    frames = rng.integers(-128, 128, (200, 6))
    assert np.array_equal(evaluate(passed, frames), evaluate(graph, frames))


@pytest.mark.parametrize("output", ["first", "other"])
def test_a_product_that_others_read_is_not_fused(output: str) -> None:
    one, zero = np.array([1]), np.array([0])
    build = GraphBuilder("two")
    first = build.requantize("first", build.input("x", (2,), signed(4)), np.array([3]), zero, shift=0, output=signed(8))
    last = build.requantize("last", first, one, zero, shift=1, output=signed(4))
    if output == "other":
        build.requantize("other", first, one, zero, shift=2, output=signed(4))
    graph = build.finish(last, output)
    assert graphs_equal(fuse_requantize(graph), graph)
