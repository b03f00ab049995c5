"""Clusterings against brute force and against what each of them promises."""

import itertools

import numpy as np
import pytest

from karui.sw.compress.cluster import Clustering, binary_k_means, entropy_constrained, k_means, product_quantization

RANDOM = np.random.default_rng(1)
NORMAL = RANDOM.normal(size=(4000, 1)).astype(np.float32)


def error(clustering: Clustering, vectors: np.ndarray) -> float:
    return float(np.square(clustering.values - vectors).sum())


def bits(codes: np.ndarray) -> float:
    counts = np.bincount(codes)
    shares = counts[counts > 0] / len(codes)
    return float(-(shares * np.log2(shares)).sum() * len(codes))


def test_scalar_k_means_finds_the_best_of_all_partitions() -> None:
    values = np.sort(RANDOM.normal(size=12)).astype(np.float32)[:, None]
    best = min(
        sum(float(np.square(part - part.mean()).sum()) for part in np.split(values, cuts))
        for cuts in itertools.combinations(range(1, 12), 2)
    )
    found = min(error(k_means(values, 3, initialisation="k-means++", seed=seed), values) for seed in range(20))
    assert found == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("start", ["linear", "density", "k-means++"])
@pytest.mark.parametrize(("d", "k"), [(1, 16), (4, 32)])
def test_k_means_is_a_fixed_point(start: str, d: int, k: int) -> None:
    vectors = NORMAL.reshape(-1, d)
    clustering = k_means(vectors, k, initialisation=start)  # type: ignore[arg-type]
    distances = np.square(vectors[:, None] - clustering.code_book).sum(axis=2)
    assert np.array_equal(clustering.codes, distances.argmin(axis=1))
    assert clustering.code_book.shape == (k, d)
    means = np.stack([vectors[clustering.codes == code].mean(axis=0) for code in range(k)])
    assert np.abs(means - clustering.code_book).max() < 0.03
    if d == 1:
        assert np.all(np.diff(clustering.code_book[:, 0]) > 0)


def test_few_different_vectors_are_kept_as_they_are() -> None:
    vectors = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 5.0]], dtype=np.float32)
    clustering = k_means(vectors, 8)
    assert clustering.code_book.tolist() == [[0.0, 5.0], [1.0, 2.0]]
    assert np.array_equal(clustering.values, vectors)


def test_a_price_on_bits_buys_shorter_codes_for_more_error() -> None:
    start = k_means(NORMAL, 16)
    found = [entropy_constrained(NORMAL, start, rate=rate) for rate in (0.0, 0.02, 0.1)]
    sizes = [bits(clustering.codes) for clustering in found]
    errors = [error(clustering, NORMAL) for clustering in found]
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert sizes[2] < 0.8 * sizes[0]
    # At equal error k-means with fewer values needs more bits: what the constraint is for.
    plain = [k_means(NORMAL, k) for k in range(2, 17)]
    comparable = [bits(clustering.codes) for clustering in plain if error(clustering, NORMAL) <= errors[2]]
    assert sizes[2] < min(comparable)


def test_pruned_vectors_stay_zero_and_small_ones_may_become_zero() -> None:
    vectors = NORMAL.copy()
    vectors[::2] = 0
    start = k_means(vectors[1::2], 8)
    free, priced = (entropy_constrained(vectors, start, rate=rate) for rate in (0.0, 0.1))
    for clustering in (free, priced):
        assert not clustering.code_book[0].any()
        assert not clustering.codes[::2].any()
    assert np.count_nonzero(priced.codes) < np.count_nonzero(free.codes)


def test_product_quantization_clusters_each_slice_by_itself() -> None:
    matrix = RANDOM.normal(size=(64, 24)).astype(np.float32)
    matrix[:8, :8] = 0

    def cluster(vectors: np.ndarray) -> Clustering:
        return entropy_constrained(vectors, k_means(vectors[vectors.any(axis=1)], 8), rate=0.0)

    joined = product_quantization(matrix, cluster, vector=4, books=3)
    assert joined.code_book.shape == (1 + 3 * 8, 4)
    values = joined.values.reshape(64, 24)
    assert not values[:8, :8].any()
    for index in range(3):
        columns = slice(8 * index, 8 * (index + 1))
        alone = cluster(matrix[:, columns].reshape(-1, 4))
        assert np.array_equal(values[:, columns], alone.values.reshape(64, 8))
    with pytest.raises(ValueError, match="books must split the 24 columns into slices whose width 4 divides, not into"):
        product_quantization(matrix, cluster, vector=4, books=4)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="k must be at least 1 cluster, not 0"):
        k_means(NORMAL, 0)
    with pytest.raises(ValueError, match=r"vectors \(n, d\), at least one, not an array of shape \(0, 2\)"):
        k_means(np.zeros((0, 2), dtype=np.float32), 3)


def test_binary_clusters_change_the_signs_that_matter_least() -> None:
    vectors = np.sign(np.random.default_rng(2).normal(size=(600, 6))).astype(np.float32)
    importance = np.tile(np.array([5, 5, 5, 1, 1, 1], dtype=np.float32), (600, 1))
    clustering = binary_k_means(vectors, 8, importance=importance)
    assert np.array_equal(np.abs(clustering.code_book), np.ones((8, 6)))
    changed = (clustering.values != vectors) * importance
    nearest = ((vectors[:, None] != clustering.code_book) * importance[:, None]).sum(axis=2).min(axis=1)
    assert np.array_equal(changed.sum(axis=1), nearest)
    # Eight vectors tell three signs apart: those that cost most.
    assert np.array_equal(clustering.values[:, :3], vectors[:, :3])
