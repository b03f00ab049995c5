"""The shipped compressed LeNets: size of the file and error of the network read back from it, beside the literature."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most
from karui.flows.bench.compressed_file import compressed_recipes, examine
from karui.sw.compress.report import FileReport
from karui.sw.models.build import family_of


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a recipe's file must reach: times smaller than floats, at most so many percent of error."""

    ratio: float
    error: float


TARGETS = {
    "lenet-300-100": Target(ratio=80, error=1.64),
    "lenet5": Target(ratio=150, error=0.80),
    "lenet5-small": Target(ratio=420, error=1.00),
}

# Han et al. 2016, tables 2 and 3: percent of the weights kept, and of the bits after Huffman coding.
PAPER = {
    "lenet-300-100": {"ip1": (8, 2.32), "ip2": (9, 3.04), "ip3": (26, 12.70)},
    "lenet5": {"conv1": (66, 67.45), "conv2": (12, 5.28), "ip1": (8, 2.45), "ip2": (19, 6.13)},
}
# Error in percent and times smaller, coded, as their papers have them.
PUBLISHED = {
    "lenet-300-100": {"Deep Compression": (1.58, 40), "soft weight sharing": (1.9, 64)},
    "lenet5": {
        "Deep Compression": (0.74, 39),
        "soft weight sharing": (1.0, 162),
        "Bayesian compression": (1.0, 419),
    },
}


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Take every file apart, and run the integer graph of the network in it on all test images."""
    checks: list[Check] = []
    details: dict[str, Any] = {"published (error %, times smaller)": PUBLISHED}
    recipes = compressed_recipes(*PAPER)
    for name, recipe in recipes.items():
        found = examine(recipe, run)
        checks += found.checks(name)
        target = TARGETS.get(name)
        if target is not None:
            checks.append(at_most(f"{name}: error, %", round(found.error, 2), target.error))
            checks.append(at_least(f"{name}: times smaller than floats", round(found.ratio, 1), target.ratio))
        details[name] = found.details | {"layers": _table(found.report, PAPER[family_of(recipe.training.model)])}
    checks += [
        Check(what=f"{name} ships", value=False, target="True", passed=False) for name in TARGETS.keys() - recipes
    ]
    return BenchmarkResult(checks=tuple(checks), details=details)


def _table(report: FileReport, paper: dict[str, tuple[int, float]]) -> list[dict[str, Any]]:
    """A row a layer, the paper's figures beside ours."""
    rows = []
    for layer in report.layers:
        row = asdict(layer)
        row["kept, %"], row["paper: kept, %"] = round(100 * layer.kept_share, 2), paper[layer.name][0]
        row["file, %"], row["paper: coded, %"] = round(100 * layer.file_share, 3), paper[layer.name][1]
        row["gap_mean"], row["code_mean"] = round(layer.gap_mean, 2), round(layer.code_mean, 2)
        rows.append(row)
    return rows


LENET_COMPRESSION = Benchmark(
    name="lenet-compression",
    description="the shipped compressed LeNets: bytes of the file, error of the integer graph on all test images",
    target="LeNet-300-100 >= 80x at <= 1.64 %; LeNet-5 >= 150x at <= 0.80 %, >= 420x at <= 1.00 %",
    minutes=3,
    measure=measure,
)
