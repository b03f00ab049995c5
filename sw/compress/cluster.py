"""Clustering of weights: k-means on vectors of any length, entropy-constrained clustering, product quantization.

Sources: k-means with linear, density-based and random initialisation (Han et al. 2016), k-means++ (Arthur and
Vassilvitskii 2007), entropy-constrained vector quantization (Chou, Lookabaugh and Gray 1989), product quantization of
weights (Gong et al. 2014).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from karui.sw.compress.config import Initialisation

Reals = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]

# k-means is fitted to so many vectors, drawn at random, at most; all are then assigned.
FITTED_VECTORS = 65_536
ITERATIONS = 50
# Squared distances are taken for so many pairs at a time: bounds the memory.
_PAIRS = 1 << 22


@dataclass(frozen=True, kw_only=True, eq=False)
class Clustering:
    """A code book, and which of its vectors stands for each vector that was clustered.

    Parameters
    ----------
    code_book
        Real values (k, d), in lexicographic order; scalars ascend.
    codes
        Indices into the code book.
    """

    code_book: Reals
    codes: Codes

    @property
    def values(self) -> Reals:
        """The vectors after clustering."""
        return self.code_book[self.codes]


def k_means(vectors: Reals, k: int, *, initialisation: Initialisation = "linear", seed: int = 1) -> Clustering:
    """Cluster vectors (n, d) into at most k groups; fewer where there are fewer different vectors.

    ``linear`` starts from k points spread evenly over the range of the vectors' first principal component, ``density``
    from its quantiles (at d = 1 these are the paper's two initialisations), ``k-means++`` from sklearn's.
    """
    _check(vectors, k)
    distinct = len(np.unique(vectors, axis=0))
    if distinct <= k:
        book, codes = np.unique(vectors, axis=0, return_inverse=True)
        return Clustering(code_book=book.astype(np.float32), codes=codes.reshape(-1).astype(np.int64))
    generator = np.random.default_rng(seed)
    fitted = vectors
    if len(vectors) > FITTED_VECTORS:
        fitted = vectors[generator.choice(len(vectors), FITTED_VECTORS, replace=False)]
    start: str | Reals = "k-means++" if initialisation == "k-means++" else _spread(fitted, k, initialisation)
    estimator = KMeans(k, init=start, n_init=1, max_iter=ITERATIONS, random_state=seed)
    with warnings.catch_warnings():
        # Equal starting points leave empty groups, which sklearn reports; the groups that remain are what is used.
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(fitted)
    return _ordered(estimator.cluster_centers_.astype(np.float32), vectors)


def entropy_constrained(vectors: Reals, start: Clustering, *, rate: float, iterations: int = ITERATIONS) -> Clustering:
    """Trade distortion against the bits of the codes, until nothing changes.

    Minimises ``sum |x - c|**2 + price * bits(code)`` by turns: each vector goes to the centre of the least cost, where
    a code of relative frequency p costs ``-log2 p`` bits; each centre moves to its vectors' mean. The price is `rate`
    times the mean square of the vectors' elements that are not zero.

    Parameters
    ----------
    vectors
        (n, d); zeros among them are pruned weights.
    start
        Clustering of the vectors other than zero, from which the alternation starts.
    rate
        Price of a bit; 0 gives k-means.
    iterations
        Turns at most.

    Returns
    -------
    Clustering
        Code 0 is the zero vector, the code book's first, to which any vector may move and where pruned ones stay.
    """
    live = vectors.any(axis=1)
    book = np.concatenate([np.zeros((1, vectors.shape[1]), dtype=np.float32), start.code_book])
    chosen = vectors[live].astype(np.float32)
    codes = start.codes + 1
    price = bit_price(chosen, rate)
    for _ in range(iterations):
        counts = np.bincount(codes, minlength=len(book)).astype(np.float64)
        counts[0] += len(vectors) - len(chosen)
        bits = -np.log2(np.maximum(counts, 1e-9) / len(vectors))
        nearest = _nearest(chosen, book, (price * bits).astype(np.float32))
        if np.array_equal(nearest, codes):
            break
        codes = nearest
        for code in range(1, len(book)):
            members = chosen[codes == code]
            if len(members):
                book[code] = members.mean(axis=0)
    full = np.zeros(len(vectors), dtype=np.int64)
    full[live] = codes
    return _compacted(book, full, keep_first=True)


def bit_price(vectors: Reals, rate: float) -> float:
    """Squared distance that a bit of a code is worth: `rate` times the mean square of the elements other than zero."""
    return rate * float(np.square(vectors[vectors != 0]).mean()) if vectors.any() else 0.0


def product_quantization(
    matrix: Reals, cluster: Callable[[Reals], Clustering], *, vector: int, books: int
) -> Clustering:
    """Cluster column slices of a matrix, each with a code book of its own.

    Parameters
    ----------
    matrix
        (rows, columns).
    cluster
        Clusters the vectors (n, d) of a slice; code 0 is the zero vector.
    vector
        Length d of the vectors along a row.
    books
        Slices of equal width, a multiple of d.

    Returns
    -------
    Clustering
        Of all vectors, row by row; the code books follow one another behind the zero vector.
    """
    columns = matrix.shape[1]
    if columns % books or columns // books % vector:
        raise ValueError(
            f"books must split the {columns} columns into slices whose width {vector} divides, not into {books}"
        )
    code_book, codes = [np.zeros((1, vector), dtype=np.float32)], []
    entries = 1
    for part in np.split(matrix, books, axis=1):
        clustering = cluster(part.reshape(-1, vector))
        codes.append(np.where(clustering.codes, clustering.codes + entries - 1, 0).reshape(len(matrix), -1))
        code_book.append(clustering.code_book[1:])
        entries += len(clustering.code_book) - 1
    return Clustering(code_book=np.concatenate(code_book), codes=np.concatenate(codes, axis=1).ravel())


def binary_k_means(vectors: Reals, k: int, *, importance: Reals, seed: int = 1) -> Clustering:
    """Cluster vectors of -1 and +1 around at most k vectors of -1 and +1.

    From k-means, its centres rounded to signs, the alternation goes on with binary centres until nothing changes. It
    minimises the sum of the importances of the elements whose sign changes.

    Parameters
    ----------
    vectors
        (n, d), -1 and +1.
    k
        Clusters.
    importance
        (n, d), what a changed sign costs, 0 or more.
    seed
        Of k-means++.
    """
    book, codes = np.unique(vectors, axis=0, return_inverse=True)
    if len(book) <= k:
        return Clustering(code_book=book, codes=codes.reshape(-1).astype(np.int64))
    weighted = vectors * importance
    book = _signs(k_means(weighted, k, initialisation="k-means++", seed=seed).code_book)
    for _ in range(ITERATIONS):
        book = np.unique(book, axis=0)
        codes = (weighted @ book.T).argmax(axis=1)
        sums = np.zeros_like(book)
        np.add.at(sums, codes, weighted)
        moved = np.where(sums == 0, book, _signs(sums))
        if np.array_equal(moved, book):
            break
        book = moved
    return _compacted(book, codes, keep_first=False)


def _signs(values: Reals) -> Reals:
    return np.where(values < 0, np.float32(-1), np.float32(1))


def _spread(vectors: Reals, k: int, initialisation: Initialisation) -> Reals:
    """Starting points along the first principal component, through the mean."""
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    along = centred @ axis
    if initialisation == "linear":
        places = np.linspace(along.min(), along.max(), k)
    else:
        places = np.quantile(along, (np.arange(k) + 0.5) / k)
    points: Reals = (mean + places[:, None] * axis).astype(np.float32)
    return points


def _ordered(book: Reals, vectors: Reals) -> Clustering:
    book = book[np.lexsort(book.T[::-1])]
    return _compacted(book, _nearest(vectors, book, np.zeros(len(book), dtype=np.float32)), keep_first=False)


def _nearest(vectors: Reals, book: Reals, cost: Reals) -> Codes:
    """Index of the code of the least squared distance plus cost, the first of equals."""
    offsets = np.square(book).sum(axis=1) + cost
    step = max(_PAIRS // len(book), 1)
    parts = [
        (offsets - 2 * (vectors[start : start + step] @ book.T)).argmin(axis=1)
        for start in range(0, len(vectors), step)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _compacted(book: Reals, codes: Codes, *, keep_first: bool) -> Clustering:
    """The clustering without the code book's vectors that nothing uses."""
    used = np.zeros(len(book), dtype=bool)
    used[codes] = True
    used[:1] |= keep_first
    return Clustering(code_book=book[used].astype(np.float32), codes=(np.cumsum(used) - 1)[codes])


def _check(vectors: Reals, k: int) -> None:
    if vectors.ndim != 2 or not len(vectors):
        raise ValueError(f"k-means takes vectors (n, d), at least one, not an array of shape {vectors.shape}")
    if k < 1:
        raise ValueError(f"k must be at least 1 cluster, not {k}")
