"""A small convolutional network of ordinary floating-point layers, with batches of normalized images."""

from dataclasses import dataclass

from torch import nn

from karui.sw.models.blocks import check_network
from karui.sw.models.lenet import check_widths, named
from karui.sw.nn.normalize import Normalize


@dataclass(frozen=True, kw_only=True)
class MnistCnnConfig:
    """Two padded 3x3 convolutions, each with a ReLU and a 2x2 max pool, and two fully connected layers.

    32 and 64 channels and 128 neurons on 28x28 images: 421,642 parameters.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    channels
        Output channels of the convolutions.
    hidden
        Neurons of the first fully connected layer.
    mean, deviation
        Of the training images' pixels, of 0 to 1: the images are normalized by them.
    """

    image: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10
    channels: tuple[int, int] = (32, 64)
    hidden: int = 128
    mean: float = 0.1307
    deviation: float = 0.3081

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        check_widths("channels and hidden", (*self.channels, self.hidden))
        if min(self.image[1:]) < 4:
            raise ValueError(f"image must be at least 4 x 4, not {self.image[1]} x {self.image[2]}")


def build_mnist_cnn(config: MnistCnnConfig) -> nn.Sequential:
    """Build ``conv1``, ``conv2``, ``fc1`` and ``fc2`` with what lies between them."""
    channels, height, width = config.image
    first, second = config.channels
    return named(
        {
            "normalize": Normalize((config.mean,), (config.deviation,)),
            "conv1": nn.Conv2d(channels, first, 3, padding=1),
            "relu1": nn.ReLU(),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(first, second, 3, padding=1),
            "relu2": nn.ReLU(),
            "pool2": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(second * (height // 4) * (width // 4), config.hidden),
            "relu3": nn.ReLU(),
            "fc2": nn.Linear(config.hidden, config.classes),
        }
    )
