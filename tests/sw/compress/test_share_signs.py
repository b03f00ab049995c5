"""Binary weights of few vectors: which layers, which vectors; training that resumes; the storage that they lower to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from karui.sw.compress.config import SignSharingConfig
from karui.sw.compress.share_signs import fold_falling_scales, own_signs, sharable, share_signs, share_trained
from karui.sw.data.datasets import load
from karui.sw.ir import RAW, Shared
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.compressed_storage import with_compressed_storage
from karui.sw.lower.from_torch import lower
from karui.sw.models.bnn import BinaryCNNConfig, BinaryMLPConfig, ConvStage
from karui.sw.models.build import build_model
from karui.sw.nn.binary_weight import BinaryWeightLayer, binary_layers
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.config import TrainConfig
from karui.sw.train.loop import EpochRecord
from karui.sw.train.recipe import DataConfig, TrainingRecipe
from karui.sw.train.run import TrainedRecipe, save_trained, train_recipe

RECIPE = TrainingRecipe(
    name="small",
    data=DataConfig(name="digits"),
    model=BinaryMLPConfig(in_features=64, hidden=(128, 128), threshold=8),
    train=TrainConfig(epochs=20, learning_rate=0.02, batch_size=64),
)
SHARING = SignSharingConfig(vector=8, codes=(8,), epochs=10, learning_rate=0.01)


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the training before, which every run resumes at its end."""
    return tmp_path_factory.mktemp("state")


def run(state_dir: Path, share_dir: Path | None = None, stop: int | None = None) -> TrainedRecipe:
    def on_epoch(record: EpochRecord, model: torch.nn.Module) -> None:
        if record.epoch == stop:
            raise Interrupted

    return share_trained(train_recipe(RECIPE, state_dir=state_dir), SHARING, state_dir=share_dir, on_epoch=on_epoch)


@pytest.fixture(scope="module")
def shared(state_dir: Path) -> TrainedRecipe:
    return run(state_dir)


def vectors(layer: BinaryWeightLayer, length: int) -> torch.Tensor:
    """The different ones along a layer's inputs."""
    return torch.unique(layer.binary_weight().movedim(1, -1).reshape(-1, length), dim=0)


def test_rows_are_composed_of_few_vectors(shared: TrainedRecipe, state_dir: Path) -> None:
    *hidden, last = binary_layers(shared.model)
    assert all(1 < len(vectors(layer, 8)) <= 8 for layer in hidden)
    assert len(vectors(last, 8)) > 8
    assert all(layer.code_book is None for layer in (*hidden, last))
    assert shared.accuracies["unshared"] == train_recipe(RECIPE, state_dir=state_dir).accuracies["model"]


def test_training_makes_up_for_most_of_what_sharing_costs(shared: TrainedRecipe, state_dir: Path) -> None:
    untrained = train_recipe(RECIPE, state_dir=state_dir).model
    share_signs(untrained, SHARING, seed=1)
    data = load("digits")
    with torch.no_grad():
        found = untrained(torch.from_numpy(data.test_images).float()).argmax(1).numpy()
    moved = [
        float((one.binary_weight() != other.binary_weight()).float().mean())
        for one, other in zip(binary_layers(untrained), binary_layers(shared.model), strict=True)
    ]
    assert min(moved) > 0.02
    before, after = shared.accuracies["unshared"], shared.accuracies["model"]
    assert before - after < (before - float((found == data.test_labels).mean())) / 2


def test_an_interrupted_sharing_ends_with_the_same_bits(shared: TrainedRecipe, state_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(state_dir, tmp_path, stop=4)
    expected, resumed = shared.model.state_dict(), run(state_dir, tmp_path).model.state_dict()
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_the_checkpoint_holds_the_shared_network(shared: TrainedRecipe, tmp_path: Path) -> None:
    save_trained(tmp_path / "small.npz", shared)
    loaded, data = load_checkpoint(tmp_path / "small.npz"), load("digits")
    assert loaded.metadata["share"]["vector"] == 8
    assert loaded.metadata["accuracies"] == shared.accuracies
    lowered = lower(loaded.model, data.image_shape, classes=data.classes)
    stored = replace(lowered, graph=with_compressed_storage(lowered.graph))
    storages = [constant.storage for name, constant in stored.graph.constants.items() if name.endswith(".weights")]
    assert storages == [Shared(vector=8), Shared(vector=8), RAW]
    agreement = compare_with_golden(loaded.model, stored, data.test_images)
    assert agreement.mismatches == 0
    assert float((agreement.golden_classes == data.test_labels).mean()) == shared.accuracies["model"]


def test_kernels_are_composed_along_the_channels() -> None:
    """As the rows of a convolution's matrix are ordered; the first layer, of one channel, has no vectors."""
    torch.manual_seed(1)
    stages = (ConvStage(channels=(16, 16)), ConvStage(channels=(16,), pool=False))
    model = build_model(BinaryCNNConfig(image=(1, 12, 12), stages=stages)).eval()
    sharing = SignSharingConfig(vector=16, codes=(12, 10), epochs=1, learning_rate=0.1)
    assert len(sharable(model, 16)) == 2
    share_signs(model, sharing, seed=1)
    with_books = [layer.binary_weight() for layer in binary_layers(model)]
    own_signs(model)
    assert all(torch.equal(layer.weight, signs) for layer, signs in zip(binary_layers(model), with_books, strict=True))
    lowered = lower(model, (1, 12, 12))
    matrices = [constant.values for name, constant in lowered.graph.constants.items() if name.endswith(".weights")]
    assert [len(np.unique(matrix.reshape(-1, 16), axis=0)) for matrix in matrices[1:3]] == [12, 10]


def test_falling_scales_move_into_the_rows() -> None:
    torch.manual_seed(2)
    model = build_model(RECIPE.model)
    model(torch.randint(0, 17, (50, 1, 8, 8)).float())
    falling = torch.arange(128) % 3 == 0
    with torch.no_grad():
        for norm in (module for module in model if isinstance(module, nn.BatchNorm1d)):
            norm.weight[falling] *= -1
    images = torch.randint(0, 17, (50, 1, 8, 8)).float()
    before = model.eval()(images)
    first = binary_layers(model)[0].weight.detach().clone()
    norms = fold_falling_scales(model)
    assert len(norms) == 2
    assert all((norm.weight > 0).all() for norm in norms)
    assert torch.equal(binary_layers(model)[0].weight[falling], -first[falling])
    assert torch.equal(model(images), before)


def test_no_row_is_negated_on_the_way_to_hardware(state_dir: Path) -> None:
    """The graph's vectors are those of the network, though some of its batch norms' scales fell before."""
    trained = train_recipe(RECIPE, state_dir=state_dir)
    with torch.no_grad():
        for norm in (module for module in trained.model if isinstance(module, nn.BatchNorm1d)):
            norm.weight[::5] *= -1
    shared = share_trained(trained, replace(SHARING, epochs=2))
    matrices = lower(shared.model, (1, 8, 8)).graph.constants
    for index, layer in enumerate(binary_layers(shared.model)[:-1], 1):
        assert np.array_equal(matrices[f"dense{index}.weights"].values, layer.weight.detach().numpy())


def test_scales_stay_when_training_would_turn_them(state_dir: Path) -> None:
    """At a step size that takes them through zero."""
    fast = replace(SHARING, epochs=2, learning_rate=0.5)
    found = share_trained(train_recipe(RECIPE, state_dir=state_dir), fast)
    scales = torch.cat([module.weight for module in found.model if isinstance(module, nn.BatchNorm1d)])
    assert (scales == 0).any()
    assert (scales >= 0).all()


def test_wrong_numbers_are_refused() -> None:
    model = build_model(RECIPE.model)
    with pytest.raises(ValueError, match=r"codes must be one number or 2, one a layer, not \[4, 4, 4\]"):
        share_signs(model, replace(SHARING, codes=(4, 4, 4)), seed=1)
    with pytest.raises(ValueError, match="vector must be 4, 8 or 16 weights, not 5"):
        replace(SHARING, vector=5)
    with pytest.raises(ValueError, match=r"codes must be 1 to 256 vectors a layer, not \[300\]"):
        replace(SHARING, codes=(300,))
