"""A network with its linear layers replaced, and all between them made exact on the layers' grids."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from karui.sw.decompose.fixed_point import Meaning, plain_meaning
from karui.sw.decompose.float_network import FloatNetwork, UnsupportedNetwork, WeightLayer
from karui.sw.nn.decomposed import DecomposedLayer
from karui.sw.nn.global_average_pool import GlobalAveragePool
from karui.sw.nn.normalize import Normalize
from karui.sw.nn.power_of_two_scale import PowerOfTwoScale
from karui.sw.nn.sum_pool import SumPool2d

# Makes the layer that replaces one of a name, whose inputs have a meaning.
MakeLayer = Callable[[str, WeightLayer, Meaning], DecomposedLayer]

# Pixels of 8 bits.
_INPUT_REACH = 255

_KEPT = (nn.MaxPool2d, nn.MaxUnpool2d, nn.Upsample)
_ANY = (nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity)
_RELUS = (torch.relu, functional.relu, "relu")
_ADDITIONS = (operator.add, operator.iadd, torch.add)
_CONCATENATIONS = (torch.cat, torch.concat)
_FLATTENS = (torch.flatten, Tensor.flatten, "flatten")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    """A node of the network, the shapes around it, and what its operands mean."""

    node: fx.Node
    shape: tuple[int, ...]
    input_shape: tuple[int, ...]
    operands: tuple[Meaning, ...]

    def plain(self) -> Meaning:
        """The meaning of the operand, if it is nothing but a factor times integers."""
        if not self.operands[0].is_plain:
            raise UnsupportedNetwork(
                f"{self.node.name}: images must reach a linear layer before they reach {self.node.target}"
            )
        return self.operands[0]


def rebuild(network: FloatNetwork, make_layer: MakeLayer) -> fx.GraphModule:
    """Replace every linear layer; average pools become sums, which the next layer's quantization sub-layer divides.

    Parameters
    ----------
    network : FloatNetwork
        Is used up: its modules become those of the result.
    make_layer : callable

    Raises
    ------
    UnsupportedNetwork
        If a layer or operation has no exact form, named.
    """
    graph = network.graph
    modules = dict(graph.named_modules())
    meanings: dict[fx.Node, Meaning] = {}
    for node in graph.graph.nodes:
        operands = tuple(meanings[operand] for operand in node.all_input_nodes)
        inputs = node.all_input_nodes
        place = _Place(
            node=node,
            shape=network.shapes.get(node.name, ()),
            input_shape=network.shapes.get(inputs[0].name, ()) if inputs else (),
            operands=operands,
        )
        match node.op:
            case "placeholder":
                meanings[node] = replace(plain_meaning(0, _INPUT_REACH), is_positive=True)
            case "call_module":
                target = str(node.target)
                module, meanings[node] = _rebuilt(modules[target], place, make_layer)
                if module is not modules[target]:
                    graph.set_submodule(target, module)
            case "call_function" | "call_method":
                meanings[node] = _function(place)
            case "output":
                pass
            case _:
                raise UnsupportedNetwork(f"{node.name}: a bare parameter has no exact form; wrap it in a layer")
    graph.recompile()
    return graph


def _rebuilt(module: nn.Module, place: _Place, make_layer: MakeLayer) -> tuple[nn.Module, Meaning]:
    """What replaces a module, and what its output means."""
    match module:
        case nn.Conv2d() | nn.Linear():
            layer = make_layer(str(place.node.target), module, place.operands[0])
            return layer, plain_meaning(layer.fraction, _reach(layer))
        case _ if isinstance(module, _ANY):
            meaning = place.operands[0]
            return module, meaning if len(meaning.gain) == 1 else place.plain()
        case nn.ReLU():
            return module, replace(place.plain(), is_positive=True)
        case nn.Hardtanh():
            return _clamped(module, place)
        case _ if isinstance(module, _KEPT):
            return module, place.plain()
        case Normalize():
            before = place.plain()
            deviation, mean = (each.flatten().double() for each in (module.deviation, module.mean))
            gain = before.gain / (255 * deviation)
            return nn.Identity(), replace(before, gain=gain, shift=-mean / deviation)
        case PowerOfTwoScale():
            before = place.plain()
            return nn.Identity(), replace(before, gain=before.gain * 2.0**-module.fraction)
        case nn.AvgPool2d():
            return _sum_pool(_average_pool(module, place), place)
        case nn.AdaptiveAvgPool2d():
            rows, columns = _adaptive_kernel(place)
            if (rows, columns) == (1, 1):
                return nn.Identity(), place.plain()
            return _sum_pool(SumPool2d((rows, columns), (rows, columns)), place)
        case GlobalAveragePool():
            size = place.input_shape[1], place.input_shape[2]
            pool, meaning = _sum_pool(SumPool2d(size, size), place)
            return nn.Sequential(pool, nn.Flatten()), meaning
    raise UnsupportedNetwork(f"{place.node.name}: layer {type(module).__name__} has no exact form")


def _function(place: _Place) -> Meaning:
    """What a function's output means."""
    target: Any = place.node.target
    if target in _ADDITIONS or target in _CONCATENATIONS:
        return _joined(place)
    if target in _RELUS:
        return replace(place.plain(), is_positive=True)
    if target in _FLATTENS or target is operator.getitem:
        return place.plain()
    raise UnsupportedNetwork(f"{place.node.name}: operation {target} has no exact form")


def _joined(place: _Place) -> Meaning:
    """Of a sum or a concatenation, on the finest of the grids."""
    gain = place.plain().gain
    if not all(each.is_plain and torch.equal(each.gain, gain) for each in place.operands):
        raise UnsupportedNetwork(
            f"{place.node.name}: its operands are on unequal grids, as behind unequal average pools"
        )
    finest = max(each.fraction for each in place.operands)
    reaches = [each.reach << (finest - each.fraction) for each in place.operands]
    if place.node.target in _ADDITIONS and len(reaches) == 1:
        reaches *= 2
    reach = sum(reaches) if place.node.target in _ADDITIONS else max(reaches)
    is_positive = all(each.is_positive for each in place.operands)
    return replace(place.plain(), fraction=finest, reach=reach, is_positive=is_positive)


def _clamped(module: nn.Hardtanh, place: _Place) -> tuple[nn.Module, Meaning]:
    """Limits on the grid; a power of two less a step, which is the largest word of a format."""
    meaning = place.plain()
    scale = 2.0**meaning.fraction / float(meaning.gain[0])
    low, high = round(float(module.min_val) * scale), round(float(module.max_val) * scale)
    if meaning.reach <= high and low <= (0 if meaning.is_positive else -meaning.reach):
        return nn.Identity(), meaning
    if high > 1 and high & (high - 1) == 0:
        high -= 1
    step = 2.0**-meaning.fraction
    reach = min(meaning.reach, max(-low, high))
    return nn.Hardtanh(low * step, high * step), replace(meaning, reach=reach, is_positive=low >= 0)


def _sum_pool(pool: SumPool2d, place: _Place) -> tuple[nn.Module, Meaning]:
    before, size = place.plain(), pool.kernel_size[0] * pool.kernel_size[1]
    return pool, replace(before, gain=before.gain / size, reach=before.reach * size)


def _average_pool(module: nn.AvgPool2d, place: _Place) -> SumPool2d:
    padding = _pair(module.padding)
    if module.ceil_mode or module.divisor_override is not None or (any(padding) and not module.count_include_pad):
        raise UnsupportedNetwork(
            f"{place.node.name}: AvgPool2d with ceil_mode, divisor_override or count_include_pad=False is not exact"
        )
    return SumPool2d(_pair(module.kernel_size), _pair(module.stride), padding)


def _adaptive_kernel(place: _Place) -> tuple[int, int]:
    (rows, columns), (out_rows, out_columns) = place.input_shape[1:], place.shape[1:]
    if rows % out_rows or columns % out_columns:
        raise UnsupportedNetwork(
            f"{place.node.name}: an adaptive pool from {rows} x {columns} to {out_rows} x {out_columns} has windows of "
            f"several sizes"
        )
    return rows // out_rows, columns // out_columns


def _reach(layer: DecomposedLayer) -> int:
    top = (1 << layer.quantizer.bits) - 1
    return int((layer.integer_weight().abs().sum(1) * top + layer.offset.abs()).max())


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
