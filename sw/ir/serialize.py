"""The graph on disk: ``graph.json`` for the structure, ``weights.npz`` beside it for the constants."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from karui.sw.ir.graph import Constant, Graph, Node
from karui.sw.ir.ops import OPS, Op
from karui.sw.ir.puppet_ops import GENERATORS, Generator
from karui.sw.ir.storage import RAW, Storage, storage_from_dict, storage_to_dict
from karui.sw.ir.tensor import GraphError, Tensor
from karui.sw.ir.verify import verify
from karui.sw.numerics import NumberFormat, Overflow, Rounding, pack, unpack

VERSION = 1
GRAPH_FILE = "graph.json"
WEIGHTS_FILE = "weights.npz"

_OPS: dict[str, type[Op]] = {op.__name__: op for op in OPS}
_GENERATORS: dict[str, type[Generator]] = {generator.__name__: generator for generator in GENERATORS}


def save_graph(graph: Graph, folder: Path) -> None:
    """Write ``graph.json`` and ``weights.npz`` into a folder; the first names the second's sha256.

    The JSON gives the shape and format of every edge as well, for readers; loading infers them anew and compares.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS_FILE
    packed = {name: pack(value.values.reshape(1, -1), value.number_format) for name, value in graph.constants.items()}
    np.savez_compressed(weights.with_suffix(".partial.npz"), **packed)  # type: ignore[arg-type]
    weights.with_suffix(".partial.npz").replace(weights)
    document = {
        "version": VERSION,
        "name": graph.name,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "inputs": {name: _tensor_to_dict(tensor) for name, tensor in graph.inputs.items()},
        "constants": {name: _constant_to_dict(value) for name, value in graph.constants.items()},
        "nodes": [
            {
                "name": node.name,
                "op": type(node.op).__name__,
                "parameters": _parameters_to_dict(node.op),
                "inputs": list(node.inputs),
                "output": _tensor_to_dict(graph.tensors[node.name]),
            }
            for node in graph.nodes
        ],
        "outputs": list(graph.outputs),
        "classes": list(graph.classes),
    }
    partial = folder / f"{GRAPH_FILE}.partial"
    partial.write_text(json.dumps(document, indent=1) + "\n")
    partial.replace(folder / GRAPH_FILE)


def load_graph(folder: Path) -> Graph:
    """Read and verify a graph.

    Raises
    ------
    GraphError
        If a file is missing, damaged, of another version, or the two do not belong together.
    """
    path, weights = folder / GRAPH_FILE, folder / WEIGHTS_FILE
    for needed in (path, weights):
        if not needed.is_file():
            raise GraphError(f"{needed} is missing: compile the network again")
    try:
        document = json.loads(path.read_text())
        if document["version"] != VERSION:
            raise GraphError(
                f"{path} has version {document['version']}, this karui reads version {VERSION}: compile "
                "the network again"
            )
        if document["weights_sha256"] != hashlib.sha256(weights.read_bytes()).hexdigest():
            raise GraphError(f"{weights} is not the file that {path.name} was written with: compile the network again")
        graph = _from_document(document, weights)
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, GraphError):
            raise
        raise GraphError(f"{path} is damaged ({error}): compile the network again") from error
    return verify(graph)


def _from_document(document: dict[str, Any], weights: Path) -> Graph:
    with np.load(weights) as archive:
        constants = {name: _constant(archive[name], entry) for name, entry in document["constants"].items()}
    graph = Graph(
        name=document["name"],
        inputs={name: _tensor_from_dict(entry) for name, entry in document["inputs"].items()},
        constants=constants,
        nodes=tuple(
            Node(
                name=entry["name"],
                op=_op_from_dict(entry["op"], entry["parameters"]),
                inputs=tuple(entry["inputs"]),
            )
            for entry in document["nodes"]
        ),
        outputs=tuple(document["outputs"]),
        classes=tuple(document["classes"]),
    )
    for entry in document["nodes"]:
        inferred, stated = graph.tensors[entry["name"]], _tensor_from_dict(entry["output"])
        if inferred != stated:
            raise GraphError(f"node {entry['name']} is said to yield {stated}, but yields {inferred}")
    return graph


def _constant(packed: Any, entry: dict[str, Any]) -> Constant:
    tensor = _tensor_from_dict(entry)
    values = unpack(packed, tensor.number_format, tensor.elements).reshape(tensor.shape)
    storage: Storage = storage_from_dict(entry["storage"]) if "storage" in entry else RAW
    return Constant(values=values, number_format=tensor.number_format, storage=storage)


def _constant_to_dict(constant: Constant) -> dict[str, Any]:
    """Shape and format, and the storage where it is not raw."""
    stored = {} if constant.storage == RAW else {"storage": storage_to_dict(constant.storage)}
    return _tensor_to_dict(constant.tensor) | stored


def _tensor_to_dict(tensor: Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "format": tensor.number_format.to_dict()}


def _tensor_from_dict(entry: dict[str, Any]) -> Tensor:
    return Tensor(shape=tuple(entry["shape"]), number_format=NumberFormat.from_dict(entry["format"]))


def _parameters_to_dict(op: Op) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for field in fields(op):
        value = getattr(op, field.name)
        if isinstance(value, NumberFormat):
            value = value.to_dict()
        elif isinstance(value, GENERATORS):
            value = {"kind": type(value).__name__, **asdict(value)}
        parameters[field.name] = value
    return parameters


def _op_from_dict(name: str, parameters: dict[str, Any]) -> Op:
    if name not in _OPS:
        raise GraphError(f"{name!r} is not an operation of this karui; it knows {', '.join(_OPS)}")
    values: dict[str, Any] = {}
    for key, value in parameters.items():
        match key:
            case "accumulator" | "output" | "sums" | "logits":
                values[key] = NumberFormat.from_dict(value)
            case "generator":
                values[key] = _generator_from_dict(**value)
            case "rounding":
                values[key] = Rounding(value)
            case "overflow":
                values[key] = Overflow(value)
            case _:
                values[key] = tuple(value) if isinstance(value, list) else value
    return _OPS[name](**values)


def _generator_from_dict(kind: str, **parameters: int) -> Generator:
    if kind not in _GENERATORS:
        raise GraphError(f"{kind!r} is not a generator of this karui; it knows {', '.join(_GENERATORS)}")
    return _GENERATORS[kind](**parameters)
