"""Capsule networks in the graph: golden model equal to network, word for word, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from karui.sw.golden import evaluate, trace
from karui.sw.ir import (
    RAW,
    GraphError,
    MatrixVector,
    Repeat,
    Routing,
    Shared,
    SquaredLength,
    Squash,
    with_recomputed_predictions,
)
from karui.sw.lower.agreement import compare_with_golden, to_graph_layout
from karui.sw.lower.compressed_storage import with_compressed_storage
from karui.sw.lower.from_torch import lower
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.models.blocks import Stage
from karui.sw.models.build import build_model
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_ranges import CapsuleRanges
from karui.sw.models.capsule_vgg import CapsuleVggConfig
from karui.sw.nn.capsule import CapsulePrediction, MapToCapsules
from karui.sw.nn.capsule import Squash as RealSquash
from karui.sw.nn.precision import Precision
from karui.sw.nn.quant_capsule import CAPSULE_WORDS, QuantDynamicRouting, QuantSquash
from karui.sw.numerics import signed

SMALL = CapsNetConfig(
    image=(1, 12, 11),
    channels=6,
    types=3,
    capsule=4,
    classes=5,
    vector=6,
    kernel=3,
    precision=Precision(weight_bits=8, activation_bits=8),
    ranges=CapsuleRanges(votes=1.0, sums=4.0),
)


def network(config: CapsNetConfig, gain: float = 4.0) -> nn.Sequential:
    torch.manual_seed(config.iterations)
    model = build_model(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.2)
        model.get_submodule("prediction").weight.mul_(gain)
    return model


def images(config: CapsNetConfig, count: int) -> np.ndarray:
    return torch.randint(0, 256, (count, *config.image), generator=torch.Generator().manual_seed(5)).numpy()


@pytest.mark.parametrize("iterations", [1, 2, 3, 4])
def test_graph_computes_what_the_network_computes(iterations: int) -> None:
    config = replace(SMALL, iterations=iterations)
    model, frames = network(config), images(config, 200)
    lowered = lower(model, config.image)
    agreement = compare_with_golden(model, lowered, frames)
    assert agreement.mismatches == 0
    assert len(set(agreement.golden_classes.tolist())) > 1
    ops = [type(node.op) for node in lowered.graph.nodes]
    assert (ops.count(Squash), ops.count(Routing), ops.count(SquaredLength)) == (1, 1, 1)
    assert ops.count(MatrixVector) == 3
    anew = with_recomputed_predictions(lowered.graph)
    assert [node.op for node in anew.nodes if isinstance(node.op, Repeat)] == [Repeat(times=iterations)]
    assert compare_with_golden(model, replace(lowered, graph=anew), frames).mismatches == 0


def test_capsules_behind_batch_norms() -> None:
    config = CapsuleVggConfig(
        image=(2, 8, 8),
        classes=4,
        stages=(Stage(channels=6), Stage(channels=8)),
        types=3,
        capsule=4,
        vector=6,
        precision=SMALL.precision,
        ranges=CapsuleRanges(votes=2.0, sums=8.0),
    )
    torch.manual_seed(7)
    model = build_model(config)
    frames = torch.randint(0, 256, (150, *config.image))
    model.train()
    model(frames.float())
    lowered = lower(model, config.image)
    agreement = compare_with_golden(model, lowered, frames.numpy())
    assert agreement.mismatches == 0
    assert len(set(agreement.golden_classes.tolist())) > 1


def test_every_layers_words_are_the_graphs() -> None:
    model, frames = network(SMALL), images(SMALL, 50)
    lowered = lower(model, SMALL.image)
    edges = trace(lowered.graph, to_graph_layout(frames))
    values = torch.tensor(frames, dtype=lowered.float_type)
    if lowered.float_type == torch.float64:
        model.double()
    with torch.no_grad():
        for name, layer in model.named_children():
            values = layer(values)
            fraction = {"squash": 7, "prediction": 7, "routing": 7, "length": 14}.get(name)
            if fraction is not None:
                edge = "prediction.votes" if name == "prediction" else name
                assert (values * 2.0**fraction == torch.from_numpy(edges[edge])).all(), name
                assert edges[edge].any()


def test_words_that_saturate_do_so_in_both() -> None:
    config = replace(SMALL, primary_limit=0.25, ranges=CapsuleRanges(votes=0.25, sums=0.25))
    model, frames = network(config), images(config, 100)
    lowered = lower(model, config.image)
    edges = trace(lowered.graph, to_graph_layout(frames))
    assert {edges["prediction.votes"].min(), edges["prediction.votes"].max()} == {-128, 127}
    assert compare_with_golden(model, lowered, frames).mismatches == 0


def test_large_sums_take_float64() -> None:
    # 1,024 capsules of words of 8 bits times coefficients of 12 reach 2**29.
    config = replace(SMALL, image=(1, 36, 36), types=4, kernel=3)
    assert config.capsules == 1024
    lowered = lower(network(config), config.image)
    assert lowered.float_type == torch.float64


def test_the_gradient_is_that_of_the_real_layers() -> None:
    torch.manual_seed(0)
    words = (torch.randn(3, 24) * 40).round().clamp(-128, 127) / 64
    one, other = words.clone().requires_grad_(), words.clone().requires_grad_()
    weights = torch.randn(3, 24)
    (QuantSquash(length=4, words=signed(8, 6))(one) * weights).sum().backward()
    (RealSquash(length=4)(other) * weights).sum().backward()
    assert one.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(one.grad, other.grad)
    votes = (torch.randn(2, 5 * 3 * 4) * 40).round().clamp(-128, 127).div(64).requires_grad_()
    routing = QuantDynamicRouting(3, 4, votes=signed(8, 6), sums=signed(16, 12))
    routing(votes).square().sum().backward()
    assert votes.grad is not None
    assert votes.grad.abs().sum() > 0


def test_a_layer_elsewhere_than_behind_capsules_is_refused() -> None:
    squash = QuantSquash(length=3, words=signed(8, 5))
    with pytest.raises(UnsupportedLayer, match="QuantSquash elsewhere than behind MapToCapsules"):
        lower(nn.Sequential(squash), (6, 4, 4), input_format=signed(8, 5))
    with pytest.raises(GraphError, match="trained for words of s8 / 2\\^5, but they are s8 / 2\\^4"):
        lower(nn.Sequential(MapToCapsules(), squash), (6, 4, 4), input_format=signed(8, 4))
    with pytest.raises(UnsupportedLayer, match="without weight_bits"):
        lower(nn.Sequential(MapToCapsules(), CapsulePrediction(16, 6, 2, 3)), (6, 4, 4), input_format=CAPSULE_WORDS)
    prediction = CapsulePrediction(15, 6, 2, 3, weight_bits=8, votes=signed(8, 7))
    with pytest.raises(GraphError, match="does not fit a tensor of shape"):
        lower(nn.Sequential(MapToCapsules(), prediction), (6, 4, 4), input_format=CAPSULE_WORDS)


def test_shared_predictions_are_stored_as_indices() -> None:
    config = replace(SMALL, capsule=8)
    model = network(config)
    prediction = model.get_submodule("prediction")
    assert isinstance(prediction, CapsulePrediction)
    with torch.no_grad():
        book = prediction.weight[:6].clone()
        prediction.weight.copy_(book[torch.randint(0, 6, (len(prediction.weight),))])
    graph = lower(model, config.image).graph
    stored = with_compressed_storage(graph)
    assert stored.constants["prediction.weights"].storage == Shared(vector=8)
    assert stored.constants["primary.weights"].storage == RAW
    frames = to_graph_layout(images(config, 20))
    assert np.array_equal(evaluate(stored, frames), evaluate(graph, frames))
    with torch.no_grad():
        nn.init.normal_(prediction.weight)
    assert with_compressed_storage(lower(model, config.image).graph).constants["prediction.weights"].storage == RAW
