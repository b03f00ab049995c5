"""What a simulation of a design found: compared words, differences, measured cycles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from karui.hw.emit.manifest import CycleRange


class BackPressure(StrEnum):
    """How a bench makes a stream wait: never, half of the cycles at random, or in bursts of up to 32 cycles."""

    NONE = "none"
    RANDOM = "random"
    BURSTY = "bursty"


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """One failed check of an output beat.

    Parameters
    ----------
    check : str
        ``word``, ``tlast``, ``tuser``, ``surplus`` (a beat after the last), ``missing`` (beats that never came) or
        ``unstable`` (valid, data, last or user changed while the beat was refused).
    frame, beat : int
        Where; frames count from 0.
    expected, got : int
        The beats, or the flag, or the number of words (``missing``).
    """

    check: str
    frame: int
    beat: int
    expected: int
    got: int

    def __str__(self) -> str:
        return f"{self.check}: frame {self.frame}, beat {self.beat}: expected {self.expected:#x}, got {self.got:#x}"


@dataclass(frozen=True, kw_only=True)
class RegressionResult:
    """Outcome of playing frames through a design.

    Parameters
    ----------
    images, words : int
        Frames played and output beats compared.
    mismatches : int
        Failed checks; 0 means bit-exact.
    first_mismatches : tuple of Mismatch
        The first few of them.
    stall : str
        Names the stream that stopped moving, where a run had to be given up; else empty.
    initiation_interval, latency : CycleRange or None
        Measured cycles; None where back-pressure or too few frames leave nothing to measure.
    cycles : int
        Clock cycles simulated.
    seconds : float
        Wall-clock time of the simulation, without the build.
    back_pressure : BackPressure
        Pauses on both sides.
    seed : int
        Their seed.
    """

    images: int
    words: int
    mismatches: int
    first_mismatches: tuple[Mismatch, ...]
    stall: str
    initiation_interval: CycleRange | None
    latency: CycleRange | None
    cycles: int
    seconds: float
    back_pressure: BackPressure
    seed: int

    @property
    def passed(self) -> bool:
        """Whether every check held and the run came to its end."""
        return self.mismatches == 0 and not self.stall

    @property
    def cycles_per_second(self) -> float:
        """Speed of the simulation."""
        return self.cycles / self.seconds

    def failure(self) -> str:
        """What went wrong, one finding a line, and how to see it again; empty for a run that passed."""
        if self.passed:
            return ""
        lines = [self.stall] if self.stall else []
        lines += [str(mismatch) for mismatch in self.first_mismatches]
        if self.mismatches > len(self.first_mismatches):
            lines.append(f"{self.mismatches} failed checks in all")
        lines.append(f"pauses: {self.back_pressure}, seed {self.seed}")
        return "\n".join(lines)


def measure_latency(starts: Mapping[int, int], ends: Mapping[int, int], *, solo: int) -> CycleRange | None:
    """Cycles from the clock edge that takes a frame's first beat to the edge that hands over its last output beat.

    Measured on the frames that found the pipeline empty: the first `solo` ones, and the one after them, which starts
    the back-to-back run.
    """
    return _cycle_range([ends[frame] - starts[frame] for frame in range(solo + 1) if frame in ends])


def measure_initiation_interval(starts: Mapping[int, int], ends: Mapping[int, int], *, solo: int) -> CycleRange | None:
    """Cycles between the last output beats of consecutive frames, frames sent back to back.

    An interval counts when its later frame entered after the first back-to-back frame (number `solo`) had left: such
    a frame met a pipeline that was full. Runs too short for that count every back-to-back interval.
    """
    pairs = [(frame - 1, frame) for frame in ends if frame > solo and frame - 1 in ends]
    filled = [(before, frame) for before, frame in pairs if starts[frame] > ends[solo]]
    return _cycle_range([ends[frame] - ends[before] for before, frame in filled or pairs])


def _cycle_range(cycles: Sequence[int]) -> CycleRange | None:
    if not cycles:
        return None
    return CycleRange(min=min(cycles), mean=float(np.mean(cycles)), max=max(cycles))
