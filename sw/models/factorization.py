"""What a factorized convolution saves: the formulas of the papers against what a network has.

A standard convolution of a KxK window from N to M channels, with an FxF output, costs ``F^2 N K^2 M``
multiplications. Factorized into a depthwise and a pointwise one it costs ``F^2 N K^2 + F^2 N M``: the share
``1/M + 1/K^2`` (Howard et al. 2017, section 3.1). Behind a pointwise bottleneck of R channels it costs
``F^2 N R + F^2 R K^2 M`` (Szegedy et al. 2014).
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from karui.sw.models.count import LayerCount, NetworkCount


@dataclass(frozen=True, kw_only=True)
class Factorization:
    """Two convolutions in a row that stand in for one.

    Parameters
    ----------
    kind
        ``depthwise-separable``: depthwise, then pointwise; ``bottleneck``: pointwise, then a standard one.
    first, second
        The two layers.
    """

    kind: Literal["depthwise-separable", "bottleneck"]
    first: LayerCount
    second: LayerCount

    @property
    def window(self) -> int:
        """K^2."""
        return math.prod(self.first.kernel) * math.prod(self.second.kernel)

    @property
    def in_channels(self) -> int:
        """N."""
        return self.first.input_shape[0]

    @property
    def out_channels(self) -> int:
        """M."""
        return self.second.output_shape[0]

    @property
    def positions(self) -> int:
        """F^2, of the output."""
        return math.prod(self.second.output_shape[1:])

    @property
    def standard_macs(self) -> int:
        """``F^2 N K^2 M``: the one convolution that the two stand in for."""
        return self.positions * self.in_channels * self.window * self.out_channels

    @property
    def predicted_macs(self) -> int:
        """``F^2 N K^2 + F^2 N M``, or with a bottleneck of R channels ``F^2 N R + F^2 R K^2 M``."""
        if self.kind == "depthwise-separable":
            return self.positions * self.in_channels * (self.window + self.out_channels)
        hidden = self.first.output_shape[0]
        before = math.prod(self.first.output_shape[1:])
        return before * self.in_channels * hidden + self.positions * hidden * self.window * self.out_channels

    @property
    def macs(self) -> int:
        """As counted in the network."""
        return self.first.macs + self.second.macs

    @property
    def predicted_share(self) -> float:
        """``1/K^2 + 1/M`` of the standard convolution, or the bottleneck's share."""
        if self.kind == "depthwise-separable":
            return 1 / self.window + 1 / self.out_channels
        return self.predicted_macs / self.standard_macs

    @property
    def share(self) -> float:
        """The counted part of the standard convolution."""
        return self.macs / self.standard_macs


def factorizations(network: NetworkCount) -> tuple[Factorization, ...]:
    """Find the depthwise-separable convolutions and the bottlenecks of a network.

    A pair are two convolutions next to each other in the order of execution, of which the second takes the shape that
    the first gives.
    """
    convolutions = [layer for layer in network.layers if layer.kernel]
    found = []
    for first, second in pairwise(convolutions):
        if first.output_shape != second.input_shape:
            continue
        if first.is_depthwise and second.is_pointwise and second.groups == 1:
            found.append(Factorization(kind="depthwise-separable", first=first, second=second))
        elif (
            first.is_pointwise
            and not second.is_pointwise
            and first.groups == second.groups == 1
            and first.output_shape[0] < first.input_shape[0]
        ):
            found.append(Factorization(kind="bottleneck", first=first, second=second))
    return tuple(found)


def multiplier_prediction(pair: Factorization, *, alpha: float, rho: float) -> float:
    """MACs of a depthwise-separable pair under MobileNet's multipliers.

    ``K^2 aN r^2 F^2 + aN aM r^2 F^2`` with a = alpha, r = rho (Howard et al. 2017, section 3.4).
    """
    positions = rho**2 * pair.positions
    in_channels, out_channels = alpha * pair.in_channels, alpha * pair.out_channels
    return pair.window * in_channels * positions + in_channels * out_channels * positions
