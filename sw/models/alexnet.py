"""AlexNet (Krizhevsky et al. 2012)."""

from dataclasses import dataclass

from torch import nn

from karui.sw.models.blocks import check_network
from karui.sw.models.lenet import check_widths, named


@dataclass(frozen=True, kw_only=True)
class AlexNetConfig:
    """Five convolutions, three of them in two groups, and three fully connected layers: 60,965,224 parameters.

    Without local response normalization, which later networks have shown to be of little use.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    channels
        Of the convolutions.
    hidden
        Neurons of the first two fully connected layers.
    """

    image: tuple[int, int, int] = (3, 227, 227)
    classes: int = 1000
    channels: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    hidden: tuple[int, int] = (4096, 4096)

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        check_widths("channels and hidden", (*self.channels, *self.hidden))
        if any(width % 2 for width in self.channels):
            raise ValueError(f"channels must be even, as half of them form a group, not {list(self.channels)}")
        if min(_map_size(self.image[1:])) < 1:
            raise ValueError(f"image must be at least 67 x 67, not {self.image[1]} x {self.image[2]}")


def build_alexnet(config: AlexNetConfig) -> nn.Sequential:
    """Build ``conv1`` to ``conv5`` and ``fc6`` to ``fc8`` with what lies between them."""
    one, two, three, four, five = config.channels
    rows, columns = _map_size(config.image[1:])
    first, second = config.hidden
    return named(
        {
            "conv1": nn.Conv2d(config.image[0], one, 11, stride=4),
            "relu1": nn.ReLU(),
            "pool1": nn.MaxPool2d(3, 2),
            "conv2": nn.Conv2d(one, two, 5, padding=2, groups=2),
            "relu2": nn.ReLU(),
            "pool2": nn.MaxPool2d(3, 2),
            "conv3": nn.Conv2d(two, three, 3, padding=1),
            "relu3": nn.ReLU(),
            "conv4": nn.Conv2d(three, four, 3, padding=1, groups=2),
            "relu4": nn.ReLU(),
            "conv5": nn.Conv2d(four, five, 3, padding=1, groups=2),
            "relu5": nn.ReLU(),
            "pool5": nn.MaxPool2d(3, 2),
            "flatten": nn.Flatten(),
            "fc6": nn.Linear(five * rows * columns, first),
            "relu6": nn.ReLU(),
            "drop6": nn.Dropout(),
            "fc7": nn.Linear(first, second),
            "relu7": nn.ReLU(),
            "drop7": nn.Dropout(),
            "fc8": nn.Linear(second, config.classes),
        }
    )


def _map_size(image: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the map behind the last pool."""
    rows, columns = (((((size - 11) // 4 + 1 - 3) // 2 + 1) - 3) // 2 + 1 for size in image)
    return (rows - 3) // 2 + 1, (columns - 3) // 2 + 1
