"""Recipes: a network, its data, its training and its hardware, in one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from karui.flows.device_fill import DeviceFill
from karui.flows.synthesize.targets import find_device
from karui.sw.compress.config import CompressConfig, SignSharingConfig
from karui.sw.compress.recipe import load_compress_config
from karui.sw.configuration import ConfigurationError, from_mapping, nearest
from karui.sw.decompose.config import DecomposeConfig
from karui.sw.models.bnn import BinaryCNNConfig, BinaryMLPConfig
from karui.sw.models.build import family_of
from karui.sw.train.recipe import TrainingRecipe, load_training_recipe

RECIPES = Path(__file__).parent / "recipes"
# Of the files of compressed networks, and of those of binary bases.
PACKED_SUFFIX = ".karui"


class UnknownRecipe(ValueError):
    """There is no recipe of that name."""


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """Section [hardware]: what the accelerator is asked for. At most one of the three rates.

    Parameters
    ----------
    device : str
        Target, see `karui.flows.synthesize.targets`.
    clock_mhz : float
        Clock asked for.
    initiation_interval : int or None
        Cycles a frame, at most.
    frame_rate : float or None
        Frames a second at the clock asked for, at least.
    fit : bool
        The best rate within the device.
    fill : DeviceFill
        How much of the device such a design may take. At a rate nothing follows from it but whether predictions of
        capsules are kept.
    seeds : int
        Placement seeds tried at most, in order until one meets the clock; where none does, the fastest is kept.
    images : int or None
        Test images played through the RTL; all of them unless given.
    netlist_images : int
        Test images played through the synthesized netlist.
    """

    device: str = "ecp5-85f-8"
    clock_mhz: float = 100.0
    initiation_interval: int | None = None
    frame_rate: float | None = None
    fit: bool = False
    fill: DeviceFill = field(default_factory=DeviceFill)
    seeds: int = 1
    images: int | None = None
    netlist_images: int = 10

    def __post_init__(self) -> None:
        rates = [self.initiation_interval is not None, self.frame_rate is not None, self.fit]
        if sum(rates) > 1:
            raise ValueError("give one of initiation_interval, frame_rate and fit, not several")
        if self.initiation_interval is not None and self.initiation_interval < 1:
            raise ValueError(f"initiation_interval must be 1 cycle or more, not {self.initiation_interval}")
        if self.frame_rate is not None and self.frame_rate <= 0:
            raise ValueError(f"frame_rate must be positive, not {self.frame_rate}")
        if self.clock_mhz <= 0:
            raise ValueError(f"clock_mhz must be positive, not {self.clock_mhz}")
        for name in ("seeds", "images", "netlist_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        find_device(self.device)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe file.

    Parameters
    ----------
    description : str
        One line for the list of recipes.
    training : TrainingRecipe
        Sections [data], [model] and [train].
    hardware : HardwareConfig
        Section [hardware].
    compress : CompressConfig or None
        Section [compress], of recipes that end with a compressed network.
    share : SignSharingConfig or None
        Section [share], of binary networks whose rows are composed of few vectors.
    decompose : DecomposeConfig or None
        Section [decompose], of recipes that end with a network of binary bases.
    weights : Path or None
        Float weights that [decompose] names: of others, or what [train] gave.
    checkpoint : Path or None
        The trained network that ships with the recipe.
    """

    description: str
    training: TrainingRecipe
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    compress: CompressConfig | None = None
    share: SignSharingConfig | None = None
    decompose: DecomposeConfig | None = None
    weights: Path | None = None
    checkpoint: Path | None = None

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return self.training.name

    @property
    def is_packed(self) -> bool:
        """Whether the network is a container's, not a checkpoint."""
        return self.compress is not None or self.decompose is not None


_SECTIONS = ["description", "data", "model", "train", "compress", "share", "decompose", "hardware"]


def recipe_names() -> list[str]:
    """Names of the recipes that ship with karui."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def find_recipe(name: str) -> Recipe:
    """Load a recipe by its name, or from a path that ends in ``.toml``.

    Raises
    ------
    UnknownRecipe
        If there is none; names the nearest.
    ConfigurationError
        If a section, key or value is wrong.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UnknownRecipe(f"there is no recipe file {path}")
        return load_recipe(path)
    path = RECIPES / f"{name}.toml"
    if not path.is_file():
        raise UnknownRecipe(f"unknown recipe {name!r}; {nearest(name, recipe_names())} (`karui recipes` lists them)")
    return load_recipe(path)


def load_recipe(path: Path) -> Recipe:
    """Load a recipe file; a checkpoint of the same name beside it belongs to it."""
    training = load_training_recipe(path)
    content = tomllib.loads(path.read_text())
    for key in content:
        if key not in _SECTIONS:
            raise ConfigurationError(f"{path.name}: unknown key {key!r}; {nearest(key, _SECTIONS)}")
    description = content.get("description")
    if not isinstance(description, str):
        raise ConfigurationError(f"{path.name}: the key 'description' is missing; add one line on what it is")
    compress = load_compress_config(path)
    decompose = (
        from_mapping(DecomposeConfig, content["decompose"], f"{path.name} [decompose]")
        if "decompose" in content
        else None
    )
    share = _share(path, content, training)
    weights = _given_weights(path, training, compress, decompose)
    checkpoint = path.with_suffix(".npz" if compress is None and decompose is None else PACKED_SUFFIX)
    return Recipe(
        description=description,
        training=training,
        hardware=from_mapping(HardwareConfig, content.get("hardware", {}), f"{path.name} [hardware]"),
        compress=compress,
        share=share,
        decompose=decompose,
        weights=weights,
        checkpoint=checkpoint if checkpoint.is_file() else None,
    )


def _share(path: Path, content: dict[str, Any], training: TrainingRecipe) -> SignSharingConfig | None:
    """Section [share], for the families whose weights are signs alone."""
    if "share" not in content:
        return None
    if not isinstance(training.model, BinaryMLPConfig | BinaryCNNConfig):
        raise ConfigurationError(
            f"{path.name} [share]: family must be binary-mlp or binary-cnn, not {family_of(training.model)!r}; "
            "networks of integers are shared by [compress]"
        )
    return from_mapping(SignSharingConfig, content["share"], f"{path.name} [share]")


def _given_weights(
    path: Path, training: TrainingRecipe, compress: CompressConfig | None, decompose: DecomposeConfig | None
) -> Path | None:
    """The file of float weights that [decompose] names."""
    if compress is not None and decompose is not None:
        raise ConfigurationError(f"{path.name}: give one of the sections compress and decompose, not both")
    weights = None if decompose is None or decompose.weights is None else path.parent / decompose.weights
    compresses_given = compress is not None and training.train.start is not None
    if weights is None and not compresses_given and training.train.epochs == 0:
        raise ConfigurationError(
            f"{path.name} [train]: epochs must be 1 or more, not 0, unless [decompose] names a file of weights or "
            f"[compress] has a network to start from"
        )
    if weights is not None and not weights.is_file():
        raise ConfigurationError(f"{path.name} [decompose]: there is no file {weights}")
    return weights
