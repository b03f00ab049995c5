"""Parameters of pools: what is reduced over which windows, and along which of two ways."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from amaranth.hdl import Mux, Value

from karui.hw.engines.tap_window import TAP_LATENCY, TapWindowConfig
from karui.hw.memory.memory_style import Storage
from karui.hw.streams.stream import FIFO_LATENCY
from karui.hw.streams.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw import ir
from karui.sw.numerics import NumberFormat

ADJOINING_LATENCY = 3
"""Cycles from a beat to the updated partial result of its window."""
UPDATE_DISTANCE = 4
"""Beats after which the partial result of a window can be read back from memory."""

Reduction = Literal["max", "sum"]
"""What a pool makes of the elements of a window."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Parameters of a pool, see `karui.hw.engines.pool.pool`.

    Parameters
    ----------
    reduction : {"max", "sum"}
        What is made of the elements of a window.
    element, result : NumberFormat
        Formats of the map's elements and of the results, wide enough for every result; those of a maximum are equal.
    height, width, channels : int
        Shape of the feature map.
    lanes : int
        Channels a beat; divides the channels.
    kernel, stride : (int, int)
        Vertical, horizontal. Rows and columns left over are dropped.
    padding : (int, int, int, int)
        Rows and columns added at top, left, bottom, right, less than the kernel's; padded elements do not count.
    storage : {"block", "distributed", "auto"}
        Memories of the partial results and of the line buffer.

    Raises
    ------
    ValueError
        If the kernel is larger than the padded map, or a format does not fit the reduction.
    """

    reduction: Reduction
    element: NumberFormat
    result: NumberFormat
    height: int
    width: int
    channels: int
    lanes: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        require_divisor("lanes of a pool", self.lanes, self.channels, "channels")
        if min(self.height, self.width, *self.kernel, *self.stride) < 1:
            raise ValueError(
                f"map {self.height}x{self.width}, kernel {self.kernel} and stride {self.stride} must be 1 or more"
            )
        top, left, bottom, right = self.padding
        if self.kernel[0] > self.height + top + bottom or self.kernel[1] > self.width + left + right:
            raise ValueError(
                f"a pool of {self.kernel} does not fit a map of {self.height}x{self.width} padded by {self.padding}"
            )
        if self.reduction == "sum" and self.element.is_bipolar:
            raise ValueError("a sum pool takes unsigned or signed elements, not bipolar ones; requantize them first")
        if self.reduction == "max" and self.element != self.result:
            raise ValueError(f"a maximum has the format of its elements, {self.element}, not {self.result}")

    @classmethod
    def for_node(
        cls, op: ir.MaxPool | ir.SumPool, feature_map: ir.Tensor, result: NumberFormat, lanes: int
    ) -> PoolConfig:
        """The parameters that compute a node of the graph, `lanes` channels a beat."""
        height, width, channels = feature_map.shape
        return cls(
            reduction="max" if isinstance(op, ir.MaxPool) else "sum",
            element=feature_map.number_format,
            result=result,
            height=height,
            width=width,
            channels=channels,
            lanes=lanes,
            kernel=op.kernel,
            stride=op.stride,
            padding=op.padding,
        )

    @property
    def output_height(self) -> int:
        """Rows of the result."""
        return (self.height + self.padding[0] + self.padding[2] - self.kernel[0]) // self.stride[0] + 1

    @property
    def output_width(self) -> int:
        """Columns of the result."""
        return (self.width + self.padding[1] + self.padding[3] - self.kernel[1]) // self.stride[1] + 1

    @property
    def pixel_beats(self) -> int:
        """Beats a pixel."""
        return self.channels // self.lanes

    @property
    def adjoins(self) -> bool:
        """Whether every element lies in one window at most, so that partial results can be kept instead of rows."""
        if any(self.padding):
            return False
        sizes = (self.output_height, self.output_width)
        for outputs, kernel, stride in zip(sizes, self.kernel, self.stride, strict=True):
            if outputs > 1 and kernel != stride:
                return False
        # Of rows that are too short, a window's partial result would be read back before it is there.
        row_distance = (self.width - self.kernel[1] + 1) * self.pixel_beats
        return self.output_width == 1 or row_distance >= UPDATE_DISTANCE

    @cached_property
    def windows(self) -> TapWindowConfig:
        """Windows that overlap or are padded: by columns where that is as fast as whole windows."""
        columns, whole = (
            TapWindowConfig(
                element=self.element,
                height=self.height,
                width=self.width,
                channels=self.channels,
                lanes=self.lanes,
                kernel=self.kernel,
                stride=self.stride,
                padding=self.padding,
                pad_value=0 if self.reduction == "sum" else self.element.minimum,
                storage=self.storage,
                taps=taps,
            )
            for taps in ("column", "window")
        )
        return columns if columns.frame_steps <= whole.frame_steps else whole

    @property
    def overlapping_latency(self) -> int:
        """Cycles from the step that completes a window to its result: taps, tree, and the run of columns."""
        return TAP_LATENCY + (self.windows.word_taps - 1).bit_length() + (self.windows.words_per_window > 1)

    @property
    def frame_steps(self) -> int:
        """Cycles of the map's beats or of the windows' steps, whichever are more."""
        return self.height * self.width * self.pixel_beats if self.adjoins else self.windows.frame_steps

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.frame_steps if self.adjoins else self.windows.interval

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        if not self.adjoins:
            accepted, steps = self.windows.word_steps(arrivals)
            complete = steps[self.windows.words_per_window - 1 :: self.windows.words_per_window]
            return Schedule(accepted=accepted, departures=complete + self.overlapping_latency + FIFO_LATENCY)
        accepted = consecutive(arrivals)
        rows = np.arange(1, self.output_height + 1) * self.kernel[0] - 1
        columns = np.arange(1, self.output_width + 1) * self.kernel[1] - 1
        maps = accepted.reshape(-1, self.height, self.width, self.pixel_beats)
        complete = maps[:, rows][:, :, columns].reshape(-1)
        return Schedule(accepted=accepted, departures=complete + ADJOINING_LATENCY + FIFO_LATENCY)

    def combined(self, left: Value, right: Value) -> Value:
        """The reduction of two values."""
        if self.reduction == "sum":
            return left + right
        if self.element.bits == 1:
            return left | right
        # The sign of the difference: a single carry chain.
        return Mux((left - right)[-1], right, left)
