"""Stage import: a network that another toolkit trained, in place of the stages train and compile."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.flows.build_folder import BuildFolder
from karui.flows.compare import load_frames
from karui.flows.compiling import layers, rate_of
from karui.flows.design import Design
from karui.flows.settings import Settings
from karui.sw.golden import evaluate
from karui.sw.ir import Tensor
from karui.sw.lower.from_qonnx import import_onnx

# Frames of random words that are simulated where no inputs are given.
RANDOM_FRAMES = 100


def run_import(
    folder: BuildFolder, settings: Settings, model: Path, *, inputs: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """Import an ONNX file and generate its RTL: a build folder that `simulate` and `synthesize` take.

    Parameters
    ----------
    folder : BuildFolder
        To fill.
    settings : Settings
        The hardware asked for.
    model : Path
        QONNX, FINN-ONNX, or of ONNX's integer operators.
    inputs : Path, optional
        Frames to simulate, in the graph's layout (n, H, W, C) or (n, features): ``.npy``, or ``.npz`` with an array
        ``inputs``. Random words unless given.
    seed : int
        Of the random words.

    Returns
    -------
    dict
        The stage's result, as ``compile.json`` has it: what `karui.flows.compiling.run_compile` records of the
        design, without what only a test set tells.

    Raises
    ------
    UnsupportedModel
        If the file is of neither dialect, or a node cannot be lowered.
    """
    started = time.monotonic()
    imported = import_onnx(model)
    graph = imported.graph
    source = graph.inputs[graph.input_name]
    frames = _random_frames(source, seed) if inputs is None else load_frames(inputs, "inputs", source.shape)
    folding = rate_of(settings).fold(graph)
    folder.begin("compile")
    settings.save(folder)
    outputs = evaluate(graph, frames)
    design = Design.create(graph, folder.design, folding)
    partial = folder.vectors.with_suffix(".partial.npz")
    np.savez_compressed(partial, inputs=frames, outputs=outputs)
    partial.replace(folder.vectors)
    predicted = design.accelerator.predicted
    result = {
        "dialect": imported.dialect,
        "predicted": {
            "initiation_interval": predicted.initiation_interval.to_dict(),
            "latency": predicted.latency.to_dict(),
        },
        "layers": layers(design.accelerator),
        "size": {"stored_bytes": -(-graph.constant_bits // 8)},
        "images": len(frames),
        "seconds": round(time.monotonic() - started, 2),
    }
    folder.finish("compile", result, inputs=[folder.vectors, *design.files])
    return result


def _random_frames(source: Tensor, seed: int) -> npt.NDArray[np.int64]:
    number_format = source.number_format
    random = np.random.default_rng(seed)
    shape = (RANDOM_FRAMES, *source.shape)
    if number_format.is_bipolar:
        return 2 * random.integers(0, 2, shape) - 1
    return random.integers(number_format.minimum, number_format.maximum + 1, shape)
