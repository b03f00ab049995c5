from dataclasses import replace
from pathlib import Path

import pytest

from karui.sw.configuration import ConfigurationError
from karui.sw.models.bnn import BinaryCNNConfig, BinaryMLPConfig, ConvStage
from karui.sw.models.build import ModelConfig
from karui.sw.models.mobilenet import MobileNetConfig
from karui.sw.train.data import load_data
from karui.sw.train.recipe import load_training_recipe
from karui.sw.train.run import train_recipe

DIGITS = Path(__file__).parents[3] / "flows" / "recipes" / "digits-bnn.toml"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (BinaryMLPConfig(in_features=100, hidden=(8,)), r"in_features = 100 does not fit .*set in_features = 64"),
        (BinaryMLPConfig(in_features=64, hidden=(8,), classes=7), r"classes = 7 does not fit .*set classes = 10"),
        (
            BinaryCNNConfig(image=(3, 8, 8), stages=(ConvStage(channels=(4,)),)),
            r"image = \[3, 8, 8\] does not fit .*set image = \[1, 8, 8\]",
        ),
        (
            MobileNetConfig(image=(1, 16, 16), rho=0.5, classes=10),
            r"image = \[1, 16, 16\] does not fit .*set image = \[1, 8, 8\]",
        ),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(model: ModelConfig, message: str) -> None:
    recipe = replace(load_training_recipe(DIGITS), model=model)
    with pytest.raises(ConfigurationError, match=message):
        train_recipe(recipe)


def test_the_resolution_multiplier_scales_the_images() -> None:
    recipe = load_training_recipe(DIGITS)
    small = load_data(replace(recipe, model=MobileNetConfig(image=(1, 8, 8), rho=0.75, classes=10)))
    assert small.image_shape == (1, 6, 6)
    assert "6 x 6" in small.provenance
    assert load_data(recipe).image_shape == (1, 8, 8)
