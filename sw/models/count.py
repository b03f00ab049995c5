"""Parameters and multiply-accumulates of a network, layer by layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from karui.sw.ir.puppet_ops import KERNEL_SIDE
from karui.sw.nn.binary_conv import BinaryConv2d
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.capsule import CapsulePrediction
from karui.sw.nn.fastfood import Fastfood
from karui.sw.nn.generated_layers import GeneratedLayers
from karui.sw.nn.generated_stem import GeneratedStem
from karui.sw.nn.logit_scale import LogitScale
from karui.sw.nn.quant_conv import QuantConv2d
from karui.sw.nn.quant_linear import QuantLinear

# They own parameters, and multiply, but elementwise: by the convention of the papers these are not counted.
ELEMENTWISE = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.PReLU,
    LogitScale,
)
# Layers whose kernels are generated: what they own is counted with them, what generates their kernels computes is not.
GENERATED = (GeneratedLayers, GeneratedStem)


class UncountableLayer(ValueError):
    """A layer's computation is not known, or does not fit the input."""


@dataclass(frozen=True, kw_only=True)
class LayerCount:
    """One use of a layer that owns parameters.

    Parameters
    ----------
    name
        Name in the model.
    layer
        Class of the layer.
    input_shape, output_shape
        Without the batch: channels, height, width, or the length of a vector.
    kernel
        Window of a convolution; empty for other layers.
    groups
        Groups of a convolution.
    parameters
        Trainable ones, counted at the layer's first use.
    macs
        Multiply-accumulates of an input; biases and elementwise layers count none.
    """

    name: str
    layer: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    groups: int = 1
    parameters: int = 0
    macs: int = 0

    @property
    def is_depthwise(self) -> bool:
        """Whether it convolves each channel apart, giving one."""
        return bool(self.kernel) and 1 < self.groups == self.input_shape[0] == self.output_shape[0]

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a convolution of window 1x1."""
        return bool(self.kernel) and math.prod(self.kernel) == 1

    @property
    def kind(self) -> str:
        """What it is, in the words of the papers, for example ``depthwise 3x3``."""
        if not self.kernel:
            return self.layer
        window = "x".join(map(str, self.kernel))
        if self.is_depthwise:
            return f"depthwise {window}"
        shape = "pointwise" if self.is_pointwise else f"convolution {window}"
        return shape if self.groups == 1 else f"{shape}, {self.groups} groups"


@dataclass(frozen=True, kw_only=True)
class NetworkCount:
    """All layers of a network that own parameters, in the order of execution.

    Parameters
    ----------
    input_shape
        Shape of an input, without the batch.
    layers
        One entry a use.
    """

    input_shape: tuple[int, ...]
    layers: tuple[LayerCount, ...]

    @property
    def parameters(self) -> int:
        """Trainable parameters: batch norm's gains and offsets included, its statistics not."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and fully connected layers, an input."""
        return sum(layer.macs for layer in self.layers)


def count(model: nn.Module, input_shape: Sequence[int]) -> NetworkCount:
    """Count a network's parameters and multiply-accumulates.

    The network computes one input of zeros, on the device of its parameters. On torch's device ``meta`` it computes
    shapes alone, which takes no time and no memory: build it under ``with torch.device("meta")``. Multiplications
    outside of layers (``a @ b`` in a forward method) are not counted.

    Parameters
    ----------
    model
        Any module of one input.
    input_shape
        Shape of an input, without the batch.

    Raises
    ------
    UncountableLayer
        If a layer with parameters is no convolution, linear or elementwise layer, if a parameter takes no part, or if
        the network cannot take the input.
    """
    modes = {module: module.training for module in model.modules()}
    counts: list[LayerCount] = []
    counted: set[nn.Parameter] = set()

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        parameters = set(module.parameters(recurse=isinstance(module, GENERATED))) - counted
        counted.update(parameters)
        total = sum(parameter.numel() for parameter in parameters)
        counts.append(_layer_count(names[module], module, inputs[0], output, total))

    names = _counted(model)
    handles = [module.register_forward_hook(record) for module in names]
    try:
        model.eval()
        parameter = next(model.parameters(), torch.empty(0))
        with torch.no_grad():
            model(torch.zeros((1, *input_shape), device=parameter.device))
    except RuntimeError as error:
        shape = " x ".join(map(str, input_shape))
        raise UncountableLayer(f"the network cannot take an input of {shape}: {str(error).splitlines()[0]}") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    idle = [name for name, parameter in model.named_parameters() if parameter not in counted]
    if idle:
        raise UncountableLayer(f"parameters of no layer that was computed: {', '.join(idle)}")
    return NetworkCount(input_shape=tuple(input_shape), layers=tuple(counts))


def _counted(model: nn.Module) -> dict[nn.Module, str]:
    """Modules that own parameters, by name; generated layers with all that is inside."""
    names: dict[nn.Module, str] = {}
    generated: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in generated):
            continue
        if isinstance(module, GENERATED):
            generated.append(name)
        if isinstance(module, GENERATED) or any(True for _ in module.parameters(False)):
            names[module] = name
    return names


def _layer_count(name: str, module: nn.Module, given: Tensor, output: Tensor, parameters: int) -> LayerCount:
    kernel: tuple[int, ...] = ()
    groups, macs = 1, 0
    match module:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d() | QuantConv2d() | BinaryConv2d():
            # Each element of the output multiplies what the axes of the weight behind the first hold.
            kernel, groups = tuple(module.weight.shape[2:]), given.shape[1] // module.weight.shape[1]
            macs = output.numel() * module.weight[0].numel()
        case CapsulePrediction():
            macs = module.weight.numel()
        case GeneratedLayers():
            kernel, macs = (KERNEL_SIDE, KERNEL_SIDE), _generated_macs(module, given)
        case GeneratedStem():
            kernel, macs = (KERNEL_SIDE, KERNEL_SIDE), output.numel() * KERNEL_SIDE**2 * module.in_channels
        case nn.Linear() | QuantLinear() | BinaryLinear():
            macs = output.numel() * module.weight[0].numel()
        case Fastfood():
            # An element of a diagonal multiplies once; the transforms add.
            macs = module.coefficients
        case nn.Module() if not isinstance(module, ELEMENTWISE):
            raise UncountableLayer(
                f"{name or 'the model'} is a {type(module).__name__}, whose multiplications are not known; "
                f"build it from convolutions and linear layers"
            )
    return LayerCount(
        name=name,
        layer=type(module).__name__,
        input_shape=tuple(given.shape[1:]),
        output_shape=tuple(output.shape[1:]),
        kernel=kernel,
        groups=groups,
        parameters=parameters,
        macs=macs,
    )


def _generated_macs(layers: GeneratedLayers, given: Tensor) -> int:
    """Of the least depth."""
    macs, inputs, positions = 0, given.shape[1], given.shape[2:]
    for layer in range(layers.first_depth):
        outputs = layers.width(layer)
        macs += math.prod(positions) * KERNEL_SIDE**2 * inputs * outputs
        inputs = outputs
        if layer < len(layers.widths):
            positions = torch.Size(side // 2 for side in positions)
    return macs
