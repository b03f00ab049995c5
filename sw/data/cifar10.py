"""CIFAR-10 in its standard binary form: five training batches and a test batch of 3,073-byte records."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from karui.sw.data.dataset import DamagedDataError, Dataset, MissingDataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TEST_BATCH = "test_batch.bin"
PUBLISHED_SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    TEST_BATCH: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
RECORDS = 10_000
IMAGE_BYTES = 3 * 32 * 32
RECORD_BYTES = 1 + IMAGE_BYTES


def load(data_dir: Path) -> Dataset:
    """Load CIFAR-10 from ``data_dir/cifar10``, or from ``cifar-10-batches-bin`` in it or in its place.

    The sizes and the labels are checked. Copies of the images, for example decompressed JPEG, pass for the published
    ones in these respects but are not the same pixels: they are taken, and `Dataset.provenance` says so.

    Raises
    ------
    MissingDataError
        If a batch is not there; the message has the command that fetches it.
    DamagedDataError
        If a batch has the wrong size or a label above 9.
    """
    folder = _folder(data_dir)
    batches = {name: _load_batch(folder / name) for name in PUBLISHED_SHA256}
    published = all(hashlib.sha256(batches[name].tobytes()).hexdigest() == PUBLISHED_SHA256[name] for name in batches)
    test = batches.pop(TEST_BATCH)
    train = np.concatenate(list(batches.values()))
    return Dataset(
        name="cifar10",
        train_images=_images(train),
        train_labels=train[:, 0].astype(np.int64),
        test_images=_images(test),
        test_labels=test[:, 0].astype(np.int64),
        classes=CLASSES,
        pixel_maximum=255,
        provenance="CIFAR-10, the published files" if published else "copies of CIFAR-10, not the published pixels",
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
