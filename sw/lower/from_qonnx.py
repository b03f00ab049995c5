"""Import of networks that other toolkits trained: ONNX as QONNX, FINN-ONNX, or of ONNX's own integer operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from karui.sw.ir import Graph, GraphBuilder
from karui.sw.lower.onnx_constants import fold_constant, load_initializers
from karui.sw.lower.onnx_integer import stack_of_matrices
from karui.sw.lower.onnx_model import Dialect, OnnxModel, UnsupportedModel, read_model
from karui.sw.lower.onnx_operations import lower_node
from karui.sw.lower.onnx_signal import Import, Signal, image_layout
from karui.sw.lower.real_meaning import Meaning, plain
from karui.sw.lower.requantize_from_ladder import requantize_from_ladder
from karui.sw.numerics import NumberFormat, signed, unsigned

_INPUT_TYPES: dict[int, NumberFormat | None] = {
    onnx.TensorProto.FLOAT: None,
    onnx.TensorProto.UINT8: unsigned(8),
    onnx.TensorProto.INT8: signed(8),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class ImportedNetwork:
    """An imported network, and what its integers mean.

    Parameters
    ----------
    graph : Graph
        The integer graph.
    dialect : {"QONNX", "FINN-ONNX", "integer ONNX"}
        What the file was written in.
    input : Signal
        ``input.meaning.scale * (word + input.meaning.offset)`` are the real numbers that the model takes.
    output : Signal
        ``output.real(words)`` is the model's own output, float32, for the graph's output words: where the last layer
        ends in scales and biases, these are left to the host.
    quantized : mapping of str to Signal
        The same for the model's tensors behind each quantizer, by their names in the model.
    """

    graph: Graph
    dialect: Dialect
    input: Signal
    output: Signal
    quantized: Mapping[str, Signal]


def import_onnx(
    model: str | Path | onnx.ModelProto,
    *,
    name: str | None = None,
    input_format: NumberFormat | None = None,
    classes: Sequence[str] = (),
) -> ImportedNetwork:
    """Import a network and keep what its integers mean; parameters and errors as `from_onnx`."""
    source = read_model(model)
    dialect = source.dialect
    state = Import(model=source, build=GraphBuilder(name or _network_name(model)), input_edge="input")
    load_initializers(state)
    state.signals[source.input.name] = _input_signal(state, source, input_format)
    for node in source.nodes:
        if not fold_constant(state, node):
            lower_node(state, node)
    quantized = {
        node.output[0]: state.signals[node.output[0]]
        for node in source.nodes
        if node.op_type in _QUANTIZERS and node.output[0] in state.signals
    }
    last = state.signals.get(source.output_name)
    if last is None:
        raise UnsupportedModel(f"{source.source}: its output {source.output_name!r} does not depend on its input")
    output = state.placed(last, source.nodes[-1])
    return ImportedNetwork(
        graph=requantize_from_ladder(state.build.finish(output.edge, classes=classes)),
        dialect=dialect,
        input=state.input_signal(source.input.name),
        output=output,
        quantized=quantized,
    )


def from_onnx(
    model: str | Path | onnx.ModelProto,
    *,
    name: str | None = None,
    input_format: NumberFormat | None = None,
    classes: Sequence[str] = (),
) -> Graph:
    """The integer graph of a network in QONNX, FINN-ONNX or ONNX's integer operators.

    Scales, biases, batch norms and activations between two quantizers become integer thresholds, read off the model's
    own float32 arithmetic at integers of the accumulator, or a multiplication and a shift where these pass every one of
    the thresholds; rows whose step falls have their weights negated.

    Parameters
    ----------
    model : path or onnx.ModelProto
        The dialect is found out.
    name : str, optional
        Of the graph; the file's name unless given.
    input_format : NumberFormat, optional
        Format of the integers that the model takes as its input. Without it: the ``finn_datatype`` annotation of the
        input, or its type (uint8, int8), or, where the model quantizes its input first thing, the words of that
        quantizer.
    classes : sequence of str
        Names of the classes, in order.

    Raises
    ------
    UnsupportedModel
        With one line that names the node, the value and the way out.
    """
    return import_onnx(model, name=name, input_format=input_format, classes=classes).graph


_QUANTIZERS = ("BipolarQuant", "IntQuant", "MultiThreshold", "QLinearConv", "QLinearMatMul", "Quant", "QuantizeLinear")


def _input_signal(state: Import, source: OnnxModel, given: NumberFormat | None) -> Signal:
    value = source.input
    tensor = value.type.tensor_type
    if tensor.elem_type not in _INPUT_TYPES:
        raise UnsupportedModel(
            f"the input {value.name!r} is of type {onnx.TensorProto.DataType.Name(tensor.elem_type)}; it must be "
            "FLOAT, UINT8 or INT8"
        )
    sizes = [dimension.dim_value for dimension in tensor.shape.dim][1:]
    stack = stack_of_matrices(source, sizes)
    if (stack is None and len(sizes) not in (1, 3)) or min(sizes) < 1:
        raise UnsupportedModel(
            f"the input {value.name!r} has the shape (batch, {', '.join(map(str, sizes))}); it must be (batch, "
            "channels, height, width) or (batch, features), with all sizes but the batch known"
        )
    number_format = given or source.datatype(value.name) or _INPUT_TYPES[tensor.elem_type]
    if stack is not None:
        shape, layout = stack
    elif len(sizes) == 3:
        shape = (sizes[1], sizes[2], sizes[0])
        layout = image_layout(shape)
    else:
        shape, layout = (sizes[0],), np.arange(sizes[0])[None]
    if number_format is None:
        return Signal(source=None, shape=shape, layout=layout, meaning=plain())
    state.build.input(state.input_edge, shape, number_format)
    scale = 2.0 ** -np.atleast_1d(np.asarray(number_format.fraction, dtype=np.float64))
    meaning = Meaning(scale=scale, offset=np.zeros(1))
    return Signal(source=state.input_edge, shape=shape, layout=layout, meaning=meaning)


def _network_name(model: Any) -> str:
    return str(model.graph.name or "network") if isinstance(model, onnx.ModelProto) else Path(model).stem
