"""Whole neurons, channels and types of capsules: which ones matter, networks without the others, and back.

A neuron below is what a layer yields: a neuron, a channel of a map, or, in front of a `CapsulePrediction`, a type of
capsules with all its channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from karui.sw.models.build import build_model
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_vgg import CapsuleVggConfig
from karui.sw.models.lenet import LeNet5Config, LeNet300Config
from karui.sw.nn.capsule import CapsulePrediction
from karui.sw.nn.quant_weight import QuantWeightLayer, quant_weight_layers

CompressibleConfig = LeNet300Config | LeNet5Config | CapsNetConfig | CapsuleVggConfig


def weight_layers(model: nn.Module) -> dict[str, QuantWeightLayer]:
    """Return the layers with weights by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, QuantWeightLayer)}


def hidden_widths(config: CompressibleConfig) -> tuple[int, ...]:
    """Return the neurons of each hidden layer, from the input on; none where layers cannot have widths of their own."""
    match config:
        case LeNet300Config():
            return config.hidden
        case LeNet5Config():
            return (*config.channels, config.hidden)
        case CapsNetConfig():
            return config.channels, config.types
        case CapsuleVggConfig():
            return ()


def with_widths(config: CompressibleConfig, widths: Sequence[int]) -> CompressibleConfig:
    """Return the configuration with other hidden widths.

    Raises
    ------
    ValueError
        If there are more or fewer of them than hidden layers, or one is wider than before.
    """
    present = hidden_widths(config)
    if len(widths) != len(present) or any(new > old for new, old in zip(widths, present, strict=True)):
        raise ValueError(f"widths must be at most {list(present)}, one a hidden layer, not {list(widths)}")
    match config:
        case LeNet300Config():
            return replace(config, hidden=tuple(widths))
        case LeNet5Config():
            first, second, hidden = widths
            return replace(config, channels=(first, second), hidden=hidden)
        case CapsNetConfig():
            channels, types = widths
            return replace(config, channels=channels, types=types)
        case CapsuleVggConfig():
            return config


@torch.no_grad()
def neuron_scores(model: nn.Module) -> list[Tensor]:
    """Return, for each hidden layer, the norm of a neuron's incoming weights times that of its outgoing ones."""
    scores = []
    for layer, following in pairwise(quant_weight_layers(model)):
        neurons = _neurons(layer, following)
        incoming, outgoing = layer.weight.reshape(neurons, -1), _by_source(following, neurons).transpose(0, 1)
        scores.append(_norms(incoming) * _norms(outgoing.flatten(1)))
    return scores


def best_neurons(model: nn.Module, widths: Sequence[int]) -> list[Tensor]:
    """Return the indices of each hidden layer's best neurons, in ascending order."""
    scores = neuron_scores(model)
    return [score.topk(width).indices.sort().values for score, width in zip(scores, widths, strict=True)]


def live_neurons(model: nn.Module) -> list[Tensor]:
    """Return the indices of the hidden neurons that reach the next layer: all others can go, whatever their value is.

    A neuron is kept where it has an outgoing weight, and an incoming one or a bias that gets through: a positive one,
    or, of a capsule, any but zero.
    """
    layers = quant_weight_layers(model)
    live = []
    for layer, following in pairwise(layers):
        neurons = _neurons(layer, following)
        incoming = layer.weight.reshape(neurons, -1).any(1)
        if layer.bias is not None:
            through = layer.bias if isinstance(following, CapsulePrediction) else layer.bias > 0
            incoming |= through.reshape(neurons, -1).any(1)
        outgoing = _by_source(following, neurons).transpose(0, 1).flatten(1).any(1)
        live.append((incoming & outgoing).nonzero().flatten())
    return live


@torch.no_grad()
def narrowed(model: nn.Module, config: CompressibleConfig, neurons: Sequence[Tensor]) -> nn.Sequential:
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
            weight = _by_source(layer, _neurons(layers[index - 1], layer))[:, sources]
            weight = weight.reshape(-1, *target.weight.shape[1:])
        if index < len(neurons):
            sources, count = neurons[index], _neurons(layer, layers[index + 1])
            weight = torch.unflatten(weight, 0, (count, -1))[sources].flatten(0, 1)
            bias = None if bias is None else torch.unflatten(bias, 0, (count, -1))[sources].flatten()
        target.weight.copy_(weight)
        if bias is not None and target.bias is not None:
            target.bias.copy_(bias)
    return narrow


@torch.no_grad()
def widened(model: nn.Module, config: CompressibleConfig) -> nn.Sequential:
    """Build the network of `config` that has the given one's neurons first and zeros elsewhere: the same function."""
    wide = build_model(config)
    layers, targets = quant_weight_layers(model), quant_weight_layers(wide)
    for index, (layer, target) in enumerate(zip(layers, targets, strict=True)):
        target.weight.zero_()
        source, sink = (
            _by_source(same[index], _neurons(same[index - 1], same[index]))
            if index
            else same[index].weight.unsqueeze(2)
            for same in (layers, targets)
        )
        sink[: source.shape[0], : source.shape[1]] = source
        if target.bias is not None and layer.bias is not None:
            target.bias.zero_()
            target.bias[: len(layer.bias)] = layer.bias
    return wide


def _neurons(layer: QuantWeightLayer, following: QuantWeightLayer) -> int:
    """What can be removed of a layer's outputs."""
    return len(layer.weight) // (following.in_length if isinstance(following, CapsulePrediction) else 1)


def _by_source(layer: QuantWeightLayer, sources: int) -> Tensor:
    """View weights as (outputs, neurons in front, weights of each, ...): a flattened map is ordered by channels.

    Of a prediction it is (positions, types of capsules in front, weights of each).
    """
    if isinstance(layer, CapsulePrediction):
        return layer.weight.view(layer.in_capsules // sources, sources, -1)
    return torch.unflatten(layer.weight, 1, (sources, -1))


def _norms(rows: Tensor) -> Tensor:
    return rows.square().sum(1).sqrt()
