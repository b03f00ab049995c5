"""Scenes of several handwritten digits, with the class of every pixel: composed from MNIST's own images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from karui.sw.data import idx
from karui.sw.data.dataset import Dataset

NAME = "digit-segmentation"
SIZE = 48
TRAIN_SCENES, TEST_SCENES = 6000, 1000
FEWEST, MOST = 2, 4
# A pixel of half the ink or more belongs to its digit.
INK = 128
SEED = 1


@dataclass(frozen=True, kw_only=True)
class _Scenes:
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def load(data_dir: Path) -> Dataset:
    """Compose scenes of two to four digits on 48x48 pixels: training scenes of training digits, test scenes of others.

    Class 0 is the background, class d + 1 the digit d. Where digits meet, each pixel is of the darker one. The scenes
    follow from MNIST and a fixed seed.

    Raises
    ------
    MissingDataError, DamagedDataError
        As of MNIST.
    """
    digits = idx.load(idx.MNIST, data_dir)
    random = np.random.default_rng(SEED)
    train = _scenes(digits.train_images, digits.train_labels, TRAIN_SCENES, random)
    test = _scenes(digits.test_images, digits.test_labels, TEST_SCENES, random)
    return Dataset(
        name=NAME,
        train_images=train.images,
        train_labels=train.labels,
        test_images=test.images,
        test_labels=test.labels,
        classes=("background", *digits.classes),
        pixel_maximum=digits.pixel_maximum,
        provenance=f"scenes of 2 to 4 digits of {digits.provenance}",
    )


def _scenes(digits: NDArray[np.uint8], classes: NDArray[np.int64], count: int, random: np.random.Generator) -> _Scenes:
    side = digits.shape[-1]
    images = np.zeros((count, 1, SIZE, SIZE), dtype=np.uint8)
    labels = np.zeros((count, SIZE, SIZE), dtype=np.int64)
    for image, label in zip(images[:, 0], labels, strict=True):
        for chosen in random.integers(0, len(digits), random.integers(FEWEST, MOST + 1)):
            top, left = random.integers(0, SIZE - side + 1, 2)
            place = slice(top, top + side), slice(left, left + side)
            digit = digits[chosen, 0]
            darker = digit > image[place]
            label[place] = np.where(darker & (digit >= INK), classes[chosen] + 1, label[place])
            image[place] = np.maximum(image[place], digit)
    return _Scenes(images=images, labels=labels)
