"""Bits of a network's weights and activations."""

import math
from dataclasses import dataclass

MINIMUM_BITS, MAXIMUM_BITS = 2, 8


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Widths of a quantized network; without them it computes in floating point.

    Parameters
    ----------
    weight_bits
        Bits of the signed weights, 2 to 8, or None for real weights.
    activation_bits
        Bits of the activations, 2 to 8, or None for real ones.
    edge_bits
        Bits of the weights of the first and the last layer where `weight_bits` is given. These two suffer most from few
        bits and hold few of the weights (Zhou et al. 2016, DoReFa-Net). None gives them `weight_bits` too.
    per_channel
        Whether each output channel has a power-of-two scale of its own, or each layer one.
    """

    weight_bits: int | None
    activation_bits: int | None
    edge_bits: int | None = 8
    per_channel: bool = True

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits", "edge_bits"):
            check_bits(name, getattr(self, name))
        if (self.weight_bits is None) != (self.activation_bits is None):
            raise ValueError(
                f"weight_bits = {self.weight_bits} and activation_bits = {self.activation_bits} must be given together "
                f"or left out together: a network is quantized or real"
            )

    @property
    def edge_weight_bits(self) -> int | None:
        """Bits of the first and the last layer's weights; None in a real network."""
        if self.weight_bits is None or self.edge_bits is None:
            return self.weight_bits
        return self.edge_bits


def check_bits(name: str, bits: int | None) -> None:
    """Refuse a width outside 2 to 8.

    Raises
    ------
    ValueError
        Naming the parameter.
    """
    if bits is not None and not MINIMUM_BITS <= bits <= MAXIMUM_BITS:
        raise ValueError(
            f"{name} must be {MINIMUM_BITS} to {MAXIMUM_BITS}, not {bits}; for real values leave it out, "
            f"for weights of 1 bit use the binary layers"
        )


def check_power_of_two(name: str, value: float) -> float:
    """Refuse the end of a range that is no power of two.

    Raises
    ------
    ValueError
        Naming the parameter.
    """
    if value <= 0 or math.frexp(value)[0] != 0.5:
        raise ValueError(f"{name} must be a power of two such as 0.5, 1 or 4, not {value}")
    return float(value)


FLOAT = Precision(weight_bits=None, activation_bits=None)
