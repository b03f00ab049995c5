"""Weight sharing: every weight is an entry of its layer's code book, which training moves (Han et al. 2016)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from karui.sw.compress.cluster import Clustering, Reals, entropy_constrained, k_means
from karui.sw.compress.config import ShareConfig
from karui.sw.nn.quant_weight import QuantWeightLayer, quant_weight_layers


class CodeBook(nn.Module):
    """Parametrization of a weight by a code book: the gradient of an entry is the sum of its weights' gradients.

    Parameters
    ----------
    codes
        For each vector of the weight, flattened, an entry of the code book; 0 is the zero vector, which stays zero.
    shape
        Of the weight.

    Notes
    -----
    The parameter, ``original`` of the parametrization, is the code book (k, d) of codes 1 to k.
    """

    codes: Tensor

    def __init__(self, codes: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.shape = shape

    def forward(self, code_book: Tensor) -> Tensor:
        entries = torch.cat([code_book.new_zeros(1, code_book.shape[1]), code_book])
        return functional.embedding(self.codes, entries).view(self.shape)


@torch.no_grad()
def share(layer: QuantWeightLayer, code_book: Tensor, codes: Tensor) -> None:
    """Put a code book behind a layer's weight.

    Parameters
    ----------
    layer
        Its weight is parametrized from here on.
    code_book
        Values (k, d) of codes 1 to k.
    codes
        Of the weight's vectors, in the order of its memory; 0 for zero.
    """
    shape = tuple(layer.weight.shape)
    layer.weight = nn.Parameter(code_book.clone())
    parametrize.register_parametrization(layer, "weight", CodeBook(codes, shape), unsafe=True)


def share_by_clustering(model: nn.Module, config: ShareConfig, *, seed: int) -> None:
    """Cluster the non-zero weights of every layer and share them.

    Zero vectors keep code 0. With a `rate`, further ones may become zero.
    """
    layers = quant_weight_layers(model)
    codes = config.codes * len(layers) if len(config.codes) == 1 else config.codes
    if len(codes) != len(layers):
        raise ValueError(f"codes must be one number or {len(layers)}, one a layer, not {list(config.codes)}")
    for layer, k in zip(layers, codes, strict=True):
        clustering = cluster_weights(layer.weight.detach().numpy(), k, config, seed=seed)
        share(layer, torch.tensor(clustering.code_book[1:]), torch.tensor(clustering.codes))


def cluster_weights(weight: Reals, k: int, config: ShareConfig, *, seed: int) -> Clustering:
    """Cluster a layer's vectors other than zero; code 0 of the result is the zero vector."""
    vectors = weight.reshape(-1, vector_length(weight, config.vector)).astype(np.float32)
    live = vectors[vectors.any(axis=1)]
    if not len(live):
        raise ValueError("a layer has no weight left to share; keep more of it")
    start = k_means(live, k, initialisation=config.initialisation, seed=seed)
    return entropy_constrained(vectors, start, rate=config.rate)


def vector_length(weight: Reals, wanted: int) -> int:
    """Return the largest power of two up to `wanted` that divides a row of the weight."""
    row = int(weight[0].size)
    return min(wanted, row & -row)


def own_weights(model: nn.Module) -> None:
    """Make the shared values the layers' own weights again."""
    for layer in quant_weight_layers(model):
        if parametrize.is_parametrized(layer, "weight"):
            weight = layer.weight.detach().clone()
            # The original is a code book, of another shape than the weight.
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
            layer.weight = nn.Parameter(weight)
