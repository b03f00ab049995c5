"""Benchmarks: one command checks each claim of the project."""

from karui.flows.bench.benchmarks import BENCHMARKS
from karui.flows.bench.running import main, run

__all__ = ["BENCHMARKS", "main", "run"]
