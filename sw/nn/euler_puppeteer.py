"""The generator of Puppet-CNN as published: kernels as the state of a differential equation, a step a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from karui.sw.ir.puppet_ops import KERNEL, KERNEL_SIDE, STATE
from karui.sw.nn.factor import Factor, rounded_or_limited
from karui.sw.nn.precision import check_power_of_two
from karui.sw.nn.puppeteer import KERNEL_DEVIATION, KERNEL_LIMIT, Levels, Puppeteer
from karui.sw.nn.rounded_words import round_words, rounded_words
from karui.sw.numerics import Rounding, signed

# Binary digits right of the point in the state's words and in the step size's.
STATE_FRACTION = 10
STEP_FRACTION = 12
STATE_WORDS = signed(STATE.bits, STATE_FRACTION)
STATE_LIMIT = 2.0 ** (STATE.bits - 1 - STATE_FRACTION)
# Rounded, and limited further on.
SLOPE_WORDS = signed(STATE.bits + 16, STATE_FRACTION)
# Change of the state in a unit of time over the state, before training: another kernel within a few steps of a fifth.
SLOPE_GAIN = 2.0
# End of the range of G.
SLOPE_LIMIT = 16.0


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
    slope_gain
        Change of the state in a unit of time over the state, before training.
    saves_memory
        Whether the backward pass computes each step again instead of keeping what it needs.

    Raises
    ------
    ValueError
        If a limit is no power of two or, with `bits`, not within what the words can express.
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
        slope_gain: float = SLOPE_GAIN,
        saves_memory: bool = True,
    ) -> None:
        super().__init__(channels, levels, rank=rank, bits=bits, kernel_limit=kernel_limit, side=side)
        self.limit = check_power_of_two("limit", limit)
        if bits is not None:
            _check_words(limit, kernel_limit)
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
        nn.init.normal_(self.pointwise.weight, std=slope_gain * channels**-0.5)

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

    def slopes(self, depths: Tensor, levels: Tensor) -> Tensor:
        """G of the states before each layer, (steps, outputs, inputs, places), a step for each layer of each group."""
        kind = self.arithmetic()
        constants = self.depthwise.forward_weight().to(kind), self.pointwise.forward_weight().to(kind)
        before = [state[: int((depths > layer).sum())] for layer, state in enumerate(self.states(depths, levels)[:-1])]
        return torch.cat([self._slope(state, *constants) for state in before])

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
        change = self._slope(state, depthwise, pointwise) * step
        return rounded_or_limited(state + change, STATE_WORDS, exact=self.is_quantized, in_place=True)

    def _slope(self, state: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
        exact = self.is_quantized
        mixed = rounded_or_limited(_depthwise(state, depthwise), STATE_WORDS, exact=exact, in_place=True)
        slope = torch.einsum("oc,ncik->noik", pointwise, mixed)
        if exact:
            slope = rounded_words(slope, SLOPE_WORDS)
        return functional.hardtanh(slope, -self.limit, self.limit, inplace=True)

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
        deviation = (KERNEL_DEVIATION / rank**0.5) ** (1 / 3)
        # Every layer applies u and v, so a random matrix's bad condition would count once a layer.
        for factor in (self.u, self.v):
            nn.init.orthogonal_(factor.weight, gain=deviation * max(channels, rank) ** 0.5)
        nn.init.normal_(self.t.weight, std=deviation)

    def terms(self, kind: torch.dtype) -> Tensor:
        """The sum of outer products, (outputs, inputs, places)."""
        factors = [factor.forward_weight().to(kind) for factor in (self.u, self.v, self.t)]
        total = torch.einsum("or,ir,kr->oik", *factors)
        return rounded_or_limited(total, STATE_WORDS, exact=self.u.weight_bits is not None)


def _check_words(limit: float, kernel_limit: float) -> None:
    """Refuse limits that words of the state do not reach, or finer than theirs."""
    # The kernel's 8 bits are the state's leading ones: no finer than its steps, no further than its range.
    finest = 2.0 ** (KERNEL.bits - 1 - STATE_FRACTION)
    for name, value, least, most in (
        ("limit", limit, 2.0**-STATE_FRACTION, STATE_LIMIT / 2),
        ("kernel_limit", kernel_limit, finest, STATE_LIMIT),
    ):
        if not least <= value <= most:
            raise ValueError(f"{name} of a generator of words must be {least:g} to {most:g}, not {value:g}")


def _words(values: Tensor, fraction: int) -> Tensor:
    return round_words(values * 2.0**fraction, Rounding.HALF_UP) * 2.0**-fraction


def _depthwise(state: Tensor, weights: Tensor) -> Tensor:
    return functional.conv2d(state, weights, padding=1, groups=len(weights))
