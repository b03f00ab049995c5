"""What a puppet network stores: parameters, and the bytes of their words."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from karui.sw.models.puppet import PuppetConfig
from karui.sw.nn.generated_layers import MULTIPLIER_BITS
from karui.sw.nn.precision import FLOAT
from karui.sw.nn.quant_weight import QuantWeightLayer

# A real parameter, and of integer layers the offset of a batch norm and a bias.
WORD_BITS = 32
# Names of parts by the beginnings of their parameters' names, the first that fits.
PARTS = {
    "pattern": "puppet.layers.puppeteer.pattern.",
    "generator": "puppet.layers.puppeteer.",
    "batch norms": "puppet.layers.norms.",
    "stem": "puppet.stem.",
    "classifier": "classifier.",
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Parameters that belong together.

    Parameters
    ----------
    name
        What they are.
    parameters
        How many.
    bits
        Of all of them.
    """

    name: str
    parameters: int
    bits: int

    @property
    def bytes(self) -> int:
        """Whole bytes."""
        return (self.bits + 7) // 8


@dataclass(frozen=True, kw_only=True)
class StoredSize:
    """All parts of a network."""

    parts: tuple[Part, ...]

    @property
    def parameters(self) -> int:
        """In all."""
        return sum(part.parameters for part in self.parts)

    @property
    def bytes(self) -> int:
        """In all."""
        return sum(part.bytes for part in self.parts)


def stored_size(model: nn.Sequential, config: PuppetConfig) -> StoredSize:
    """Count what a network stores: kernels or their generator with its pattern, batch norms, stem, classifier.

    Weights and a generator's constants have the width of their words, batch norms are a multiplier and an offset a
    channel, as in the graph; everything else, and all of a real network, has 32 bits. Tables that the configuration
    and these parameters determine are not counted: base and step of each level, and the words of sampled sines, which
    the graph has instead of their frequencies and phases.

    Parameters
    ----------
    model
        As `build_puppet` built it from `config`.
    config
        Its configuration.
    """
    layers = dict(model.named_modules())
    counts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        owner, _, entry = name.rpartition(".")
        total = counts.setdefault(_part(name, layers[owner], config), [0, 0])
        total[0] += parameter.numel()
        total[1] += parameter.numel() * (_weight_bits(layers[owner], config) if entry == "weight" else WORD_BITS)
    return StoredSize(
        parts=tuple(Part(name=name, parameters=number, bits=bits) for name, (number, bits) in counts.items())
    )


def _weight_bits(layer: nn.Module, config: PuppetConfig) -> int:
    """Width of a layer's weight, the multiplier of a batch norm."""
    if isinstance(layer, QuantWeightLayer):
        return layer.weight_bits or WORD_BITS
    return WORD_BITS if config.precision == FLOAT else MULTIPLIER_BITS


def _part(name: str, layer: nn.Module, config: PuppetConfig) -> str:
    if config.generator == "stored" and name.startswith("puppet."):
        # The stem's convolution and its batch norm are the first two modules.
        if name.split(".")[1] in ("0", "1"):
            return "stem"
        return "batch norms" if isinstance(layer, nn.BatchNorm2d) else "kernels"
    return next(part for part, beginning in PARTS.items() if name.startswith(beginning))
