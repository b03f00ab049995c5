"""The weights that a training starts from."""

from dataclasses import fields, replace

from torch import nn

from karui.sw.configuration import ConfigurationError
from karui.sw.models.build import ModelConfig, build_model
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.puppet import PuppetConfig
from karui.sw.models.widened_capsnet import widen_capsnet
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.recipe import TrainingRecipe
from karui.sw.train.seeding import seeded


def starting_network(recipe: TrainingRecipe, config: ModelConfig) -> nn.Sequential:
    """Build a recipe's network with random weights of its seed, or with those of the network it starts from.

    Parameters
    ----------
    recipe
        Seed and start.
    config
        The recipe's model, or the same in another precision.

    Raises
    ------
    CheckpointError
        If the network to start from is not there or is damaged.
    ConfigurationError
        If it is not a narrower form of `config`, or for a puppet the same in any precision.
    """
    network = seeded(recipe.train.seed, lambda: build_model(config))
    if recipe.start is None:
        return network
    start = load_checkpoint(recipe.start)
    if isinstance(config, PuppetConfig):
        _check_same_puppet(recipe, start.config, config)
        network.load_state_dict(start.model.state_dict())
        return network
    if not isinstance(config, CapsNetConfig) or not isinstance(start.config, CapsNetConfig):
        raise ConfigurationError(
            f"{recipe.name} [train]: start = {recipe.train.start!r} must be a capsnet, as the recipe's network"
        )
    try:
        widen_capsnet(start.model, start.config, network, config)
    except ValueError as error:
        raise ConfigurationError(f"{recipe.name} [model]: {error}") from error
    return network


def _check_same_puppet(recipe: TrainingRecipe, start: ModelConfig, config: PuppetConfig) -> None:
    what = f"{recipe.name} [train]: start = {recipe.train.start!r}"
    if not isinstance(start, PuppetConfig):
        raise ConfigurationError(f"{what} must be a puppet, as the recipe's network")
    # Ranks of continuous generators mean nothing to that of Euler steps.
    start = replace(start, precision=config.precision, rank=config.rank, terms=config.terms)
    for name in (field.name for field in fields(config)):
        given, wanted = getattr(start, name), getattr(config, name)
        if given != wanted:
            raise ConfigurationError(f"{what} must have {name} = {wanted!r}, not {given!r}")
