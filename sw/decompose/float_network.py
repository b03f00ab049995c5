"""A trained network as a graph of plain layers: traced, its batch norms folded, its shapes known."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from karui.sw.nn.quant_activation import QuantActivation
from karui.sw.nn.quant_conv import QuantConv2d
from karui.sw.nn.quant_linear import QuantLinear

WeightLayer = nn.Conv2d | nn.Linear
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class UnsupportedNetwork(ValueError):
    """A network holds something that cannot be decomposed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatNetwork:
    """A network in evaluation mode, ready to be decomposed.

    Parameters
    ----------
    graph : GraphModule
        The same function as the network's, of layers of torch alone.
    shapes : mapping of str to tuple of int
        Shape of one input's value behind each node of the graph.
    """

    graph: fx.GraphModule
    shapes: dict[str, tuple[int, ...]]

    def weight_layers(self) -> dict[str, WeightLayer]:
        """Convolutions and fully connected layers, in the order in which they are computed."""
        modules = dict(self.graph.named_modules())
        targets = [str(node.target) for node in self.graph.graph.nodes if node.op == "call_module"]
        return {name: layer for name in targets if isinstance(layer := modules[name], WeightLayer)}


@torch.no_grad()
def float_network(model: nn.Module, input_shape: Sequence[int]) -> FloatNetwork:
    """Trace a network, fold its batch norms, find its shapes; the network itself stays as it is.

    Parameters
    ----------
    model : nn.Module
        Of layers of torch, or of karui's quantized layers without bits.
    input_shape : sequence of int
        Of one input: channels, height, width.

    Raises
    ------
    UnsupportedNetwork
        If there is no linear layer, one is quantized already or used twice, or a batch norm does not follow one.
    """
    plain = copy.deepcopy(model).eval()
    _make_plain(plain)
    graph = fx.GraphModule(plain, _Tracer().trace(plain))
    _check_used_once(graph)
    _fold_batch_norms(graph)
    if not any(isinstance(module, WeightLayer) for module in graph.modules()):
        raise UnsupportedNetwork("the network has no convolution and no linear layer")
    recorder = _ShapeRecorder(graph)
    dtype = next((parameter.dtype for parameter in graph.parameters()), torch.float32)
    recorder.run(torch.zeros(1, *input_shape, dtype=dtype))
    return FloatNetwork(graph=graph, shapes=recorder.shapes)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = str(m.__module__).startswith(("torch.nn", "karui.sw.nn"))
        return known and not isinstance(m, nn.Sequential)


class _ShapeRecorder(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n.name] = tuple(value.shape[1:])
        return value


def _make_plain(model: nn.Module) -> None:
    """Replace karui's layers by torch's that compute the same."""
    for name, module in list(model.named_modules()):
        plain: nn.Module
        match module:
            case QuantConv2d() | QuantLinear() if module.weight_bits is not None:
                raise UnsupportedNetwork(f"layer {name} has weights of {module.weight_bits} bits already")
            case QuantActivation() if module.bits is not None:
                raise UnsupportedNetwork(f"layer {name} has activations of {module.bits} bits already")
            case QuantConv2d():
                plain = nn.Conv2d(
                    module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,
                    groups=module.groups, bias=module.bias is not None,
                )  # fmt: skip
                plain.weight, plain.bias = module.weight, module.bias
            case QuantLinear():
                plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
                plain.weight = module.weight
                if module.bias is not None:
                    plain.bias = module.bias
            case QuantActivation():
                plain = nn.Hardtanh(-module.limit if module.signed else 0.0, module.limit)
            case _:
                continue
        model.set_submodule(name, plain.eval())


def _check_used_once(graph: fx.GraphModule) -> None:
    used: set[str] = set()
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        if node.op == "call_module" and isinstance(modules[str(node.target)], WeightLayer):
            if str(node.target) in used:
                raise UnsupportedNetwork(f"layer {node.target} is used twice, with a range of inputs of its own each")
            used.add(str(node.target))


def _fold_batch_norms(graph: fx.GraphModule) -> None:
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, _BATCH_NORMS):
            continue
        before = node.args[0]
        assert isinstance(before, fx.Node)
        layer = modules.get(str(before.target)) if before.op == "call_module" else None
        if len(before.users) > 1 or not isinstance(layer, WeightLayer):
            raise UnsupportedNetwork(f"batch norm {node.target} does not follow a linear layer alone, so cannot fold")
        if norm.running_mean is None:
            raise UnsupportedNetwork(f"batch norm {node.target} has no running statistics")
        fused = fuse_conv_bn_eval(layer, norm) if isinstance(layer, nn.Conv2d) else fuse_linear_bn_eval(layer, norm)
        graph.set_submodule(str(before.target), fused)
        modules[str(before.target)] = fused
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
