"""Images of another resolution, by exact area averaging."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from karui.sw.data.dataset import Dataset

# Images resized at once: bounds the memory of the intermediate values.
BATCH = 2048


def resized(dataset: Dataset, height: int, width: int) -> Dataset:
    """Resize all images of a data set, see `resize`."""
    return replace(
        dataset,
        train_images=resize(dataset.train_images, height, width),
        test_images=resize(dataset.test_images, height, width),
        provenance=f"{dataset.provenance}, resized to {height} x {width} by area",
    )


def resize(images: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Average the area of the source under each pixel, ties upwards.

    All values in between are integers that float64 holds exactly, so that the result is the same on every machine.

    Parameters
    ----------
    images
        Integer pixels, N x channels x height x width.
    height, width
        Of the result.

    Raises
    ------
    ValueError
        If height or width is below 1.
    """
    if min(height, width) < 1:
        raise ValueError(f"images must have a height and width of at least 1, not {height} x {width}")
    rows, columns = _overlaps(images.shape[2], height), _overlaps(images.shape[3], width)
    area = images.shape[2] * images.shape[3]
    result = np.empty((*images.shape[:2], height, width), dtype=np.uint8)
    for start in range(0, len(images), BATCH):
        sums = rows @ images[start : start + BATCH].astype(np.float64) @ columns.T
        result[start : start + BATCH] = (2 * sums.astype(np.int64) + area) // (2 * area)
    return result


def _overlaps(source: int, target: int) -> NDArray[np.float64]:
    """How much of each source pixel lies under each target pixel, in units in which a target pixel is `source` long."""
    begins = np.maximum(np.arange(target)[:, None] * source, np.arange(source) * target)
    ends = np.minimum(np.arange(1, target + 1)[:, None] * source, np.arange(1, source + 1) * target)
    overlaps: NDArray[np.float64] = np.maximum(ends - begins, 0).astype(np.float64)
    return overlaps
