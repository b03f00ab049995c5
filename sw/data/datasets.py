"""Loading a data set by its name."""

import os
from pathlib import Path

from karui.sw.data import cifar10, digits, idx, segmentation
from karui.sw.data.dataset import Dataset, MissingDataError

DATA_DIR_VARIABLE = "KARUI_DATA"
NAMES = ("digits", "mnist", "fashion-mnist", "cifar10", segmentation.NAME)


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name
        ``digits`` (built in), ``mnist``, ``fashion-mnist``, ``cifar10``, or ``digit-segmentation`` (made of MNIST).
    data_dir
        Folder with a sub-folder a data set; without it, the environment variable ``KARUI_DATA``.

    Raises
    ------
    MissingDataError
        If no folder is given or a file is not there.
    DamagedDataError
        If a file is not what it should be.
    ValueError
        If there is no data set of that name.
    """
    if name == "digits":
        return digits.load()
    if name not in NAMES:
        raise ValueError(f"there is no data set {name!r}; use one of {', '.join(NAMES)}")
    folder = resolve_data_dir(name, data_dir)
    match name:
        case "mnist":
            return idx.load(idx.MNIST, folder)
        case "fashion-mnist":
            return idx.load(idx.FASHION_MNIST, folder)
        case segmentation.NAME:
            return segmentation.load(folder)
        case _:
            return cifar10.load(folder)


def resolve_data_dir(name: str, data_dir: Path | None) -> Path:
    """Return the given folder or the one that ``KARUI_DATA`` names."""
    if data_dir is not None:
        return data_dir
    if from_environment := os.environ.get(DATA_DIR_VARIABLE):
        return Path(from_environment)
    raise MissingDataError(
        f"{name} needs a data folder: pass --data-dir DIR or set {DATA_DIR_VARIABLE}; "
        f"where there is a network, karui fetch {name} --data-dir DIR fills it"
    )
