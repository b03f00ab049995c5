"""Weight sharing on LeNet-5 by vectors of d weights and k values: size and error, without and with retraining."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from karui.flows.bench.benchmark import (
    Benchmark,
    BenchmarkResult,
    BenchmarkRun,
    Check,
    at_least,
    at_most,
    equal,
    error_percent,
)
from karui.flows.bench.reference_data import data_folder
from karui.flows.recipe import find_recipe
from karui.sw.compress.config import ShareConfig
from karui.sw.compress.packed_network import pack_network
from karui.sw.compress.pipeline import CompressionRun, dense, pooled_first
from karui.sw.compress.share import share_by_clustering
from karui.sw.models.build import build_model
from karui.sw.nn.quant_weight import quant_weight_layers
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import tensors
from karui.sw.train.loop import train
from karui.sw.train.seeding import threads

RECIPE = "lenet5"
VECTORS = (1, 2, 4, 8, 16)
SIZES = (2, 8, 32, 128)
# Retraining of the code books alone: one pass over the first training images.
RETRAINING_IMAGES = 10_000
SEED = 1
# Points of error above the dense network's at which sizes are compared.
MARGIN = 0.3


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way of sharing.

    Parameters
    ----------
    name
        Of the clustering.
    vector, size
        d and k.
    books
        Code books a layer.
    rate
        Price of a bit, of the entropy-constrained clustering.
    """

    name: str
    vector: int
    size: int
    books: int = 1
    rate: float = 0.0

    @property
    def config(self) -> ShareConfig:
        """The clustering and its retraining."""
        return ShareConfig(
            epochs=1,
            learning_rate=1e-3,
            codes=(self.size,),
            vectors=(self.vector,),
            books=self.books,
            rate=self.rate,
            initialisation="linear" if self.vector == 1 else "k-means++",
        )


VARIANTS = (
    *(Variant(name="k-means", vector=vector, size=size) for vector in VECTORS for size in SIZES),
    *(
        Variant(name="product quantization", vector=vector, size=size, books=16)
        for vector, size in ((4, 8), (8, 8), (8, 32), (16, 32))
    ),
    *(
        Variant(name="entropy-constrained", vector=vector, size=size, rate=rate)
        for vector, size, rate in (
            (1, 32, 0.05),
            (1, 32, 0.2),
            (2, 128, 0.1),
            (4, 128, 0.1),
        )
    ),
)


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Train LeNet-5 in floating point, then share its weights in every way; nothing is pruned."""
    recipe = find_recipe(RECIPE)
    assert recipe.compress is not None
    dataset = load_data(recipe.training, data_folder(run.data_dir))
    context = CompressionRun(
        recipe=recipe.training,
        compress=recipe.compress,
        dataset=dataset,
        state_dir=run.folder,
        on_epoch=lambda phase, record: run.progress(f"{phase}: epoch {record.epoch} of {record.epochs}"),
    )
    with threads(recipe.training.train.threads):
        network = dense(context)
        rows = [_row(context, network.model, variant, run) for variant in VARIANTS]
    error = error_percent(network.accuracy)
    details = {
        "dense error, %": error,
        f"smallest file within {MARGIN} points of the dense error": _smallest(rows, error + MARGIN),
        "rows": rows,
    }
    return BenchmarkResult(checks=_checks(rows), details=details, seed=SEED)


def _row(context: CompressionRun, network: nn.Module, variant: Variant, run: BenchmarkRun) -> dict[str, Any]:
    model = build_model(context.model_config)
    model.load_state_dict(network.state_dict())
    share_by_clustering(model, variant.config, seed=SEED)
    clustered = _integer_network(context, model)
    # Retraining moves the values of the code books alone: the file keeps its size but for a few bits of them.
    data, _ = pack_network(clustered, context.model_config, vectors=(variant.vector,), books=variant.books)
    row = asdict(variant) | {
        "bytes": len(data),
        "times smaller": round(_float_bytes(clustered) / len(data), 1),
        "clustered: error, %": error_percent(context.accuracy(pooled_first(clustered))),
    }
    phase, training = variant.config, context.recipe.train
    images, labels = tensors(context.dataset.train_images, context.dataset.train_labels)
    train(
        pooled_first(model),
        images[:RETRAINING_IMAGES],
        labels[:RETRAINING_IMAGES],
        replace(training, epochs=phase.epochs, learning_rate=phase.learning_rate),
    )
    row["retrained: error, %"] = error_percent(context.accuracy(pooled_first(_integer_network(context, model))))
    run.progress(
        f"{variant.name}, d = {variant.vector}, k = {variant.size}: {row['bytes']:,} bytes, "
        f"{row['clustered: error, %']} % error, retrained {row['retrained: error, %']} %"
    )
    return row


@torch.no_grad()
def _integer_network(context: CompressionRun, shared: nn.Module) -> nn.Sequential:
    """The integer network that a network with code books stands for."""
    model = build_model(context.model_config)
    for layer, source in zip(quant_weight_layers(model), quant_weight_layers(shared), strict=True):
        layer.weight.copy_(source.weight)
        if layer.bias is not None and source.bias is not None:
            layer.bias.copy_(source.bias)
    return model.eval()


def _smallest(rows: list[dict[str, Any]], limit: float) -> dict[str, dict[str, int | None]]:
    """Bytes of the smallest file of each kind whose error stays within a limit, without and with retraining."""
    kinds: dict[str, Callable[[dict[str, Any]], bool]] = {
        "scalars, k-means": lambda row: row["name"] == "k-means" and row["vector"] == 1,
        "vectors, k-means": lambda row: row["name"] == "k-means" and row["vector"] > 1,
        "product quantization": lambda row: row["name"] == "product quantization",
        "entropy-constrained": lambda row: row["name"] == "entropy-constrained",
    }
    return {
        stage: {
            kind: min(
                (row["bytes"] for row in rows if chosen(row) and row[f"{stage}: error, %"] <= limit),
                default=None,
            )
            for kind, chosen in kinds.items()
        }
        for stage in ("clustered", "retrained")
    }


def _checks(rows: list[dict[str, Any]]) -> tuple[Check, ...]:
    """What the table must say whatever else it says: vectors cost accuracy until the code books are retrained."""
    errors = {
        (row["vector"], row["size"], stage): row[f"{stage}: error, %"]
        for row in rows
        for stage in ("clustered", "retrained")
        if row["name"] == "k-means"
    }
    longest, most = VECTORS[-1], SIZES[-1]
    return (
        equal("variants measured", len(rows), len(VARIANTS)),
        at_least(
            f"without retraining, k = {most}: points of error that d = {longest} costs",
            round(errors[longest, most, "clustered"] - errors[1, most, "clustered"], 2),
            0.1,
        ),
        at_most(
            f"with retraining, k = {most}: points of error that d = {longest} costs",
            round(errors[longest, most, "retrained"] - errors[1, most, "retrained"], 2),
            max(errors[longest, most, "clustered"] - errors[1, most, "clustered"], 0.1),
        ),
    )


def _float_bytes(model: nn.Module) -> int:
    return 4 * sum(parameter.numel() for parameter in model.parameters())


VECTOR_SHARING = Benchmark(
    name="vector-sharing",
    description="LeNet-5 with shared weights, nothing pruned: vectors of 1 to 16 weights, 2 to 256 values, product "
    "quantization and entropy-constrained clustering, without and with retraining of the code books",
    target="every variant measured; vectors cost accuracy without retraining, and less of it with retraining",
    minutes=8,
    measure=measure,
)
