"""Filters as sums of binary bases: w ~ M c with M in {-1, +1}^(N x k), so that |w - M c|^2 is small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Method = Literal["exhaustive", "greedy", "refined"]

MOST_BASES = 8
# Filters whose sums are searched at once: as many as leave the tables of one step in the cache.
_CHUNK = 32
# Each round of the search goes on with the best of the starts, for so many of the iterations.
_ROUNDS = ((1, 0.125), (4, 0.25), (16, 0.625))
# The step from one set of coefficients to the next is stretched: alternating minimisation is linearly convergent, and
# slow where 2^k levels are many.
_STRETCH = 1.9
# Keeps the normal equations regular where two bases are equal, far below the precision of the coefficients.
_RIDGE = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposition:
    """Filters as sums of binary bases.

    Parameters
    ----------
    codes : Tensor of uint8, shape (filters, N)
        Bit j of a weight's code is its sign in base j: 1 for +1, 0 for -1.
    coefficients : Tensor of float64, shape (filters, k)
        Of the bases.
    errors : Tensor of float64, shape (filters,)
        |w - M c|^2 / |w|^2 of each filter; 0 for a filter of zeros.
    """

    codes: Tensor
    coefficients: Tensor
    errors: Tensor

    @property
    def bases(self) -> int:
        """Number of bases k."""
        return self.coefficients.shape[1]

    def signs(self) -> Tensor:
        """The bases as int8, shape (filters, k, N)."""
        bits = (self.codes[:, None] >> torch.arange(self.bases, dtype=torch.uint8)[:, None]) & 1
        return 2 * bits.to(torch.int8) - 1

    def levels(self) -> Tensor:
        """The value of each code, (filters, 2^k)."""
        return self.coefficients @ sign_patterns(self.bases).T

    def weights(self) -> Tensor:
        """The approximation M c, (filters, N)."""
        return self.levels().gather(1, self.codes.long())


def sign_patterns(bases: int) -> Tensor:
    """Signs of every code, (2^k, k) of float64: bit j of the row's number is +1 or -1 in column j."""
    codes = torch.arange(1 << bases)[:, None]
    return 2.0 * ((codes >> torch.arange(bases)) & 1).double() - 1.0


@torch.no_grad()
def decompose(
    weights: Tensor,
    bases: int,
    *,
    method: Method = "exhaustive",
    restarts: int = 32,
    iterations: int = 160,
    seed: int = 0,
    progress: Callable[[int], None] = lambda filters: None,
) -> Decomposition:
    """Decompose every filter.

    ``exhaustive`` alternates: coefficients by least squares, and for each weight the best of all 2^k sign patterns,
    from several random starts. The best pattern of a weight is the one whose level is nearest, so a filter is sorted
    once; then the borders between levels are found by bisection, and sums between borders by differences of prefix
    sums. That is O(2^k log N) an iteration instead of O(2^k N). Levels come in pairs +-l, so magnitudes are enough.

    ``greedy`` takes the signs of what the bases so far leave, with their best coefficient; ``refined`` does too, but
    fits all coefficients again behind each base (Guo et al. 2017, "Network sketching").

    Parameters
    ----------
    weights : Tensor, shape (filters, N)
        A filter a row.
    bases : int
        k, 1 to 8.
    method : str
        ``exhaustive``, ``greedy`` or ``refined``.
    restarts, iterations : int
        Of the exhaustive method; after 1/8 of the iterations a quarter of the starts goes on, after 3/8 a sixteenth.
    seed : int
        Of the starts. All filters have the same ones, scaled, so a filter's result depends on no other filter.
    progress : callable
        Called with the number of filters done so far.

    Raises
    ------
    ValueError
        If a number is out of its range or a weight is not finite.
    """
    if not 1 <= bases <= MOST_BASES:
        raise ValueError(f"a filter has 1 to {MOST_BASES} bases, not {bases}")
    if weights.ndim != 2 or weights.shape[1] < 1:
        raise ValueError(f"weights are rows of one or more, one a filter, not of shape {tuple(weights.shape)}")
    if not torch.isfinite(weights).all():
        raise ValueError("weights must be finite; the network holds NaN or infinity")
    if method not in ("exhaustive", "greedy", "refined"):
        raise ValueError(f'method must be "exhaustive", "greedy" or "refined", not {method!r}')
    if restarts < 1 or iterations < 1:
        raise ValueError(f"restarts and iterations are 1 or more, not {restarts} and {iterations}")
    codes, coefficients = [], []
    for start in range(0, len(weights), _CHUNK):
        rows = weights[start : start + _CHUNK].double()
        if method == "exhaustive":
            found = _exhaustive(rows, _starts(bases, restarts, seed), iterations)
            code = _nearest(rows, found)
        else:
            code = _greedy(rows, bases, refit=method == "refined")
        codes.append(code)
        coefficients.append(_fit(rows, code, bases) if method != "greedy" else _own_fit(rows, code, bases))
        progress(start + len(rows))
    return _with_errors(weights, torch.cat(codes), torch.cat(coefficients))


def _with_errors(weights: Tensor, codes: Tensor, coefficients: Tensor) -> Decomposition:
    errors = []
    for start in range(0, len(weights), _CHUNK):
        part = slice(start, start + _CHUNK)
        rows = weights[part].double()
        levels = coefficients[part] @ sign_patterns(coefficients.shape[1]).T
        energy = rows.square().sum(1)
        left = (rows - levels.gather(1, codes[part].long())).square().sum(1)
        errors.append(torch.where(energy > 0, left / energy, torch.zeros_like(left)))
    return Decomposition(codes=codes, coefficients=coefficients, errors=torch.cat(errors))


def _starts(bases: int, restarts: int, seed: int) -> Tensor:
    """Coefficients (restarts, k) of unit norm: roughly geometric, as the best ones of bell-shaped weights are."""
    generator = torch.Generator().manual_seed(seed)
    ratio = 0.35 + 0.45 * torch.rand(restarts, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(restarts, bases, generator=generator, dtype=torch.float64)
    starts = ratio ** torch.arange(bases) * torch.exp(0.2 * noise)
    normed: Tensor = starts / starts.norm(dim=1, keepdim=True)
    return normed


def _exhaustive(rows: Tensor, starts: Tensor, iterations: int) -> Tensor:
    """The best coefficients (filters, k) of all starts."""
    magnitudes = rows.abs().sort(dim=1).values
    sums = torch.nn.functional.pad(magnitudes.cumsum(1), (1, 0))
    energy = magnitudes.square().sum(1)
    coefficients = starts * (energy / rows.shape[1]).sqrt()[:, None, None]
    filters = torch.arange(len(rows))
    for fraction, share in _ROUNDS:
        kept = max(1, len(starts) // fraction)
        if kept < coefficients.shape[1]:
            best = (_solved(magnitudes, sums, coefficients)[1]).topk(kept, largest=False).indices
            coefficients = coefficients[filters[:, None], best]
        for _ in range(max(1, round(share * iterations))):
            solved, _ = _solved(magnitudes, sums, coefficients)
            coefficients = coefficients + _STRETCH * (solved - coefficients)
    # Without the stretch at last: the error falls with either half of a step.
    for _ in range(2):
        coefficients, loss = _solved(magnitudes, sums, coefficients)
    return coefficients[filters, loss.argmin(1)]


def _solved(magnitudes: Tensor, sums: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """One alternation: nearest levels, then least squares; the new coefficients and |w - M c|^2 - |w|^2 of them."""
    filters, starts, bases = coefficients.shape
    size, half = magnitudes.shape[1], 1 << (bases - 1)
    patterns = sign_patterns(bases)
    levels, order = (coefficients @ patterns.T).sort(dim=-1)
    levels, chosen = levels[..., half:], patterns[order[..., half:]]
    borders = (levels[..., 1:] + levels[..., :-1]) / 2
    inner = torch.searchsorted(magnitudes, borders.reshape(filters, -1)).reshape(filters, starts, -1)
    ends = torch.nn.functional.pad(torch.nn.functional.pad(inner, (1, 0)), (0, 1), value=size)
    members = ends.diff(dim=-1).double()
    totals = sums.gather(1, ends.reshape(filters, -1)).reshape(ends.shape).diff(dim=-1)
    gram = (chosen * members[..., None]).mT @ chosen
    moments = (chosen * totals[..., None]).sum(-2)
    solved = torch.linalg.solve(gram + _RIDGE * size * torch.eye(bases, dtype=torch.float64), moments)
    loss = torch.einsum("fra,frab,frb->fr", solved, gram, solved) - 2 * (solved * moments).sum(-1)
    return solved, loss


def _nearest(rows: Tensor, coefficients: Tensor) -> Tensor:
    """Of each weight the code whose level is nearest; magnitudes decide, so that -w has the opposite signs of w."""
    bases = coefficients.shape[1]
    half = 1 << (bases - 1)
    levels, order = (coefficients @ sign_patterns(bases).T).sort(dim=1)
    upper = levels[:, half:].contiguous()
    borders = (upper[:, 1:] + upper[:, :-1]) / 2
    code = order[:, half:].gather(1, torch.searchsorted(borders, rows.abs().contiguous(), right=True))
    every_bit = (1 << bases) - 1
    return torch.where(rows < 0, every_bit - code, code).to(torch.uint8)


def _greedy(rows: Tensor, bases: int, *, refit: bool) -> Tensor:
    code = torch.zeros(rows.shape, dtype=torch.uint8)
    for base in range(bases):
        if base == 0:
            left = rows
        else:
            known = (_fit if refit else _own_fit)(rows, code, base)
            left = rows - (known @ sign_patterns(base).T).gather(1, code.long())
        code |= (left >= 0).to(torch.uint8) << base
    return code


def _fit(rows: Tensor, code: Tensor, bases: int) -> Tensor:
    """Least squares of all coefficients at given signs."""
    patterns = sign_patterns(bases)
    index = code.long()
    members = torch.zeros(len(rows), 1 << bases, dtype=torch.float64)
    totals = torch.zeros_like(members)
    members.scatter_add_(1, index, torch.ones_like(rows))
    totals.scatter_add_(1, index, rows)
    gram = patterns.T @ (members[..., None] * patterns)
    gram = gram + _RIDGE * rows.shape[1] * torch.eye(bases, dtype=torch.float64)
    fitted: Tensor = torch.linalg.solve(gram, totals @ patterns)
    return fitted


def _own_fit(rows: Tensor, code: Tensor, bases: int) -> Tensor:
    """Of each base the best coefficient on what the bases before it leave."""
    left, fitted = rows, []
    for base in range(bases):
        sign = 2.0 * ((code >> base) & 1).double() - 1.0
        fitted.append((left * sign).mean(1))
        left = left - fitted[-1][:, None] * sign
    return torch.stack(fitted, dim=1)
