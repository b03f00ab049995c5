"""Shapes, layer order and padding of the model families, and refused configurations."""

import pytest
import torch
from torch import nn

from karui.sw.models.binary_connect import BinaryConnectConfig
from karui.sw.models.bnn import CNV_STAGES, BinaryCNNConfig, BinaryMLPConfig, ConvStage
from karui.sw.models.build import FAMILIES, ModelConfig, build_model, family_of
from karui.sw.models.teacher import build_teacher
from karui.sw.nn.binary_conv import BinaryConv2d
from karui.sw.nn.binary_weight import binary_layers

CONFIGS: list[ModelConfig] = [
    BinaryMLPConfig(in_features=64, hidden=(32, 16)),
    BinaryMLPConfig(in_features=64, hidden=(32,), input="pixels"),
    BinaryCNNConfig(image=(1, 8, 8), stages=(ConvStage(channels=(4, 6), padding=1),), hidden=(12,)),
    BinaryConnectConfig(in_features=64, hidden=(32, 16)),
    BinaryConnectConfig(in_features=64, hidden=(32,), stochastic=True, activation_bits=8),
]


def layer_names(model: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in model]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_logits_of_every_family(config: ModelConfig) -> None:
    model = build_model(config).eval()
    assert model(torch.randint(0, 17, (3, 1, 8, 8)).float()).shape == (3, 10)
    assert FAMILIES[family_of(config)] is type(config)


def test_batch_norm_comes_before_the_sign() -> None:
    model = build_model(BinaryMLPConfig(in_features=4, hidden=(3,)))
    assert layer_names(model) == [
        "Flatten",
        "InputBinarize",
        "BinaryLinear",
        "BatchNorm1d",
        "BinaryActivation",
        "BinaryLinear",
        "LogitScale",
    ]


def test_pool_works_on_bits() -> None:
    names = layer_names(build_model(BinaryCNNConfig(image=(1, 8, 8), stages=(ConvStage(channels=(4,), padding=1),))))
    assert names[:4] == ["BinaryConv2d", "BatchNorm2d", "BinaryActivation", "MaxPool2d"]


def test_only_pixels_are_padded_with_zero() -> None:
    model = build_model(BinaryCNNConfig(image=(1, 8, 8), stages=(ConvStage(channels=(4, 4, 4), padding=1),)))
    assert [layer.pad_value for layer in model if isinstance(layer, BinaryConv2d)] == [0, -1, -1]


def test_cnv_has_the_published_size() -> None:
    """FINN's CNV: 1,542,848 weights of one bit."""
    model = build_model(BinaryCNNConfig(image=(3, 32, 32), stages=CNV_STAGES, hidden=(512, 512)))
    assert sum(layer.weight.numel() for layer in binary_layers(model)) == 1_542_848


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 7, 9)])
def test_teacher_takes_any_image(shape: tuple[int, int, int]) -> None:
    assert build_teacher(shape, 10).eval()(torch.zeros(2, *shape)).shape == (2, 10)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="even map, not 27x27"):
        build_model(BinaryCNNConfig(image=(1, 28, 28), stages=(ConvStage(channels=(4,), kernel_size=2),)))
    with pytest.raises(ValueError, match="shrink the 4x4 image to 0x0"):
        build_model(BinaryCNNConfig(image=(1, 4, 4), stages=(ConvStage(channels=(4, 4), pool=False),)))
    with pytest.raises(ValueError, match="hidden must name at least one width"):
        BinaryMLPConfig(in_features=4, hidden=())
    with pytest.raises(ValueError, match=r"not \[4, 0\]"):
        ConvStage(channels=(4, 0))
