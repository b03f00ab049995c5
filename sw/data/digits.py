"""The 8x8 handwritten digits that scikit-learn carries: real data that need no download."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from karui.sw.data.dataset import Dataset

TEST_IMAGES = 360
SPLIT_SEED = 0


def load() -> Dataset:
    """Load the 1,797 digits: 1,437 to train, 360 held out, drawn once per class with a fixed seed; pixels 0 to 16."""
    pixels, labels = load_digits(return_X_y=True)
    images = pixels.astype(np.uint8).reshape(-1, 1, 8, 8)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels.astype(np.int64), test_size=TEST_IMAGES, random_state=SPLIT_SEED, stratify=labels
    )
    return Dataset(
        name="digits",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=tuple(str(digit) for digit in range(10)),
        pixel_maximum=16,
        provenance="UCI optical recognition of handwritten digits, test part, as scikit-learn carries it",
    )
