"""From a trained network to one of binary bases and words of a few bits, without retraining."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, fx, nn

from karui.sw.decompose.bases import MOST_BASES, Decomposition, decompose
from karui.sw.decompose.budget import LayerSize, by_error, by_hand, by_size
from karui.sw.decompose.calibrate import Observed, choose_grid, observe
from karui.sw.decompose.config import DecomposeConfig
from karui.sw.decompose.fixed_point import LayerConstants, Meaning, layer_constants, quantization_sublayer
from karui.sw.decompose.float_network import FloatNetwork, UnsupportedNetwork, WeightLayer, float_network
from karui.sw.decompose.rebuild import rebuild
from karui.sw.nn.decomposed import DecomposedConv2d, DecomposedLayer, DecomposedLinear, QuantizationSublayer

# Decompositions found already, by layer and number of bases.
Known = dict[tuple[str, int], Decomposition]
# Called with what is searched, and how many of its filters are done and in all.
OnSearch = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """One layer of a decomposed network.

    Parameters
    ----------
    name
        As in the network.
    bases, activation_bits
        Of its filters; of its inputs' words.
    error
        Mean relative squared error of its filters.
    bits, float_bits
        Stored, and of the float weights.
    """

    name: str
    bases: int
    activation_bits: int
    error: float
    bits: int
    float_bits: int


@dataclass(frozen=True, kw_only=True, eq=False)
class DecomposedNetwork:
    """A network of binary bases, as module, and what became of each layer."""

    model: fx.GraphModule
    layers: tuple[LayerReport, ...]

    @property
    def size_share(self) -> float:
        """Stored bits over the bits of the float weights."""
        return sum(layer.bits for layer in self.layers) / sum(layer.float_bits for layer in self.layers)


def convert(
    model: nn.Module,
    images: Tensor,
    config: DecomposeConfig,
    *,
    known: Known | None = None,
    progress: OnSearch = lambda text, done, total: None,
) -> DecomposedNetwork:
    """Decompose a trained network.

    Parameters
    ----------
    model : nn.Module
        Convolutions (grouped and depthwise too), linear layers, batch norms behind them, ReLUs, pools, unpooling,
        sums and concatenations. Stays as it is.
    images : Tensor
        For calibration, as the network takes them.
    config : DecomposeConfig
    known : dict, optional
        Of decompositions of the same network with the same search, to be reused and added to.
    progress : callable
        Called in the search with the layer and its bases, and with its filters done and in all.

    Raises
    ------
    UnsupportedNetwork
        If something has no exact form, named.
    ConfigurationError
        If the configuration does not fit the network.
    """
    network = float_network(model, tuple(images.shape[1:]))
    observed = observe(network, images)
    return convert_observed(network, observed, config, known=known, progress=progress)


def convert_observed(
    network: FloatNetwork,
    observed: Mapping[str, Observed],
    config: DecomposeConfig,
    *,
    known: Known | None = None,
    progress: OnSearch = lambda text, done, total: None,
) -> DecomposedNetwork:
    """Decompose a network whose inputs' ranges are known; it is used up. See `convert`."""
    layers = network.weight_layers()
    found = _decompositions(layers, config, {} if known is None else known, progress)
    bits = by_hand(list(layers), config.activation_bits, "activation_bits")

    def make(name: str, layer: WeightLayer, meaning: Meaning) -> DecomposedLayer:
        pads = isinstance(layer, nn.Conv2d) and any(_padding(layer))
        grid = choose_grid(observed[name], bits[name], holds_zero=pads, clipping=config.clipping)
        try:
            constants = layer_constants(
                found[name],
                layer.weight.detach().flatten(1),
                None if layer.bias is None else layer.bias.detach(),
                grid,
                coefficient_bits=config.coefficient_bits,
            )
        except ValueError as error:
            raise UnsupportedNetwork(f"layer {name}: {error}") from error
        quantizer = quantization_sublayer(grid, meaning, multiplier_bits=config.multiplier_bits)
        return decomposed_layer(layer, found[name].codes, constants, quantizer)

    reports = tuple(
        LayerReport(
            name=name,
            bases=found[name].bases,
            activation_bits=bits[name],
            error=float(found[name].errors.mean()),
            bits=_size(layer).bits(found[name].bases, config.coefficient_bits),
            float_bits=_size(layer).float_bits,
        )
        for name, layer in layers.items()
    )
    return DecomposedNetwork(model=rebuild(network, make).eval(), layers=reports)


def decomposed_layer(
    layer: WeightLayer, codes: Tensor, constants: LayerConstants, quantizer: QuantizationSublayer
) -> DecomposedLayer:
    """The layer of binary bases in a float layer's place."""
    if isinstance(layer, nn.Linear):
        return DecomposedLinear(
            codes, constants.coefficients, constants.offset, fraction=constants.fraction, quantizer=quantizer
        )
    return DecomposedConv2d(
        codes,
        constants.coefficients,
        constants.offset,
        fraction=constants.fraction,
        quantizer=quantizer,
        kernel_size=_pair(layer.kernel_size),
        stride=_pair(layer.stride),
        padding=_padding(layer),
        dilation=_pair(layer.dilation),
        groups=layer.groups,
    )


def _decompositions(
    layers: Mapping[str, WeightLayer], config: DecomposeConfig, known: Known, progress: OnSearch
) -> dict[str, Decomposition]:
    def search(name: str, bases: int) -> Decomposition:
        if (name, bases) not in known:
            weights = layers[name].weight.detach().flatten(1)
            known[name, bases] = decompose(
                weights,
                bases,
                restarts=config.restarts,
                iterations=config.iterations,
                seed=config.seed,
                progress=lambda done: progress(f"{name} in {bases} bases, filters", done, len(weights)),
            )
        return known[name, bases]

    if config.bases:
        return {name: search(name, bases) for name, bases in by_hand(list(layers), config.bases, "bases").items()}
    errors = {name: [float(search(name, bases).errors.mean()) for bases in range(1, MOST_BASES + 1)] for name in layers}
    if config.error_budget is not None:
        chosen = by_error(errors, config.error_budget)
    else:
        assert config.size_budget is not None
        sizes = {name: _size(layer) for name, layer in layers.items()}
        budget = int(config.size_budget * sum(size.float_bits for size in sizes.values()))
        chosen = by_size(errors, sizes, budget, config.coefficient_bits)
    return {name: search(name, bases) for name, bases in chosen.items()}


def _size(layer: WeightLayer) -> LayerSize:
    return LayerSize(filters=len(layer.weight), weights=layer.weight[0].numel())


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise UnsupportedNetwork(
            f"{layer} pads with {layer.padding!r} and {layer.padding_mode}; give rows and columns of zeros"
        )
    return _pair(layer.padding)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
