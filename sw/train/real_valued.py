"""The network that BinaryConnect evaluates after training with stochastic weights: the real-valued one."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from karui.sw.nn.binary_weight import binary_layers, use_real_valued_weights
from karui.sw.train.batch_norm import reestimate_batch_norm
from karui.sw.train.checkpoint import INT8_STEPS


@torch.no_grad()
def real_valued_twin(model: nn.Sequential, images: Tensor) -> nn.Sequential:
    """Return a copy that computes with its latent weights, rounded to the 8 bits that a checkpoint keeps.

    Parameters
    ----------
    model
        Trained model; left as it is.
    images
        Training images (uint8, N x C x H x W) for the batch norm statistics that fit the real weights.
    """
    twin = deepcopy(model)
    use_real_valued_weights(twin)
    for layer in binary_layers(twin):
        layer.weight.copy_((layer.weight * INT8_STEPS).round() / INT8_STEPS)
    reestimate_batch_norm(twin, images)
    return twin
