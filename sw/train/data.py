"""The data of a recipe, held against its model."""

import math
from pathlib import Path

from karui.sw.configuration import ConfigurationError
from karui.sw.data.dataset import Dataset
from karui.sw.data.datasets import load
from karui.sw.data.resize import resized
from karui.sw.models.binary_connect import BinaryConnectConfig
from karui.sw.models.bnn import BinaryMLPConfig
from karui.sw.models.mobilenet import MobileNetConfig, MobileNetV2Config
from karui.sw.train.recipe import TrainingRecipe


def load_data(recipe: TrainingRecipe, data_dir: Path | None = None) -> Dataset:
    """Load a recipe's data set; its images are scaled where the model has a resolution multiplier.

    Raises
    ------
    ConfigurationError
        If the network's input or output does not fit the data, naming the key of the recipe's [model] section and the
        value that fits.
    """
    dataset = load(recipe.data.name, data_dir)
    check_shapes(recipe, dataset)
    model = recipe.model
    if isinstance(model, MobileNetConfig | MobileNetV2Config) and model.input_image != model.image:
        return resized(dataset, *model.input_image[1:])
    return dataset


def check_shapes(recipe: TrainingRecipe, dataset: Dataset) -> None:
    """Refuse a network whose input or output does not fit the data, as `load_data` does."""
    image, model = dataset.image_shape, recipe.model
    key, value, fitting = (
        ("in_features", model.in_features, math.prod(image))
        if isinstance(model, BinaryMLPConfig | BinaryConnectConfig)
        else ("image", list(model.image), list(image))
    )
    wrong = [(key, value, fitting), ("classes", model.classes, len(dataset.classes))]
    for name, given, due in wrong:
        if given != due:
            raise ConfigurationError(
                f"recipe {recipe.name}, [model]: {name} = {given} does not fit {dataset.name} (images of "
                f"{' x '.join(map(str, image))}, {len(dataset.classes)} classes); set {name} = {due}"
            )
