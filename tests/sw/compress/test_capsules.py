"""Compression of capsule networks: vectors that are capsules', types that go, files that come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from karui.sw.coding.container import ContainerError, RawTensor, pack_container, read_container
from karui.sw.compress.config import CompressConfig, PruneConfig, ShareConfig, StructureConfig
from karui.sw.compress.packed_network import pack_network, read_network
from karui.sw.compress.pipeline import CompressionRun, compress, fix_integers, without_dead_neurons
from karui.sw.compress.prune import Pruner
from karui.sw.compress.share import own_weights, share_by_clustering
from karui.sw.compress.structure import best_neurons, hidden_widths, live_neurons, narrowed, weight_layers, widened
from karui.sw.configuration import ConfigurationError
from karui.sw.data.datasets import load
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.models.blocks import Stage
from karui.sw.models.build import build_model
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_ranges import CapsuleRanges
from karui.sw.models.capsule_vgg import CapsuleVggConfig, without_batch_norm
from karui.sw.nn.capsule import CapsulePrediction
from karui.sw.nn.precision import Precision
from karui.sw.numerics import signed
from karui.sw.train.config import TrainConfig
from karui.sw.train.recipe import DataConfig, TrainingRecipe
from karui.sw.train.reconstruction import ReconstructionConfig

INTEGERS = Precision(weight_bits=8, activation_bits=8, per_channel=False)
FLOAT = CapsNetConfig(image=(1, 12, 12), channels=5, types=4, capsule=8, classes=3, vector=4, kernel=3)
IMAGES = torch.randint(0, 256, (20, 1, 12, 12), generator=torch.Generator().manual_seed(1)).float()


def random_network(config: CapsNetConfig = FLOAT) -> nn.Sequential:
    torch.manual_seed(3)
    model = build_model(config)
    with torch.no_grad():
        for layer in weight_layers(model).values():
            if layer.bias is not None:
                layer.bias.uniform_(-0.5, 0.5)
    return model


@torch.no_grad()
def outputs(model: nn.Module) -> torch.Tensor:
    result: torch.Tensor = model(IMAGES)
    return result


def test_channels_and_types_in_another_order_are_the_same_network() -> None:
    model = random_network()
    order = [torch.randperm(width) for width in hidden_widths(FLOAT)]
    assert hidden_widths(FLOAT) == (5, 4)
    other = narrowed(model, FLOAT, order)
    assert not torch.equal(other[-3].weight, model[-3].weight)
    torch.testing.assert_close(outputs(other), outputs(model))


def test_types_without_weights_can_go_and_come_back() -> None:
    model = random_network()
    conv1, primary, prediction = weight_layers(model).values()
    assert isinstance(prediction, CapsulePrediction)
    with torch.no_grad():
        conv1.weight[1], conv1.bias[1] = 0.0, -0.1  # type: ignore[index]
        # The capsules of a type are those of all positions.
        prediction.weight.view(16, 4, -1)[:, 2] = 0
        # A capsule without incoming weights has its bias' direction, whatever its sign, and stays.
        primary.weight[:8] = 0
        primary.bias[:8] = -0.25  # type: ignore[index]
    assert [kept.tolist() for kept in live_neurons(model)] == [[0, 2, 3, 4], [0, 1, 3]]
    narrow, config = without_dead_neurons(model, FLOAT)
    assert hidden_widths(config) == (4, 3)
    torch.testing.assert_close(outputs(narrow), outputs(model))
    torch.testing.assert_close(outputs(widened(narrow, FLOAT)), outputs(model))


def test_the_best_types_are_those_of_large_weights() -> None:
    model = random_network()
    _, primary, prediction = weight_layers(model).values()
    with torch.no_grad():
        primary.weight[8:16] *= 5
        prediction.weight.view(16, 4, -1)[:, 3] *= 5
    assert best_neurons(model, (5, 2))[1].tolist() == [1, 3]


@pytest.mark.parametrize("vector", [8, 4 * 8, 3 * 4 * 8])
def test_vectors_matrices_and_capsules_are_pruned_whole(vector: int) -> None:
    model = random_network()
    config = PruneConfig(
        epochs=1, learning_rate=0.1, keep=(1.0, 0.5, 0.25), scope="layer", score="magnitude", vectors=(1, 1, vector)
    )
    pruner = Pruner(weight_layers(model), config)
    pruner.prune()
    pruner.finish()
    original = random_network()[-3].weight.view(-1, vector).norm(dim=1)
    kept = model[-3].weight.view(-1, vector)
    assert torch.equal(kept.any(1), kept.all(1))
    assert int(kept.any(1).sum()) == len(kept) // 4
    assert original[kept.any(1)].min() >= original[~kept.any(1)].max()
    assert int(model.get_submodule("primary").weight.count_nonzero()) == 5 * 32 * 9 // 2


@pytest.mark.parametrize("vector", [1, 8, 16])
def test_predictions_share_vectors_within_a_matrix(vector: int) -> None:
    config = CapsNetConfig(
        image=(1, 12, 12),
        channels=5,
        types=4,
        classes=3,
        vector=4,
        kernel=3,
        precision=INTEGERS,
        ranges=CapsuleRanges(votes=4.0, sums=16.0),
    )
    model = random_network(config)
    sharing = ShareConfig(epochs=1, learning_rate=0.1, codes=(6,), vectors=(1, 8, vector), initialisation="k-means++")
    share_by_clustering(model, sharing, seed=1)
    own_weights(model)
    fix_integers(model)
    prediction = model.get_submodule("prediction")
    assert isinstance(prediction, CapsulePrediction)
    assert len(torch.unique(prediction.integer_weight().view(-1, vector), dim=0)) <= 7
    data, account = pack_network(model, config, vectors=sharing.vectors)
    assert account.total == 8 * len(data)
    read = read_network(data)
    assert read.config == config
    assert torch.equal(outputs(read.model), outputs(model))
    (stored,) = (tensor for tensor in read_container(data).tensors if tensor.name == "prediction")
    assert stored.shape == (64 * 3, 4 * 8)
    with pytest.raises(ValueError, match="vectors must be one number or 2, one a layer"):
        sharing.layer_vectors(2)
    container = read_container(data)
    bias = RawTensor(name="prediction.bias", values=np.ones(1, dtype=np.int64), number_format=signed(8))
    foreign, _ = pack_container(container.metadata, [*container.tensors, bias])
    with pytest.raises(ContainerError, match="bias of layer prediction, which has none"):
        read_network(foreign)


def test_batch_norms_become_part_of_the_convolutions() -> None:
    torch.manual_seed(4)
    config = CapsuleVggConfig(image=(1, 12, 12), stages=(Stage(channels=6, repeat=2), Stage(channels=9)), types=2)
    model = build_model(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2.0)
                module.bias.normal_()
    model.train()
    model(IMAGES)
    model.eval()
    folded, folded_config = without_batch_norm(model, config)
    assert folded_config == replace(config, batch_norm=False)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(outputs(folded), outputs(model), rtol=1e-3, atol=1e-6)
    assert outputs(folded).std(0).min() > 0


def test_a_vgg_with_capsules_is_compressed_without_its_batch_norms() -> None:
    model = CapsuleVggConfig(image=(1, 8, 8), stages=(Stage(channels=12),), types=3, precision=INTEGERS)
    train = TrainConfig(epochs=8, learning_rate=0.01, batch_size=64, loss="margin")
    recipe = TrainingRecipe(name="small", data=DataConfig(name="digits"), model=model, train=train)
    config = CompressConfig(
        prune=PruneConfig(epochs=4, learning_rate=0.005, keep=(1.0, 0.6, 0.7), scope="layer", every=3),
        share=ShareConfig(epochs=3, learning_rate=0.002, codes=(32,), vectors=(1, 1, 2), initialisation="k-means++"),
    )
    data = load("digits")
    run = CompressionRun(recipe=recipe, compress=config, dataset=data)
    stages = compress(run)
    last = stages[-1].config
    assert isinstance(last, CapsuleVggConfig)
    assert last.ranges is not None
    assert last == run.packed_config(stages[-1]) == replace(model, batch_norm=False, ranges=last.ranges)
    assert stages[0].accuracy > 0.9
    assert stages[-1].accuracy > 0.85
    packed, _ = pack_network(stages[-1].model, run.packed_config(stages[-1]), vectors=config.share.vectors)
    network = read_network(packed).model
    agreement = compare_with_golden(network, lower(network, data.image_shape, classes=data.classes), data.test_images)
    assert agreement.mismatches == 0
    assert float((agreement.golden_classes == data.test_labels).mean()) == stages[-1].accuracy
    structure = StructureConfig(widths=(8,), epochs=1, learning_rate=0.1)
    with pytest.raises(ConfigurationError, match="no neurons can be removed; leave structure out"):
        CompressionRun(recipe=recipe, compress=replace(config, structure=structure), dataset=data)


def test_the_pipeline_ends_with_what_the_graph_computes() -> None:
    model = CapsNetConfig(image=(1, 8, 8), channels=10, types=5, capsule=8, vector=8, kernel=3, precision=INTEGERS)
    recipe = TrainingRecipe(
        name="small",
        data=DataConfig(name="digits"),
        model=model,
        train=TrainConfig(
            epochs=20,
            learning_rate=0.02,
            batch_size=64,
            loss="margin",
            reconstruction=ReconstructionConfig(hidden=(30,)),
        ),
    )
    config = CompressConfig(
        structure=StructureConfig(widths=(8, 4), epochs=6, learning_rate=0.01),
        prune=PruneConfig(
            epochs=10, learning_rate=0.01, keep=(1.0, 0.5, 0.6), scope="layer", every=3, vectors=(1, 1, 8)
        ),
        share=ShareConfig(
            epochs=4, learning_rate=0.003, codes=(16, 16, 64), vectors=(1, 1, 8), initialisation="k-means++"
        ),
    )
    data = load("digits")
    run = CompressionRun(recipe=recipe, compress=config, dataset=data)
    stages = compress(run)
    assert [stage.phase for stage in stages] == ["dense", "structure", "prune", "share"]
    assert stages[0].model.state_dict().keys() == build_model(stages[0].config).state_dict().keys()
    accuracies = [stage.accuracy for stage in stages]
    assert accuracies[0] > 0.85
    assert accuracies[-1] > 0.8
    packed, _ = pack_network(stages[-1].model, run.packed_config(stages[-1]), vectors=config.share.vectors)
    network = read_network(packed).model
    prediction = weight_layers(network)["prediction"].integer_weight().view(-1, 8)
    assert len(torch.unique(prediction, dim=0)) <= 65
    agreement = compare_with_golden(network, lower(network, data.image_shape, classes=data.classes), data.test_images)
    assert agreement.mismatches == 0
    assert float((agreement.golden_classes == data.test_labels).mean()) == accuracies[-1]
