"""Recipes: a network, its data, its training and its hardware, in one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from karui.flows.synthesize.targets import find_device
from karui.sw.compress.config import CompressConfig
from karui.sw.compress.recipe import load_compress_config
from karui.sw.configuration import ConfigurationError, from_mapping, nearest
from karui.sw.train.recipe import TrainingRecipe, load_training_recipe

RECIPES = Path(__file__).parent / "recipes"
# Of the files of compressed networks.
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
    seeds : int
        Placement seeds tried; the fastest result is kept.
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
    checkpoint : Path or None
        The trained network that ships with the recipe.
    """

    description: str
    training: TrainingRecipe
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    compress: CompressConfig | None = None
    checkpoint: Path | None = None

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return self.training.name


_SECTIONS = ["description", "data", "model", "train", "compress", "hardware"]


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
    checkpoint = path.with_suffix(".npz" if compress is None else PACKED_SUFFIX)
    return Recipe(
        description=description,
        training=training,
        hardware=from_mapping(HardwareConfig, content.get("hardware", {}), f"{path.name} [hardware]"),
        compress=compress,
        checkpoint=checkpoint if checkpoint.is_file() else None,
    )
