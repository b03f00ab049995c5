"""How many bases each layer gets: by hand, by the error of its weights, or by the bits of all layers together."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from karui.sw.configuration import ConfigurationError
from karui.sw.decompose.bases import MOST_BASES

# Of an offset and of a float weight.
OFFSET_BITS = FLOAT_BITS = 32


@dataclass(frozen=True, kw_only=True)
class LayerSize:
    """Filters, and weights a filter, of a layer."""

    filters: int
    weights: int

    def bits(self, bases: int, coefficient_bits: int) -> int:
        """Stored bits with so many bases: signs, coefficients, offsets."""
        return self.filters * (bases * (self.weights + coefficient_bits) + OFFSET_BITS)

    @property
    def float_bits(self) -> int:
        """Bits of weights and biases as floats."""
        return self.filters * (self.weights + 1) * FLOAT_BITS


def by_hand(names: Sequence[str], given: Sequence[int], what: str) -> dict[str, int]:
    """One number for all layers, or one a layer.

    Raises
    ------
    ConfigurationError
        If there are neither one nor as many as layers.
    """
    if len(given) not in (1, len(names)):
        raise ConfigurationError(
            f"{what} must be one number or one for each of {len(names)} layers ({', '.join(names)}), not {len(given)}"
        )
    return dict(zip(names, given if len(given) > 1 else list(given) * len(names), strict=True))


def by_error(errors: Mapping[str, Sequence[float]], budget: float) -> dict[str, int]:
    """The fewest bases whose error is within the budget, or the most there are.

    Parameters
    ----------
    errors : mapping of str to sequence of float
        Of each layer the relative error with 1, 2, ... bases.
    budget : float
    """
    return {
        name: next((bases for bases, error in enumerate(row, 1) if error <= budget), len(row))
        for name, row in errors.items()
    }


def by_size(
    errors: Mapping[str, Sequence[float]],
    sizes: Mapping[str, LayerSize],
    budget_bits: int,
    coefficient_bits: int,
) -> dict[str, int]:
    """Bases one by one to the layer where a bit saves the most error, as long as the bits last.

    Raises
    ------
    ConfigurationError
        If one base a layer is too much already.
    """
    chosen = dict.fromkeys(errors, 1)
    spent = sum(size.bits(1, coefficient_bits) for size in sizes.values())
    if spent > budget_bits:
        raise ConfigurationError(f"one base a layer takes {spent:,} bits already, {budget_bits:,} may be; allow more")
    queue: list[tuple[float, str]] = []

    def offer(name: str) -> None:
        bases, size = chosen[name], sizes[name]
        if bases < min(len(errors[name]), MOST_BASES):
            more = size.bits(bases + 1, coefficient_bits) - size.bits(bases, coefficient_bits)
            heapq.heappush(queue, (-(errors[name][bases - 1] - errors[name][bases]) / more, name))

    for name in errors:
        offer(name)
    while queue:
        _, name = heapq.heappop(queue)
        size, bases = sizes[name], chosen[name]
        more = size.bits(bases + 1, coefficient_bits) - size.bits(bases, coefficient_bits)
        if spent + more <= budget_bits:
            spent += more
            chosen[name] += 1
            offer(name)
    return chosen
