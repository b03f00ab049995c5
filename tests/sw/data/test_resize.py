"""Area averaging: exact on hand-made images, against rational arithmetic on random ones."""

from fractions import Fraction

import numpy as np
import pytest

from karui.sw.data.datasets import load
from karui.sw.data.resize import resize, resized


def by_definition(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Average of each target pixel's area, pixel by pixel, in fractions."""
    result = np.zeros((height, width), dtype=np.uint8)
    tall, wide = Fraction(image.shape[0], height), Fraction(image.shape[1], width)
    for row in range(height):
        for column in range(width):
            total = Fraction(0)
            for y in range(image.shape[0]):
                for x in range(image.shape[1]):
                    down = min((row + 1) * tall, Fraction(y + 1)) - max(row * tall, Fraction(y))
                    across = min((column + 1) * wide, Fraction(x + 1)) - max(column * wide, Fraction(x))
                    total += int(image[y, x]) * max(down, Fraction(0)) * max(across, Fraction(0))
            result[row, column] = int(total / (tall * wide) + Fraction(1, 2))
    return result


@pytest.mark.parametrize(("height", "width"), [(6, 6), (4, 3), (5, 7), (12, 9), (1, 1)])
def test_area_by_definition(height: int, width: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 3, 6, 6), dtype=np.uint8)
    found = resize(images, height, width)
    for index in np.ndindex(2, 3):
        assert np.array_equal(found[index], by_definition(images[index], height, width))


def test_same_size_is_the_same_image_and_ties_go_up() -> None:
    images = np.random.default_rng(2).integers(0, 256, (3, 1, 5, 4), dtype=np.uint8)
    assert np.array_equal(resize(images, 5, 4), images)
    assert resize(np.array([[[[0, 1]]]], dtype=np.uint8), 1, 1).item() == 1
    assert resize(np.full((1, 1, 28, 28), 255, dtype=np.uint8), 21, 21).min() == 255


def test_more_images_than_a_batch() -> None:
    images = np.random.default_rng(3).integers(0, 256, (2500, 1, 4, 4), dtype=np.uint8)
    assert np.array_equal(resize(images, 2, 2)[2400:], resize(images[2400:], 2, 2))


def test_data_set_keeps_labels_and_says_so() -> None:
    digits = load("digits")
    small = resized(digits, 6, 5)
    assert small.image_shape == (1, 6, 5)
    assert np.array_equal(small.test_labels, digits.test_labels)
    assert "resized to 6 x 5" in small.provenance
    assert np.array_equal(small.test_images, resize(digits.test_images, 6, 5))


def test_no_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0 x 5"):
        resize(np.zeros((1, 1, 2, 2), dtype=np.uint8), 0, 5)
