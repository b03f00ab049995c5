"""Files of networks of binary bases: the same network comes back, and damaged ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from karui.sw.coding.container import Container, ContainerError, RawTensor, pack_container, read_container
from karui.sw.decompose.config import DecomposeConfig
from karui.sw.decompose.convert import convert
from karui.sw.decompose.decomposed_file import pack_decomposed, read_decomposed
from karui.sw.models.build import FloatConfig, LightConfig, build_model
from karui.sw.models.catalog import SMALL
from karui.sw.models.mnist_cnn import MnistCnnConfig
from karui.sw.models.resnet import ResNetConfig
from karui.sw.nn.decomposed import DecomposedLayer
from karui.sw.numerics import format_for_range

SMALL_CNN = MnistCnnConfig(image=(1, 8, 8), channels=(4, 6), hidden=12)


def images(count: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(1)).float()


def packed(bases: int = 3, bits: int = 4) -> tuple[torch.nn.Module, bytes]:
    config = DecomposeConfig(bases=(bases,), activation_bits=(bits,), restarts=2)
    model = convert(build_model(SMALL_CNN), images(5, 1, 8, 8), config).model
    return model, pack_decomposed(model, SMALL_CNN)[0]


@pytest.mark.parametrize(("bases", "bits"), [(1, 1), (4, 4), (8, 8)])
def test_the_network_comes_back(bases: int, bits: int) -> None:
    model, data = packed(bases, bits)
    again = read_decomposed(data)
    batch = images(20, 1, 8, 8)
    assert torch.equal(again(batch), model(batch))
    layers = [layer for layer in again.modules() if isinstance(layer, DecomposedLayer)]
    assert [layer.bases for layer in layers] == [bases] * 4
    assert pack_decomposed(again, SMALL_CNN)[0] == data


@pytest.mark.slow
def test_a_network_with_folded_batch_norms_comes_back() -> None:
    config = SMALL["resnet-small"]
    assert isinstance(config, ResNetConfig)
    _comes_back(replace(config, image=(1, 16, 16)), (1, 16, 16))


def _comes_back(config: FloatConfig | LightConfig, shape: tuple[int, ...]) -> None:
    model = convert(build_model(config), images(4, *shape), DecomposeConfig(bases=(2,), restarts=2)).model
    data, account = pack_decomposed(model, config)
    assert account.total == 8 * len(data)
    batch = images(4, *shape)
    assert torch.equal(read_decomposed(data)(batch), model(batch))


def test_the_file_is_hardly_more_than_its_signs() -> None:
    model, data = packed()
    layers = [layer for layer in model.modules() if isinstance(layer, DecomposedLayer)]
    signs = sum(layer.codes.numel() * layer.bases for layer in layers)
    others = sum(16 * layer.coefficients.numel() + 32 * layer.offset.numel() for layer in layers)
    assert 8 * len(data) < signs + others + 8 * 300


def _changed(change: Callable[[dict[str, RawTensor]], None], **metadata: object) -> bytes:
    container: Container = read_container(packed()[1])
    tensors = {tensor.name: tensor for tensor in container.tensors if isinstance(tensor, RawTensor)}
    change(tensors)
    return pack_container({**container.metadata, **metadata}, list(tensors.values()))[0]


def _set(name: str, values: np.ndarray) -> Callable[[dict[str, RawTensor]], None]:
    def change(tensors: dict[str, RawTensor]) -> None:
        number_format = format_for_range(int(values.min()), int(values.max()))
        tensors[name] = RawTensor(name=name, values=values, number_format=number_format)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("fc1"), "no tensor 'fc1' of 3 axes"),
        (lambda tensors: tensors.pop("fc2.words"), "no tensor 'fc2.words'"),
        (_set("fc1", np.ones((12, 3, 23), dtype=np.int64)), "bases of layer fc1 are not"),
        (_set("fc1", np.zeros((12, 3, 24), dtype=np.int64)), "bases of layer fc1 are not"),
        (_set("fc1.coefficients", np.ones((12, 2), dtype=np.int64)), "of layer fc1 do not fit its 3 bases"),
        (_set("conv1.words", np.array([9, 3, 0, 0, 3])), "layer conv1: .* 1 to 8 bits, not 9"),
        (_set("conv1.words", np.array([4, 99, 0, 0, 3])), "conv1 have shifts and fractions beyond 62 bits"),
        (_set("conv2.scale", np.ones((2, 3), dtype=np.int64)), "3 multipliers for 4 channels"),
        (_set("other", np.ones(3, dtype=np.int64)), "tensors that its network has not: other"),
    ],
)
def test_wrong_files_are_refused(change: Callable[[dict[str, RawTensor]], None], message: str) -> None:
    with pytest.raises(ContainerError, match=message):
        read_decomposed(_changed(change))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"family": "lenet6"}, "family must be one of"),
        ({"family": "binary-mlp", "in_features": 4, "hidden": [4]}, "do not describe a network of binary bases"),
        ({"hidden": 1 << 40}, "do not describe"),
    ],
)
def test_wrong_metadata_are_refused(metadata: dict[str, object], message: str) -> None:
    with pytest.raises(ContainerError, match=message):
        read_decomposed(_changed(lambda tensors: None, **metadata))


def test_another_containers_network_is_refused() -> None:
    data, _ = pack_container({"family": "mnist-cnn"}, [])
    with pytest.raises(ContainerError, match="no network of binary bases"):
        read_decomposed(data)
