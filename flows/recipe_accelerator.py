"""The accelerator that a recipe asks for."""

from __future__ import annotations

from torch import nn

from karui.flows.compiling import rate_of
from karui.flows.recipe import Recipe
from karui.flows.settings import Settings
from karui.hw.emit.accelerator import Accelerator
from karui.sw.data.dataset import Dataset
from karui.sw.lower.from_torch import lower
from karui.sw.numerics import format_for_range


def accelerator_of(recipe: Recipe, model: nn.Module, dataset: Dataset) -> Accelerator:
    """A network lowered for a recipe's data and folded for its rate, as `karui compile` does.

    Raises
    ------
    UnsupportedLayer, FoldingError
        If the network has no graph, or none within the rate.
    """
    graph = lower(
        model,
        dataset.image_shape,
        name=recipe.name,
        input_format=format_for_range(0, dataset.pixel_maximum),
        classes=dataset.classes,
    ).graph
    return Accelerator(graph=graph, folding=rate_of(Settings(recipe=recipe.name, hardware=recipe.hardware)).fold(graph))
