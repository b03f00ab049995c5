"""Weights that are entries of a code book, as parametrizations of their layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from karui.sw.nn.quant_weight import QuantWeightLayer
from karui.sw.nn.straight_through import round_identity
from karui.sw.nn.weight_quantizer import power_of_two, quantize_weight, quantized_weight
from karui.sw.nn.weight_vectors import from_weight_vectors, weight_vectors

ASSIGNED_EVERY = 10
"""Steps of training between two assignments of moving weights."""
# Squared distances are taken for so many pairs at a time: bounds the memory.
_PAIRS = 1 << 22


class CodeBook(nn.Module):
    """Parametrization of a weight by a code book: the gradient of an entry is the sum of its weights' gradients.

    Parameters
    ----------
    codes
        For each of the `weight_vectors`, an entry of the code book; 0 is the zero vector, which stays zero.
    shape
        Of the weight.
    bits
        Width of the integers that the code book is rounded to, straight through; None for real values.

    Notes
    -----
    The parameter, ``original`` of the parametrization, is the code book (k, d) of codes 1 to k.
    """

    codes: Tensor

    def __init__(self, codes: Tensor, shape: tuple[int, ...], *, bits: int | None) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.shape = shape
        self.bits = bits

    def entries(self, code_book: Tensor) -> Tensor:
        """The vectors of all codes, as the weights have them."""
        return _entries(code_book, self.bits)

    def forward(self, code_book: Tensor) -> Tensor:
        return from_weight_vectors(functional.embedding(self.codes, self.entries(code_book)), self.shape)


class MovingCodeBook(nn.Module):
    """Parametrization of a latent weight by the nearest entries of a code book, assigned anew while both learn.

    The gradient of a weight goes to its entry of the code book, as with `CodeBook`, and straight through to the latent
    weight: a vector whose gradients keep pulling it towards another entry gets there, where clustering alone decides
    by the weights as they were before there was a code book. With a price, entries that are used more often reach
    further, zero among them (entropy-constrained vector quantization, Chou, Lookabaugh and Gray 1989).

    Parameters
    ----------
    code_book
        First values (k, d) of codes 1 to k.
    codes
        First assignment of the `weight_vectors`.
    live
        Whether a vector is other than zero; those that are zero stay so.
    price
        Squared distance that a bit of a code is worth.
    bits
        Width of the integers that the code book is rounded to, straight through; None for real values.

    Notes
    -----
    ``original`` of the parametrization is the latent weight. Assignments hold for `ASSIGNED_EVERY` steps of training;
    evaluation takes the last ones.
    """

    codes: Tensor
    live: Tensor
    step: Tensor

    def __init__(self, code_book: Tensor, codes: Tensor, live: Tensor, *, price: float, bits: int | None) -> None:
        super().__init__()
        self.code_book = nn.Parameter(code_book.clone())
        self.register_buffer("codes", codes)
        self.register_buffer("live", live)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.price = price
        self.bits = bits

    def entries(self, latent: Tensor) -> Tensor:
        """The vectors of all codes, as the weights have them."""
        return _entries(self.code_book, self.bits)

    def forward(self, latent: Tensor) -> Tensor:
        entries = self.entries(latent)
        vectors = weight_vectors(latent, entries.shape[1])
        if self.training and torch.is_grad_enabled():
            if self.step % ASSIGNED_EVERY == 0:
                self._assign(vectors.detach(), entries.detach())
            self.step += 1
        values = functional.embedding(self.codes, entries) + (vectors - vectors.detach())
        return from_weight_vectors(values, tuple(latent.shape))

    @torch.no_grad()
    def _assign(self, vectors: Tensor, entries: Tensor) -> None:
        """Give each live vector the entry of the least squared distance and price, the first of equals."""
        counts = torch.bincount(self.codes, minlength=len(entries)).clamp(min=1)
        cost = entries.square().sum(1) - self.price * torch.log2(counts / counts.sum())
        # Distances in bfloat16 would tie.
        with torch.autocast("cpu", enabled=False):
            parts = torch.split(vectors, max(_PAIRS // len(entries), 1))
            nearest = [(cost - 2 * (part @ entries.T)).argmin(1) for part in parts]
        self.codes.copy_(torch.cat(nearest) * self.live)


class CodeBookGrid(nn.Module):
    """Parametrization of a bias: it is rounded to the grid of the integers of its layer's code book.

    Parameters
    ----------
    layer
        Whose weight has a code book of integers.
    """

    def __init__(self, layer: QuantWeightLayer, bits: int) -> None:
        super().__init__()
        # In a tuple, so that the layer is not a module of its own parametrization.
        self.layer = (layer,)
        self.bits = bits

    def forward(self, bias: Tensor) -> Tensor:
        fraction = quantize_weight(_used_entries(self.layer[0]), self.bits, per_channel=False)[1]
        return round_identity(bias * power_of_two(fraction)) * power_of_two(-fraction)


def _entries(code_book: Tensor, bits: int | None) -> Tensor:
    """The vectors of all codes, the zero vector first."""
    if bits is not None:
        code_book = quantized_weight(code_book, bits, per_channel=False)
    return torch.cat([code_book.new_zeros(1, code_book.shape[1]), code_book])


def _used_entries(layer: QuantWeightLayer) -> Tensor:
    """The entries of a layer's code book, rounded, that its weight has."""
    parametrizations = layer.parametrizations.weight  # type: ignore[union-attr]
    (book,) = parametrizations  # type: ignore[misc]
    assert isinstance(book, CodeBook | MovingCodeBook)
    entries = book.entries(parametrizations.original).detach()  # type: ignore[union-attr, arg-type]
    return entries[torch.bincount(book.codes, minlength=len(entries)) > 0]
