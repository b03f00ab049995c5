"""What a build folder builds: the recipe's name and every option, as they were given."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

from karui.flows.build_folder import BuildError, BuildFolder, write_json
from karui.flows.recipe import HardwareConfig, Recipe, find_recipe
from karui.sw.configuration import ConfigurationError, from_mapping


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of a build.

    Parameters
    ----------
    recipe : str
        Name of a recipe, or path of a recipe file.
    seed : int or None
        Seed of the training in place of the recipe's; a network with another seed is trained anew.
    retrain : bool
        Train even where a checkpoint ships with the recipe.
    hardware : HardwareConfig
        The recipe's section with the options of the command line over it.
    """

    recipe: str
    seed: int | None = None
    retrain: bool = False
    hardware: HardwareConfig = field(default_factory=HardwareConfig)

    def load_recipe(self) -> Recipe:
        """The recipe with the seed of the settings."""
        recipe = find_recipe(self.recipe)
        if self.seed is None:
            return recipe
        training = replace(recipe.training, train=replace(recipe.training.train, seed=self.seed))
        return replace(recipe, training=training)

    def save(self, folder: BuildFolder) -> None:
        """Write ``settings.json``."""
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.settings, asdict(self))

    @classmethod
    def load(cls, folder: BuildFolder) -> Settings:
        """The settings of a build folder.

        Raises
        ------
        BuildError
            If the folder is not one, or the file is damaged.
        """
        if not folder.settings.is_file():
            raise BuildError(f"{folder.path} is not a build folder: start one with `karui train RECIPE`")
        try:
            return from_mapping(cls, json.loads(folder.settings.read_text()), str(folder.settings))
        except (json.JSONDecodeError, ConfigurationError) as error:
            raise BuildError(
                f"{folder.settings} is damaged ({error}): start again with `karui train RECIPE`"
            ) from error
