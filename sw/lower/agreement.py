"""The proof that the integer graph is the network: equality on every image."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from karui.sw.golden import trace
from karui.sw.lower.from_torch import Lowered


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """A network and its graph, compared image by image.

    Parameters
    ----------
    images : int
        Images compared.
    mismatches : int
        Images on which any output of the network differs from the graph's, in a single bit of the float.
    model_classes, golden_classes : ndarray of int64, shape (images,) or (images, height, width)
        Arg max of the network's outputs; class of the graph. One a pixel where the outputs are maps.
    """

    images: int
    mismatches: int
    model_classes: npt.NDArray[np.int64]
    golden_classes: npt.NDArray[np.int64]


def compare_with_golden(
    model: nn.Module,
    lowered: Lowered,
    images: npt.NDArray[Any],
    *,
    chunk: int = 250,
    progress: Callable[[int], None] | None = None,
) -> Agreement:
    """Run a network and its graph on the same images, the network in the float type that it was lowered in.

    Parameters
    ----------
    model : nn.Module
        The network that `lowered` came from.
    lowered : Lowered
        The graph.
    images : ndarray of uint8, shape (n, channels, height, width) or (n, features)
        Integer pixels.
    chunk : int
        Images a step.
    progress : callable, optional
        Called with the number of images done so far.
    """
    model.eval()
    if lowered.float_type == torch.float64:
        model = copy.deepcopy(model).double()
    score_shape = lowered.graph.tensors[lowered.scores].shape
    model_classes, golden_classes = (np.empty((len(images), *score_shape[:-1]), dtype=np.int64) for _ in range(2))
    mismatches = 0
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        stop = start + len(part)
        with torch.no_grad():
            # Channels last, as the graph has them.
            outputs = model(torch.tensor(part, dtype=lowered.float_type)).movedim(1, -1)
        edges = trace(lowered.graph, to_graph_layout(part))
        scores = torch.from_numpy(edges[lowered.scores]).to(lowered.float_type)
        mismatches += int((outputs != lowered.scale * scores).flatten(1).any(dim=1).sum())
        model_classes[start:stop] = outputs.argmax(dim=-1).numpy()
        is_map = lowered.scores == lowered.graph.output_name
        golden_classes[start:stop] = (
            edges[lowered.scores].argmax(axis=-1) if is_map else edges[lowered.graph.output_name][:, 0]
        )
        if progress is not None:
            progress(stop)
    return Agreement(
        images=len(images), mismatches=mismatches, model_classes=model_classes, golden_classes=golden_classes
    )


def to_graph_layout(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Images (n, C, H, W) as the graph takes them, (n, H, W, C); vectors as they are."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if images.ndim == 4 else images
