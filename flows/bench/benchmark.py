"""What a benchmark is, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class BenchmarkMissed(RuntimeError):
    """A benchmark did not reach its target; the message has the figures."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure against its target.

    Parameters
    ----------
    what : str
        The figure's name.
    value : object
        As measured; written to the record, so a JSON value.
    target : str
        What it shall be.
    passed : bool
        Whether it is.
    """

    what: str
    value: Any
    target: str
    passed: bool


def equal(what: str, value: Any, target: Any) -> Check:
    """A figure that must have one value."""
    return Check(what=what, value=value, target=str(target), passed=value == target)


def at_most(what: str, value: float, limit: float) -> Check:
    """A figure with an upper limit."""
    return Check(what=what, value=value, target=f"<= {limit:g}", passed=value <= limit)


def at_least(what: str, value: float, limit: float) -> Check:
    """A figure with a lower limit."""
    return Check(what=what, value=value, target=f">= {limit:g}", passed=value >= limit)


def percent(fraction: float) -> float:
    """A fraction in per cent, to two decimals."""
    return round(100 * fraction, 2)


def error_percent(accuracy: float) -> float:
    """What an accuracy leaves over, in per cent, to two decimals."""
    return percent(1 - accuracy)


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """What a benchmark measured.

    Parameters
    ----------
    checks : tuple of Check
        The figures that decide.
    details : mapping
        Further figures, JSON values.
    seed : int or None
        Seed of whatever is random.
    """

    checks: tuple[Check, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    @property
    def passed(self) -> bool:
        """Whether every figure reached its target."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, kw_only=True)
class BenchmarkRun:
    """Where a benchmark works.

    Parameters
    ----------
    folder : Path
        Empty folder for its files.
    data_dir : Path or None
        Folder of the data sets.
    progress : callable
        Called with a line at each step.
    """

    folder: Path
    data_dir: Path | None = None
    progress: Callable[[str], None] = lambda line: None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A claim of the project that one command checks.

    Parameters
    ----------
    name : str
        For the command line.
    description : str
        What is measured.
    target : str
        What must come out.
    minutes : int
        Expected run time on two cores, builds included.
    measure : callable
        Measures.
    """

    name: str
    description: str
    target: str
    minutes: int
    measure: Callable[[BenchmarkRun], BenchmarkResult]
