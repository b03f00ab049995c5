"""CIFAR-10 in its standard binary form: five training batches and a test batch of 3,073-byte records."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from karui.sw.data.dataset import DamagedDataError, Dataset, MissingDataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_BATCHES = tuple(f"data_batch_{index}.bin" for index in range(1, 6))
TEST_BATCH = "test_batch.bin"
RECORDS = 10_000
IMAGE_BYTES = 3 * 32 * 32
RECORD_BYTES = 1 + IMAGE_BYTES


def load(data_dir: Path) -> Dataset:
    """Load CIFAR-10 from ``data_dir/cifar10``, or from ``cifar-10-batches-bin`` in it or in its place.

    The sizes and the labels are checked. `Dataset.provenance` carries a digest of all six files, because re-encoded
    copies of the images pass for the published ones in every other respect.

    Raises
    ------
    MissingDataError
        If a batch is not there; the message has the command that fetches it.
    DamagedDataError
        If a batch has the wrong size or a label above 9.
    """
    folder = _folder(data_dir)
    batches = [_load_batch(folder / name) for name in (*TRAIN_BATCHES, TEST_BATCH)]
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.tobytes())
    train = np.concatenate(batches[:-1])
    test = batches[-1]
    return Dataset(
        name="cifar10",
        train_images=_images(train),
        train_labels=train[:, 0].astype(np.int64),
        test_images=_images(test),
        test_labels=test[:, 0].astype(np.int64),
        classes=CLASSES,
        pixel_maximum=255,
        provenance=f"CIFAR-10 in binary form, sha256 of the six batches {digest.hexdigest()[:16]}",
    )


def _folder(data_dir: Path) -> Path:
    candidates = (
        data_dir / "cifar10",
        data_dir / "cifar10" / "cifar-10-batches-bin",
        data_dir / "cifar-10-batches-bin",
    )
    for folder in candidates:
        if (folder / TEST_BATCH).is_file():
            return folder
    raise MissingDataError(
        f"CIFAR-10: {candidates[0]} has no {TEST_BATCH}; get it with: karui fetch cifar10 --data-dir {data_dir}"
    )


def _load_batch(path: Path) -> NDArray[np.uint8]:
    if not path.is_file():
        raise MissingDataError(
            f"CIFAR-10: {path} is missing beside the other batches; "
            f"delete {path.parent} and run: karui fetch cifar10 --data-dir DIR"
        )
    content = np.fromfile(path, dtype=np.uint8)
    if content.size != RECORDS * RECORD_BYTES:
        raise DamagedDataError(
            f"{path} has {content.size} bytes, not the {RECORDS * RECORD_BYTES} of 10,000 records; "
            f"delete it and fetch it again"
        )
    records = content.reshape(RECORDS, RECORD_BYTES)
    if records[:, 0].max() > 9:
        raise DamagedDataError(f"{path} has a label {records[:, 0].max()}, but CIFAR-10's labels end at 9")
    return records


def _images(records: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32)
