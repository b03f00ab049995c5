"""Layers of binary bases on packed bits: exclusive or, population count, and nothing else of any size.

With the planes b_e of the words, 2 popcount(b_e & s) - popcount(b_e) = popcount(s) - hamming(b_e, s), where s has a 1
for +1. So D_mk = (2^Q - 1) popcount(s_mk) - sum_e 2^e hamming(b_e, s_mk), and the distances are those of all bases from
all planes, which SimSIMD computes with the processor's population counts of whole vectors.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import simsimd
import torch
from torch import Tensor, nn
from torch.nn import functional

from karui.sw.nn.decomposed import DecomposedConv2d, DecomposedLayer, DecomposedLinear

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
# Windows whose planes are compared at once: their distances stay in the cache.
_WINDOWS = 64


class PackedBases:
    """The bases of some outputs that have the same inputs.

    Parameters
    ----------
    signs : Tensor of int8, shape (outputs, k, N)
    coefficients, offset : Tensor of int64, shapes (outputs, k) and (outputs,)
    """

    def __init__(self, signs: Tensor, coefficients: Tensor, offset: Tensor) -> None:
        outputs, bases, _ = signs.shape
        positive = signs.numpy().reshape(outputs * bases, -1) > 0
        self.rows: Bytes = np.packbits(positive, axis=1)
        self.ones: Floats = positive.sum(axis=1).astype(np.float64)
        # Coefficients have 24 bits at most and sums 53: float64 holds all of it.
        self.coefficients: Floats = coefficients.numpy().astype(np.float64)
        self.offset: Floats = offset.numpy().astype(np.float64)

    def __call__(self, words: Bytes, bits: int) -> Floats:
        """Sums of C times D plus offsets: words (n, N) of so many bits to (n, outputs), exactly."""
        count = len(words)
        places = np.arange(bits, dtype=np.uint8)[:, None]
        bit_planes = (words[:, None] >> places) & 1
        planes = np.ascontiguousarray(np.packbits(bit_planes.reshape(count * bits, -1), axis=1))
        distances = np.asarray(simsimd.cdist(self.rows, planes, metric="hamming", dtype="bin8", threads=1))
        weighted = distances.reshape(len(self.rows), count, bits) @ (2.0 ** np.arange(bits))
        products = ((1 << bits) - 1) * self.ones[:, None] - weighted
        outputs, bases = self.coefficients.shape
        sums: Floats = np.einsum("mk,mkn->nm", self.coefficients, products.reshape(outputs, bases, count))
        return sums + self.offset


class PackedLayer(nn.Module):
    """A layer of binary bases, computed on packed bits: the same outputs to the last bit.

    Parameters
    ----------
    layer : DecomposedLinear or DecomposedConv2d
    """

    def __init__(self, layer: DecomposedLayer) -> None:
        super().__init__()
        self.quantizer = layer.quantizer
        self.fraction = layer.fraction
        self.convolution = layer if isinstance(layer, DecomposedConv2d) else None
        groups = 1 if self.convolution is None else self.convolution.groups
        self.groups = [
            PackedBases(*part)
            for part in zip(
                layer.signs().chunk(groups), layer.coefficients.chunk(groups), layer.offset.chunk(groups), strict=True
            )
        ]

    def forward(self, real: Tensor) -> Tensor:
        words = self.quantizer(real)
        sums = self._product(words) if self.convolution is None else self._convolved(words, self.convolution)
        return sums * 2.0**-self.fraction

    def _product(self, words: Tensor) -> Tensor:
        return torch.from_numpy(self.groups[0](words.numpy().astype(np.uint8), self.quantizer.bits))

    def _convolved(self, words: Tensor, layer: DecomposedConv2d) -> Tensor:
        vertical, horizontal = layer.padding
        padded = functional.pad(words, (horizontal, horizontal, vertical, vertical), value=self.quantizer.zero_word)
        rows, columns = (
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, dilation, kernel, stride in zip(
                padded.shape[2:], layer.dilation, layer.kernel_size, layer.stride, strict=True
            )
        )
        windows = functional.unfold(padded, layer.kernel_size, layer.dilation, stride=layer.stride)
        # (images, channels x taps, positions) to (images x positions, channels x taps)
        flat = windows.transpose(1, 2).flatten(0, 1).to(torch.uint8).numpy()
        parts = np.split(flat, len(self.groups), axis=1)
        sums = np.concatenate(
            [
                np.concatenate([bases(part, self.quantizer.bits) for part in _runs(windows_of_group)])
                for bases, windows_of_group in zip(self.groups, parts, strict=True)
            ],
            axis=1,
        )
        return torch.from_numpy(sums).view(len(words), rows * columns, -1).mT.reshape(len(words), -1, rows, columns)


def packed(model: nn.Module) -> nn.Module:
    """A copy of a network with all its layers of binary bases on packed bits."""
    copied = copy.deepcopy(model)
    for name, layer in list(copied.named_modules()):
        if isinstance(layer, DecomposedLinear | DecomposedConv2d):
            copied.set_submodule(name, PackedLayer(layer))
    return copied


def _runs(windows: Any) -> list[Bytes]:
    return [windows[start : start + _WINDOWS] for start in range(0, len(windows), _WINDOWS)]
