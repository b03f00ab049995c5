"""The benchmarks of capsule networks on a small one."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from karui.flows.bench.capsule_arithmetic import accuracies
from karui.flows.bench.capsule_sharing import COMPACT, Subject, network_row, recorded
from karui.flows.build_folder import write_json
from karui.sw.data.dataset import Dataset
from karui.sw.data.datasets import load
from karui.sw.models.blocks import Stage
from karui.sw.models.capsule_vgg import CapsuleVggConfig
from karui.sw.nn.precision import Precision
from karui.sw.train.checkpoint import Checkpoint
from karui.sw.train.config import PretrainConfig, TrainConfig
from karui.sw.train.recipe import DataConfig, TrainingRecipe
from karui.sw.train.run import train_recipe

TRAIN = TrainConfig(
    epochs=2,
    learning_rate=0.002,
    batch_size=64,
    loss="margin",
    pretrain=PretrainConfig(epochs=6, learning_rate=0.01),
)
RECIPE = TrainingRecipe(
    name="tiny",
    data=DataConfig(name="digits"),
    model=CapsuleVggConfig(
        image=(1, 8, 8),
        stages=(Stage(channels=12),),
        types=4,
        precision=Precision(weight_bits=8, activation_bits=8, per_channel=False),
    ),
    train=TRAIN,
)


@pytest.fixture(scope="module")
def trained() -> tuple[Checkpoint, Dataset]:
    result = train_recipe(RECIPE)
    checkpoint = Checkpoint(model=result.model, config=result.recipe.model, metadata={"accuracies": result.accuracies})
    return checkpoint, load("digits")


def test_integers_cost_little(trained: tuple[Checkpoint, Dataset]) -> None:
    rows = accuracies(*trained)
    assert set(rows) == {
        f"{squash} squash, {routing} routing" for squash in ("integer", "real") for routing in ("integer", "real")
    }
    assert rows["integer squash, integer routing"] == round(100 * trained[0].metadata["accuracies"]["model"], 2)
    assert min(rows.values()) > 90
    assert max(rows.values()) - min(rows.values()) <= 3


def test_retraining_makes_up_for_vectors(trained: tuple[Checkpoint, Dataset]) -> None:
    checkpoint, dataset = trained
    subject: Subject = replace(COMPACT, retraining_epochs={16: 6})
    training = replace(TRAIN, epochs=6, learning_rate=0.002, pretrain=None)
    row = network_row(subject, checkpoint.model, checkpoint.config, dataset, training, 16, 32)
    assert (row["d"], row["k"], row["seed, %"]) == (16, 32, 78.81)
    assert row["clustered, %"] < row["retrained, %"]
    # Batch norms have no place in a file.
    assert "bytes" not in row


def test_rows_of_other_conditions_are_measured_anew(tmp_path: Path) -> None:
    record, conditions = tmp_path / "row.json", {"checkpoint": "a", "training": asdict(TRAIN)}
    assert recorded(record, conditions) is None
    write_json(record, {"conditions": conditions, "row": {"d": 8}})
    assert recorded(record, conditions) == {"d": 8}
    assert recorded(record, conditions | {"checkpoint": "b"}) is None
    assert recorded(record, conditions | {"training": asdict(replace(TRAIN, epochs=3))}) is None
