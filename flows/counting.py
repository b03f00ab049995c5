"""What `karui count` shows: parameters and multiply-accumulates by layer, and what the papers' formulas predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from karui.flows.progress import console
from karui.flows.recipe import find_recipe, recipe_names
from karui.sw.configuration import nearest
from karui.sw.models.build import LightConfig, ModelConfig, build_model, family_of, input_shape
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_vgg import CapsuleVggConfig
from karui.sw.models.catalog import NETWORKS
from karui.sw.models.count import NetworkCount, count
from karui.sw.models.factorization import Factorization, factorizations, multiplier_prediction
from karui.sw.models.mobilenet import MobileNetConfig, MobileNetV2Config
from karui.sw.models.puppet import PuppetConfig
from karui.sw.nn.precision import FLOAT

# For tables, on a terminal of any width: a figure cut short would be another figure.
wide_console = Console(width=300)


@dataclass(frozen=True, kw_only=True)
class CountedNetwork:
    """A network and what it costs.

    Parameters
    ----------
    name : str
        Of the network, the recipe, or the recipe's file.
    config : ModelConfig
        Its configuration.
    network : NetworkCount
        Its layers.
    pairs : tuple of Factorization
        Its depthwise-separable convolutions and bottlenecks.
    predicted_by_multipliers : float or None
        MACs of all depthwise-separable pairs by the formula of alpha and rho, from the counts of the network without
        them; None where the network has no multipliers, or both are 1.
    """

    name: str
    config: ModelConfig
    network: NetworkCount
    pairs: tuple[Factorization, ...]
    predicted_by_multipliers: float | None = None

    @property
    def separable_macs(self) -> int:
        """MACs of all depthwise-separable pairs as counted."""
        return sum(pair.macs for pair in self.pairs if pair.kind == "depthwise-separable")


def count_network(name: str, changes: Mapping[str, Any] | None = None) -> CountedNetwork:
    """Count a network of karui's, or a recipe's.

    Parameters
    ----------
    name : str
        See `karui.sw.models.catalog`; or a recipe, or a recipe file.
    changes : mapping
        Fields of its configuration to change.

    Raises
    ------
    ValueError
        If there is no such network, names the nearest; or if it has no such field.
    """
    config = find_config(name)
    known = {field.name for field in fields(config)}
    for key in changes or {}:
        if key not in known:
            having = sorted(other for other, some in NETWORKS.items() if key in {field.name for field in fields(some)})
            raise ValueError(f"{name} has no {key}; these networks have: {', '.join(having)}")
    config = replace(config, **(changes or {}))
    network = count_config(config)
    pairs = factorizations(network)
    return CountedNetwork(
        name=name,
        config=config,
        network=network,
        pairs=pairs,
        predicted_by_multipliers=_by_multipliers(config),
    )


def find_config(name: str) -> ModelConfig:
    """The configuration of a network or of a recipe.

    Raises
    ------
    ValueError
        If there is none of that name; names the nearest.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if name.endswith(".toml") or name in recipe_names():
        return find_recipe(name).training.model
    hint = nearest(name, [*NETWORKS, *recipe_names()])
    raise ValueError(
        f"unknown network {name!r}; {hint} (`karui count` lists the networks, `karui recipes` the recipes)"
    )


def count_config(config: ModelConfig) -> NetworkCount:
    """Count the network of a configuration; the light architectures cost nothing, however large."""
    if isinstance(config, CapsNetConfig | CapsuleVggConfig):
        # Integer capsules have the parameters of real ones, and compute with values too.
        config = replace(config, precision=FLOAT)
    # Binary networks and puppets are small, and compute with values, which the meta device has not.
    has_no_values = isinstance(config, LightConfig) and not isinstance(config, PuppetConfig)
    with torch.device("meta" if has_no_values else "cpu"):
        return count(build_model(config), input_shape(config))


def parse_image(text: str, name: str) -> tuple[int, int, int]:
    """The image of a network from ``28``, ``28x32`` (height x width) or ``1x28x28``.

    Raises
    ------
    ValueError
        If the text has another form.
    """
    image = getattr(find_config(name), "image", None)
    if image is None:
        raise ValueError(f"{name} takes vectors: --image does not apply")
    try:
        numbers = [int(part) for part in text.lower().split("x")]
    except ValueError:
        numbers = []
    match numbers:
        case [size]:
            return image[0], size, size
        case [height, width]:
            return image[0], height, width
        case [channels, height, width]:
            return channels, height, width
    raise ValueError(f"--image must be like 28, 28x32 (height x width) or 1x28x28, not {text!r}")


def parse_ratio(option: str, text: str) -> float:
    """A multiplier from ``0.75`` or ``6/7``.

    Raises
    ------
    ValueError
        If the text has another form.
    """
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{option} must be a number like 0.75 or 6/7, not {text!r}") from None


def to_json(counted: CountedNetwork) -> dict[str, Any]:
    """The counts as JSON values."""
    return {
        "network": counted.name,
        "family": family_of(counted.config),
        "configuration": asdict(counted.config),
        "input": list(counted.network.input_shape),
        "parameters": counted.network.parameters,
        "macs": counted.network.macs,
        "layers": [asdict(layer) | {"kind": layer.kind} for layer in counted.network.layers],
        "factorizations": [
            {
                "kind": pair.kind,
                "first": pair.first.name,
                "second": pair.second.name,
                "standard_macs": pair.standard_macs,
                "predicted_macs": pair.predicted_macs,
                "macs": pair.macs,
                "predicted_share": pair.predicted_share,
                "share": pair.share,
            }
            for pair in counted.pairs
        ],
        "separable_macs": counted.separable_macs,
        "separable_macs_predicted_by_multipliers": counted.predicted_by_multipliers,
    }


def show_networks() -> None:
    """List the networks with their totals."""
    table = Table("network", "input", "parameters", "MACs", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for name, config in NETWORKS.items():
        network = count_config(config)
        table.add_row(
            f"[bold]{name}[/bold]", _shape(network.input_shape), f"{network.parameters:,}", f"{network.macs:,}"
        )
    wide_console.print(table)


def show(counted: CountedNetwork) -> None:
    """Print the layers that multiply, the totals, and the formulas beside the counts."""
    network = counted.network
    console.print(f"[bold]{counted.name}[/bold], input {_shape(network.input_shape)}", highlight=False)
    table = Table("layer", "kind", "input", "output", "parameters", "MACs", "share", box=None, pad_edge=False)
    for column in table.columns[4:]:
        column.justify = "right"
    for layer in network.layers:
        if layer.macs:
            table.add_row(
                layer.name or "(itself)",
                layer.kind,
                _shape(layer.input_shape),
                _shape(layer.output_shape),
                f"{layer.parameters:,}",
                f"{layer.macs:,}",
                f"{layer.macs / network.macs:.1%}",
            )
    others = sum(layer.parameters for layer in network.layers if not layer.macs)
    if others:
        table.add_row("batch norms and other elementwise layers", "", "", "", f"{others:,}", "0", "")
    table.add_row(
        *(f"[bold]{text}[/bold]" for text in ("total", "", "", "", f"{network.parameters:,}")),
        f"[bold]{network.macs:,}[/bold]",
    )
    wide_console.print(table)
    _show_pairs(counted.pairs)
    if counted.predicted_by_multipliers is not None:
        console.print(
            f"\ndepthwise-separable pairs by the formula K²·αN·ρ²F² + αN·αM·ρ²F²: "
            f"{counted.predicted_by_multipliers:,.0f} MACs; counted: {counted.separable_macs:,}",
            highlight=False,
            soft_wrap=True,
        )


def _show_pairs(pairs: tuple[Factorization, ...]) -> None:
    titles = {
        "depthwise-separable": ("F²NK²M", "F²NK² + F²NM", "1/K² + 1/M"),
        "bottleneck": ("F²NK²M", "F²NR + F²RK²M", "predicted"),
    }
    for kind, (standard, predicted, share) in titles.items():
        chosen = [pair for pair in pairs if pair.kind == kind]
        if not chosen:
            continue
        table = Table(
            kind, "F²", "N", "K²", "M", standard, predicted, "counted", share, "share", box=None, pad_edge=False
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for pair in chosen:
            figures = (pair.positions, pair.in_channels, pair.window, pair.out_channels)
            macs = (pair.standard_macs, pair.predicted_macs, pair.macs)
            table.add_row(
                f"{pair.first.name} → {pair.second.name}",
                *(f"{figure:,}" for figure in (*figures, *macs)),
                f"{pair.predicted_share:.4f}",
                f"{pair.share:.4f}",
            )
        console.print()
        wide_console.print(table)


def _by_multipliers(config: ModelConfig) -> float | None:
    if not isinstance(config, MobileNetConfig | MobileNetV2Config) or config.alpha == config.rho == 1:
        return None
    alpha, rho = config.alpha, config.rho
    base = factorizations(count_config(replace(config, alpha=1.0, rho=1.0)))
    return sum(multiplier_prediction(pair, alpha=alpha, rho=rho) for pair in base if pair.kind == "depthwise-separable")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
