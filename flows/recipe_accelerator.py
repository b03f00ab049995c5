"""The accelerator that a recipe asks for."""

from __future__ import annotations

from torch import nn

from karui.flows.compiling import lowered_for_rate, rate_of
from karui.flows.recipe import Recipe
from karui.flows.settings import Settings
from karui.hw.emit.accelerator import Accelerator
from karui.sw.data.dataset import Dataset


def accelerator_of(recipe: Recipe, model: nn.Module, dataset: Dataset) -> Accelerator:
    """A network lowered for a recipe's data and folded for its rate, as `karui compile` does.

    Raises
    ------
    UnsupportedLayer, FoldingError
        If the network has no graph, or none within the rate.
    """
    rate = rate_of(Settings(recipe=recipe.name, hardware=recipe.hardware))
    graph = lowered_for_rate(recipe, model, dataset, rate).graph
    return Accelerator(graph=graph, folding=rate.fold(graph))
