"""The data set that every loader returns, and the errors of missing and damaged files."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class MissingDataError(FileNotFoundError):
    """A file of a data set is not there."""


class DamagedDataError(ValueError):
    """A file of a data set is not what it should be."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images and labels of a data set, split into training and test.

    Parameters
    ----------
    name
        Name as `karui.sw.data.load` takes it.
    train_images, test_images
        Integer pixels as uint8, N x channels x height x width.
    train_labels, test_labels
        Class indices as int64.
    classes
        Name of each class.
    pixel_maximum
        Largest value that a pixel may take; the smallest is 0.
    provenance
        Where the data come from, in a phrase fit for a report.
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    pixel_maximum: int
    provenance: str

    def __post_init__(self) -> None:
        for part, images, labels in (
            ("training", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if len(images) != len(labels):
                raise DamagedDataError(f"{self.name}: {len(images)} {part} images but {len(labels)} {part} labels")
            if labels.min(initial=0) < 0 or labels.max(initial=0) >= len(self.classes):
                raise DamagedDataError(
                    f"{self.name}: a {part} label is {labels.max()}, but there are {len(self.classes)} classes"
                )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width
