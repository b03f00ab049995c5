"""Checkpoints: the same model comes back, bits lie as documented, and wrong files are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from karui.sw.configuration import ConfigurationError
from karui.sw.models.binary_connect import BinaryConnectConfig
from karui.sw.models.blocks import Stage
from karui.sw.models.bnn import BinaryCNNConfig, BinaryMLPConfig, ConvStage
from karui.sw.models.build import ModelConfig, build_model
from karui.sw.models.mobilenet import MobileNetConfig
from karui.sw.nn.binary_weight import binary_layers
from karui.sw.nn.fixed_point_relu import FixedPointReLU
from karui.sw.nn.precision import Precision
from karui.sw.nn.quant_weight import QuantWeightLayer, quant_weight_layers
from karui.sw.train.checkpoint import CheckpointError, load_checkpoint, load_real_valued, save_checkpoint
from karui.sw.train.real_valued import real_valued_twin

CONFIGS: list[ModelConfig] = [
    BinaryMLPConfig(in_features=64, hidden=(13, 9), input="pixels"),
    BinaryCNNConfig(image=(1, 8, 8), stages=(ConvStage(channels=(5,), padding=1),)),
    BinaryConnectConfig(in_features=64, hidden=(11,), activation_bits=8),
    *(
        MobileNetConfig(
            image=(1, 8, 8),
            classes=7,
            stem=4,
            stages=(Stage(channels=6),),
            precision=Precision(weight_bits=bits, activation_bits=4, edge_bits=bits, per_channel=per_channel),
        )
        for bits in range(2, 9)
        for per_channel in (True, False)
    ),
    MobileNetConfig(image=(1, 8, 8), classes=7, stem=4, stages=(Stage(channels=6),)),
]
IMAGES = torch.randint(0, 17, (200, 1, 8, 8), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)


def lived_in(config: ModelConfig) -> nn.Sequential:
    """A model with no state entry left at its initial value."""
    torch.manual_seed(6)
    model = build_model(config)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    for module in model.modules():
        if isinstance(module, QuantWeightLayer):
            module.weight.data[0] = 0.5  # even integers at the scale that is chosen: the canonical one is another
        if isinstance(module, FixedPointReLU):
            module.set_parameters(torch.randint(-99, 99, (11,)), torch.randint(-9999, 9999, (11,)), 3)
    model(IMAGES.float())
    return model.eval()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "net.npz"
    save_checkpoint(path, lived_in(CONFIGS[0]), CONFIGS[0], {"accuracies": {"model": 0.5}})
    return path


def rewrite(path: Path, **changes: Any) -> None:
    with np.load(path) as archive:
        arrays = {**archive, **changes}
    np.savez_compressed(path, **{name: values for name, values in arrays.items() if values is not None})


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_model_comes_back_exactly(config: ModelConfig, tmp_path: Path) -> None:
    model = lived_in(config)
    save_checkpoint(tmp_path / "net.npz", model, config, {"note": "kept"})
    loaded = load_checkpoint(tmp_path / "net.npz")
    assert loaded.config == config
    assert loaded.metadata == {"note": "kept"}
    assert not loaded.model.training
    assert torch.equal(loaded.model(IMAGES.float()), model(IMAGES.float()))
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]


def test_words_lie_as_documented(tmp_path: Path) -> None:
    precision = Precision(weight_bits=3, activation_bits=4)
    config = MobileNetConfig(image=(1, 8, 8), classes=7, stem=4, stages=(Stage(channels=6),), precision=precision)
    model = lived_in(config)
    save_checkpoint(tmp_path / "net.npz", model, config, {})
    pointwise = quant_weight_layers(model)[2]
    assert pointwise.weight.shape == (6, 4, 1, 1)
    with np.load(tmp_path / "net.npz") as archive:
        words, fraction = archive["6.weight.words"], archive["6.weight.fraction"]
    assert words.shape == (6, 2)
    assert np.array_equal(fraction, pointwise.weight_fraction().numpy())
    bits = np.unpackbits(words, axis=1, bitorder="little")[:, :12].reshape(6, 4, 3).astype(int)
    assert np.array_equal(bits @ [1, 2, -4], pointwise.integer_weight().view(6, 4).numpy())


def test_bits_lie_as_documented(checkpoint: Path) -> None:
    model = lived_in(CONFIGS[0])
    with np.load(checkpoint) as archive:
        bits = archive["1.weight.bits"]
    assert bits.shape == (13, 8)
    expected = binary_layers(model)[0].binary_weight() > 0
    assert np.array_equal(np.unpackbits(bits, axis=1, bitorder="little"), expected.numpy())


def test_real_valued_twin_comes_back_exactly(tmp_path: Path) -> None:
    config = BinaryConnectConfig(in_features=64, hidden=(11,), stochastic=True)
    model = lived_in(config)
    for layer in binary_layers(model):
        layer.weight.data.clamp_(-1, 1)
    before = model(IMAGES.float())
    twin = real_valued_twin(model, IMAGES)
    path = tmp_path / "net.npz"
    save_checkpoint(path, model, config, {}, real_valued=twin)
    outputs = load_real_valued(path)(IMAGES.float())
    assert torch.equal(outputs, twin(IMAGES.float()))
    assert torch.equal(load_checkpoint(path).model(IMAGES.float()), before)
    assert not torch.equal(outputs, before)


def test_a_checkpoint_without_a_twin_says_so(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="no real-valued twin"):
        load_real_valued(checkpoint)


def test_missing_and_unreadable_files(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*absent.npz"):
        load_checkpoint(checkpoint.with_name("absent.npz"))
    content = checkpoint.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"text", content.replace(b"header", b"Header", 1)):
        checkpoint.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"net\.npz"):
            load_checkpoint(checkpoint)


def test_flipped_byte_is_found(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 0x10
    checkpoint.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(checkpoint)


def test_entries_must_fit_the_model(checkpoint: Path) -> None:
    original = checkpoint.read_bytes()
    cases: list[tuple[str, Any, str]] = [
        ("2.bias", None, r"lacks the entry '2\.bias'"),
        ("2.bias", np.zeros(12, np.float32), r"entry '2\.bias' is float32\[12\], its model needs float32\[13\]"),
        ("2.bias", np.zeros(13), r"is float64\[13\]"),
        ("1.weight.bits", np.zeros((13, 7), np.uint8), r"'1\.weight\.bits' is uint8\[13, 7\]"),
        ("9.weight", np.zeros(1), r"entries that its model does not: 9\.weight"),
        ("header", np.array("{"), "header is not JSON"),
        ("header", np.array(json.dumps({"format": 99})), "format 99, this version reads 1"),
        ("header", None, "no header"),
    ]
    for name, values, message in cases:
        checkpoint.write_bytes(original)
        rewrite(checkpoint, **{name: values})
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(checkpoint)


def test_header_of_an_unknown_model(checkpoint: Path) -> None:
    header = {"format": 1, "model": {"family": "binary-mpl"}, "metadata": {}}
    rewrite(checkpoint, header=np.array(json.dumps(header)))
    with pytest.raises(ConfigurationError, match="did you mean 'binary-mlp'"):
        load_checkpoint(checkpoint)
