"""A shipped file of a compressed network: taken apart, and its integer graph run on all test images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from karui.flows.bench.benchmark import BenchmarkRun, Check, equal
from karui.flows.bench.reference_data import data_folder
from karui.flows.compression_plot import plot
from karui.flows.recipe import Recipe, find_recipe, recipe_names
from karui.flows.training import load_network
from karui.sw.compress.report import FileReport, report_file
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.models.build import family_of
from karui.sw.train.data import load_data


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressedFile:
    """What was found.

    Parameters
    ----------
    report
        Of the file.
    bytes
        Its size.
    error
        Wrongly classified test images, in per cent.
    mismatches, images
        Test images on which golden model and network differ, of how many.
    """

    report: FileReport
    bytes: int
    error: float
    mismatches: int
    images: int

    @property
    def ratio(self) -> float:
        """How many times smaller than floats it is."""
        return self.report.float_bytes / self.bytes

    def checks(self, name: str) -> tuple[Check, ...]:
        """What must hold whatever the size is."""
        return (
            equal(f"{name}: images on which golden model and network differ", self.mismatches, 0),
            equal(f"{name}: bits accounted for", self.report.account.total, 8 * self.bytes),
        )

    @property
    def details(self) -> dict[str, Any]:
        """Figures for a record."""
        return {
            "error": round(self.error, 2),
            "bytes": self.bytes,
            "times smaller": round(self.ratio, 1),
            "bytes after each stage": dict(self.report.stage_bytes),
            "bits by kind": self.report.account.by_kind,
        }


def compressed_recipes(*families: str) -> dict[str, Recipe]:
    """The recipes of some families that ship a compressed network, by name."""
    recipes = [find_recipe(name) for name in recipe_names()]
    return {
        recipe.name: recipe
        for recipe in recipes
        if recipe.compress is not None
        and recipe.checkpoint is not None
        and family_of(recipe.training.model) in families
    }


def examine(recipe: Recipe, run: BenchmarkRun) -> CompressedFile:
    """Take a recipe's file apart, plot it, and run its graph."""
    run.progress(recipe.name)
    assert recipe.checkpoint is not None
    dataset = load_data(recipe.training, data_folder(run.data_dir))
    model = load_network(recipe.checkpoint)
    lowered = lower(model, dataset.image_shape, name=recipe.name, classes=dataset.classes)
    agreement = compare_with_golden(model, lowered, dataset.test_images)
    wrong = int((agreement.golden_classes != dataset.test_labels).sum())
    found = CompressedFile(
        report=report_file(recipe.checkpoint),
        bytes=recipe.checkpoint.stat().st_size,
        error=100 * wrong / agreement.images,
        mismatches=agreement.mismatches,
        images=agreement.images,
    )
    title = f"{recipe.name}: {found.error:.2f} % error, {found.ratio:.0f} times smaller"
    plot(title, recipe.checkpoint, run.folder / f"{recipe.name}.svg")
    return found
