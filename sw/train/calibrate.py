"""Integer activations after training: batch norm and ReLU of a BinaryConnect network become `FixedPointReLU`."""

import math
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from karui.sw.models.binary_connect import BinaryConnectConfig, build_binary_connect
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.fixed_point_relu import MULTIPLIER_BITS, FixedPointReLU
from karui.sw.nn.logit_scale import LogitScale

Layer = TypeVar("Layer", bound=nn.Module)

CALIBRATION_IMAGES = 5000
CLIPPED_FRACTION = 1e-4


@torch.no_grad()
def calibrate(
    model: nn.Sequential, config: BinaryConnectConfig, images: Tensor, *, activation_bits: int
) -> nn.Sequential:
    """Return the integer model of a trained float one.

    A layer's activations get one scale for all channels, because the next layer only adds and subtracts them: the
    largest integer stands for the value that all but `CLIPPED_FRACTION` of the calibration activations stay below.
    With the input's scale s and the output's scale t, batch norm and scaling are ``t * (gain * x / s + bias)``; the
    multiplier is ``t * gain / s`` and the offset ``t * bias``, both times the largest power of two that keeps the
    multipliers within 16 bits.

    Parameters
    ----------
    model
        Float model in evaluation mode, as `build_binary_connect` built it from `config`.
    config
        Its configuration.
    images
        Training images (uint8, N x C x H x W) to measure activations on; the first 5,000 are used.
    activation_bits
        Width of the activations.

    Returns
    -------
    Sequential
        Model of ``replace(config, activation_bits=activation_bits)`` in evaluation mode.
    """
    integer_model = build_binary_connect(replace(config, activation_bits=activation_bits))
    for source, target in zip(_layers(model, BinaryLinear), _layers(integer_model, BinaryLinear), strict=True):
        target.weight.copy_(source.binary_weight())
    scale = 1.0
    norms, requantizers = _layers(model, nn.BatchNorm1d), _layers(integer_model, FixedPointReLU)
    for norm, requantizer, ceiling in zip(norms, requantizers, _ceilings(model, images), strict=True):
        out_scale = ((1 << activation_bits) - 1) / ceiling
        _fold(norm, requantizer, scale, out_scale)
        scale = out_scale
    (logits,), (integer_logits,) = _layers(model, LogitScale), _layers(integer_model, LogitScale)
    integer_logits.bias.copy_((scale * logits.integer_bias()).round())
    integer_logits.log_scale.copy_(logits.log_scale - math.log(scale))
    return integer_model.eval()


def _ceilings(model: nn.Sequential, images: Tensor) -> list[float]:
    """Return, for each ReLU, the value that all but `CLIPPED_FRACTION` of its outputs stay below."""
    activations = images[:CALIBRATION_IMAGES].float()
    ceilings = []
    for layer in model:
        activations = layer(activations)
        if isinstance(layer, nn.ReLU):
            values = activations.flatten()
            ceilings.append(float(values.kthvalue(math.ceil((1 - CLIPPED_FRACTION) * len(values))).values))
    return ceilings


def _fold(norm: nn.BatchNorm1d, requantizer: FixedPointReLU, in_scale: float, out_scale: float) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - norm.running_mean.double() * gain
    multiplier, offset = gain * out_scale / in_scale, bias * out_scale
    largest = (1 << (MULTIPLIER_BITS - 1)) - 1
    shift = max(math.floor(math.log2(largest / float(multiplier.abs().max()))), 0)
    requantizer.set_parameters((multiplier * 2**shift).round(), (offset * 2**shift).round(), shift)


def _layers(model: nn.Sequential, cls: type[Layer]) -> list[Layer]:
    return [layer for layer in model if isinstance(layer, cls)]
