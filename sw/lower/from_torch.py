"""From a trained network of karui's layers to the integer graph."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from karui.sw.ir import Graph
from karui.sw.lower.absorb_channel_shuffle import absorb_channel_shuffle
from karui.sw.lower.fuse_requantize import fuse_requantize
from karui.sw.lower.generated import lower_generated_layers
from karui.sw.lower.joins import lower_add, lower_concat
from karui.sw.lower.layers import finish, lower_layer
from karui.sw.lower.narrow_weights import narrow_weights
from karui.sw.lower.pools import lower_max_unpool, lower_pool_with_places
from karui.sw.lower.quantize_early import quantize_early
from karui.sw.lower.requantize_from_ladder import ladders, requantize_from_ladder
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.lower.values import Lowering, Places, Pooled, Scores, Value
from karui.sw.nn.generated_layers import GeneratedLayers
from karui.sw.numerics import NumberFormat, unsigned

_RELUS = (torch.relu, functional.relu, "relu")
_FLATTENS = (torch.flatten, Tensor.flatten)
_ADDITIONS = (operator.add, operator.iadd, torch.add)
_CONCATENATIONS = (torch.cat, torch.concat)

# What a node of the traced network is.
_Values = dict[fx.Node, Value | Scores | Pooled | Places]


@dataclass(frozen=True, kw_only=True, eq=False)
class Lowered:
    """A network as an integer graph, and how the graph's integers give the network's own outputs.

    Parameters
    ----------
    graph : Graph
        From integer pixels (H, W, C) to the class; of a network whose output is a map, to the scores of each pixel.
    scores : str
        Edge of the integers whose arg max the class is, along the channels.
    scale : Tensor
        Scalar of `float_type`: the network's outputs are ``scale * scores``, exactly.
    float_type : torch.dtype
        In which the network must compute for that: float32, or float64 (``model.double()``) where sums of float32
        would not be exact, or where its rounding in batch norms leaves steps that only a table of thresholds describes.
    """

    graph: Graph
    scores: str
    scale: Tensor
    float_type: torch.dtype = torch.float32


def lower(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    name: str = "network",
    input_format: NumberFormat | None = None,
    classes: Sequence[str] = (),
    float_type: torch.dtype | None = None,
) -> Lowered:
    """Lower a trained network.

    The network is traced, so any module will do whose forward pass joins karui's layers and the supported ones of
    torch, with branches, sums and concatenations. Batch norm and activation become step functions, found by evaluating
    the network's own layers at integers: `Requantize` where integers reproduce every step, else thresholds. Channel
    shuffles move into the weights where these allow it.

    Parameters
    ----------
    model : nn.Module
        Is put into evaluation mode.
    input_shape : sequence of int
        Channels, height, width; or the length of a vector.
    name : str
        Of the graph.
    input_format : NumberFormat, optional
        Of a pixel; unsigned 8 bits unless given.
    classes : sequence of str
        Names of the classes, in order.
    float_type : torch.dtype, optional
        float32 or float64. Unless given: float32, or float64 if that is exact where float32 is not, or leaves fewer
        tables of thresholds.

    Raises
    ------
    UnsupportedLayer
        If a layer or operation has no lowering, named with the supported ones.
    GraphError
        If shapes do not fit.
    ValueError
        If `float_type` is float32 and sums are not exact in it.
    """
    model.eval()
    arguments = tuple(input_shape), name, input_format or unsigned(8), classes
    if float_type is not None:
        lowered, largest = _lower(model, *arguments, float_type)
        if largest is not None:
            raise ValueError(f"sums reach {largest}, which float32 does not hold exactly: lower in float64")
        return lowered
    lowered, largest = _lower(model, *arguments, torch.float32)
    if largest is None and not ladders(lowered.graph):
        return lowered
    double, _ = _lower(model, *arguments, torch.float64)
    return double if largest is not None or len(ladders(double.graph)) < len(ladders(lowered.graph)) else lowered


def _lower(
    model: nn.Module,
    input_shape: tuple[int, ...],
    name: str,
    input_format: NumberFormat,
    classes: Sequence[str],
    float_type: torch.dtype,
) -> tuple[Lowered, int | None]:
    """Lower in one float type; beside it the largest sum if the type does not hold it exactly."""
    if float_type == torch.float64:
        model = copy.deepcopy(model).double()
    traced = _Tracer().trace(model)
    lowering = Lowering(name=name, float_type=float_type)
    modules = dict(model.named_modules())
    values: _Values = {}
    result: Value | Scores | None = None
    with torch.no_grad(), _one_thread():
        for node in traced.nodes:
            match node.op:
                case "placeholder":
                    if values:
                        raise UnsupportedLayer("a network of more than one input", node.name)
                    values[node] = lowering.input(input_shape, input_format)
                case "call_module":
                    values[node] = _lower_module(modules[str(node.target)], lowering, node, values)
                case "call_function" | "call_method" if _is_flatten(node):
                    operand = _operands(node, node.args[:1], values, 1)
                    values[node] = lower_layer(nn.Flatten(), lowering, "flatten", *operand)
                case "call_function" | "call_method" if node.target in _RELUS:
                    values[node] = lower_layer(nn.ReLU(), lowering, "relu", *_operands(node, node.args, values, 1))
                case "call_function" if (part := _part_of_pool(node, values)) is not None:
                    values[node] = part
                case "call_function" if node.target in _ADDITIONS and not node.kwargs:
                    values[node] = lower_add(lowering, "add", _operands(node, node.args, values, 2))
                case "call_function" if node.target in _CONCATENATIONS and _axis(node) == 1:
                    values[node] = lower_concat(lowering, "concat", _operands(node, node.args[0], values))
                case "output":
                    (result,) = _operands(node, node.args, values, 1)
                case _:
                    raise UnsupportedLayer(f"operation {node.target}", node.name)
    assert result is not None
    graph, scores, scale = finish(lowering, result, classes)
    graph = absorb_channel_shuffle(narrow_weights(quantize_early(fuse_requantize(requantize_from_ladder(graph)))))
    lowered = Lowered(graph=graph, scores=scores, scale=scale, float_type=float_type)
    return lowered, None if lowering.is_exact else lowering.largest


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: on tensors as small as those of step functions, waking others costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = str(m.__module__).startswith(("torch.nn", "karui.sw.nn"))
        return known and not isinstance(m, nn.Sequential)


def _lower_module(layer: nn.Module, lowering: Lowering, node: fx.Node, values: _Values) -> Value | Scores | Pooled:
    """A layer of the network; pools and unpooling speak to each other of places; all else takes one tensor, or two."""
    name = str(node.target)
    if isinstance(layer, nn.MaxUnpool2d):
        places = values.get(node.args[1]) if len(node.args) == 2 and isinstance(node.args[1], fx.Node) else None
        if not isinstance(places, Places) or node.kwargs:
            raise UnsupportedLayer("layer MaxUnpool2d on something other than a tensor and a MaxPool2d's indices", name)
        (value,) = _operands(node, node.args[:1], values, 1)
        return lower_max_unpool(layer, lowering, name, value, places)
    if isinstance(layer, GeneratedLayers):
        return lower_generated_layers(layer, lowering, name, *_operands(node, node.args, values, 2))
    (value,) = _operands(node, node.args, values, 1)
    if isinstance(layer, nn.MaxPool2d) and layer.return_indices:
        return lower_pool_with_places(layer, lowering, name, value)
    return lower_layer(layer, lowering, name, value)


def _part_of_pool(node: fx.Node, values: _Values) -> Value | Places | None:
    """What an index picks of the two results of a max pool."""
    pooled = values.get(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
    if node.target is not operator.getitem or not isinstance(pooled, Pooled):
        return None
    return pooled.value if node.args[1] == 0 else pooled.places


def _is_flatten(node: fx.Node) -> bool:
    target: Any = node.target
    start = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
    return bool((target in _FLATTENS or target == "flatten") and start == 1 and len(node.args) <= 2)


def _axis(node: fx.Node) -> Any:
    """The axis of a concatenation of tensors in a list."""
    return node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)


def _operands(node: fx.Node, arguments: Any, values: _Values, count: int | None = None) -> list[Value | Scores]:
    known = [values.get(argument) for argument in arguments if isinstance(argument, fx.Node)]
    found = [value for value in known if isinstance(value, Value | Scores)]
    if len(found) != len(arguments) or count not in (None, len(found)):
        wanted = "a list of tensors" if count is None else "one tensor" if count == 1 else f"{count} tensors"
        raise UnsupportedLayer(f"operation {node.target} on something other than {wanted}", node.name)
    return found
