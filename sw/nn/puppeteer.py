"""The puppeteer of Puppet-CNN (Xing and Wang 2024): kernels of all layers from one differential equation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from karui.sw.ir.complexity_op import COMPLEXITY_FRACTION
from karui.sw.ir.puppet_ops import KERNEL, KERNEL_SIDE, STATE
from karui.sw.nn.factor import Factor, rounded_or_limited
from karui.sw.nn.rounded_words import rounded_words
from karui.sw.numerics import NumberFormat, signed

# Binary digits right of the point in the state's words and in the step size's.
STATE_FRACTION = 10
STEP_FRACTION = 12
# Standard deviation of the pattern's entries before training. The constant exp(1 - H**-2) differs by 0.1 between H = 4
# and 7; over 288 inputs that are all positive a constant adds up, what is random does not: beside a pattern of 0.3 it
# is most of what all channels see, and they all see the same.
PATTERN_DEVIATION = 2.0
# Change of the state in a unit of time over the state, before training: another kernel within a few steps of a fifth.
SLOPE_GAIN = 2.0
# Ends of the ranges of G and of kernels; the state's is 32.
SLOPE_LIMIT = KERNEL_LIMIT = 16.0


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Steps of the complexity H that kernels are generated for: all frames of a step have the H of its middle.

    Parameters
    ----------
    first, count
        The first step and how many there are; frames beyond are counted to the nearest.
    shift
        A step is ``2**shift`` words of H, which has `COMPLEXITY_FRACTION` binary digits.
    """

    first: int
    count: int
    shift: int

    def __post_init__(self) -> None:
        if self.first < 1 or self.count < 1 or not 0 <= self.shift <= COMPLEXITY_FRACTION:
            raise ValueError(
                f"levels need first and count of at least 1 and a shift of 0 to {COMPLEXITY_FRACTION}, not "
                f"first={self.first}, count={self.count}, shift={self.shift}"
            )

    def of(self, words: Tensor) -> Tensor:
        """The level of complexities in words."""
        return ((words >> self.shift) - self.first).clamp(0, self.count - 1)

    def complexities(self) -> Tensor:
        """H of each level, in float64."""
        middles = torch.arange(self.count, dtype=torch.float64) + self.first + 0.5
        return middles * 2.0 ** (self.shift - COMPLEXITY_FRACTION)


class Puppeteer(nn.Module, ABC):
    """Base of what generates kernels for frames, which depend on a frame's depth and level alone.

    Parameters
    ----------
    channels
        Of the maps that the kernels convolve.
    levels
        Complexities that kernels are generated for.
    rank
        Outer products among the constants.
    bits
        Width of the constants; real ones without.
    kernel_limit
        End of the kernels' range, a power of two.
    """

    def __init__(self, channels: int, levels: Levels, *, rank: int, bits: int | None, kernel_limit: float) -> None:
        super().__init__()
        self.channels = channels
        self.levels = levels
        self.rank = rank
        self.bits = bits
        self.kernel_words = kernel_words(kernel_limit)

    @abstractmethod
    def kernels(self, depths: Tensor, levels: Tensor) -> list[Tensor]:
        """Generate the kernels of all layers.

        Parameters
        ----------
        depths, levels
            One of each a group of frames, int64, the depths descending.

        Returns
        -------
        list of Tensor
            Of each layer the kernels (groups, C, C, 3, 3) of the groups at least so deep: the first ones.
        """

    @abstractmethod
    def prepared(self, depth: int) -> Callable[[Tensor], Sequence[Tensor]]:
        """Compute once what all frames of a depth have in common; then kernels of levels, layer by layer.

        No gradient reaches the constants: this is generation as it is deployed.
        """

    def arithmetic(self) -> torch.dtype:
        """Where words must be exact, float64, in which all sums are; float32 for the optimizer's steps."""
        return torch.float32 if self.training or not self.is_quantized else torch.float64

    @property
    def is_quantized(self) -> bool:
        """Whether kernels are words."""
        return self.bits is not None


class EulerPuppeteer(Puppeteer):
    """Kernels as the state P of ``dP/dt = G(P)``, G a depthwise-separable convolution, by a step of Euler's a layer.

    ``P[0] = exp(1 - H**-2) + pattern`` and ``P[l] = P[l - 1] + G(P[l - 1]) tanh(1 / H)`` (eq. 2, 5 and 7). The pattern
    is a deviation: from a constant state G makes constant kernels, but for the border. It is a sum of few outer
    products, less the constant's mean over the levels. G is limited, so that no number of steps makes the state grow
    without bounds. With `bits` all words are those of `karui.sw.ir.EulerGenerator`, their gradients straight through.

    Parameters
    ----------
    channels
        Of the maps that the kernels convolve.
    levels
        Complexities that kernels are generated for.
    rank
        Outer products in the pattern; without any there is no pattern at all, as the equations have it.
    bits
        Width of the constants; real ones without.
    limit
        Largest change of the state in a unit of time, a power of two.
    kernel_limit
        End of the kernels' range, a power of two.
    side
        Rows and columns of a kernel.
    saves_memory
        Whether the backward pass computes each step again instead of keeping what it needs.
    """

    step: Tensor
    base: Tensor

    def __init__(
        self,
        channels: int,
        levels: Levels,
        *,
        rank: int = 4,
        bits: int | None = None,
        limit: float = SLOPE_LIMIT,
        kernel_limit: float = KERNEL_LIMIT,
        side: int = KERNEL_SIDE,
        saves_memory: bool = True,
    ) -> None:
        super().__init__(channels, levels, rank=rank, bits=bits, kernel_limit=kernel_limit)
        self.side = side
        self.limit = check_power_of_two("limit", limit)
        self.saves_memory = saves_memory
        complexities = levels.complexities()
        step, base = (1 / complexities).tanh(), (1 - complexities**-2).exp()
        if rank:
            base = base - base.mean()
        if bits is not None:
            step, base = _words(step, STEP_FRACTION), _words(base, STATE_FRACTION)
        self.register_buffer("step", step, persistent=False)
        self.register_buffer("base", base, persistent=False)
        self.depthwise = Factor((channels, 1, KERNEL_SIDE, KERNEL_SIDE), bits=bits)
        self.pointwise = Factor((channels, channels), bits=bits)
        self.pattern = Pattern(channels, rank, area=side**2, bits=bits) if rank else None
        nn.init.normal_(self.depthwise.weight, std=1 / KERNEL_SIDE)
        nn.init.normal_(self.pointwise.weight, std=SLOPE_GAIN * channels**-0.5)

    def kernels(self, depths: Tensor, levels: Tensor) -> list[Tensor]:
        states = self.states(depths, levels)
        words = [rounded_or_limited(state, self.kernel_words, exact=self.is_quantized) for state in states[1:]]
        return [torch.unflatten(of_layer, 3, (self.side, self.side)) for of_layer in words]

    def states(self, depths: Tensor, levels: Tensor) -> list[Tensor]:
        """P of layer 0 and of each layer, (groups, outputs, inputs, places), of the groups at least so deep."""
        kind = self.arithmetic()
        state = self._initial(levels, kind)
        constants = self.depthwise.forward_weight().to(kind), self.pointwise.forward_weight().to(kind)
        step = self.step.to(kind)[levels][:, None, None, None]
        states = [state]
        for layer in range(1, int(depths[0]) + 1):
            count = int((depths >= layer).sum())
            arguments = state[:count], step[:count], *constants
            if self.saves_memory and torch.is_grad_enabled():
                state = checkpoint(self._step, *arguments, use_reentrant=False, preserve_rng_state=False)
            else:
                state = self._step(*arguments)
            states.append(state)
        return states

    @torch.no_grad()
    def prepared(self, depth: int) -> Callable[[Tensor], Sequence[Tensor]]:
        kind, side = self.arithmetic(), self.side
        constants = self.depthwise.forward_weight().to(kind), self.pointwise.forward_weight().to(kind)
        firsts, steps = self._initial(torch.arange(self.levels.count), kind), self.step.to(kind)[:, None, None, None]

        @torch.no_grad()
        def generate(levels: Tensor) -> list[Tensor]:
            state, step, kernels = firsts[levels], steps[levels], []
            for _ in range(depth):
                state = self._step(state, step, *constants)
                words = rounded_or_limited(state, self.kernel_words, exact=self.is_quantized)
                kernels.append(torch.unflatten(words, 3, (side, side)))
            return kernels

        return generate

    def _initial(self, levels: Tensor, kind: torch.dtype) -> Tensor:
        base = self.base.to(kind)[levels][:, None, None, None]
        if self.pattern is None:
            return base.expand(-1, self.channels, self.channels, self.side**2)
        return rounded_or_limited(base + self.pattern.terms(kind), STATE_WORDS, exact=self.is_quantized)

    def _step(self, state: Tensor, step: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
        exact = self.is_quantized
        mixed = rounded_or_limited(_depthwise(state, depthwise), STATE_WORDS, exact=exact, in_place=True)
        slope = torch.einsum("oc,ncik->noik", pointwise, mixed)
        if exact:
            slope = rounded_words(slope, SLOPE_WORDS)
        slope = functional.hardtanh(slope, -self.limit, self.limit, inplace=True)
        return rounded_or_limited(state + slope * step, STATE_WORDS, exact=exact, in_place=True)

    def extra_repr(self) -> str:
        return f"{self.channels}, rank={self.rank}, bits={self.bits}, limit={self.limit:g}"


class Pattern(nn.Module):
    """The outer products of the first state.

    Parameters
    ----------
    channels, rank, bits
        See `EulerPuppeteer`.
    area
        Places of a kernel.
    """

    def __init__(self, channels: int, rank: int, *, area: int, bits: int | None) -> None:
        super().__init__()
        self.u, self.v, self.t = (Factor((size, rank), bits=bits) for size in (channels, channels, area))
        deviation = (PATTERN_DEVIATION / rank**0.5) ** (1 / 3)
        # Every layer applies u and v, so a random matrix's bad condition would count once a layer.
        for factor in (self.u, self.v):
            nn.init.orthogonal_(factor.weight, gain=deviation * max(channels, rank) ** 0.5)
        nn.init.normal_(self.t.weight, std=deviation)

    def terms(self, kind: torch.dtype) -> Tensor:
        """The sum of outer products, (outputs, inputs, places)."""
        factors = [factor.forward_weight().to(kind) for factor in (self.u, self.v, self.t)]
        total = torch.einsum("or,ir,kr->oik", *factors)
        return rounded_or_limited(total, STATE_WORDS, exact=self.u.weight_bits is not None)


STATE_WORDS = signed(STATE.bits, STATE_FRACTION)
# Rounded, and limited further on.
SLOPE_WORDS = signed(STATE.bits + 16, STATE_FRACTION)


def kernel_words(limit: float) -> NumberFormat:
    """Format of the kernels of a range that ends at a power of two."""
    return signed(KERNEL.bits, KERNEL.bits - 1 - int(math.log2(check_power_of_two("kernel_limit", limit))))


def check_power_of_two(name: str, value: float) -> float:
    """Refuse the end of a range that is no power of two."""
    if value <= 0 or math.frexp(value)[0] != 0.5:
        raise ValueError(f"{name} must be a power of two such as 0.5, 1 or 4, not {value}")
    return float(value)


def _words(values: Tensor, fraction: int) -> Tensor:
    return (values * 2.0**fraction + 0.5).floor() * 2.0**-fraction


def _depthwise(state: Tensor, weights: Tensor) -> Tensor:
    return functional.conv2d(state, weights, padding=1, groups=len(weights))
