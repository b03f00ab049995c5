"""Weight sharing: every weight is an entry of its layer's code book, which training moves (Han et al. 2016)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from karui.sw.compress.cluster import (
    FITTED_VECTORS,
    ITERATIONS,
    Clustering,
    Reals,
    bit_price,
    entropy_constrained,
    k_means,
    product_quantization,
)
from karui.sw.compress.code_book import CodeBook, CodeBookGrid, MovingCodeBook
from karui.sw.compress.config import ShareConfig
from karui.sw.nn.quant_weight import QuantWeightLayer, quant_weight_layers
from karui.sw.nn.weight_vectors import weight_vectors

SAMPLED_TURNS = 10


@torch.no_grad()
def share(
    layer: QuantWeightLayer,
    code_book: Tensor,
    codes: Tensor,
    biases: Clustering | None = None,
    *,
    price: float | None = None,
) -> None:
    """Put a code book behind a layer's weight; it is the code book that is quantized until `own_weights`.

    Parameters
    ----------
    layer
        Its weight is parametrized from here on.
    code_book
        Values (k, d) of codes 1 to k.
    codes
        Of the `weight_vectors`; 0 for zero.
    biases
        Code book and codes of the bias, if it is shared too; code 0 is zero.
    price
        Squared distance that a bit of a code is worth when weights move between entries; None if they stay.
    """
    bits, weight = layer.weight_bits, layer.weight
    book: CodeBook | MovingCodeBook
    if price is None:
        book = CodeBook(codes, tuple(weight.shape), bits=bits)
        layer.weight = nn.Parameter(code_book.clone())
    else:
        live = weight_vectors(weight, code_book.shape[1]).any(dim=1)
        book = MovingCodeBook(code_book, codes, live, price=price, bits=bits)
    parametrize.register_parametrization(layer, "weight", book, unsafe=True)
    if biases is not None and layer.bias is not None:
        entries, count = torch.tensor(biases.code_book[1:]), len(layer.bias)
        layer.bias = nn.Parameter(entries)
        shared = CodeBook(torch.tensor(biases.codes), (count,), bits=None)
        parametrize.register_parametrization(layer, "bias", shared, unsafe=True)
    if bits is not None and layer.bias is not None:
        parametrize.register_parametrization(layer, "bias", CodeBookGrid(layer, bits))
    layer.weight_bits = None


def share_by_clustering(model: nn.Module, config: ShareConfig, *, seed: int) -> None:
    """Cluster the non-zero weights of every layer and share them; small ones may become zero, which stays zero."""
    layers = quant_weight_layers(model)
    for layer, k, vector in zip(
        layers, config.layer_codes(len(layers)), config.layer_vectors(len(layers)), strict=True
    ):
        length = power_of_two_divisor(layer.weight.numel() // layer.vector_rows, vector)
        rows = weight_vectors(layer.weight.detach(), length).reshape(layer.vector_rows, -1).numpy()
        clustering = cluster_weights(rows, k, vector, config, seed=seed)
        biases = None
        if config.bias_codes is not None and layer.bias is not None:
            biases = cluster_biases(layer.bias.detach().numpy(), config.bias_codes)
        price = bit_price(rows, config.rate) if config.assignment == "moving" else None
        share(layer, torch.tensor(clustering.code_book[1:]), torch.tensor(clustering.codes), biases, price=price)


def cluster_weights(weight: Reals, k: int, vector: int, config: ShareConfig, *, seed: int) -> Clustering:
    """Cluster a layer's vectors other than zero; code 0 of the result is the zero vector."""
    rows = weight.reshape(len(weight), -1).astype(np.float32)
    length = power_of_two_divisor(rows.shape[1], vector)
    books = power_of_two_divisor(rows.shape[1] // length, config.books)
    if not rows.any():
        raise ValueError("a layer has no weight left to share; keep more of it")

    def cluster(vectors: Reals) -> Clustering:
        live = vectors[vectors.any(axis=1)]
        if not len(live):
            zero = np.zeros((1, vectors.shape[1]), dtype=np.float32)
            return Clustering(code_book=zero, codes=np.zeros(len(vectors), dtype=np.int64))
        start = k_means(live, k, initialisation=config.initialisation, seed=seed)
        # Where k-means was fitted to a sample, turns over all vectors take longest and change least.
        turns = ITERATIONS if len(live) <= FITTED_VECTORS else SAMPLED_TURNS if config.rate else 1
        return entropy_constrained(vectors, start, rate=config.rate, iterations=turns)

    return product_quantization(rows, cluster, vector=length, books=books)


def cluster_biases(bias: Reals, k: int) -> Clustering | None:
    """Cluster a layer's biases other than zero by `k_means`; code 0 is zero. None if all are zero."""
    live = bias[bias != 0].astype(np.float32)[:, None]
    if not len(live):
        return None
    return entropy_constrained(bias.astype(np.float32)[:, None], k_means(live, k, initialisation="density"), rate=0.0)


def power_of_two_divisor(number: int, most: int) -> int:
    """Return the largest power of two up to `most`, itself one, that divides a number."""
    return min(most, number & -number)


@torch.no_grad()
def own_weights(model: nn.Module) -> None:
    """Make the shared values the layers' own weights again, which lie on a grid of their width already."""
    for layer in quant_weight_layers(model):
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        weight = layer.weight.detach().clone()
        (book,) = layer.parametrizations.weight  # type: ignore[union-attr, misc]
        assert isinstance(book, CodeBook | MovingCodeBook)
        layer.weight_bits = book.bits
        bias = None if layer.bias is None else layer.bias.detach().clone()
        # Originals may be code books, of other shapes than weight and bias.
        for name in ("bias", "weight"):
            if parametrize.is_parametrized(layer, name):
                parametrize.remove_parametrizations(layer, name, leave_parametrized=False)
        layer.weight, layer.bias = nn.Parameter(weight), None if bias is None else nn.Parameter(bias)
