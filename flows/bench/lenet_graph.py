"""The compressed LeNet-300-100 that ships, as an integer graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from karui.flows.recipe import find_recipe
from karui.flows.training import load_network
from karui.sw.data.dataset import Dataset
from karui.sw.ir import RAW, Graph, MatrixVector, with_storage
from karui.sw.lower.compressed_storage import with_compressed_storage
from karui.sw.lower.from_torch import lower
from karui.sw.numerics import format_for_range

RECIPE = "lenet-300-100"


def compressed_lenet(mnist: Dataset) -> Graph:
    """The network of the recipe's file, its weights Huffman-coded.

    Raises
    ------
    ValueError
        If the recipe ships no file.
    """
    recipe = find_recipe(RECIPE)
    if recipe.checkpoint is None:
        raise ValueError(f"the recipe {RECIPE} ships no network; train one with `karui train {RECIPE}`")
    lowered = lower(
        load_network(recipe.checkpoint),
        mnist.image_shape,
        name=RECIPE,
        input_format=format_for_range(0, mnist.pixel_maximum),
        classes=mnist.classes,
    )
    return with_compressed_storage(lowered.graph)


def dense(graph: Graph) -> Graph:
    """The same network with all of its weights in ROM, zeros too."""
    return with_storage(graph, dict.fromkeys(matrices(graph), RAW))


def matrices(graph: Graph) -> dict[str, npt.NDArray[np.int64]]:
    """The weights of the graph's matrix-vector products."""
    names = [node.inputs[1] for node in graph.nodes if isinstance(node.op, MatrixVector)]
    return {name: graph.constants[name].values for name in names}
