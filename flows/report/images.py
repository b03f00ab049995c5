"""Test images with the classes they got, as pictures inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.image import imsave


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One test image.

    Parameters
    ----------
    index : int
        Its place in the test set.
    picture : str
        PNG as a data URI.
    label, predicted : str
        Names of the true class and of the golden model's.
    """

    index: int
    picture: str
    label: str
    predicted: str


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Some images classified right, some wrong.

    Parameters
    ----------
    right, wrong : list of Sample
        Right: the first of each class in turn. Wrong: the first of the test set.
    wrong_total : int
        How many are wrong in all.
    """

    right: list[Sample]
    wrong: list[Sample]
    wrong_total: int


def samples(vectors: Path, classes: list[str], pixel_maximum: int, *, right: int = 20, wrong: int = 20) -> Samples:
    """Choose test images to show; none where the inputs are not grey or colour images (n, H, W, 1 or 3)."""
    with np.load(vectors) as archive:
        inputs, outputs, labels = archive["inputs"], archive["outputs"][:, 0], archive["labels"]
    misses, hits = np.flatnonzero(outputs != labels), np.flatnonzero(outputs == labels)
    if inputs.ndim != 4 or inputs.shape[-1] not in (1, 3):
        return Samples(right=[], wrong=[], wrong_total=len(misses))

    def sample(index: int) -> Sample:
        return Sample(
            index=index,
            picture=png(inputs[index], pixel_maximum),
            label=classes[labels[index]],
            predicted=classes[outputs[index]],
        )

    return Samples(
        right=[sample(int(index)) for index in _class_by_class(hits, labels)[:right]],
        wrong=[sample(int(index)) for index in misses[:wrong]],
        wrong_total=len(misses),
    )


def _class_by_class(indices: npt.NDArray[Any], labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Indices reordered: the first of each class, then the second of each, and so on."""
    turn = np.empty(len(indices), dtype=np.int64)
    for label in np.unique(labels[indices]):
        of_class = labels[indices] == label
        turn[of_class] = np.arange(of_class.sum())
    return indices[np.lexsort((labels[indices], turn))]


def png(image: npt.NDArray[Any], maximum: int) -> str:
    """An image (H, W, 1 or 3) of integers up to a maximum, as a PNG data URI; bipolar images range from -1."""
    minimum = min(0, int(image.min()))
    scaled = np.rint((image - minimum) * (255 / (maximum - minimum))).astype(np.uint8)
    buffer = io.BytesIO()
    imsave(buffer, np.broadcast_to(scaled, (*image.shape[:2], 3)), format="png")
    return _data_uri("png", buffer.getvalue())


def svg(path: Path) -> str:
    """A drawing as a data URI."""
    return _data_uri("svg+xml", path.read_bytes())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
