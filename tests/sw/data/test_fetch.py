"""Fetching from a server on this machine."""

import functools
import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from karui.sw.data import cifar10, fetch, idx
from karui.sw.data.dataset import DamagedDataError
from karui.sw.data.datasets import load


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which its files are served."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def served_mnist(shared_data: Path, served: tuple[Path, str]) -> tuple[Path, str]:
    for path in (shared_data / "mnist").iterdir():
        (served[0] / path.name).write_bytes(path.read_bytes())
    return served


def test_fetched_mnist_loads(served_mnist: tuple[Path, str], tmp_path: Path) -> None:
    names: list[str] = []
    fetch.fetch("mnist", tmp_path / "data", mirrors=[served_mnist[1]], on_file=names.append)
    assert sorted(names) == sorted(f"{name}.gz" for name in idx.MNIST.sha256)
    assert len(load("mnist", tmp_path / "data").train_images) == 60_000
    assert not list(tmp_path.glob("data/mnist/*.unfinished"))


def test_only_damaged_files_are_fetched_again(served_mnist: tuple[Path, str], tmp_path: Path) -> None:
    fetch.fetch("mnist", tmp_path, mirrors=[served_mnist[1]])
    damaged = tmp_path / "mnist" / f"{idx.TEST_LABELS}.gz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DamagedDataError):
        load("mnist", tmp_path)
    names: list[str] = []
    fetch.fetch("mnist", tmp_path, mirrors=[served_mnist[1]], on_file=names.append)
    assert names == [damaged.name]
    assert len(load("mnist", tmp_path).test_labels) == 10_000


def test_next_mirror_after_missing_and_wrong_files(served_mnist: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served_mnist
    (folder / "wrong").mkdir()
    for path in folder.glob("*.gz"):
        (folder / "wrong" / path.name).write_bytes(gzip.compress(b"something else"))
    fetch.fetch("mnist", tmp_path, mirrors=[f"{address}/none", f"{address}/wrong/", address])
    assert len(load("mnist", tmp_path).test_labels) == 10_000


def test_no_mirror_left(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    (folder / f"{idx.TRAIN_IMAGES}.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(fetch.FetchError) as error:
        fetch.fetch("fashion-mnist", tmp_path, mirrors=[address, f"{address}/none"])
    assert f"{address}/{idx.TRAIN_IMAGES}.gz: sha256" in str(error.value)
    assert f"{address}/none/{idx.TRAIN_IMAGES}.gz: HTTP Error 404" in str(error.value)
    assert not list(tmp_path.glob("fashion-mnist/*"))


def test_cifar10_archive_is_unpacked(served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = np.zeros((cifar10.RECORDS, cifar10.RECORD_BYTES), np.uint8)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        for name in cifar10.PUBLISHED_SHA256:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = records.nbytes
            archive.addfile(member, io.BytesIO(records.tobytes()))
        archive.addfile(tarfile.TarInfo("../outside.txt"))
    (served[0] / fetch.CIFAR10_ARCHIVE).write_bytes(stream.getvalue())
    with pytest.raises(fetch.FetchError, match=fetch.CIFAR10_ARCHIVE_SHA256):
        fetch.fetch("cifar10", tmp_path, mirrors=[served[1]])
    monkeypatch.setattr(fetch, "CIFAR10_ARCHIVE_SHA256", hashlib.sha256(stream.getvalue()).hexdigest())
    fetch.fetch("cifar10", tmp_path, mirrors=[served[1]])
    assert len(load("cifar10", tmp_path).train_images) == 50_000
    assert sorted(path.name for path in (tmp_path / "cifar10").iterdir()) == sorted(cifar10.PUBLISHED_SHA256)


def test_names_without_a_download(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="digits is built in"):
        fetch.fetch("digits", tmp_path)
    with pytest.raises(ValueError, match="no data set 'imagenet' to fetch; use one of mnist"):
        fetch.fetch("imagenet", tmp_path)
