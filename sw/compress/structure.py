"""Whole neurons and channels: which ones matter, networks without the others, and back to full width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from karui.sw.models.build import build_model
from karui.sw.models.lenet import LeNet5Config, LeNet300Config
from karui.sw.nn.quant_weight import QuantWeightLayer, quant_weight_layers

LeNetConfig = LeNet300Config | LeNet5Config


def weight_layers(model: nn.Module) -> dict[str, QuantWeightLayer]:
    """Return the layers with weights by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, QuantWeightLayer)}


def hidden_widths(config: LeNetConfig) -> tuple[int, ...]:
    """Return the neurons or channels of each hidden layer, from the input on."""
    return config.hidden if isinstance(config, LeNet300Config) else (*config.channels, config.hidden)


def with_widths(config: LeNetConfig, widths: Sequence[int]) -> LeNetConfig:
    """Return the configuration with other hidden widths.

    Raises
    ------
    ValueError
        If there are more or fewer of them than hidden layers, or one is wider than before.
    """
    present = hidden_widths(config)
    if len(widths) != len(present) or any(new > old for new, old in zip(widths, present, strict=True)):
        raise ValueError(f"widths must be at most {list(present)}, one a hidden layer, not {list(widths)}")
    if isinstance(config, LeNet300Config):
        return replace(config, hidden=tuple(widths))
    first, second, hidden = widths
    return replace(config, channels=(first, second), hidden=hidden)


@torch.no_grad()
def neuron_scores(model: nn.Module) -> list[Tensor]:
    """Return, for each hidden layer, the norm of a neuron's incoming weights times that of its outgoing ones."""
    layers = quant_weight_layers(model)
    return [
        _norms(layer.weight.flatten(1)) * _norms(_by_source(following, len(layer.weight)).transpose(0, 1).flatten(1))
        for layer, following in pairwise(layers)
    ]


def best_neurons(model: nn.Module, widths: Sequence[int]) -> list[Tensor]:
    """Return the indices of each hidden layer's best neurons, in ascending order."""
    scores = neuron_scores(model)
    return [score.topk(width).indices.sort().values for score, width in zip(scores, widths, strict=True)]


def live_neurons(model: nn.Module) -> list[Tensor]:
    """Return the indices of the hidden neurons that reach the next layer: all others can go, whatever their value is.

    A neuron is kept where it has an outgoing weight, and an incoming one or a positive bias.
    """
    layers = quant_weight_layers(model)
    live = []
    for layer, following in pairwise(layers):
        incoming = layer.weight.flatten(1).any(1)
        if layer.bias is not None:
            incoming |= layer.bias > 0
        outgoing = _by_source(following, len(layer.weight)).transpose(0, 1).flatten(1).any(1)
        live.append((incoming & outgoing).nonzero().flatten())
    return live


@torch.no_grad()
def narrowed(model: nn.Module, config: LeNetConfig, neurons: Sequence[Tensor]) -> nn.Sequential:
    """Build the network of some of the hidden neurons, in the given order.

    Parameters
    ----------
    model
        Network of `config`.
    config
        Its configuration; that of the result has the width of `neurons`.
    neurons
        Indices of the neurons of each hidden layer.
    """
    narrow = build_model(with_widths(config, [len(kept) for kept in neurons]))
    sources: Tensor | None = None
    layers = quant_weight_layers(model)
    for index, (layer, target) in enumerate(zip(layers, quant_weight_layers(narrow), strict=True)):
        weight: Tensor = layer.weight
        bias: Tensor | None = layer.bias
        if sources is not None:
            weight = _by_source(layer, len(layers[index - 1].weight))[:, sources].flatten(1, 2)
        if index < len(neurons):
            sources = neurons[index]
            weight, bias = weight[sources], None if bias is None else bias[sources]
        target.weight.copy_(weight)
        if bias is not None and target.bias is not None:
            target.bias.copy_(bias)
    return narrow


@torch.no_grad()
def widened(model: nn.Module, config: LeNetConfig) -> nn.Sequential:
    """Build the network of `config` that has the given one's neurons first and zeros elsewhere: the same function."""
    wide = build_model(config)
    layers, targets = quant_weight_layers(model), quant_weight_layers(wide)
    for index, (layer, target) in enumerate(zip(layers, targets, strict=True)):
        target.weight.zero_()
        source = _by_source(layer, len(layers[index - 1].weight)) if index else layer.weight.unsqueeze(2)
        sink = _by_source(target, len(targets[index - 1].weight)) if index else target.weight.unsqueeze(2)
        sink[: source.shape[0], : source.shape[1]] = source
        if target.bias is not None and layer.bias is not None:
            target.bias.zero_()
            target.bias[: len(layer.bias)] = layer.bias
    return wide


def _by_source(layer: QuantWeightLayer, sources: int) -> Tensor:
    """View weights as (outputs, neurons in front, weights of each, ...): a flattened map is ordered by channels."""
    return torch.unflatten(layer.weight, 1, (sources, -1))


def _norms(rows: Tensor) -> Tensor:
    return rows.square().sum(1).sqrt()
