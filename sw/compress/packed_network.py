"""A compressed network as a file: code books, codes and biases, and in a few words which network they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from karui.sw.coding.container import (
    LARGEST_MODEL,
    ContainerError,
    RawTensor,
    SharedTensor,
    SizeAccount,
    Tensor,
    pack_container,
    read_container,
)
from karui.sw.compress.config import one_a_layer
from karui.sw.compress.share import power_of_two_divisor
from karui.sw.compress.structure import CompressibleConfig, weight_layers, widened
from karui.sw.configuration import ConfigurationError
from karui.sw.models.build import build_model, family_of
from karui.sw.nn.precision import Precision
from karui.sw.nn.quant_weight import QuantWeightLayer
from karui.sw.nn.weight_vectors import from_weight_vectors, weight_vectors
from karui.sw.numerics import format_for_range
from karui.sw.train.recipe import model_config

Integers = npt.NDArray[np.int64]
# Words of a code book have so many bits at most, on one grid a layer; the file says how many they have.
BOOK_BITS = 8
BIAS = ".bias"


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedNetwork:
    """A network read back from a file: in evaluation mode, with its configuration."""

    model: nn.Sequential
    config: CompressibleConfig


def pack_network(
    model: nn.Sequential, config: CompressibleConfig, *, vectors: tuple[int, ...] = (1,), books: int = 1
) -> tuple[bytes, SizeAccount]:
    """Write a network whose weights are integers on one grid a layer.

    Parameters
    ----------
    model
        May lack neurons of `config`.
    config
        Configuration of the network that the file stands for.
    vectors
        Weights along a row that one code stands for, where a layer's rows divide into them; one number, or one a layer.
    books
        Slices of columns with a code book each, where they divide the rows' vectors.

    Returns
    -------
    bytes, SizeAccount
        The file, and what each bit of it is for.
    """
    tensors: list[Tensor] = []
    layers = weight_layers(widened(model, config))
    for (name, layer), length in zip(layers.items(), one_a_layer("vectors", vectors, len(layers)), strict=True):
        tensors += layer_tensors(name, layer, length, books)
    return pack_container(_metadata(config), tensors)


def read_network(source: Path | bytes) -> PackedNetwork:
    """Rebuild the network of a file.

    Raises
    ------
    ContainerError
        If the file is not a container, is damaged, or holds something else than a network.
    """
    container = read_container(source)
    try:
        config = _configuration(container.metadata)
        # Without memory at first: the file could ask for any size.
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in build_model(config).parameters())
    except (ConfigurationError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ContainerError(f"the file's metadata do not describe a network: {error}") from error
    if parameters > LARGEST_MODEL:
        raise ContainerError(f"the file's metadata describe a network of {parameters} parameters, over {LARGEST_MODEL}")
    model = build_model(config)
    tensors = {tensor.name: tensor for tensor in container.tensors}
    for name, layer in weight_layers(model).items():
        _fill(name, layer, tensors)
    if tensors:
        raise ContainerError(f"the file has tensors that its network has not: {', '.join(sorted(tensors))}")
    return PackedNetwork(model=model.eval(), config=config)


def layer_tensors(name: str, layer: QuantWeightLayer, vector: int = 1, books: int = 1) -> list[Tensor]:
    """A layer's weights as code book and codes, a tensor a slice of columns, and its bias where it is not all zero."""
    weight = layer.integer_weight()
    fraction = int(layer.weight_fraction()[0])
    row = weight.numel() // layer.vector_rows
    vector = power_of_two_divisor(row, vector)
    integers = weight.numpy()
    if vector > 1 or layer.vector_rows != len(integers):
        integers = weight_vectors(weight, vector).reshape(layer.vector_rows, row).numpy()
    books = power_of_two_divisor(row // vector, books)
    slices = [integers] if books == 1 else np.split(integers.reshape(len(integers), row), books, axis=1)
    tensors: list[Tensor] = []
    for index, part in enumerate(slices):
        code_book, codes = shared_integers(part, vector)
        weights = SharedTensor(
            name=name if books == 1 else f"{name}.{index}",
            shape=part.shape,
            vector=vector,
            code_book=code_book,
            number_format=format_for_range(int(code_book.min(initial=0)), int(code_book.max(initial=0))),
            fraction=fraction,
            codes=codes,
        )
        tensors.append(weights)
    bias = layer.integer_bias().numpy()
    if bias.any():
        bias_format = format_for_range(int(bias.min()), int(bias.max()))
        tensors.append(RawTensor(name=name + BIAS, values=bias, number_format=bias_format, fraction=fraction))
    return tensors


def shared_integers(integers: Integers, vector: int) -> tuple[Integers, Integers]:
    """Code book (k, d) of the vectors other than zero, in lexicographic order, and the code of each vector."""
    vectors = integers.reshape(-1, vector)
    live = vectors.any(axis=1)
    codes = np.zeros(len(vectors), dtype=np.int64)
    code_book, inverse = np.unique(vectors[live], axis=0, return_inverse=True)
    codes[live] = inverse.reshape(-1) + 1
    return code_book, codes


def _fill(name: str, layer: QuantWeightLayer, tensors: dict[str, Tensor]) -> None:
    bias = tensors.pop(name + BIAS, None)
    shape = tuple(layer.weight.shape)
    slices = _take_slices(name, tensors)
    if sum(part.codes.size * part.vector for part in slices) != layer.weight.numel() or any(
        part.shape[0] != layer.vector_rows or part.vector != slices[0].vector for part in slices
    ):
        raise ContainerError(f"the file has no code book and codes of shape {list(shape)} for layer {name}")
    limit = 1 << (BOOK_BITS - 1)
    if not all(-limit <= part.code_book.min(initial=0) <= part.code_book.max(initial=0) < limit for part in slices):
        raise ContainerError(f"the code book of layer {name} does not fit {BOOK_BITS} bits")
    columns = [part.values.reshape(layer.vector_rows, -1) * 2.0**-part.fraction for part in slices]
    rows = torch.tensor(np.concatenate(columns, axis=1))
    with torch.no_grad():
        layer.weight.copy_(from_weight_vectors(rows.view(-1, slices[0].vector), shape))
        if layer.bias is not None:
            layer.bias.zero_()
        if bias is not None:
            if layer.bias is None:
                raise ContainerError(f"the file has a bias of layer {name}, which has none")
            if not isinstance(bias, RawTensor) or bias.shape != (shape[0],):
                raise ContainerError(f"the file has a bias of layer {name} that is not {shape[0]} plain integers")
            layer.bias.copy_(torch.tensor(bias.values * 2.0**-bias.fraction))


def _take_slices(name: str, tensors: dict[str, Tensor]) -> list[SharedTensor]:
    """A layer's weights, whole or in slices of columns."""
    names = [name] if name in tensors else []
    while f"{name}.{len(names)}" in tensors:
        names.append(f"{name}.{len(names)}")
    found = [tensors.pop(each) for each in names]
    return [part for part in found if isinstance(part, SharedTensor)]


def _metadata(config: CompressibleConfig) -> dict[str, Any]:
    """The family, and what tells the network apart from its family's own."""
    bits = config.precision.activation_bits
    if bits is None or config.precision != _precision(bits):
        raise ValueError(f"a file holds {BOOK_BITS}-bit weights on one grid a layer, not {config.precision}")
    plain = replace(type(config)(), precision=config.precision)
    given = {
        field.name: asdict(config)[field.name]
        for field in fields(config)
        if getattr(config, field.name) != getattr(plain, field.name)
    }
    return {"family": family_of(config), "bits": bits, **given}


def _configuration(metadata: Mapping[str, Any]) -> CompressibleConfig:
    given = dict(metadata)
    bits = given.pop("bits")
    config = model_config(given, "metadata")
    if not isinstance(config, CompressibleConfig):
        raise ConfigurationError(f"family {family_of(config)} has no packed form")
    if type(bits) is not int:
        raise ConfigurationError(f"bits must be a number of bits, not {bits!r}")
    return replace(config, precision=_precision(bits))


def _precision(activation_bits: int) -> Precision:
    return Precision(weight_bits=BOOK_BITS, activation_bits=activation_bits, per_channel=False)
