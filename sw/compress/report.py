"""What is in the file of a compressed network, layer by layer, and what each stage of compression took off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from karui.sw.coding.canonical_code import CanonicalCode
from karui.sw.coding.container import RawTensor, SharedTensor, SizeAccount, pack_container, read_container
from karui.sw.coding.relative_index import best_gap_bits, to_entries

FLOAT_BITS = 32


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """A layer in the file.

    Parameters
    ----------
    name
        Of the layer.
    weights, kept
        Weights of the layer, and those that are not zero.
    values
        Different values (vectors) other than zero.
    gap_bits
        Width of the relative indices that takes the fewest bits.
    fillers
        Entries that stand for zeros alone, at that width.
    gap_mean, code_mean
        Bits of an entry's index and of its code, Huffman-coded.
    longest
        Longest code word of the two codes.
    float_bits, pruned_bits, shared_bits, file_bits
        Size with its bias, if the file has one, as floats; with the kept weights as floats and relative indices; with
        codes of one width and a code book instead of floats; in the file, tables included.
    """

    name: str
    weights: int
    kept: int
    values: int
    gap_bits: int
    fillers: int
    gap_mean: float
    code_mean: float
    longest: int
    float_bits: int
    pruned_bits: int
    shared_bits: int
    file_bits: int

    @property
    def kept_share(self) -> float:
        """Fraction of the weights that are kept."""
        return self.kept / self.weights

    @property
    def file_share(self) -> float:
        """Size in the file over the size as floats: the paper's compression rate after Huffman coding."""
        return self.file_bits / self.float_bits


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """A file of a compressed network.

    Parameters
    ----------
    layers
        In the network's order.
    bytes
        Size of the file.
    account
        What each bit is for.
    """

    layers: tuple[LayerReport, ...]
    bytes: int
    account: SizeAccount

    @property
    def weights(self) -> int:
        """Weights of the network."""
        return sum(layer.weights for layer in self.layers)

    @property
    def kept(self) -> int:
        """Weights that are not zero."""
        return sum(layer.kept for layer in self.layers)

    @property
    def float_bytes(self) -> int:
        """Size of weights and biases as floats."""
        return sum(layer.float_bits for layer in self.layers) // 8

    @property
    def ratio(self) -> float:
        """How many times smaller the file is."""
        return self.float_bytes / self.bytes

    @property
    def stage_bytes(self) -> Mapping[str, int]:
        """Size after each stage: floats, pruned, shared, and the file."""
        bits = {
            "float": sum(layer.float_bits for layer in self.layers),
            "pruned": sum(layer.pruned_bits for layer in self.layers),
            "shared": sum(layer.shared_bits for layer in self.layers),
        }
        return {stage: -(-size // 8) for stage, size in bits.items()} | {"file": self.bytes}


def report_file(path: Path) -> FileReport:
    """Take a file apart.

    Raises
    ------
    ContainerError
        If it is none of a compressed network.
    """
    container = read_container(path)
    _, account = pack_container(container.metadata, container.tensors)
    biases = {tensor.name: tensor for tensor in container.tensors if isinstance(tensor, RawTensor)}
    bits = account.by_tensor
    layers = [
        # Slices of columns, layer.0 and on, have their layer's bias beside the first.
        _layer(tensor, biases.get(f"{tensor.name}.bias") or biases.get(f"{tensor.name.removesuffix('.0')}.bias"), bits)
        for tensor in container.tensors
        if isinstance(tensor, SharedTensor)
    ]
    return FileReport(layers=tuple(layers), bytes=path.stat().st_size, account=account)


def _layer(tensor: SharedTensor, bias: RawTensor | None, bits: Mapping[str, int]) -> LayerReport:
    weights = int(np.prod(tensor.shape))
    gap_bits = best_gap_bits(tensor.codes)
    entries = to_entries(tensor.codes, gap_bits)
    codes = [CanonicalCode.from_symbols(symbols) for symbols in (entries.gaps, entries.codes)]
    gap_mean, code_mean = (
        code.coded_bits(np.bincount(symbols)) / len(symbols)
        for code, symbols in zip(codes, (entries.gaps, entries.codes), strict=True)
    )
    count, float_bias = len(entries.gaps), 0 if bias is None else FLOAT_BITS * bias.values.size
    # Width of a code that tells the values and the filler apart.
    width = len(tensor.code_book).bit_length()
    book_bits = tensor.code_book.size * tensor.number_format.bits
    return LayerReport(
        name=tensor.name,
        weights=weights,
        kept=int(np.count_nonzero(tensor.values)),
        values=len(tensor.code_book),
        gap_bits=gap_bits,
        fillers=entries.fillers,
        gap_mean=gap_mean,
        code_mean=code_mean,
        longest=max(code.max_length for code in codes),
        float_bits=FLOAT_BITS * weights + float_bias,
        pruned_bits=count * (gap_bits + FLOAT_BITS * tensor.vector) + float_bias,
        shared_bits=count * (gap_bits + width) + book_bits + float_bias,
        file_bits=bits[tensor.name] + (0 if bias is None else bits[bias.name]),
    )
