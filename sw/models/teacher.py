"""Small float CNN that teaches binary networks by distillation. It is never lowered."""

from torch import nn


def build_teacher(image: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Build two strided 3x3 convolutions and two dense layers; a batch norm in front takes the pixels' scale."""
    channels, height, width = image
    dense_inputs = 64 * (-(-height // 4)) * (-(-width // 4))
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(dense_inputs, 256, bias=False),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(256, classes),
    )
