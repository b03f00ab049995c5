"""From a trained network of karui's layers to the integer graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from karui.sw.ir import Graph
from karui.sw.lower.layers import Lowering, Scores, Value, finish, lower_layer
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.numerics import NumberFormat, unsigned

_FLATTENS = (torch.flatten, Tensor.flatten)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lowered:
    """A network as an integer graph, and how the graph's integers give the network's own outputs.

    Parameters
    ----------
    graph : Graph
        From integer pixels (H, W, C) to the class.
    scores : str
        Edge of the integers whose arg max the class is.
    scale : Tensor
        float32 scalar: the network's outputs are ``scale * scores``, exactly.
    """

    graph: Graph
    scores: str
    scale: Tensor


def lower(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    name: str = "network",
    input_format: NumberFormat | None = None,
    classes: Sequence[str] = (),
) -> Lowered:
    """Lower a trained network.

    The network is traced, so any module will do whose forward pass chains karui's layers and the supported ones of
    torch. Batch norm and activation become thresholds, found by evaluating the network's own layers at integers; a
    neuron with a falling step has its weights negated.

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

    Raises
    ------
    UnsupportedLayer
        If a layer or operation has no lowering, named with the supported ones.
    GraphError
        If shapes do not fit.
    """
    model.eval()
    traced = _Tracer().trace(model)
    lowering = Lowering(name=name)
    modules = dict(model.named_modules())
    values: dict[fx.Node, Value | Scores] = {}
    result: Value | Scores | None = None
    with torch.no_grad():
        for node in traced.nodes:
            match node.op:
                case "placeholder":
                    values[node] = lowering.input(tuple(input_shape), input_format or unsigned(8))
                case "call_module":
                    layer = modules[str(node.target)]
                    values[node] = lower_layer(layer, lowering, str(node.target), _operand(node, values))
                case "call_function" | "call_method" if _is_flatten(node):
                    values[node] = lower_layer(nn.Flatten(), lowering, "flatten", _operand(node, values))
                case "output":
                    result = _operand(node, values)
                case _:
                    raise UnsupportedLayer(f"operation {node.target}", node.name)
    assert result is not None
    return _lowered(finish(lowering, result, classes))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = str(m.__module__).startswith(("torch.nn", "karui.sw.nn"))
        return known and not isinstance(m, nn.Sequential)


def _is_flatten(node: fx.Node) -> bool:
    target: Any = node.target
    start = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
    return bool((target in _FLATTENS or target == "flatten") and start == 1 and len(node.args) <= 2)


def _operand(node: fx.Node, values: dict[fx.Node, Value | Scores]) -> Value | Scores:
    operand = node.args[0] if node.args else None
    if not isinstance(operand, fx.Node) or operand not in values:
        raise UnsupportedLayer(f"operation {node.target} on something other than one tensor", node.name)
    return values[operand]


def _lowered(finished: tuple[Graph, str, Tensor]) -> Lowered:
    graph, scores, scale = finished
    return Lowered(graph=graph, scores=scores, scale=scale)
