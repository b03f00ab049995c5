"""Reconstruction of the image from the capsule of its class, a regularizer of training alone (Sabour et al. 2017)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from karui.sw.nn.capsule import SquaredLength
from karui.sw.train.seeding import seeded

# Of integer pixels of 8 bits.
WHITE = 255.0


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """The decoder and its share in the loss.

    Parameters
    ----------
    weight
        Of an image's sum of squared differences, its pixels from 0 to 1.
    hidden
        Neurons of the decoder's hidden layers.
    """

    weight: float = 0.0005
    hidden: tuple[int, ...] = (512, 1024)

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"the weight of the reconstruction must be positive, not {self.weight:g}; or leave it out")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must be widths of at least 1, not {list(self.hidden)}")


class ReconstructionTraining(nn.Module):
    """A capsule network with its decoder, for the time of a training.

    Its outputs are the network's; behind the training the network stands alone.

    Parameters
    ----------
    network
        Ends in a `SquaredLength`.
    image
        Channels, height and width.
    classes
        Capsules in front of the lengths.
    config
        Decoder and weight.

    Attributes
    ----------
    network, decoder
        The two; the decoder takes all class capsules, those of other classes zero.
    """

    def __init__(
        self, network: nn.Sequential, image: tuple[int, int, int], classes: int, config: ReconstructionConfig
    ) -> None:
        super().__init__()
        lengths = network[-1]
        if not isinstance(lengths, SquaredLength):
            raise ValueError(f"reconstruction is for networks that end in SquaredLength, not {type(lengths).__name__}")
        self.network = network
        self.decoder = build_decoder(classes * lengths.length, math.prod(image), config.hidden)
        self.classes = classes
        self.weight = config.weight
        self._capsules: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        self._capsules = self.network[:-1](images)
        squares: Tensor = self.network[-1](self._capsules)
        return squares

    def penalty(self, labels: Tensor, images: Tensor) -> Tensor:
        """Return the weighted reconstruction error of the images of the last forward pass."""
        capsules, self._capsules = self._capsules, None
        if capsules is None:
            raise ValueError("a penalty belongs to a forward pass: compute the network's outputs first")
        vectors = torch.unflatten(capsules, 1, (self.classes, -1))
        mask = nn.functional.one_hot(labels, self.classes).to(vectors.dtype)
        with torch.autocast("cpu", enabled=False):
            decoded = self.decoder((vectors * mask[:, :, None]).flatten(1))
        error: Tensor = (decoded - images.flatten(1) / WHITE).square().sum(1).mean()
        return self.weight * error


def beside_decoder(
    model: nn.Sequential,
    image: tuple[int, int, int],
    classes: int,
    config: ReconstructionConfig | None,
    *,
    seed: int,
) -> nn.Module:
    """Return what a training trains: the model beside a decoder, or alone without a configuration of one."""
    if config is None:
        return model
    return seeded(seed, lambda: ReconstructionTraining(model, image, classes, config))


def build_decoder(features: int, pixels: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """Build the fully connected decoder from capsules to pixels of 0 to 1."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(features, width), nn.ReLU()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, pixels), nn.Sigmoid())
