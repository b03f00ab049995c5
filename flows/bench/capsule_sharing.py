"""Weight sharing by vectors: accuracy by d and k beside the seed's table, without and with retraining.

Shimada's tables are of CapsNet on MNIST and of a VGG-16 with capsule layers on CIFAR-10, clustered and not retrained.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, equal, percent
from karui.flows.bench.reference_data import data_folder
from karui.flows.build_folder import sha256, write_json
from karui.flows.recipe import find_recipe
from karui.sw.compress.config import Assignment, Initialisation, ShareConfig
from karui.sw.compress.packed_network import pack_network
from karui.sw.compress.pipeline import fix_integers
from karui.sw.compress.share import own_weights, share_by_clustering
from karui.sw.compress.structure import CompressibleConfig
from karui.sw.data.dataset import Dataset
from karui.sw.models.build import ModelConfig, build_model
from karui.sw.models.capsule_vgg import CapsuleVggConfig
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.config import TrainConfig
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import held_out_accuracy, tensors
from karui.sw.train.loop import train
from karui.sw.train.seeding import threads

# Rows as they are measured: a run that was cut off goes on behind them.
ROWS = Path("out/capsule-sharing")
VECTORS = (1, 8, 16)
SIZES = (32, 64, 128)
SEED = 1
LEARNING_RATE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network of the table.

    Parameters
    ----------
    recipe
        Whose shipped checkpoint is clustered.
    reference
        The seed's accuracies in per cent by (d, k), and before clustering by (0, 0).
    retraining_epochs
        Passes over the training images with weights that move between the entries of their code books, by d; empty
        for none.
    scalars
        Where k-means starts with d = 1; vectors start from k-means++.
    """

    recipe: str
    reference: dict[tuple[int, int], float]
    retraining_epochs: dict[int, int]
    scalars: Initialisation = "linear"

    def sharing(self, vector: int, size: int, assignment: Assignment) -> ShareConfig:
        """Of every layer alike."""
        return ShareConfig(
            epochs=1,
            learning_rate=LEARNING_RATE,
            codes=(size,),
            vectors=(vector,),
            initialisation=self.scalars if vector == 1 else "k-means++",
            assignment=assignment,
        )


MNIST = {
    (0, 0): 99.62,
    (1, 32): 99.53,
    (1, 64): 99.54,
    (1, 128): 99.53,
    (8, 32): 89.45,
    (8, 64): 97.37,
    (8, 128): 98.78,
    (16, 32): 78.81,
    (16, 64): 90.31,
    (16, 128): 96.13,
}
CIFAR10 = {
    (0, 0): 64.36,
    (1, 32): 64.33,
    (1, 64): 64.41,
    (1, 128): 64.38,
    (8, 32): 55.57,
    (8, 64): 53.34,
    (8, 128): 56.61,
    (16, 32): 44.71,
    (16, 64): 49.27,
    (16, 128): 53.88,
}
# Clustered vectors start far from the network they stand for, scalars near it.
COMPACT = Subject(recipe="capsnet-compact", reference=MNIST, retraining_epochs={1: 4, 8: 8, 16: 8})
# An epoch takes a quarter of an hour of a core. Most of its predictions lie so near to zero that 32 values at even
# distances leave one of them there.
FULL = Subject(recipe="capsnet", reference=MNIST, retraining_epochs={}, scalars="k-means++")
VGG = Subject(recipe="capsnet-cifar10", reference=CIFAR10, retraining_epochs={1: 1, 8: 1, 16: 1})


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Cluster the networks of MNIST in every way, the compact one with retraining too; nothing is pruned."""
    tables = {subject.recipe: table(subject, run) for subject in (COMPACT, FULL)}
    return BenchmarkResult(checks=_checks(tables[COMPACT.recipe]), details={"tables": tables}, seed=SEED)


def measure_cifar10(run: BenchmarkRun) -> BenchmarkResult:
    """Cluster the network of CIFAR-10 in every way, without retraining and with; nothing is pruned."""
    found = table(VGG, run)
    rows = found["rows"]
    checks = (
        _all_measured(rows),
        at_least("accuracy before, %", found["before, %"], CIFAR10[0, 0]),
        *(
            at_least(f"d = {row['d']}, k = {row['k']}, retrained, %", row["retrained, %"], CIFAR10[row["d"], row["k"]])
            for row in rows
        ),
    )
    return BenchmarkResult(checks=checks, details={"tables": {VGG.recipe: found}}, seed=SEED)


def table(subject: Subject, run: BenchmarkRun) -> dict[str, Any]:
    """Accuracies of one network in per cent: before, and a row for each d and k."""
    recipe = find_recipe(subject.recipe)
    if recipe.checkpoint is None:
        raise FileNotFoundError(f"{subject.recipe} ships no checkpoint; train it first: karui train {subject.recipe}")
    checkpoint, dataset = load_checkpoint(recipe.checkpoint), load_data(recipe.training, data_folder(run.data_dir))
    training = replace(
        recipe.training.train,
        learning_rate=LEARNING_RATE,
        threads=1,
        start=None,
        pretrain=None,
        reconstruction=None,
    )
    rows: list[dict[str, Any]] = []
    with threads(training.threads):
        before = percent(held_out_accuracy(checkpoint.model, dataset))
        for vector in VECTORS:
            epochs = subject.retraining_epochs.get(vector, 0)
            training = replace(training, epochs=epochs or 1)
            for size in SIZES:
                conditions = {
                    "checkpoint": sha256(recipe.checkpoint),
                    "retraining_epochs": epochs,
                    "training": asdict(training),
                    "sharing": asdict(subject.sharing(vector, size, "moving")),
                    "seed": SEED,
                }
                record = ROWS / f"{subject.recipe}-{vector}-{size}.json"
                row = recorded(record, conditions)
                if row is None:
                    row = network_row(subject, checkpoint.model, checkpoint.config, dataset, training, vector, size)
                    record.parent.mkdir(parents=True, exist_ok=True)
                    write_json(record, {"conditions": conditions, "row": row})
                run.progress(f"{subject.recipe}: {row}")
                rows.append(row | {"retraining epochs": epochs})
    return {"before, %": before, "seed before, %": subject.reference[0, 0], "rows": rows}


def recorded(record: Path, conditions: dict[str, Any]) -> dict[str, Any] | None:
    """A row measured earlier under the same conditions, if there is one."""
    if not record.is_file():
        return None
    document: dict[str, Any] = json.loads(record.read_text())
    row: dict[str, Any] = document["row"]
    return row if document["conditions"] == json.loads(json.dumps(conditions)) else None


def network_row(
    subject: Subject,
    network: nn.Module,
    config: ModelConfig,
    dataset: Dataset,
    training: TrainConfig,
    vector: int,
    size: int,
) -> dict[str, Any]:
    """A row of the table: vectors of d weights and k of them."""
    images, labels = tensors(dataset.train_images, dataset.train_labels)
    model = _shared(network, config, subject.sharing(vector, size, "fixed"))
    own_weights(model)
    row: dict[str, Any] = {
        "d": vector,
        "k": size,
        "seed, %": subject.reference[vector, size],
        "clustered, %": percent(held_out_accuracy(model, dataset)),
    }
    if subject.retraining_epochs.get(vector):
        model = _shared(network, config, subject.sharing(vector, size, "moving"))
        train(model, images, labels, training)
        own_weights(model)
        row["retrained, %"] = percent(held_out_accuracy(model, dataset))
    if isinstance(config, CompressibleConfig) and not isinstance(config, CapsuleVggConfig):
        fix_integers(model)
        data, _ = pack_network(model, config, vectors=(vector,))
        row["bytes"] = len(data)
    return row


def _shared(network: nn.Module, config: ModelConfig, book: ShareConfig) -> nn.Sequential:
    """The network with a code book a layer."""
    model = build_model(config)
    model.load_state_dict(network.state_dict())
    share_by_clustering(model, book, seed=SEED)
    return model


def _all_measured(rows: Collection[Any]) -> Check:
    return equal("variants measured", len(rows), len(VECTORS) * len(SIZES))


def _checks(compact: dict[str, Any]) -> tuple[Check, ...]:
    rows = {(row["d"], row["k"]): row for row in compact["rows"]}
    return (
        _all_measured(rows),
        at_least("capsnet-compact: accuracy before, %", compact["before, %"], 99.5),
        at_least("d = 8, k = 64, retrained, %", rows[8, 64]["retrained, %"], 99.4),
        at_least("d = 16, k = 128, retrained, %", rows[16, 128]["retrained, %"], 99.3),
    )


CAPSULE_SHARING = Benchmark(
    name="capsule-sharing",
    description="capsule networks of MNIST with shared weights, nothing pruned: d = 1, 8, 16 by k = 32, 64, 128, "
    "clustered alone and, the compact one, trained on, beside the seed's table",
    target="compact CapsNet retrained: at least 99.4 % with d = 8, k = 64 and 99.3 % with d = 16, k = 128",
    minutes=250,
    measure=measure,
)
CAPSULE_SHARING_CIFAR10 = Benchmark(
    name="capsule-sharing-cifar10",
    description="capsule network of CIFAR-10 (JPEG copies) with shared weights, nothing pruned: d = 1, 8, 16 by "
    "k = 32, 64, 128, clustered alone and trained on, beside the seed's table",
    target="retrained, at least the seed's accuracy in every row",
    minutes=40,
    measure=measure_cifar10,
)
