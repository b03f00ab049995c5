"""The shipped compressed LeNets: size of the file and error of the network read back from it, beside the literature."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.flows.bench.reference_data import data_folder
from karui.flows.compression_plot import plot
from karui.flows.recipe import Recipe, find_recipe, recipe_names
from karui.flows.training import load_network
from karui.sw.compress.report import FileReport, report_file
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.models.build import family_of
from karui.sw.train.data import load_data


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


def compressed_recipes() -> list[Recipe]:
    """The recipes that ship a compressed network."""
    recipes = [find_recipe(name) for name in recipe_names()]
    return [recipe for recipe in recipes if recipe.compress is not None and recipe.checkpoint is not None]


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Take every file apart, and run the integer graph of the network in it on all test images."""
    checks: list[Check] = []
    details: dict[str, Any] = {"published (error %, times smaller)": PUBLISHED}
    recipes = {recipe.name: recipe for recipe in compressed_recipes()}
    for name, recipe in recipes.items():
        run.progress(name)
        assert recipe.checkpoint is not None
        report = report_file(recipe.checkpoint)
        size = recipe.checkpoint.stat().st_size
        dataset = load_data(recipe.training, data_folder(run.data_dir))
        model = load_network(recipe.checkpoint)
        lowered = lower(model, dataset.image_shape, name=name, classes=dataset.classes)
        agreement = compare_with_golden(model, lowered, dataset.test_images)
        wrong = int((agreement.golden_classes != dataset.test_labels).sum())
        error = 100 * wrong / agreement.images
        ratio = report.float_bytes / size
        checks.append(equal(f"{name}: images on which golden model and network differ", agreement.mismatches, 0))
        checks.append(equal(f"{name}: bits accounted for", report.account.total, 8 * size))
        target = TARGETS.get(name)
        if target is not None:
            checks.append(at_most(f"{name}: error, %", round(error, 2), target.error))
            checks.append(at_least(f"{name}: times smaller than floats", round(ratio, 1), target.ratio))
        details[name] = {
            "error": round(error, 2),
            "bytes": size,
            "times smaller": round(ratio, 1),
            "bytes after each stage": dict(report.stage_bytes),
            "bits by kind": report.account.by_kind,
            "layers": _table(report, PAPER[family_of(recipe.training.model)]),
        }
        plot(report_title(name, error, ratio), recipe.checkpoint, run.folder / f"{name}.svg")
    checks += [
        Check(what=f"{name} ships", value=False, target="True", passed=False) for name in TARGETS.keys() - recipes
    ]
    return BenchmarkResult(checks=tuple(checks), details=details)


def report_title(name: str, error: float, ratio: float) -> str:
    """A line over a figure."""
    return f"{name}: {error:.2f} % error, {ratio:.0f} times smaller"


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
