"""The shipped form of a trained network: one compressed ``.npz`` that rebuilds its own model.

Entries: ``header`` (JSON: format version, model configuration, metadata), ``<name>.bits`` for each binary weight
(one row of packed bits an output, in the bit order of `karui.sw.numerics`, bit 1 = +1), and ``<name>`` for every other
entry of the model's state.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from karui.sw.models.build import ModelConfig, build_model, family_of
from karui.sw.nn.binary_weight import BinaryWeightLayer
from karui.sw.numerics import BIPOLAR, pack, unpack, word_bytes
from karui.sw.train.recipe import model_config

FORMAT_VERSION = 1

Arrays = dict[str, NDArray[Any]]


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or of another format."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model in evaluation mode, the configuration that it was built from, and what was noted about it."""

    model: nn.Sequential
    config: ModelConfig
    metadata: dict[str, Any]


def save_checkpoint(path: Path, model: nn.Sequential, config: ModelConfig, metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Parameters
    ----------
    path
        File to write, named ``*.npz``.
    model
        Model that `build_model` built from `config`.
    config
        Its configuration.
    metadata
        JSON values to keep with it: how it was trained, what it reached.
    """
    header = {
        "format": FORMAT_VERSION,
        "model": {"family": family_of(config), **asdict(config)},
        "metadata": dict(metadata),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, header=np.array(json.dumps(header)), **_pack_state(model))  # type: ignore[arg-type]
    unfinished.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Rebuild the model of a checkpoint.

    Raises
    ------
    CheckpointError
        If the file is not there, cannot be read, or does not fit the model that its header describes.
    """
    arrays = _read_arrays(path)
    header = _parse_header(path, arrays.pop("header", None))
    config = model_config(header["model"], f"{path}, header")
    model = build_model(config)
    model.load_state_dict(_unpack_state(path, model, arrays))
    model.eval()
    return Checkpoint(model=model, config=config, metadata=header["metadata"])


def _binary_weight_names(model: nn.Module) -> set[str]:
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, BinaryWeightLayer)}


def _pack_state(model: nn.Module) -> Arrays:
    binary = _binary_weight_names(model)
    arrays: Arrays = {}
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if name in binary:
            signs = np.where(values.reshape(len(values), -1) >= 0, 1, -1)
            arrays[f"{name}.bits"] = pack(signs, BIPOLAR)
        else:
            arrays[name] = values
    return arrays


def _unpack_state(path: Path, model: nn.Module, arrays: Arrays) -> dict[str, Tensor]:
    binary = _binary_weight_names(model)
    state = {}
    for name, expected in model.state_dict().items():
        if name in binary:
            fan_in = expected[0].numel()
            bits = _take(path, arrays, f"{name}.bits", (len(expected), word_bytes(fan_in)), np.dtype(np.uint8))
            state[name] = torch.tensor(unpack(bits, BIPOLAR, fan_in), dtype=torch.float32).view_as(expected)
        else:
            values = _take(path, arrays, name, tuple(expected.shape), expected.numpy().dtype)
            state[name] = torch.tensor(values)
    if arrays:
        raise CheckpointError(f"{path} has entries that its model does not: {', '.join(sorted(arrays))}")
    return state


def _take(path: Path, arrays: Arrays, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    if name not in arrays:
        raise CheckpointError(f"{path} lacks the entry {name!r} of its model; train the recipe again")
    values = arrays.pop(name)
    if values.shape != shape or values.dtype != dtype:
        raise CheckpointError(
            f"{path}: entry {name!r} is {values.dtype}{list(values.shape)}, its model needs {dtype}{list(shape)}; "
            f"train the recipe again"
        )
    return values


def _read_arrays(path: Path) -> Arrays:
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}; train the recipe first")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint ({error}); train the recipe again") from error


def _parse_header(path: Path, header: NDArray[Any] | None) -> dict[str, Any]:
    if header is None:
        raise CheckpointError(f"{path} has no header; it is not a checkpoint of karui")
    try:
        parsed = json.loads(str(header))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: the header is not JSON ({error})") from error
    if not isinstance(parsed, dict) or parsed.get("format") != FORMAT_VERSION:
        found = parsed.get("format") if isinstance(parsed, dict) else parsed
        raise CheckpointError(f"{path} has format {found!r}, this version reads {FORMAT_VERSION}; train it again")
    return parsed
