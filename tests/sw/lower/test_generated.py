"""Puppet networks in the graph: golden model equal to network, word for word, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from karui.sw.golden import trace
from karui.sw.ir import GraphError
from karui.sw.ir.puppet_ops import EulerGenerator, GeneratedLayers, LowRankGenerator
from karui.sw.lower.agreement import compare_with_golden, to_graph_layout
from karui.sw.lower.from_torch import lower
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.models.build import build_model
from karui.sw.models.puppet import BASES, PuppetConfig
from karui.sw.nn.continuous_puppeteer import ContinuousPuppeteer
from karui.sw.nn.euler_puppeteer import EulerPuppeteer
from karui.sw.nn.generated_layers import GeneratedLayers as Layers
from karui.sw.nn.precision import FLOAT, Precision
from karui.sw.nn.puppeteer import Puppeteer

SMALL = PuppetConfig(
    image=(1, 12, 12),
    classes=5,
    channels=8,
    first_depth=2,
    last_depth=4,
    pattern_rank=5,
    rank=6,
    terms=4,
    precision=Precision(weight_bits=8, activation_bits=8),
)
GENERATORS = pytest.mark.parametrize("generator", ["euler", "sines", "polynomials"])


def network(config: PuppetConfig, *, generator_bits: int | None = None) -> nn.Sequential:
    """A network whose batch norms have seen images; its generator's constants of another width, if one is given."""
    torch.manual_seed(2)
    model = build_model(config)
    if generator_bits is not None:
        model.get_submodule("puppet.layers").puppeteer = narrow_puppeteer(config, generator_bits)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(std=0.3)
                norm.momentum = None
    model.train()
    with torch.no_grad():
        model(torch.from_numpy(images(config, 100)).float())
    return model.eval()


def narrow_puppeteer(config: PuppetConfig, bits: int) -> Puppeteer:
    if config.is_continuous:
        basis = BASES[config.generator](config.terms)
        return ContinuousPuppeteer(config.channels, config.levels, basis, rank=config.rank, bits=bits)
    return EulerPuppeteer(config.channels, config.levels, rank=config.pattern_rank, bits=bits)


def images(config: PuppetConfig, count: int) -> np.ndarray:
    """Images of few and of many greys, so of several depths."""
    random = np.random.default_rng(4)
    greys = 2 ** random.integers(1, 9, count)
    noise = random.random((count, *config.image))
    return (noise * greys[:, None, None, None]).astype(np.uint8) * (255 // greys)[:, None, None, None].astype(np.uint8)


@pytest.mark.parametrize("puppet", ["plain", "residual"])
@GENERATORS
def test_graph_computes_what_the_network_computes(generator: str, puppet: str) -> None:
    config = replace(SMALL, generator=generator, puppet=puppet)
    model, frames = network(config), images(config, 150)
    lowered = lower(model, config.image)
    assert compare_with_golden(model, lowered, frames).mismatches == 0
    scores = trace(lowered.graph, to_graph_layout(frames))[lowered.scores]
    assert len(np.unique(scores, axis=0)) > 100
    (op,) = (node.op for node in lowered.graph.nodes if isinstance(node.op, GeneratedLayers))
    assert isinstance(op.generator, EulerGenerator if generator == "euler" else LowRankGenerator)
    assert op.residual == (puppet == "residual")


@GENERATORS
@pytest.mark.parametrize(
    ("precision", "stem_bits"),
    [
        (Precision(weight_bits=4, activation_bits=6), 8),
        (Precision(weight_bits=3, activation_bits=5, edge_bits=None), 3),
    ],
)
def test_stem_and_activations_of_other_widths(precision: Precision, stem_bits: int, generator: str) -> None:
    """Weights and activations of less than 8 bits; the generator's constants have 8 all the same."""
    config = replace(SMALL, generator=generator, precision=precision)
    model, frames = network(config), images(config, 150)
    lowered = lower(model, config.image)
    assert compare_with_golden(model, lowered, frames).mismatches == 0
    assert len(np.unique(trace(lowered.graph, to_graph_layout(frames))[lowered.scores], axis=0)) > 80
    graph = lowered.graph
    bits = {name: graph.constants[name].number_format.bits for name in ("conv1.weights", "classifier.weights")}
    assert bits == dict.fromkeys(bits, stem_bits)
    assert graph.tensors["puppet.layers"].number_format.bits == precision.activation_bits
    assert graph.constants["puppet.layers.u"].number_format.bits == 8


@pytest.mark.parametrize(("generator", "bits"), [("euler", 6), ("sines", 3), ("polynomials", 5)])
def test_generators_of_other_widths(generator: str, bits: int) -> None:
    """Constants of few bits take other shifts, and make the same words in the network and in the graph."""
    config = replace(SMALL, generator=generator)
    model, frames = network(config, generator_bits=bits), images(config, 150)
    lowered = lower(model, config.image)
    assert compare_with_golden(model, lowered, frames).mismatches == 0
    assert len(np.unique(trace(lowered.graph, to_graph_layout(frames))[lowered.scores], axis=0)) > 80
    assert lowered.graph.constants["puppet.layers.u"].number_format.bits == bits


def test_maps_and_complexities_are_the_graphs_and_of_several_depths() -> None:
    model, frames = network(SMALL), images(SMALL, 80)
    lowered = lower(model, SMALL.image)
    edges = trace(lowered.graph, to_graph_layout(frames))
    puppet = model.get_submodule("puppet")
    pixels = torch.from_numpy(frames).float()
    with torch.no_grad():
        words = puppet.complexity(pixels)
        maps = puppet(pixels)
    assert np.array_equal(edges["puppet.complexity"][:, 0], words.numpy())
    assert np.array_equal(edges["puppet.layers"], (maps * 64).permute(0, 2, 3, 1).numpy())
    assert set(puppet.layers.depths(words).tolist()) == {2, 3, 4}
    assert 0.1 < (edges["puppet.layers"] > 0).mean() < 0.9


def test_a_network_of_one_depth() -> None:
    config = replace(SMALL, first_depth=3, last_depth=3)
    model = network(config)
    assert compare_with_golden(model, lower(model, config.image), images(config, 30)).mismatches == 0


def test_stored_kernels_are_ordinary_layers() -> None:
    config = replace(SMALL, generator="stored", first_depth=3, last_depth=3)
    for puppet in ("plain", "residual"):
        model = network(replace(config, puppet=puppet))
        lowered = lower(model, config.image)
        assert compare_with_golden(model, lowered, images(config, 30)).mismatches == 0
        assert not any(isinstance(node.op, GeneratedLayers) for node in lowered.graph.nodes)


def test_networks_that_have_no_graph_are_refused() -> None:
    with pytest.raises(UnsupportedLayer, match="QuantConv2d without weight_bits"):
        lower(network(replace(SMALL, precision=FLOAT)), SMALL.image)
    model = network(SMALL)
    puppeteer = model.get_submodule("puppet.layers.puppeteer")
    assert isinstance(puppeteer, EulerPuppeteer)
    puppeteer.pattern = None
    with pytest.raises(UnsupportedLayer, match="EulerPuppeteer without a pattern"):
        lower(model, SMALL.image)


def test_layers_that_do_not_fit_what_is_in_front_are_refused() -> None:
    config = replace(SMALL, puppet="vgg", first_depth=3, precision=FLOAT)
    model = network(SMALL)
    # As a network of several widths would be, had it words.
    layers = model.get_submodule("puppet.layers")
    assert isinstance(layers, Layers)
    layers.widths = config.widths
    with pytest.raises(UnsupportedLayer, match="layer GeneratedLayers of several widths"):
        lower(model, SMALL.image)
    layers.widths = ()
    layers.activation.limit *= 2
    with pytest.raises(UnsupportedLayer, match="on activations of another range than its own"):
        lower(model, SMALL.image)
    layers.activation.limit /= 2
    layers.channels = 4
    with pytest.raises(GraphError, match=r"does not fit a tensor of shape \(8, 6, 6\)"):
        lower(model, SMALL.image)
    layers.channels = 8
    layers.activation.bits = None
    with pytest.raises(UnsupportedLayer, match="layer GeneratedLayers without bits, whose outputs are real"):
        lower(model, SMALL.image)


def test_constants_too_coarse_for_their_products_are_refused() -> None:
    model = network(SMALL)
    layers = model.get_submodule("puppet.layers")
    assert isinstance(layers, Layers)
    assert isinstance(layers.puppeteer, EulerPuppeteer)
    with torch.no_grad():
        layers.puppeteer.pointwise.weight.fill_(1024.0)
    with pytest.raises(GraphError, match="pointwise_shift would be -10"):
        lower(model, SMALL.image)
