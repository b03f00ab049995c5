"""CIFAR-10's binary form, from small records written here."""

from pathlib import Path

import numpy as np
import pytest

from karui.sw.data import cifar10
from karui.sw.data.dataset import DamagedDataError, MissingDataError
from karui.sw.data.datasets import load


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "cifar10").mkdir()
    for name in cifar10.PUBLISHED_SHA256:
        records = rng.integers(0, 256, (cifar10.RECORDS, cifar10.RECORD_BYTES), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(tmp_path / "cifar10" / name)
    return tmp_path


def test_records_become_channel_planes(data_dir: Path) -> None:
    dataset = load("cifar10", data_dir)
    assert dataset.train_images.shape == (50_000, 3, 32, 32)
    record = np.fromfile(data_dir / "cifar10" / "data_batch_2.bin", np.uint8, cifar10.RECORD_BYTES)
    assert dataset.train_labels[10_000] == record[0]
    assert np.array_equal(dataset.train_images[10_000].ravel(), record[1:])
    assert dataset.train_images[10_000, 1, 0, 2] == record[1 + 1024 + 2]
    assert dataset.provenance == "copies of CIFAR-10, not the published pixels"


def test_unpacked_archive_is_found_too(data_dir: Path) -> None:
    (data_dir / "cifar10").rename(data_dir / "cifar-10-batches-bin")
    assert len(load("cifar10", data_dir).test_images) == 10_000


def test_wrong_files(data_dir: Path, tmp_path: Path) -> None:
    batch = data_dir / "cifar10" / "data_batch_3.bin"
    content = batch.read_bytes()
    batch.write_bytes(content[:-1])
    with pytest.raises(DamagedDataError, match=r"data_batch_3.bin has 30729999 bytes, not the 30730000"):
        load("cifar10", data_dir)
    batch.write_bytes(b"\x0a" + content[1:])
    with pytest.raises(DamagedDataError, match=r"data_batch_3.bin has a label 10"):
        load("cifar10", data_dir)
    batch.unlink()
    with pytest.raises(MissingDataError, match=r"data_batch_3.bin is missing beside the other batches"):
        load("cifar10", data_dir)
    with pytest.raises(MissingDataError, match="karui fetch cifar10 --data-dir"):
        load("cifar10", tmp_path / "elsewhere")
