"""Stage compile: from the trained network to the proven graph and its RTL."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from karui.flows.build_folder import BuildError, BuildFolder
from karui.flows.design import Design, Rate
from karui.flows.recipe import Recipe
from karui.flows.settings import Settings
from karui.flows.synthesize.targets import find_device
from karui.flows.training import load_network
from karui.hw.compressed.sparse_matrix_vector import SparseMatrixVectorConfig
from karui.hw.emit.accelerator import Accelerator
from karui.hw.engines.constant_engine import ConstantEngineConfig
from karui.hw.memory.shared_weights import SharedWeightsConfig
from karui.hw.plan.components import Engine, StreamConfig
from karui.hw.plan.estimate import cost, cycles, multipliers
from karui.hw.plan.folding import DSPS
from karui.hw.plan.stages import Stage
from karui.hw.plan.storage_choice import with_storage_that_pays
from karui.sw.data.dataset import Dataset
from karui.sw.ir import Constant
from karui.sw.lower.agreement import Agreement, compare_with_golden, to_graph_layout
from karui.sw.lower.compressed_storage import with_compressed_storage
from karui.sw.lower.from_torch import Lowered, lower
from karui.sw.nn.decomposed import DecomposedLayer
from karui.sw.numerics import format_for_range
from karui.sw.train.data import load_data


def run_compile(
    folder: BuildFolder,
    settings: Settings,
    *,
    data_dir: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Lower the network, prove the graph on every test image, fold it and generate the RTL.

    Parameters
    ----------
    folder : BuildFolder
        With the stage train done.
    settings : Settings
        Of the build.
    data_dir : Path, optional
        Folder of the data sets.
    progress : callable
        Called with images compared and their total.

    Returns
    -------
    dict
        The stage's result, as ``compile.json`` has it.

    Raises
    ------
    BuildError
        If the graph does not agree with the network on every image.
    """
    folder.result("train")
    folder.begin("compile")
    started = time.monotonic()
    recipe = settings.load_recipe()
    model = load_network(folder.trained)
    dataset = load_data(recipe.training, data_dir)
    rate = rate_of(settings)
    lowered = lowered_for_rate(recipe, model, dataset, rate)
    images = dataset.test_images
    agreement = compare_with_golden(model, lowered, images, progress=lambda done: progress(done, len(images)))
    if agreement.mismatches:
        raise BuildError(
            f"the integer graph differs from the network on {agreement.mismatches} of {agreement.images} test images: "
            "nothing was generated; this is a fault of karui's lowering, please report it with the checkpoint"
        )
    design = Design.create(lowered.graph, folder.design, rate.fold(lowered.graph))
    _save_vectors(folder.vectors, dataset, agreement)
    result = {
        **_accuracy(dataset, agreement),
        "golden_vs_model": {
            "images": agreement.images,
            "mismatches": agreement.mismatches,
            "arithmetic": str(lowered.float_type).removeprefix("torch."),
        },
        "predicted": {
            "initiation_interval": design.accelerator.predicted.initiation_interval.to_dict(),
            "latency": design.accelerator.predicted.latency.to_dict(),
        },
        "layers": (engines := layers(design.accelerator)),
        "size": _size(model, lowered, engines),
        "data": {
            "name": dataset.name,
            "provenance": dataset.provenance,
            "classes": list(dataset.classes),
            "pixel_maximum": dataset.pixel_maximum,
        },
        "seconds": round(time.monotonic() - started, 2),
    }
    folder.finish("compile", result, inputs=[folder.trained, folder.vectors, *design.files])
    return result


def lowered_for_rate(recipe: Recipe, model: nn.Module, dataset: Dataset, rate: Rate) -> Lowered:
    """Lower a network for a recipe's data, its weights stored and its predictions made as pays at a rate.

    Raises
    ------
    UnsupportedLayer, FoldingError
        If the network has no graph, or none within the rate.
    """
    lowered = lower(
        model,
        dataset.image_shape,
        name=recipe.name,
        input_format=format_for_range(0, dataset.pixel_maximum),
        classes=dataset.classes,
    )
    graph = lowered.graph
    if recipe.compress is not None or recipe.share is not None:
        stored = with_compressed_storage(graph, recipe.compress.coding if recipe.compress else None)
        graph = with_storage_that_pays(stored, rate.fold(stored))
    return replace(lowered, graph=rate.with_predictions_that_pay(graph))


def layers(accelerator: Accelerator) -> list[dict[str, Any]]:
    """One entry an engine: what it reads and computes, how it is folded, what it is expected to cost."""
    senders = {accelerator.graph.input_name: accelerator.graph.input_name}
    senders |= {stage.writes: stage.name for stage in accelerator.stages}
    return [
        _layer(stage, engine, accelerator) | {"reads": [senders[stream] for stream in stage.reads]}
        for stage, engine in zip(accelerator.stages, accelerator.engines, strict=True)
    ]


def stored_bits(weights: Constant, config: StreamConfig) -> int:
    """Bits that an engine's weights take in its ROMs, with code books and the symbol tables of Huffman codes."""
    match config:
        case SparseMatrixVectorConfig(entries=entries):
            return entries.stored_bits
        case ConstantEngineConfig(weights=SharedWeightsConfig() as shared):
            return shared.stored_bits
        case _:
            return weights.bits


def _layer(stage: Stage, engine: Engine, accelerator: Accelerator) -> dict[str, Any]:
    fold = accelerator.folding.folds[stage.name]
    known = stage.graph.constants
    constants = {name: known[name] for node in stage.nodes for name in node.inputs if name in known}
    flow = accelerator.dataflow
    weights = constants.pop(f"{stage.name}.weights", None) or constants.pop(f"{stage.name}.bases", None)
    estimate = cost(stage.op, stage, fold)
    return {
        "name": stage.name,
        "op": type(stage.op).__name__,
        "activation": None if stage.activation is None else type(stage.activation.op).__name__,
        "shape_in": list(stage.source.shape),
        "shape_out": list(stage.result.shape),
        "format_in": str(stage.source.number_format),
        "format_out": str(stage.result.number_format),
        "weights_shape": None if weights is None else list(weights.values.shape),
        "weight_format": None if weights is None else str(weights.number_format),
        "weight_bits": 0 if weights is None else weights.bits,
        "storage": None if weights is None else str(weights.storage),
        "stored_weight_bits": 0 if weights is None else stored_bits(weights, engine.config),
        "parameter_bits": sum(constant.bits for constant in constants.values()),
        "simd": fold.simd,
        "pe": fold.pe,
        "planes": fold.planes,
        "bases": fold.bases,
        "multiplier": fold.multiplier if len(multipliers(stage)) > 1 else None,
        "cycles": cycles(stage.op, stage, fold),
        "fifo_words": [flow.fifos[link].depth for link in flow.inputs[stage.name] if link in flow.fifos],
        "estimate": {"luts": estimate.luts, "block_rams": estimate.block_rams, "dsps": estimate.dsps},
    }


def rate_of(settings: Settings) -> Rate:
    """The rate that a build's settings ask for."""
    hardware = settings.hardware
    device = find_device(hardware.device)
    return Rate(
        initiation_interval=hardware.initiation_interval,
        frame_rate=hardware.frame_rate,
        clock_mhz=hardware.clock_mhz,
        device=device if hardware.fit else None,
        fill=hardware.fill,
        dsps=min(DSPS, device.dsps),
        lut_inputs=device.lut_inputs,
        budget=None if hardware.fit else hardware.fill.budget(device),
    )


def _accuracy(dataset: Dataset, agreement: Agreement) -> dict[str, Any]:
    right = {
        "model": agreement.model_classes == dataset.test_labels,
        "golden": agreement.golden_classes == dataset.test_labels,
    }
    return {"accuracy": {**{name: float(hits.mean()) for name, hits in right.items()}, "images": agreement.images}}


def _size(model: nn.Module, lowered: Lowered, engines: list[dict[str, Any]]) -> dict[str, int]:
    """Bytes of the network's parameters in float32, and of all constants as the hardware stores them."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    decomposed = [layer for layer in model.modules() if isinstance(layer, DecomposedLayer)]
    parameters += sum(layer.codes.numel() + layer.offset.numel() for layer in decomposed)
    saved = sum(engine["weight_bits"] - engine["stored_weight_bits"] for engine in engines)
    return {"float_bytes": 4 * parameters, "stored_bytes": -(-(lowered.graph.constant_bits - saved) // 8)}


def _save_vectors(path: Path, dataset: Dataset, agreement: Agreement) -> None:
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(
        partial,
        inputs=to_graph_layout(dataset.test_images),
        outputs=agreement.golden_classes[:, None],
        labels=dataset.test_labels,
    )
    partial.replace(path)
