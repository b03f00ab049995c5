"""IDX files: the published bytes, packed or not, and every way in which a file can be wrong."""

import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from karui.sw.data import idx
from karui.sw.data.dataset import DamagedDataError, MissingDataError
from karui.sw.data.datasets import load


@pytest.fixture
def mnist_copy(shared_data: Path, tmp_path: Path) -> Path:
    shutil.copytree(shared_data / "mnist", tmp_path / "mnist", copy_function=shutil.copyfile)
    (tmp_path / "mnist").chmod(0o755)
    return tmp_path


def test_mnist(shared_data: Path) -> None:
    dataset = load("mnist", shared_data)
    assert dataset.train_images.shape == (60_000, 1, 28, 28)
    assert dataset.test_images.shape == (10_000, 1, 28, 28)
    assert dataset.image_shape == (1, 28, 28)
    assert dataset.pixel_maximum == dataset.train_images.max() == 255
    assert dataset.test_labels[:4].tolist() == [7, 2, 1, 0]
    assert np.bincount(dataset.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_fashion_mnist(shared_data: Path) -> None:
    dataset = load("fashion-mnist", shared_data)
    assert dataset.classes[dataset.test_labels[0]] == "ankle boot"
    assert np.bincount(dataset.train_labels).tolist() == [6000] * 10


def test_unpacked_files_are_the_same(mnist_copy: Path) -> None:
    packed = load("mnist", mnist_copy)
    for path in (mnist_copy / "mnist").glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    unpacked = load("mnist", mnist_copy)
    assert np.array_equal(packed.train_images, unpacked.train_images)
    assert np.array_equal(packed.test_labels, unpacked.test_labels)


def test_missing_file_names_the_command(mnist_copy: Path) -> None:
    (mnist_copy / "mnist" / f"{idx.TEST_LABELS}.gz").unlink()
    with pytest.raises(MissingDataError) as error:
        load("mnist", mnist_copy)
    assert str(mnist_copy / "mnist") in str(error.value)
    assert idx.TEST_LABELS in str(error.value)
    assert f"karui fetch mnist --data-dir {mnist_copy}" in str(error.value)


def test_one_flipped_pixel_is_found(mnist_copy: Path) -> None:
    path = mnist_copy / "mnist" / f"{idx.TEST_IMAGES}.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content), compresslevel=1))
    with pytest.raises(
        DamagedDataError, match=rf"{re.escape(str(path))} is damaged.*{idx.MNIST.sha256[idx.TEST_IMAGES]}"
    ):
        load("mnist", mnist_copy)


def test_truncated_gzip_is_found(mnist_copy: Path) -> None:
    path = mnist_copy / "mnist" / f"{idx.TRAIN_LABELS}.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedDataError, match=rf"{idx.TRAIN_LABELS}.gz cannot be unpacked"):
        load("mnist", mnist_copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with , not 000008"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", "starts with 00000d01"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x03\x01\x02", r"has 2 bytes after its header, not the \[3\]"),
        (b"\x00\x00\x08\x02\x00\x00\x00\x03", r"has 0 bytes after its header, not the \[3\]"),
    ],
)
def test_malformed_headers_are_found(content: bytes, message: str) -> None:
    with pytest.raises(DamagedDataError, match=message):
        idx.parse(content, Path("file"))


def test_parse_is_row_major() -> None:
    content = b"\x00\x00\x08\x02" + b"\x00\x00\x00\x02" + b"\x00\x00\x00\x03" + bytes(range(6))
    assert idx.parse(content, Path("file")).tolist() == [[0, 1, 2], [3, 4, 5]]
