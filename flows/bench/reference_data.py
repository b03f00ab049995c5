"""Data sets and published reference vectors that lie beside a checkout, in ``../shared``."""

from __future__ import annotations

import os
from pathlib import Path

from karui.sw.data.dataset import Dataset, MissingDataError
from karui.sw.data.datasets import DATA_DIR_VARIABLE, load

SHARED = Path("../shared")


def reference_vectors(name: str) -> Path:
    """Folder of published vectors.

    Raises
    ------
    MissingDataError
        If it is not there.
    """
    folder = SHARED / "vectors" / name
    if not folder.is_dir():
        raise MissingDataError(f"the published vectors {name} are not here: put them into {folder}")
    return folder


def dataset(name: str, data_dir: Path | None) -> Dataset:
    """A data set from the folder given, that of the environment, or ``../shared/data``."""
    return load(name, data_folder(data_dir))


def data_folder(data_dir: Path | None) -> Path | None:
    """The folder given, else that of the environment, else ``../shared/data`` where it exists."""
    beside = SHARED / "data"
    if data_dir is None and DATA_DIR_VARIABLE not in os.environ and beside.is_dir():
        return beside
    return data_dir
