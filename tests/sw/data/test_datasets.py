"""Choice of data set and folder; the built-in digits."""

from pathlib import Path

import numpy as np
import pytest

from karui.sw.data.dataset import DamagedDataError, Dataset, MissingDataError
from karui.sw.data.datasets import load


def test_digits_split_is_fixed_and_stratified() -> None:
    dataset = load("digits")
    assert dataset.image_shape == (1, 8, 8)
    assert dataset.train_images.shape[0] == 1437
    assert dataset.test_images.shape[0] == 360
    assert dataset.train_images.max() == dataset.pixel_maximum == 16
    assert set(np.bincount(dataset.test_labels)) <= {34, 35, 36, 37}
    assert np.array_equal(dataset.test_images, load("digits").test_images)


def test_folder_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KARUI_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match=str(tmp_path / "mnist")):
        load("mnist")


def test_no_folder_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KARUI_DATA", raising=False)
    with pytest.raises(MissingDataError, match="mnist needs a data folder: pass --data-dir DIR or set KARUI_DATA"):
        load("mnist")


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data set 'minst'; use one of digits, mnist"):
        load("minst", tmp_path)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2], [0, -1, 1]])
def test_labels_must_fit_images_and_classes(labels: list[int]) -> None:
    images = np.zeros((3, 1, 2, 2), np.uint8)
    right = np.array([0, 1, 1])
    with pytest.raises(DamagedDataError, match="label"):
        Dataset(
            name="made",
            train_images=images,
            train_labels=right,
            test_images=images,
            test_labels=np.array(labels),
            classes=("a", "b"),
            pixel_maximum=255,
            provenance="made here",
        )
