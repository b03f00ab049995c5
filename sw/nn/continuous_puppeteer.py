"""Generators that compute the kernels of all layers at once, each from its place in the depth alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from karui.sw.ir.puppet_ops import FACTOR, KERNEL_AREA, KERNEL_SIDE
from karui.sw.nn.factor import Factor, rounded_or_limited
from karui.sw.nn.puppeteer import KERNEL_DEVIATION, KERNEL_LIMIT, Levels, Puppeteer
from karui.sw.nn.rounded_words import replaced, round_words
from karui.sw.nn.weight_quantizer import power_of_two
from karui.sw.numerics import Rounding, signed

# Sampled functions of the depth are below 1, coefficients of a layer and their products with a column below 32.
BASIS_WORDS = signed(12, 11)
FACTOR_WORDS = signed(FACTOR.bits, FACTOR.bits - 6)
# Highest angular frequency over the depth that sines start from.
HIGHEST_FREQUENCY = 2 * math.pi


class Basis(nn.Module, ABC):
    """Functions of the place s = l / D in the depth, of values within -1 to 1.

    Parameters
    ----------
    terms
        How many functions.
    """

    def __init__(self, terms: int) -> None:
        super().__init__()
        self.terms = terms

    @abstractmethod
    def forward(self, places: Tensor) -> Tensor:
        """Sample at places (n) of 0 to 1: (n, terms)."""


class Polynomials(Basis):
    """Chebyshev polynomials of degrees 0 to terms - 1: nothing is learned but their coefficients."""

    def forward(self, places: Tensor) -> Tensor:
        angle = (2 * places - 1).clamp(-1, 1).acos()
        return (angle[:, None] * torch.arange(self.terms, dtype=places.dtype)).cos()


class Sines(Basis):
    """Sines of learned frequency and phase, and a constant, as CKConv's (Romero et al. 2021) generate kernels."""

    def __init__(self, terms: int) -> None:
        super().__init__(terms)
        self.frequency = nn.Parameter(torch.linspace(0, HIGHEST_FREQUENCY, terms))
        self.phase = nn.Parameter(torch.cat([torch.full((1,), math.pi / 2), torch.linspace(0, math.pi, terms)[:-1]]))

    def forward(self, places: Tensor) -> Tensor:
        return (places[:, None] * self.frequency.to(places.dtype) + self.phase.to(places.dtype)).sin()


class ContinuousPuppeteer(Puppeteer):
    """Kernels ``sum over r of a[r](l / D, H) u[r] v[r] t[r]``, whose coefficients a are functions of the depth.

    ``a[r](s, H) = sum over p of phi[p](s) (c0[p, r] + c1[p, r] h)``, h the level's distance from the middle one. With
    `bits` all words are those of `karui.sw.ir.LowRankGenerator`, their gradients straight through.

    Parameters
    ----------
    channels
        Of the maps that the kernels convolve.
    levels
        Complexities that kernels are generated for.
    basis
        The functions phi.
    rank
        Outer products.
    bits
        Width of the constants; real ones without.
    kernel_limit
        End of the kernels' range, a power of two.
    """

    def __init__(
        self,
        channels: int,
        levels: Levels,
        basis: Basis,
        *,
        rank: int = 16,
        bits: int | None = None,
        kernel_limit: float = KERNEL_LIMIT,
    ) -> None:
        super().__init__(channels, levels, rank=rank, bits=bits, kernel_limit=kernel_limit)
        self.basis = basis
        self.u, self.v, self.t = (Factor((size, rank), bits=bits) for size in (channels, channels, KERNEL_AREA))
        # c0 and c1, which have one scale.
        self.coefficients = Factor((2, basis.terms, rank), bits=bits)
        for factor in (self.u, self.v, self.t):
            nn.init.normal_(factor.weight)
        nn.init.normal_(self.coefficients.weight, std=KERNEL_DEVIATION * (rank * basis.terms) ** -0.5)

    @property
    def centre(self) -> int:
        """The middle level, of which h is 0."""
        return self.levels.count // 2

    @property
    def offset_shift(self) -> int:
        """h counts levels over ``2**offset_shift``, and stays within -1 to 1."""
        return max(self.centre - 1, 0).bit_length()

    def kernels(self, depths: Tensor, levels: Tensor) -> list[Tensor]:
        kind = self.arithmetic()
        present = [int((depths >= layer).sum()) for layer in range(1, int(depths[0]) + 1)]
        members = torch.cat([torch.arange(count) for count in present])
        layers = torch.repeat_interleave(torch.arange(1, len(present) + 1), torch.tensor(present))
        basis = self.sampled(depths[members], layers, kind)
        a = self._limited((basis[:, None] @ self._coefficients(levels[members], kind))[:, 0])
        return list(torch.split(self._kernels(a, self.u.forward_weight().to(kind), self._columns(kind)), present))

    @torch.no_grad()
    def prepared(self, depth: int) -> Callable[[Tensor], Sequence[Tensor]]:
        kind = self.arithmetic()
        basis = self.sampled(torch.full((depth,), depth), torch.arange(1, depth + 1), kind)
        # Of each level the coefficients a of all layers: few, and the same for all frames of it.
        a = basis @ self._coefficients(torch.arange(self.levels.count), kind)
        u, columns = self.u.forward_weight().to(kind), self._columns(kind).contiguous()
        products = u * a[..., None, :]
        a = self._limited(a)
        if not self.is_quantized:
            excess = self._limited(u * a[..., None, :]) - products
            limited = (excess != 0).flatten(0, 1).any(0).nonzero()
            # An element of a kernel takes as many products as there are patterns, or as there are outer products.
            if 2 * self.basis.terms + len(limited) < self.rank:
                return self._from_patterns(basis, u, columns, excess, limited)

        @torch.no_grad()
        def generate(levels: Tensor) -> tuple[Tensor, ...]:
            return self._kernels(a[levels], u, columns).unbind(1)

        return generate

    def _from_patterns(
        self, basis: Tensor, u: Tensor, columns: Tensor, excess: Tensor, limited: Tensor
    ) -> Callable[[Tensor], Sequence[Tensor]]:
        """Generation without rounding, which is linear in few functions of place and level.

        With no factor limited, ``sum over p of phi[p] (B0[p] + h B1[p])`` is the kernel, where B are the sums over r of
        ``c[p, r] u[r] v[r] t[r]``: constants of the generator, whatever depth or image. So an element takes a product
        a function instead of one an outer product. A factor A[o, r] that meets its limit somewhere is one function
        more, of what the limit takes away: its pattern is the column r at output o.
        """
        patterns = (u * self.coefficients.forward_weight().to(u)[..., None, :]) @ columns
        outputs, members = limited.T
        of_limited = columns.new_zeros(len(limited), *patterns.shape[-2:])
        of_limited[torch.arange(len(limited)), outputs] = columns[members]
        patterns = torch.cat([patterns.flatten(0, 1), of_limited]).flatten(1)
        offsets = self._offsets(torch.arange(self.levels.count), basis.dtype)[:, None, None]
        functions = torch.cat(
            [basis.expand(len(offsets), -1, -1), offsets * basis, excess[..., outputs, members]], dim=2
        )

        @torch.no_grad()
        def generate(levels: Tensor) -> tuple[Tensor, ...]:
            sums = functions[levels] @ patterns
            kernels = rounded_or_limited(sums, self.kernel_words, exact=False, in_place=True)
            return kernels.view(*sums.shape[:2], *self._kernel_shape).unbind(1)

        return generate

    @property
    def _kernel_shape(self) -> tuple[int, int, int, int]:
        return self.channels, self.channels, KERNEL_SIDE, KERNEL_SIDE

    def _offsets(self, levels: Tensor, kind: torch.dtype) -> Tensor:
        """h of each level."""
        return (levels - self.centre).to(kind) * 2.0**-self.offset_shift

    def sampled(self, depths: Tensor, layers: Tensor, kind: torch.dtype) -> Tensor:
        """The functions at each layer of frames of each depth, (n, terms); both given one an entry."""
        # Of a layer in a depth there is one word, whatever type the network computes in.
        basis = self.basis((layers / depths).to(torch.float64))
        return rounded_or_limited(basis, BASIS_WORDS, exact=self.is_quantized).to(kind)

    def _coefficients(self, levels: Tensor, kind: torch.dtype) -> Tensor:
        """c of each level, (n, terms, rank)."""
        constant, slope = self.coefficients.forward_weight().to(kind)
        offsets = self._offsets(levels, kind)[:, None, None] * slope
        coefficients: Tensor = constant + (self._on_grid(offsets) if self.is_quantized else offsets)
        return coefficients

    def _columns(self, kind: torch.dtype) -> Tensor:
        """Products of v and t, (rank, C * 9)."""
        v, t = (factor.forward_weight().to(kind) for factor in (self.v, self.t))
        return (v[:, None] * t).view(-1, self.rank).T

    def _kernels(self, a: Tensor, u: Tensor, columns: Tensor) -> Tensor:
        """Kernels (..., C, C, 3, 3) of coefficients (..., rank)."""
        sums = self._limited(u * a[..., None, :]) @ columns
        words = rounded_or_limited(sums, self.kernel_words, exact=self.is_quantized, in_place=True)
        return words.view(*a.shape[:-1], *self._kernel_shape)

    def _limited(self, factors: Tensor) -> Tensor:
        return rounded_or_limited(factors, FACTOR_WORDS, exact=self.is_quantized)

    def _on_grid(self, offsets: Tensor) -> Tensor:
        """Rounded to the steps of the coefficients, half up."""
        fraction = self.coefficients.weight_fraction()
        scale, step = (power_of_two(exponent).to(offsets.dtype) for exponent in (fraction, -fraction))
        return replaced(offsets, round_words(offsets.detach() * scale, Rounding.HALF_UP) * step)

    def extra_repr(self) -> str:
        return f"{self.channels}, {type(self.basis).__name__}, rank={self.rank}, bits={self.bits}"
