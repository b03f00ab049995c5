"""A network of binary bases as a file: the container's integers, and in a few words which network they belong to.

What the tensors of each layer are is written down in ``docs/container.md``.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from karui.sw.coding.container import (
    LARGEST_MODEL,
    Container,
    ContainerError,
    RawTensor,
    SizeAccount,
    pack_container,
    read_container,
)
from karui.sw.configuration import ConfigurationError
from karui.sw.decompose.convert import decomposed_layer
from karui.sw.decompose.fixed_point import OFFSET_FRACTION, LayerConstants, Meaning
from karui.sw.decompose.float_network import WeightLayer, float_network
from karui.sw.decompose.rebuild import rebuild
from karui.sw.models.build import FloatConfig, LightConfig, build_model, family_of, input_shape
from karui.sw.nn.decomposed import DecomposedLayer, QuantizationSublayer
from karui.sw.numerics import BIPOLAR, format_for_range
from karui.sw.train.recipe import model_config

# What tells these files from those of compressed networks.
MARK = "bases"
_COEFFICIENTS, _OFFSET, _WORDS, _SCALE = ".coefficients", ".offset", ".words", ".scale"

Integers = npt.NDArray[np.int64]


def pack_decomposed(model: nn.Module, config: FloatConfig | LightConfig) -> tuple[bytes, SizeAccount]:
    """Write a network of binary bases.

    Parameters
    ----------
    model : nn.Module
        As `karui.sw.decompose.convert` made it from a network of `config`.
    config : FloatConfig or LightConfig

    Returns
    -------
    bytes, SizeAccount
        The file, and what each bit of it is for.

    Raises
    ------
    ValueError
        If there is more than a container holds.
    """
    tensors: list[RawTensor] = []
    for name, layer in model.named_modules():
        if isinstance(layer, DecomposedLayer):
            tensors += _layer_tensors(name, layer)
    default = type(config)()
    given = {
        field.name: asdict(config)[field.name]
        for field in fields(config)
        if getattr(config, field.name) != getattr(default, field.name)
    }
    return pack_container({MARK: 1, "family": family_of(config), **given}, tensors)


def is_decomposed(container: Container) -> bool:
    """Whether a file holds a network of binary bases."""
    return MARK in container.metadata


def read_decomposed(source: Path | bytes) -> fx.GraphModule:
    """Rebuild the network of a file, in evaluation mode.

    Raises
    ------
    ContainerError
        If the file is not a container, is damaged, or holds something else than a network of binary bases.
    """
    container = read_container(source)
    given = {name: value for name, value in container.metadata.items() if name != MARK}
    try:
        config = model_config(given, "metadata")
        if not is_decomposed(container) or not isinstance(config, FloatConfig | LightConfig):
            raise ConfigurationError("no network of binary bases")
        # Without memory at first: the file could ask for any size.
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in build_model(config).parameters())
        if parameters > LARGEST_MODEL:
            raise ConfigurationError(f"a network of {parameters} parameters, over {LARGEST_MODEL}")
        network = float_network(build_model(config), input_shape(config))
    except (ConfigurationError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ContainerError(f"the file's metadata do not describe a network of binary bases: {error}") from error
    tensors = {tensor.name: tensor.values for tensor in container.tensors if isinstance(tensor, RawTensor)}

    def make(name: str, layer: WeightLayer, meaning: Meaning) -> DecomposedLayer:
        return _read_layer(name, layer, tensors)

    model = rebuild(network, make).eval()
    if tensors:
        raise ContainerError(f"the file has tensors that its network has not: {', '.join(sorted(tensors))}")
    return model


def _layer_tensors(name: str, layer: DecomposedLayer) -> list[RawTensor]:
    quantizer = layer.quantizer
    offsets = quantizer.offset >> max(0, quantizer.shift - OFFSET_FRACTION)
    channels = max(len(quantizer.multiplier), len(offsets))
    scale = torch.stack([each.expand(channels) for each in (quantizer.multiplier, offsets)])
    words = [quantizer.bits, quantizer.shift, quantizer.input_fraction, quantizer.zero_word, layer.fraction]
    signs = layer.signs().numpy().astype(np.int64)
    tensors = [
        RawTensor(name=name, values=signs, number_format=BIPOLAR),
        _tensor(name + _COEFFICIENTS, layer.coefficients.numpy()),
        _tensor(name + _WORDS, np.array(words, dtype=np.int64)),
        _tensor(name + _SCALE, scale.numpy()),
    ]
    return [*tensors, _tensor(name + _OFFSET, layer.offset.numpy())] if bool(layer.offset.any()) else tensors


def _tensor(name: str, values: Integers) -> RawTensor:
    number_format = format_for_range(int(values.min()), int(values.max()))
    return RawTensor(name=name, values=values, number_format=number_format)


def _read_layer(name: str, layer: WeightLayer, tensors: dict[str, Any]) -> DecomposedLayer:
    outputs, weights = len(layer.weight), layer.weight[0].numel()
    signs = _taken(name, tensors, 3)
    bases = signs.shape[1]
    if signs.shape != (outputs, bases, weights) or not 1 <= bases <= 8 or not np.all(np.abs(signs) == 1):
        raise ContainerError(f"the bases of layer {name} are not 1 to 8 of {weights} signs for {outputs} outputs")
    coefficients = _taken(name + _COEFFICIENTS, tensors, 2)
    offset = _taken(name + _OFFSET, tensors, 1) if name + _OFFSET in tensors else np.zeros(outputs, dtype=np.int64)
    words, scale = _taken(name + _WORDS, tensors, 1), _taken(name + _SCALE, tensors, 2)
    if coefficients.shape != (outputs, bases) or offset.shape != (outputs,) or words.shape != (5,) or len(scale) != 2:
        raise ContainerError(f"the coefficients, offsets or words of layer {name} do not fit its {bases} bases")
    bits, shift, input_fraction, zero_word, fraction = (int(word) for word in words)
    if not (0 <= shift <= 62 and abs(input_fraction) <= 62 and abs(fraction) <= 62):
        raise ContainerError(f"the words of layer {name} have shifts and fractions beyond 62 bits")
    channels = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
    if scale.shape[1] not in (1, channels):
        raise ContainerError(f"layer {name} has {scale.shape[1]} multipliers for {channels} channels")
    try:
        quantizer = QuantizationSublayer(
            torch.from_numpy(scale[0].copy()),
            torch.from_numpy(scale[1].copy()) << max(0, shift - OFFSET_FRACTION),
            shift=shift,
            bits=bits,
            input_fraction=input_fraction,
            zero_word=zero_word,
        )
    except ValueError as error:
        raise ContainerError(f"layer {name}: {error}") from error
    weights_of_bits = (1 << np.arange(bases, dtype=np.int64))[:, None]
    codes = torch.from_numpy(((signs > 0) * weights_of_bits).sum(axis=1).astype(np.uint8))
    constants = LayerConstants(
        coefficients=torch.from_numpy(coefficients), offset=torch.from_numpy(offset), fraction=fraction
    )
    return decomposed_layer(layer, codes, constants, quantizer)


def _taken(name: str, tensors: dict[str, Any], axes: int) -> Integers:
    values: Integers | None = tensors.pop(name, None)
    if values is None or values.ndim != axes:
        raise ContainerError(f"the file has no tensor {name!r} of {axes} axes")
    return values.astype(np.int64)
