"""How far binary networks' weights compress: without loss, with code books of vectors, trained or not, and in RTL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_most, equal
from karui.flows.bench.binary_forms import binary_layers, smallest_file, weights_of_file, with_free_signs
from karui.flows.bench.reference_data import data_folder
from karui.flows.bench.regression import play_at_interval
from karui.flows.compiling import layers
from karui.flows.recipe import find_recipe
from karui.flows.training import load_network
from karui.hw.plan.folding import engines_cost, fold_for_interval
from karui.hw.plan.stages import stages
from karui.sw.coding.container import read_container
from karui.sw.data.dataset import Dataset
from karui.sw.golden import evaluate
from karui.sw.ir import RAW, Graph, Shared, with_storage
from karui.sw.lower.agreement import to_graph_layout
from karui.sw.lower.compressed_storage import shared_bits, with_compressed_storage
from karui.sw.lower.from_torch import lower
from karui.sw.lower.share_binary_weights import share_binary_weights
from karui.sw.numerics import format_for_range
from karui.sw.train.data import load_data

RECIPES = ("bnn-tfc", "bnn-sfc", "bnn-lfc", "bnn-cnn", "bnn-cnn-fashion", "bnn-cnv", "binaryconnect-deterministic")
# Weights a vector and values of a code book.
POINTS = ((8, 128), (8, 64), (16, 256), (8, 16))
SHARED = ("bnn-sfc", "bnn-lfc")
CALIBRATION = 5000
# What bnn-lfc may lose by which point, in points of error, and the ROM that it may still take.
POINT, LOSS, KEPT = (8, 64), 0.3, 0.76
# The recipe that trains bnn-lfc on with code books, and the ROM that it may take.
TRAINED, TRAINED_KEPT = "bnn-lfc-shared", 0.51
PLAYED, PLAYED_POINT, INTERVAL, FRAMES = "bnn-sfc", (8, 64), 3136, 100

Array = npt.NDArray[Any]


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Pack every network, share the vectors of two, and play one in RTL."""
    checks: list[Check] = []
    packed: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for name in RECIPES:
        run.progress(f"{name}: packing")
        graph, dataset = _lowered(name, run.data_dir)
        found, packed[name] = _pack(name, graph, dataset)
        checks += found
        if name in SHARED:
            shared[name] = _share(name, graph, dataset, run)
    run.progress(TRAINED)
    dense, point = shared["bnn-lfc"]["as trained"], shared["bnn-lfc"][_title(POINT)]
    stored, dataset = _lowered(TRAINED, run.data_dir)
    row = _row(with_compressed_storage(stored), to_graph_layout(dataset.test_images), dataset, dense["bits"])
    shared["bnn-lfc"][f"{TRAINED}, trained on"] = row
    checks += [
        at_most(f"bnn-lfc, {_title(POINT)}: points of error more", round(point["error"] - dense["error"], 2), LOSS),
        at_most(f"bnn-lfc, {_title(POINT)}: bits over those as trained", point["over raw"], KEPT),
        at_most(f"{TRAINED}: points of error more", round(row["error"] - dense["error"], 2), LOSS),
        at_most(f"{TRAINED}: bits over those of bnn-lfc", row["over raw"], TRAINED_KEPT),
    ]
    found, played = _play(run)
    return BenchmarkResult(
        checks=(*checks, *found), details={"files": packed, "vectors shared": shared, f"{PLAYED} in RTL": played}
    )


def _lowered(name: str, data_dir: Path | None) -> tuple[Graph, Dataset]:
    recipe = find_recipe(name)
    assert recipe.checkpoint is not None
    dataset = load_data(recipe.training, data_folder(data_dir))
    pixels = format_for_range(0, dataset.pixel_maximum)
    model = load_network(recipe.checkpoint)
    return lower(model, dataset.image_shape, name=name, input_format=pixels, classes=dataset.classes).graph, dataset


def _pack(name: str, graph: Graph, dataset: Dataset) -> tuple[list[Check], dict[str, Any]]:
    """Without loss, as they are, and with the signs of inputs that never change chosen freely."""
    data, forms = smallest_file(graph)
    sizes = {layer: graph.constants[f"{layer}.weights"].values.size for layer in forms}
    read = weights_of_file(read_container(data), graph)
    wrong = sum(int(np.count_nonzero(read[layer] != graph.constants[f"{layer}.weights"].values)) for layer in forms)
    stored = with_compressed_storage(graph)
    kept = {str(stored.constants[node.inputs[1]].storage) for node in binary_layers(graph).values()}
    checks = [
        equal(f"{name}: weights that differ when read back", wrong, 0),
        at_most(
            f"{name}: bits of the file over those of the weights", _share_of(8 * len(data), sum(sizes.values())), 1.03
        ),
        equal(f"{name}: storage in hardware, of the fewest bits", ", ".join(sorted(kept)), "raw"),
    ]
    details: dict[str, Any] = {
        "raw bytes": -(-sum(sizes.values()) // 8),
        "file bytes": len(data),
        "layers": {
            layer: {"weights": sizes[layer], "form": form, "bits": bits, "over raw": _share_of(bits, sizes[layer])}
            for layer, (form, bits) in forms.items()
        },
    }
    if name in SHARED:
        free, layer, count = with_free_signs(graph, to_graph_layout(dataset.train_images))
        form, bits = smallest_file(free)[1][layer]
        train, test = (to_graph_layout(images) for images in (dataset.train_images[:CALIBRATION], dataset.test_images))
        changed = int(np.count_nonzero(evaluate(free, train) != evaluate(graph, train)))
        checks.append(equal(f"{name}: training images that free signs classify otherwise", changed, 0))
        details["signs of constant inputs free"] = {
            "layer": layer,
            "inputs that never change": count,
            "form": form,
            "bits": bits,
            "over raw": _share_of(bits, sizes[layer]),
            "test images classified otherwise": int(np.count_nonzero(evaluate(free, test) != evaluate(graph, test))),
        }
    return checks, details


def _share(name: str, graph: Graph, dataset: Dataset, run: BenchmarkRun) -> dict[str, Any]:
    """Error on all test images and bits in ROM, code books included, of a few operating points."""
    train, test = to_graph_layout(dataset.train_images[:CALIBRATION]), to_graph_layout(dataset.test_images)
    raw = sum(graph.constants[node.inputs[1]].bits for node in binary_layers(graph).values())
    rows: dict[str, Any] = {"as trained": {"error": _error(graph, test, dataset), "bits": raw}}
    for vector, codes in POINTS:
        run.progress(f"{name}: {_title((vector, codes))}")
        stored = with_compressed_storage(share_binary_weights(graph, train, vector=vector, codes=codes))
        rows[_title((vector, codes))] = _row(stored, test, dataset, raw)
    return rows


def _row(stored: Graph, test: Array, dataset: Dataset, raw: int) -> dict[str, Any]:
    bits = 0
    for node in binary_layers(stored).values():
        weights = stored.constants[node.inputs[1]]
        kept = weights.storage
        bits += shared_bits(weights, kept.vector) if isinstance(kept, Shared) else weights.bits
    return {"error": _error(stored, test, dataset), "bits": bits, "over raw": _share_of(bits, raw)}


def _play(run: BenchmarkRun) -> tuple[list[Check], dict[str, Any]]:
    """The RTL of a network whose vectors are looked up, and what the cost model says of it."""
    graph, dataset = _lowered(PLAYED, run.data_dir)
    train = to_graph_layout(dataset.train_images[:CALIBRATION])
    vector, codes = PLAYED_POINT
    stored = with_compressed_storage(share_binary_weights(graph, train, vector=vector, codes=codes))
    raw = with_storage(stored, dict.fromkeys([node.inputs[1] for node in binary_layers(stored).values()], RAW))
    played = play_at_interval(
        stored,
        to_graph_layout(dataset.test_images[:FRAMES]),
        interval=INTERVAL,
        folder=run.folder / PLAYED,
        label=PLAYED,
        progress=run.progress,
    )
    engines = [engine for engine in layers(played.design.accelerator) if engine["weight_bits"]]
    estimates = {}
    for title, each in (("raw", raw), ("looked up", stored)):
        pipeline = stages(each)
        estimate = engines_cost(pipeline, fold_for_interval(pipeline, INTERVAL))
        estimates[title] = {"luts": estimate.luts, "block_rams": estimate.block_rams}
    looked_up = sum("shared" in engine["storage"] for engine in engines)
    checks = [*played.checks(PLAYED, INTERVAL), equal(f"{PLAYED}: layers whose weights are looked up", looked_up, 3)]
    return checks, {
        **played.details,
        "vectors": _title(PLAYED_POINT),
        "rom_bits": {engine["name"]: [engine["weight_bits"], engine["stored_weight_bits"]] for engine in engines},
        "estimated": estimates,
    }


def _error(graph: Graph, images: Array, dataset: Dataset) -> float:
    """Percent of the test images."""
    return round(100 * float((evaluate(graph, images).ravel() != dataset.test_labels).mean()), 2)


def _title(point: tuple[int, int]) -> str:
    return f"{point[1]} vectors of {point[0]}"


def _share_of(bits: int, raw: int) -> float:
    return round(bits / raw, 4)


BINARY_STORAGE = Benchmark(
    name="binary-storage",
    description="the shipped binary networks' weights: packed without loss, then in code books of vectors without "
    "and with retraining, and one so stored in RTL",
    target=f"every weight back; bnn-lfc in <= {KEPT} of its ROM bits for <= {LOSS} points of error, trained on in <= "
    f"{TRAINED_KEPT}; RTL equal to the golden model",
    minutes=6,
    measure=measure,
)
