"""SegNet: an encoder, and a decoder that puts maxima back where they were (Badrinarayanan et al. 2015)."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from karui.sw.models.blocks import Stage, check_network
from karui.sw.models.vgg import STAGES_16
from karui.sw.nn.normalize import Normalize

SMALL_STAGES = (Stage(channels=16, repeat=2), Stage(channels=32, repeat=2))


@dataclass(frozen=True, kw_only=True)
class SegNetConfig:
    """Encoder of VGG-16 with batch norms, and its mirror image; scores of each class for each pixel.

    Parameters
    ----------
    image
        Channels, height and width of the images; each pool halves the map, so they are divisible.
    classes
        Number of classes of a pixel; the paper's Cityscapes and CamVid have 11 and more.
    stages
        Convolutions of equal width in a row, a pool behind each stage.
    mean, deviation
        Of the training images' pixels, of 0 to 1: the images are normalized by them.
    """

    image: tuple[int, int, int] = (3, 352, 480)
    classes: int = 11
    stages: tuple[Stage, ...] = STAGES_16
    mean: float = 0.5
    deviation: float = 0.25

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        if not self.stages or any(stage.stride != 1 for stage in self.stages):
            raise ValueError("stages must be one or more, of stride 1 each: the pools halve the map")
        if any(size % (1 << len(self.stages)) for size in self.image[1:]):
            raise ValueError(
                f"image must be a multiple of {1 << len(self.stages)} pixels high and wide for {len(self.stages)} "
                f"pools, not {self.image[1]} x {self.image[2]}"
            )


class SegNet(nn.Module):
    """Encoder stages, pools that tell where the maxima were, and decoder stages behind unpooling.

    Parameters
    ----------
    config : SegNetConfig
    """

    def __init__(self, config: SegNetConfig) -> None:
        super().__init__()
        channels = config.image[0]
        encoders: list[nn.Module] = []
        decoders: list[nn.Module] = []
        for stage in config.stages:
            encoders.append(_convolutions([channels, *[stage.channels] * stage.repeat]))
            decoders.insert(0, _convolutions([*[stage.channels] * stage.repeat, channels]))
            channels = stage.channels
        # The outermost decoder ends with a convolution to the scores, without batch norm and ReLU.
        last = config.stages[0]
        head = nn.Conv2d(last.channels, config.classes, 3, padding=1)
        decoders[-1] = nn.Sequential(*_convolutions([last.channels] * last.repeat), head)
        self.normalize = Normalize((config.mean,), (config.deviation,))
        self.encoders, self.decoders = nn.ModuleList(encoders), nn.ModuleList(decoders)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, pixels: Tensor) -> Tensor:
        value, places = self.normalize(pixels), []
        for encoder in self.encoders:
            value, indices = self.pool(encoder(value))
            places.append(indices)
        for decoder in self.decoders:
            value = decoder(self.unpool(value, places.pop()))
        scores: Tensor = value
        return scores


def build_segnet(config: SegNetConfig) -> nn.Sequential:
    """Build the network."""
    return nn.Sequential(SegNet(config))


def _convolutions(channels: list[int]) -> nn.Sequential:
    """3x3 convolutions from each width to the next, with batch norms and ReLUs."""
    layers: list[nn.Module] = []
    for given, out in pairwise(channels):
        layers += [nn.Conv2d(given, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)
