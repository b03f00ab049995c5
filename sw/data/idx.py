"""MNIST and Fashion-MNIST: four IDX files each, gzip-compressed or not."""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from karui.sw.data.dataset import DamagedDataError, Dataset, MissingDataError

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"

_UNSIGNED_BYTE = 0x08


@dataclass(frozen=True, kw_only=True)
class IdxSource:
    """What is known of a data set in IDX form: its name, its class names, the sha256 of each unpacked file."""

    name: str
    title: str
    classes: tuple[str, ...]
    sha256: dict[str, str]


MNIST = IdxSource(
    name="mnist",
    title="MNIST",
    classes=tuple(str(digit) for digit in range(10)),
    sha256={
        TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)

FASHION_MNIST = IdxSource(
    name="fashion-mnist",
    title="Fashion-MNIST",
    classes=(
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    sha256={
        TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
)


def load(source: IdxSource, data_dir: Path) -> Dataset:
    """Load a data set from ``data_dir/<name>``, each file with or without the suffix ``.gz``.

    Raises
    ------
    MissingDataError
        If a file is not there; the message has the command that fetches it.
    DamagedDataError
        If a file cannot be unpacked, has not the published sha256, or is not a well-formed IDX file.
    """
    arrays = {name: _load_file(source, name, data_dir) for name in source.sha256}
    return Dataset(
        name=source.name,
        train_images=arrays[TRAIN_IMAGES][:, None],
        train_labels=arrays[TRAIN_LABELS].astype(np.int64),
        test_images=arrays[TEST_IMAGES][:, None],
        test_labels=arrays[TEST_LABELS].astype(np.int64),
        classes=source.classes,
        pixel_maximum=255,
        provenance=f"{source.title}, the published files (sha256 checked)",
    )


def _load_file(source: IdxSource, name: str, data_dir: Path) -> NDArray[np.uint8]:
    path = find_file(source, name, data_dir)
    content = unpack(path)
    check_sha256(path, content, source.sha256[name], again=f"karui fetch {source.name} --data-dir {data_dir}")
    return parse(content, path)


def find_file(source: IdxSource, name: str, data_dir: Path) -> Path:
    """Return the path of a file of the data set, packed or not."""
    folder = data_dir / source.name
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise MissingDataError(
        f"{source.title}: {folder} has neither {name} nor {name}.gz; "
        f"get it with: karui fetch {source.name} --data-dir {data_dir}"
    )


def unpack(path: Path) -> bytes:
    """Read a file, decompressing it if it starts as gzip does."""
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DamagedDataError(f"{path} cannot be unpacked ({error}); delete it and fetch it again") from error


def check_sha256(path: Path, content: bytes, expected: str, *, again: str) -> None:
    """Refuse a content whose digest is not the published one, naming the command that fetches it again."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DamagedDataError(
            f"{path} is damaged: its unpacked sha256 is {found}, not {expected}; delete it and run: {again}"
        )


def parse(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Parse IDX: two zero bytes, the element type, the rank, big-endian sizes, then the elements."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise DamagedDataError(
            f"{path} is not an IDX file of unsigned bytes: it starts with {content[:4].hex()}, not 000008.."
        )
    rank = content[3]
    header = 4 + 4 * rank
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], dtype=">u4"))
    if len(shape) != rank or len(content) - header != int(np.prod(shape)):
        raise DamagedDataError(
            f"{path} has {max(len(content) - header, 0)} bytes after its header, not the {list(shape)} it announces"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
