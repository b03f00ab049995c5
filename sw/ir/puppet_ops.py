"""Convolutions whose kernels are generated, as many as the frame needs (Puppet-CNN, Xing and Wang 2024).

`karui.sw.ir.generated_kernels` has the arithmetic; see `karui.sw.ir.ops` for operations in general.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from karui.sw.numerics import NumberFormat, signed

KERNEL_SIDE = 3
KERNEL_AREA = KERNEL_SIDE**2
STATE = signed(16)
"""Format of the Euler generator's kernels before they are rounded."""
KERNEL = signed(8)
"""Format of a kernel's weight."""
FACTOR = signed(14)
"""Format of a low-rank generator's coefficients of a layer, and of these times a column."""
LARGEST_SHIFT = 62
"""Places that a value of 64 bits can drop and still be rounded."""

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class EulerGenerator:
    """Kernels along the depth as a differential equation's state, by Euler steps.

    The state P is a map of input channels i by places k = 3 ky + kx of the kernel, with output channels o innermost.
    Places and channels beyond its edges are 0. All roundings are half up, all words saturate.

    - ``P = STATE(base[level] + STATE(sum over r of u[o, r] v[i, r] t[k, r] >> pattern_shift))`` at first.
    - A step: ``g = STATE(depthwise(P) >> depthwise_shift)``; ``G = pointwise(g) >> pointwise_shift``, limited to
      -limit..limit; ``P = STATE(P + (G step[level] >> step_shift))``.
    - The kernel of layer l is ``KERNEL(P >> kernel_shift)`` behind step l.

    Operands: base (levels), u and v (C, rank), t (9, rank), depthwise (3, 3, C), pointwise (C, C) with outputs first,
    step (levels).

    Parameters
    ----------
    levels, rank : int
        Values of a frame's level; terms of the pattern.
    pattern_shift, depthwise_shift, pointwise_shift, step_shift, kernel_shift : int
        0 to `LARGEST_SHIFT`.
    limit : int
        A power of two that `STATE` holds.
    """

    levels: int
    rank: int
    pattern_shift: int
    depthwise_shift: int
    pointwise_shift: int
    limit: int
    step_shift: int
    kernel_shift: int

    def __post_init__(self) -> None:
        _check_at_least(1, "an Euler generator", levels=self.levels, rank=self.rank)
        _check_shifts("an Euler generator", self)
        if not 1 <= self.limit <= STATE.maximum or self.limit & (self.limit - 1):
            raise ValueError(f"an Euler generator's limit is 1, 2, 4, ... to {1 << STATE.bits - 2}, not {self.limit}")

    def constants(self, channels: int, depths: range) -> Shapes:
        """Names and shapes of the constant operands, in order."""
        return {
            "base": (self.levels,),
            "u": (channels, self.rank),
            "v": (channels, self.rank),
            "t": (KERNEL_AREA, self.rank),
            "depthwise": (KERNEL_SIDE, KERNEL_SIDE, channels),
            "pointwise": (channels, channels),
            "step": (self.levels,),
        }


@dataclass(frozen=True, kw_only=True)
class LowRankGenerator:
    """Kernels as sums of few outer products, whose coefficients are a continuous function of the place in the depth.

    With ``h = level - centre``, in layer l of a frame of depth D, all roundings half up, all words saturating:

    - ``c[p, r] = c0[p, r] + (c1[p, r] h >> h_shift)``
    - ``a[r] = FACTOR(sum over p of phi[(D, l), p] c[p, r] >> a_shift)``
    - ``A[o, r] = FACTOR(u[o, r] a[r] >> u_shift)``
    - ``kernel[o, i, k] = KERNEL(sum over r of A[o, r] v[i, r] t[k, r] >> kernel_shift)``

    No layer's kernel depends on that of another. Operands: u and v (C, rank), t (9, rank), phi (rows, terms) with a
    row for each depth's each layer, in order; c0 and c1 (terms, rank).

    Parameters
    ----------
    levels, rank, terms : int
        Values of a frame's level; outer products; functions of the place in the depth.
    centre : int
        The level at which c is c0.
    h_shift, a_shift, u_shift, kernel_shift : int
        0 to `LARGEST_SHIFT`.
    """

    levels: int
    rank: int
    terms: int
    centre: int
    h_shift: int
    a_shift: int
    u_shift: int
    kernel_shift: int

    def __post_init__(self) -> None:
        _check_at_least(1, "a low-rank generator", levels=self.levels, rank=self.rank, terms=self.terms)
        if not 0 <= self.centre < self.levels:
            raise ValueError(f"a low-rank generator: centre is a level of 0 to {self.levels - 1}, not {self.centre}")
        _check_shifts("a low-rank generator", self)

    def constants(self, channels: int, depths: range) -> Shapes:
        """Names and shapes of the constant operands, in order."""
        return {
            "u": (channels, self.rank),
            "v": (channels, self.rank),
            "t": (KERNEL_AREA, self.rank),
            "phi": (sum(depths), self.terms),
            "c0": (self.terms, self.rank),
            "c1": (self.terms, self.rank),
        }


Generator = EulerGenerator | LowRankGenerator
GENERATORS: tuple[type[Generator], ...] = (EulerGenerator, LowRankGenerator)


@dataclass(frozen=True, kw_only=True)
class GeneratedLayers:
    """Convolve a map (H, W, C) as often as its frame's complexity says, with kernels generated for it.

    The frame's complexity h gives its depth D, `first_depth` and one more for each of `depth_steps` that h reaches,
    and its level, ``(h >> level_shift) - first_level`` limited to 0 .. levels - 1; kernels depend on these two alone.
    Layer l = 1 .. D computes, with 3x3 kernels, a stride of 1 and padding with 0,

    - ``y = (convolution(x)[o] multipliers[l - 1, o] + offsets[l - 1, o]) >> shift``, rounded half up;
    - ``x = output(y)``, or ``output(x + y)`` where `residual`, saturated.

    Operands: the map, unsigned; h (1), unsigned; the generator's constants; multipliers and offsets (last depth, C).

    Parameters
    ----------
    generator : EulerGenerator or LowRankGenerator
    first_depth : int
        1 or more.
    depth_steps : tuple of int
        Ascending.
    level_shift : int
        0 to `LARGEST_SHIFT`.
    first_level : int
        0 or more.
    accumulator : NumberFormat
        Of the convolutions' sums; `verify` proves that it is wide enough for any kernels.
    shift : int
        0 to `LARGEST_SHIFT`.
    output : NumberFormat
        Unsigned; of the map, of what layers pass on and of the result.
    residual : bool
        Whether layers add their input.
    """

    generator: Generator
    first_depth: int
    depth_steps: tuple[int, ...]
    level_shift: int
    first_level: int
    accumulator: NumberFormat
    shift: int
    output: NumberFormat
    residual: bool = False

    def __post_init__(self) -> None:
        _check_at_least(1, "generated layers", first_depth=self.first_depth)
        _check_at_least(0, "generated layers", first_level=self.first_level)
        _check_shift("generated layers", level_shift=self.level_shift, shift=self.shift)
        if any(after <= before for before, after in zip(self.depth_steps, self.depth_steps[1:], strict=False)):
            raise ValueError(f"depth_steps ascend; {self.depth_steps} do not")

    @property
    def depths(self) -> range:
        """The depths that frames have."""
        return range(self.first_depth, self.first_depth + len(self.depth_steps) + 1)

    @property
    def last_depth(self) -> int:
        """The largest depth."""
        return self.depths[-1]

    def constants(self, channels: int) -> Shapes:
        """Names and shapes of all constant operands, in order."""
        scaled = self.last_depth, channels
        return self.generator.constants(channels, self.depths) | {"multipliers": scaled, "offsets": scaled}


def _check_at_least(least: int, what: str, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{what}: {name} is {least} or more, not {value}")


def _check_shifts(what: str, generator: Generator) -> None:
    _check_shift(
        what, **{field.name: getattr(generator, field.name) for field in fields(generator) if "shift" in field.name}
    )


def _check_shift(what: str, **shifts: int) -> None:
    for name, shift in shifts.items():
        if not 0 <= shift <= LARGEST_SHIFT:
            raise ValueError(f"{what}: {name} is 0 to {LARGEST_SHIFT}, not {shift}")
