"""Batch norm statistics of the finished weights."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, images: Tensor, *, batch_size: int = 1000) -> None:
    """Replace the running statistics by the averages over all given images, with the weights of evaluation mode.

    The running averages of training lag behind the weights, are taken over the last few batches alone, and over
    distorted images and, with stochastic weights, other weights than those that ship.

    Parameters
    ----------
    model
        Changed in place; it ends in evaluation mode.
    images
        uint8, N x C x H x W.
    batch_size
        Images a batch; the average is over whole batches.
    """
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
        norm.train()
    batch_size = min(batch_size, len(images))
    for start in range(0, len(images) - batch_size + 1, batch_size):
        model(images[start : start + batch_size].float())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
