"""Classification accuracy."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from karui.sw.data.dataset import Dataset


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Return the class of each image (uint8, N x C x H x W), or of each pixel where the model gives maps of scores.

    In evaluation mode; ties go to the lowest class index.
    """
    training = model.training
    model.eval()
    classes = [
        model(images[start : start + batch_size].float()).argmax(1) for start in range(0, len(images), batch_size)
    ]
    model.train(training)
    return torch.cat(classes)


def evaluate(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 1000) -> float:
    """Return the fraction of images, or of pixels where each has a label, whose predicted class is their label."""
    return int((predict(model, images, batch_size=batch_size) == labels).sum()) / labels.numel()


def mean_iou(predicted: Tensor, labels: Tensor, classes: int) -> float:
    """Return the mean over the classes of intersection over union, of the pixels predicted and labelled of a class.

    Classes that are neither predicted nor a label have no share in it.
    """
    pairs = torch.bincount(labels.flatten() * classes + predicted.flatten(), minlength=classes**2)
    counts = pairs.view(classes, classes).double()
    both = counts.diagonal()
    either = counts.sum(0) + counts.sum(1) - both
    return float((both[either > 0] / either[either > 0]).mean())


def held_out_accuracy(model: nn.Module, dataset: Dataset) -> float:
    """Return the fraction of the test images that a model classifies right."""
    return evaluate(model, *tensors(dataset.test_images, dataset.test_labels))


def tensors(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Copy arrays into tensors."""
    return torch.tensor(images), torch.tensor(labels)
