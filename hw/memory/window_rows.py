"""The windows of a feature map: their geometry, and which of the map's rows a line buffer holds for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from karui.hw.memory.memory_style import Storage
from karui.hw.streams.timing import Cycles, consecutive, require_divisor
from karui.sw.numerics import NumberFormat


class WindowRow(NamedTuple):
    """What one row of windows needs of the line buffer.

    Parameters
    ----------
    above : int
        Kernel rows that lie in the padding above the map.
    needed : int
        Rows of the map that have to be there: those that the windows cover and those that are then released.
    released : int
        Rows of the map, from the oldest on, that no later window covers.
    needed_on : int
        Rows, the released ones included, that have to be there for the next row of windows to follow at once.
    """

    above: int
    needed: int
    released: int
    needed_on: int


@dataclass(frozen=True, kw_only=True)
class WindowsConfig(ABC):
    """Windows of a feature map that arrives in raster order, and the rows that are kept for them.

    Parameters
    ----------
    element : NumberFormat
        Format of the map's elements.
    height, width, channels : int
        Shape of the feature map.
    lanes : int
        Channels a beat; divides the channels.
    kernel, stride : (int, int)
        Vertical, horizontal. A stride beyond the kernel skips rows and columns.
    padding : (int, int, int, int)
        Rows and columns added at top, left, bottom, right; each less than the kernel.
    pad_value : int or None
        The integer that fills the padding; a word of the format.
    storage : {"block", "distributed", "auto"}
        Memory of the line buffer.

    Raises
    ------
    ValueError
        If the kernel does not fit the padded map, the padding holds whole windows, or the pad value is missing or no
        word of the format.
    """

    element: NumberFormat
    height: int
    width: int
    channels: int
    lanes: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: int | None = None
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        require_divisor("lanes of a sliding window", self.lanes, self.channels, "channels")
        top, left, bottom, right = self.padding
        if min(self.height, self.width, *self.kernel, *self.stride) < 1 or min(self.padding) < 0:
            raise ValueError(
                f"map {self.height}x{self.width}, kernel {self.kernel} and stride {self.stride} must be 1 or more, "
                f"padding {self.padding} 0 or more"
            )
        for kernel, size, before, after, axis in (
            (self.kernel[0], self.height, top, bottom, "rows"),
            (self.kernel[1], self.width, left, right, "columns"),
        ):
            if kernel > size + before + after:
                raise ValueError(
                    f"a kernel of {kernel} {axis} does not fit a map of {size} {axis} padded by {before} and {after}"
                )
            if max(before, after) >= kernel:
                raise ValueError(
                    f"padding by {before} and {after} {axis} makes windows of padding alone for a kernel of {kernel} "
                    f"{axis}; use at most {kernel - 1}"
                )
        if any(self.padding):
            if self.pad_value is None:
                raise ValueError(f"padding {self.padding} needs a pad_value")
            if not self.element.admits(np.array([self.pad_value])):
                raise ValueError(f"pad_value {self.pad_value} is no word of the number format {self.element}")

    @property
    def output_height(self) -> int:
        """Rows of windows."""
        return (self.height + self.padding[0] + self.padding[2] - self.kernel[0]) // self.stride[0] + 1

    @property
    def output_width(self) -> int:
        """Windows in a row."""
        return (self.width + self.padding[1] + self.padding[3] - self.kernel[1]) // self.stride[1] + 1

    @property
    def pixel_beats(self) -> int:
        """Beats a pixel."""
        return self.channels // self.lanes

    @property
    def row_beats_in(self) -> int:
        """Beats a row of the map."""
        return self.width * self.pixel_beats

    @property
    def write_latency(self) -> int:
        """Registers between the stream and the line buffer's block RAMs, which lie far from the logic around them.

        A row is complete, and may be read from its first beat on, in the cycle after its last beat: a later write of
        that beat is in time where the row has another one before it.
        """
        return int(self.row_beats_in > 1)

    @property
    @abstractmethod
    def row_steps(self) -> int:
        """Cycles that a row of windows takes once its rows are there."""

    @property
    def frame_steps(self) -> int:
        """Cycles of the map's beats or of the windows' steps, whichever are more."""
        return max(self.height * self.row_beats_in, self.output_height * self.row_steps)

    @cached_property
    def window_rows(self) -> tuple[WindowRow, ...]:
        """What each row of windows needs, from top to bottom."""
        kernel, stride = self.kernel[0], self.stride[0]
        tops = [row * stride - self.padding[0] for row in range(self.output_height)]
        oldest = [max(0, top) for top in tops]
        # The last row of windows releases what it covers; rows below are never stored.
        until = [*oldest[1:], self.stored_rows]
        covered = [min(top + kernel, self.height) - first for top, first in zip(tops, oldest, strict=True)]
        released = [end - first for end, first in zip(until, oldest, strict=True)]
        needed = list(map(max, covered, released))
        following = (*needed[1:], needed[0])
        return tuple(
            WindowRow(above=first - top, needed=rows, released=gone, needed_on=gone + on)
            for top, first, rows, gone, on in zip(tops, oldest, needed, released, following, strict=True)
        )

    @property
    def stored_rows(self) -> int:
        """Rows of the map down to the last that a window covers; those below are dropped on arrival."""
        last_top = (self.output_height - 1) * self.stride[0] - self.padding[0]
        return min(self.height, last_top + self.kernel[0])

    @cached_property
    def buffer_rows(self) -> int:
        """Rows of the line buffer: what a row of windows still holds plus all that the next one needs.

        So the rows for the next windows, and for the first windows of the next frame, arrive while windows go out.
        """
        return max(row.needed_on for row in self.window_rows)

    @cached_property
    def interval(self) -> int:
        """Cycles a frame: `frame_steps`.

        Taken from the timing model itself, since rows that differ in cost (at the padding) can leave a few cycles more.
        """
        frames = 12
        _, starts = self.row_starts(np.zeros(frames * self.height * self.row_beats_in, dtype=np.int64))
        last_rows = starts.reshape(frames, -1)[:, -1]
        return int(last_rows[-1] - last_rows[-5] + 3) // 4

    def makes_room(self, frames: int) -> Cycles:
        """The row of windows whose end makes room for each stored row, -1 where there is room from the start."""
        released = np.cumsum([row.released for row in self.window_rows] * frames)
        found = np.searchsorted(released, np.arange(self.stored_rows * frames) - self.buffer_rows + 1)
        found[: self.buffer_rows] = -1
        return found

    def row_starts(self, arrivals: Cycles) -> tuple[Cycles, Cycles]:
        """The cycle in which each beat is accepted, and the one of the first step of each row of windows."""
        rows = self.window_rows
        frames = len(arrivals) // (self.height * self.row_beats_in)
        released = np.cumsum([row.released for row in rows] * frames)
        held_first = released - np.tile([row.released for row in rows], frames)
        last_needed = held_first + np.tile([row.needed for row in rows], frames) - 1
        makes_room = self.makes_room(frames)

        accepted = np.empty(len(arrivals), dtype=np.int64)
        complete: list[int] = []
        starts: list[int] = []

        def start_of(window_row: int) -> int:
            while len(starts) <= window_row:
                begins = complete[last_needed[len(starts)]] + 1
                starts.append(max(begins, starts[-1] + self.row_steps) if starts else begins)
            return starts[window_row]

        earliest = 0
        for row in range(frames * self.height):
            beats = slice(row * self.row_beats_in, (row + 1) * self.row_beats_in)
            if row % self.height < self.stored_rows and makes_room[len(complete)] >= 0:
                earliest = max(earliest, start_of(int(makes_room[len(complete)])) + self.row_steps)
            accepted[beats] = consecutive(np.maximum(arrivals[beats], earliest))
            earliest = int(accepted[beats.stop - 1]) + 1
            if row % self.height < self.stored_rows:
                complete.append(earliest - 1)
        start_of(len(released) - 1)
        return accepted, np.array(starts, dtype=np.int64)


def bits_for(count: int) -> int:
    """Bits that number `count` things."""
    return (count - 1).bit_length()
