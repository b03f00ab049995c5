"""Fetching data sets from their usual public mirrors: each file from the first mirror that gives the right bytes."""

import gzip
import hashlib
import io
import tarfile
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from karui.sw.data import cifar10, idx
from karui.sw.data.dataset import DamagedDataError

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FASHION_MNIST_MIRRORS = (
    "https://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
CIFAR10_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR10_ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"

NAMES = ("mnist", "fashion-mnist", "cifar10")

OnFile = Callable[[str], None]


class FetchError(OSError):
    """No mirror gave a file with the right content."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file on mirrors and the digest that its content must have."""

    name: str
    sha256: str
    gzipped: bool

    def digest(self, content: bytes) -> str:
        """Return the sha256 that is to be compared: of the unpacked content where the file is gzip-compressed."""
        return hashlib.sha256(gzip.decompress(content) if self.gzipped else content).hexdigest()


def fetch(name: str, data_dir: Path, *, mirrors: Sequence[str] | None = None, on_file: OnFile | None = None) -> Path:
    """Download a data set into its folder of `data_dir`; files already there and right are kept.

    Parameters
    ----------
    name
        ``mnist``, ``fashion-mnist`` or ``cifar10``.
    data_dir
        Folder of the data sets; made if missing.
    mirrors
        Base addresses to try in order, in place of the usual ones.
    on_file
        Called with the name of each file before it is downloaded.

    Returns
    -------
    Path
        Folder of the data set.

    Raises
    ------
    FetchError
        If no mirror gives a file with the right content; the message has what each of them said.
    """
    folder = data_dir / name
    match name:
        case "mnist":
            _fetch_idx(idx.MNIST, folder, mirrors or MNIST_MIRRORS, on_file)
        case "fashion-mnist":
            _fetch_idx(idx.FASHION_MNIST, folder, mirrors or FASHION_MNIST_MIRRORS, on_file)
        case "cifar10":
            _fetch_cifar10(folder, mirrors or CIFAR10_MIRRORS, on_file)
        case "digits":
            raise ValueError("digits is built in and needs no download")
        case _:
            raise ValueError(f"there is no data set {name!r} to fetch; use one of {', '.join(NAMES)}")
    return folder


def _fetch_idx(source: idx.IdxSource, folder: Path, mirrors: Sequence[str], on_file: OnFile | None) -> None:
    for name, sha256 in source.sha256.items():
        remote = RemoteFile(name=f"{name}.gz", sha256=sha256, gzipped=True)
        if any(_is_right(folder / candidate, sha256) for candidate in (name, remote.name)):
            continue
        _write(folder / remote.name, _download(remote, mirrors, on_file))


def _fetch_cifar10(folder: Path, mirrors: Sequence[str], on_file: OnFile | None) -> None:
    names = cifar10.PUBLISHED_SHA256
    if all((folder / name).is_file() for name in names):
        return
    remote = RemoteFile(name=CIFAR10_ARCHIVE, sha256=CIFAR10_ARCHIVE_SHA256, gzipped=False)
    content = _download(remote, mirrors, on_file)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive.getmembers():
            name = PurePosixPath(member.name).name
            extracted = archive.extractfile(member) if name in names else None
            if extracted is not None:
                _write(folder / name, extracted.read())


def _is_right(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    try:
        return hashlib.sha256(idx.unpack(path)).hexdigest() == sha256
    except DamagedDataError:
        return False


def _download(remote: RemoteFile, mirrors: Sequence[str], on_file: OnFile | None) -> bytes:
    if on_file is not None:
        on_file(remote.name)
    refusals = []
    for mirror in mirrors:
        address = f"{mirror.rstrip('/')}/{remote.name}"
        try:
            with urllib.request.urlopen(address, timeout=60) as response:
                content: bytes = response.read()
            found = remote.digest(content)
        except (OSError, EOFError, ValueError) as error:
            refusals.append(f"{address}: {error}")
            continue
        if found == remote.sha256:
            return content
        refusals.append(f"{address}: sha256 {found}, not {remote.sha256}")
    raise FetchError(f"no mirror gave {remote.name} ({'; '.join(refusals)}); try again or put the file there by hand")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)
