"""A network comes back from its file as it was, and files that hold something else are refused."""

import json

import pytest
import torch
from torch import nn

from karui.sw.coding.container import (
    LARGEST_MODEL,
    ContainerError,
    RawTensor,
    SharedTensor,
    pack_container,
    read_container,
)
from karui.sw.compress.packed_network import pack_network, read_network
from karui.sw.compress.pipeline import fix_integers, without_dead_neurons
from karui.sw.compress.structure import weight_layers, widened
from karui.sw.models.build import build_model
from karui.sw.models.lenet import LeNet5Config
from karui.sw.nn.precision import Precision

CONFIG = LeNet5Config(
    channels=(6, 8), hidden=40, precision=Precision(weight_bits=8, activation_bits=6, per_channel=False)
)


def sparse_network(vector: int = 1) -> nn.Sequential:
    """Few values a layer, most of them zero, some neurons without any."""
    torch.manual_seed(1)
    model = build_model(CONFIG)
    with torch.no_grad():
        for layer in weight_layers(model).values():
            values = torch.tensor([-0.5, -0.125, 0.375, 0.8125])
            weight = values[torch.randint(0, 4, layer.weight.shape)]
            rows = weight.view(len(weight), -1)
            divides = vector if rows.shape[1] % vector == 0 else 1
            rows *= (torch.rand(len(rows), rows.shape[1] // divides) < 0.2).float().repeat_interleave(divides, dim=1)
            rows[1::3] = 0
            layer.weight.copy_(weight)
            assert layer.bias is not None
            layer.bias.uniform_(-0.4, 0.4)
    fix_integers(model)
    return model.eval()


@pytest.mark.parametrize(("vector", "books"), [(1, 1), (4, 1), (2, 4)])
def test_a_network_comes_back_as_it_was(vector: int, books: int) -> None:
    model = sparse_network(vector)
    data, account = pack_network(model, CONFIG, vectors=(vector,), books=books)
    assert account.total == 8 * len(data)
    packed = read_network(data)
    assert packed.config == CONFIG
    for name, layer in weight_layers(packed.model).items():
        original = weight_layers(model)[name]
        assert torch.equal(layer.integer_weight(), original.integer_weight())
        assert torch.equal(layer.weight_fraction(), original.weight_fraction())
        assert torch.equal(layer.integer_bias(), original.integer_bias())
    images = torch.randint(0, 256, (8, 1, 28, 28)).float()
    assert torch.equal(packed.model(images), model(images))


def test_a_network_without_its_dead_neurons_stands_for_the_whole() -> None:
    model = sparse_network()
    narrow, _ = without_dead_neurons(model, CONFIG)
    packed = read_network(pack_network(narrow, CONFIG)[0])
    images = torch.randint(0, 256, (8, 1, 28, 28)).float()
    assert torch.equal(packed.model(images), model(images))
    assert torch.equal(packed.model(images), widened(narrow, CONFIG)(images))


def test_metadata_are_the_family_and_what_differs() -> None:
    plain = LeNet5Config(precision=CONFIG.precision)
    network = build_model(plain)
    fix_integers(network)
    assert read_container(pack_network(network, plain)[0]).metadata == {"family": "lenet5", "bits": 6}
    metadata = read_container(pack_network(sparse_network(), CONFIG)[0]).metadata
    assert metadata == {"family": "lenet5", "bits": 6, "channels": [6, 8], "hidden": 40}
    with pytest.raises(ValueError, match="a file holds 8-bit weights on one grid a layer, not"):
        pack_network(network, LeNet5Config(precision=Precision(weight_bits=8, activation_bits=6)))


def test_files_that_hold_no_network_are_refused() -> None:
    container = read_container(pack_network(sparse_network(), CONFIG)[0])
    weights, *others = container.tensors
    assert isinstance(weights, SharedTensor)
    for metadata, tensors, message in [
        ({}, container.tensors, "metadata do not describe a network: 'bits'"),
        ({**container.metadata, "family": "bnn"}, container.tensors, "family must be one of"),
        ({"family": "mobilenet", "bits": 8}, container.tensors, "family mobilenet has no packed form"),
        ({**container.metadata, "bits": "8"}, container.tensors, "bits must be a number of bits, not '8'"),
        ({**container.metadata, "bits": 99}, container.tensors, "activation_bits must be 2 to 8"),
        (
            {**container.metadata, "hidden": 10**7},
            container.tensors,
            f"a network of 1.* parameters, over {LARGEST_MODEL}",
        ),
        ({**container.metadata, "hidden": 41}, container.tensors, r"no code book and codes of shape \[41, 128\]"),
        (container.metadata, container.tensors[1:], "no code book and codes of shape .* for layer conv1"),
        (
            container.metadata,
            [*container.tensors, RawTensor(name="x", values=others[0].values, number_format=others[0].number_format)],
            "tensors that its network has not: x",
        ),
    ]:
        data, _ = pack_container(json.loads(json.dumps(dict(metadata))), list(tensors))
        with pytest.raises(ContainerError, match=message):
            read_network(data)
