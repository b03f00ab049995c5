"""The shipped form of a trained network: one compressed ``.npz`` that rebuilds its own model.

Entries: ``header`` (JSON: format version, model configuration, metadata), and for each entry of the model's state

- ``<name>.bits`` of binary weights: one row of packed bits an output, bit 1 = +1;
- ``<name>.words`` and ``<name>.fraction`` of weights of 2 to 8 bits: rows of packed two's complement integers, and int8
  with the n of weight = integer * 2**-n, one a row or one in all; the bias beside it is the one that is added;
- ``<name>`` of everything else,

all in the bit order of `karui.sw.numerics`. A network trained with stochastic weights may have its real-valued twin
beside it: the same entries behind the prefix ``real_valued.``, with the latent weights as int8 in ``<name>.int8``, -127
to 127 for -1 to 1.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from karui.sw.models.binary_connect import BinaryConnectConfig
from karui.sw.models.build import ModelConfig, build_model, family_of
from karui.sw.nn.binary_weight import BinaryWeightLayer, use_real_valued_weights
from karui.sw.nn.quant_weight import QuantWeightLayer
from karui.sw.nn.weight_quantizer import power_of_two
from karui.sw.numerics import BIPOLAR, NumberFormat, pack, signed, unpack, word_bytes
from karui.sw.train.recipe import model_config

FORMAT_VERSION = 1
REAL_VALUED = "real_valued."
INT8_STEPS = 127

Arrays = dict[str, NDArray[Any]]


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or of another format."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model in evaluation mode, the configuration that it was built from, and what was noted about it."""

    model: nn.Sequential
    config: ModelConfig
    metadata: dict[str, Any]


def save_checkpoint(
    path: Path,
    model: nn.Sequential,
    config: ModelConfig,
    metadata: Mapping[str, Any],
    *,
    real_valued: nn.Sequential | None = None,
) -> None:
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
    real_valued
        Twin with real weights, see `load_real_valued`.
    """
    header = {
        "format": FORMAT_VERSION,
        "model": {"family": family_of(config), **asdict(config)},
        "metadata": dict(metadata),
    }
    arrays = _pack_state(model)
    if real_valued is not None:
        arrays |= {REAL_VALUED + name: values for name, values in _pack_state(real_valued).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
    unfinished.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Rebuild the model of a checkpoint.

    Raises
    ------
    CheckpointError
        If the file is not there, cannot be read, or does not fit the model that its header describes.
    """
    config, metadata, arrays = _read(path)
    state = {name: values for name, values in arrays.items() if not name.startswith(REAL_VALUED)}
    model = build_model(config)
    model.load_state_dict(_unpack_state(path, model, state))
    model.eval()
    return Checkpoint(model=model, config=config, metadata=metadata)


def load_real_valued(path: Path) -> nn.Sequential:
    """Rebuild the real-valued twin of a network trained with stochastic weights, in evaluation mode.

    It has real activations, and real weights of 8 bits: the network that BinaryConnect evaluates, not one for hardware.

    Raises
    ------
    CheckpointError
        As `load_checkpoint`, or if the checkpoint has no such twin.
    """
    config, _, arrays = _read(path)
    state = {name.removeprefix(REAL_VALUED): arrays[name] for name in arrays if name.startswith(REAL_VALUED)}
    if not isinstance(config, BinaryConnectConfig) or not state:
        raise CheckpointError(f"{path} has no real-valued twin; recipes with stochastic = true have one")
    model = build_model(replace(config, activation_bits=None))
    use_real_valued_weights(model)
    model.load_state_dict(_unpack_state(path, model, state))
    return model.eval()


def _read(path: Path) -> tuple[ModelConfig, dict[str, Any], Arrays]:
    arrays = _read_arrays(path)
    header = _parse_header(path, arrays.pop("header", None))
    return model_config(header["model"], f"{path}, header"), header["metadata"], arrays


def _binary_layers(model: nn.Module) -> dict[str, BinaryWeightLayer]:
    """Return the binary layers by the name of their weight in the model's state."""
    return {f"{name}.weight": layer for name, layer in model.named_modules() if isinstance(layer, BinaryWeightLayer)}


def _integer_layers(model: nn.Module) -> dict[str, QuantWeightLayer]:
    """Return the layers with integer weights by their name."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, QuantWeightLayer) and layer.weight_bits is not None
    }


def _weight_format(layer: QuantWeightLayer) -> NumberFormat:
    assert layer.weight_bits is not None
    return signed(layer.weight_bits)


def _pack_state(model: nn.Module) -> Arrays:
    layers, integer_layers = _binary_layers(model), _integer_layers(model)
    arrays: Arrays = {}
    for name, tensor in model.state_dict().items():
        owner, _, entry = name.rpartition(".")
        if owner in integer_layers:
            layer = integer_layers[owner]
            if entry == "weight":
                arrays[f"{name}.words"] = pack(layer.integer_weight().flatten(1).numpy(), _weight_format(layer))
                arrays[f"{name}.fraction"] = layer.weight_fraction().to(torch.int8).numpy()
            else:
                bias = layer.forward_bias()
                assert bias is not None
                arrays[name] = bias.detach().numpy()
        elif name not in layers:
            arrays[name] = tensor.numpy()
        elif layers[name].real_valued:
            arrays[f"{name}.int8"] = (tensor * INT8_STEPS).round().to(torch.int8).numpy()
        else:
            signs = layers[name].binary_weight().flatten(1).numpy()
            arrays[f"{name}.bits"] = pack(signs, BIPOLAR)
    return arrays


def _unpack_state(path: Path, model: nn.Module, arrays: Arrays) -> dict[str, Tensor]:
    layers, integer_layers = _binary_layers(model), _integer_layers(model)
    state = {}
    for name, expected in model.state_dict().items():
        shape = tuple(expected.shape)
        owner, _, entry = name.rpartition(".")
        if owner in integer_layers and entry == "weight":
            layer = integer_layers[owner]
            number_format, fan_in = _weight_format(layer), expected[0].numel()
            words_shape = shape[0], word_bytes(fan_in * number_format.bits)
            words = _take(path, arrays, f"{name}.words", words_shape, np.dtype(np.uint8))
            fraction_shape = (shape[0] if layer.per_channel else 1,)
            fraction = torch.tensor(_take(path, arrays, f"{name}.fraction", fraction_shape, np.dtype(np.int8)))
            integers = torch.tensor(unpack(words, number_format, fan_in), dtype=torch.float32)
            state[name] = (integers * power_of_two(-fraction.long())[:, None]).view(shape)
        elif name not in layers:
            state[name] = torch.tensor(_take(path, arrays, name, shape, expected.numpy().dtype))
        elif layers[name].real_valued:
            steps = _take(path, arrays, f"{name}.int8", shape, np.dtype(np.int8))
            state[name] = torch.tensor(steps).float() / INT8_STEPS
        else:
            fan_in = expected[0].numel()
            bits = _take(path, arrays, f"{name}.bits", (shape[0], word_bytes(fan_in)), np.dtype(np.uint8))
            state[name] = torch.tensor(unpack(bits, BIPOLAR, fan_in), dtype=torch.float32).view(shape)
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
