"""Networks without neurons that do not matter compute what the networks with them do."""

import pytest
import torch
from torch import nn

from karui.sw.compress.pipeline import pooled_first, without_dead_neurons
from karui.sw.compress.structure import (
    CompressibleConfig,
    best_neurons,
    hidden_widths,
    live_neurons,
    narrowed,
    neuron_scores,
    widened,
    with_widths,
)
from karui.sw.models.build import build_model
from karui.sw.models.lenet import LeNet5Config, LeNet300Config
from karui.sw.nn.precision import Precision
from karui.sw.nn.quant_weight import quant_weight_layers

CONFIGS: list[CompressibleConfig] = [
    LeNet300Config(image=(1, 8, 8), hidden=(12, 9)),
    LeNet5Config(image=(1, 16, 16), channels=(5, 6), hidden=11),
]
IMAGES = torch.randint(0, 256, (20, 1, 16, 16), generator=torch.Generator().manual_seed(1)).float()


def random_network(config: CompressibleConfig) -> nn.Sequential:
    torch.manual_seed(3)
    model = build_model(config)
    with torch.no_grad():
        for layer in quant_weight_layers(model):
            assert layer.bias is not None
            layer.bias.uniform_(-0.5, 0.5)
    return model


def outputs(model: nn.Module, config: CompressibleConfig) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(IMAGES[:, :, : config.image[1], : config.image[2]])
    return result


@pytest.mark.parametrize("config", CONFIGS, ids=["fully connected", "convolutional"])
def test_all_neurons_in_another_order_are_the_same_network(config: CompressibleConfig) -> None:
    model = random_network(config)
    order = [torch.randperm(width) for width in hidden_widths(config)]
    assert torch.allclose(outputs(narrowed(model, config, order), config), outputs(model, config), atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS, ids=["fully connected", "convolutional"])
def test_neurons_without_weights_can_go_and_come_back(config: CompressibleConfig) -> None:
    model = random_network(config)
    layers = quant_weight_layers(model)
    with torch.no_grad():
        # No incoming weight and a bias that the ReLU cuts off; no outgoing weight.
        layers[0].weight[1], layers[0].bias[1] = 0.0, -0.1  # type: ignore[index]
        layers[1].weight.unflatten(1, (len(layers[0].weight), -1))[:, 2] = 0.0
        layers[2].weight.unflatten(1, (len(layers[1].weight), -1))[:, 4] = 0.0
    live = live_neurons(model)
    gone = [
        sorted(set(range(width)) - set(kept.tolist())) for width, kept in zip(hidden_widths(config), live, strict=True)
    ]
    assert gone[:2] == [[1, 2], [4]]
    narrow, narrow_config = without_dead_neurons(model, config)
    assert hidden_widths(narrow_config)[:2] == (hidden_widths(config)[0] - 2, hidden_widths(config)[1] - 1)
    assert torch.allclose(outputs(narrow, narrow_config), outputs(model, config), atol=1e-4)
    wide = widened(narrow, config)
    assert torch.allclose(outputs(wide, config), outputs(model, config), atol=1e-4)
    assert [layer.weight.shape for layer in quant_weight_layers(wide)] == [layer.weight.shape for layer in layers]


def test_a_neuron_without_incoming_weights_stays_for_its_bias() -> None:
    config = CONFIGS[0]
    model = random_network(config)
    first = quant_weight_layers(model)[0]
    with torch.no_grad():
        first.weight[3] = 0.0
        assert first.bias is not None
        first.bias[3] = 0.5
    narrow, narrow_config = without_dead_neurons(model, config)
    assert torch.allclose(outputs(narrow, narrow_config), outputs(model, config), atol=1e-4)


def test_the_best_neurons_have_the_largest_product_of_norms() -> None:
    config = CONFIGS[1]
    model = random_network(config)
    _, _, ip1, ip2 = quant_weight_layers(model)
    incoming, outgoing = ip1.weight.detach().norm(dim=1), ip2.weight.detach().norm(dim=0)
    expected = (incoming * outgoing).tolist()
    assert neuron_scores(model)[2].tolist() == pytest.approx(expected, rel=1e-5)
    kept = best_neurons(model, (2, 3, 4))
    assert [len(neurons) for neurons in kept] == [2, 3, 4]
    ranked = sorted(range(len(expected)), key=lambda neuron: -expected[neuron])[:4]
    assert kept[2].tolist() == sorted(ranked)


def test_pools_in_front_of_relus_change_no_output() -> None:
    config = LeNet5Config(precision=Precision(weight_bits=8, activation_bits=4, per_channel=False))
    model = random_network(config)
    ordered = pooled_first(model)
    assert [name for name, _ in ordered.named_children()][1:4] == ["conv1", "pool1", "relu1"]
    assert list(ordered.state_dict()) == list(model.state_dict())
    images = torch.randint(0, 256, (4, 1, 28, 28)).float()
    assert torch.equal(ordered(images), model(images))


def test_widths_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"widths must be at most \[12, 9\], one a hidden layer, not \[13, 9\]"):
        with_widths(CONFIGS[0], (13, 9))
    with pytest.raises(ValueError, match="one a hidden layer"):
        with_widths(CONFIGS[1], (3, 3))
