"""VGG networks (Simonyan and Zisserman 2014)."""

from dataclasses import dataclass

from torch import nn

from karui.sw.models.blocks import Stage, check_network
from karui.sw.models.lenet import check_widths, named

STAGES_16 = (
    Stage(channels=64, repeat=2),
    Stage(channels=128, repeat=2),
    Stage(channels=256, repeat=3),
    Stage(channels=512, repeat=3),
    Stage(channels=512, repeat=3),
)


@dataclass(frozen=True, kw_only=True)
class VggConfig:
    """Stages of 3x3 convolutions, each with a 2x2 max pool behind it, and fully connected layers.

    VGG-16 with 138,357,544 parameters unless its stages are given.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    stages
        Convolutions of equal width in a row; their stride is that of the pool, so 1 here.
    hidden
        Neurons of the fully connected layers in front of the classifier.
    """

    image: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000
    stages: tuple[Stage, ...] = STAGES_16
    hidden: tuple[int, ...] = (4096, 4096)

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        check_widths("hidden", self.hidden)
        if not self.stages or any(stage.stride != 1 for stage in self.stages):
            raise ValueError("stages must be one or more, of stride 1 each: the pools halve the map")
        if min(self.image[1:]) >> len(self.stages) < 1:
            raise ValueError(
                f"image must be at least {1 << len(self.stages)} pixels high and wide for {len(self.stages)} pools, "
                f"not {self.image[1]} x {self.image[2]}"
            )


def build_vgg(config: VggConfig) -> nn.Sequential:
    """Build ``conv1_1``, ``conv1_2``, ... and ``fc1``, ``fc2``, ... with what lies between them."""
    layers: dict[str, nn.Module] = {}
    channels, height, width = config.image
    for index, stage in enumerate(config.stages, 1):
        for number in range(1, stage.repeat + 1):
            layers[f"conv{index}_{number}"] = nn.Conv2d(channels, stage.channels, 3, padding=1)
            layers[f"relu{index}_{number}"] = nn.ReLU()
            channels = stage.channels
        layers[f"pool{index}"] = nn.MaxPool2d(2)
        height, width = height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    features = channels * height * width
    for number, neurons in enumerate(config.hidden, 1):
        layers[f"fc{number}"] = nn.Linear(features, neurons)
        layers[f"fc{number}_relu"] = nn.ReLU()
        layers[f"fc{number}_drop"] = nn.Dropout()
        features = neurons
    layers[f"fc{len(config.hidden) + 1}"] = nn.Linear(features, config.classes)
    return named(layers)
