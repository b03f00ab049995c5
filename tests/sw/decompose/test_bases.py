"""Decompositions against their definition, exhaustive minima and the optima of Gaussian weights."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.sw.decompose.bases import Method, decompose, sign_patterns

METHODS: tuple[Method, ...] = ("exhaustive", "greedy", "refined")


def gaussian(filters: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(filters, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bases", [1, 3, 8])
def test_the_parts_are_what_they_say(method: Method, bases: int) -> None:
    weights = gaussian(5, 60)
    found = decompose(weights, bases, method=method, restarts=4)
    signs = found.signs()
    assert signs.shape == (5, bases, 60)
    assert set(signs.unique().tolist()) == {-1, 1}
    approximation = (found.coefficients[..., None] * signs).sum(1)
    torch.testing.assert_close(found.weights(), approximation, rtol=1e-12, atol=1e-12)
    errors = (weights - approximation).square().sum(1) / weights.square().sum(1)
    torch.testing.assert_close(found.errors, errors, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("bases", "limit"), [(1, 0.3634), (2, 0.1175), (3, 0.0353), (4, 0.0099), (6, 0.00077)])
def test_gaussian_weights_reach_the_known_optima(bases: int, limit: float) -> None:
    error = float(decompose(gaussian(16, 4096), bases).errors.mean())
    # Of 16 filters the mean itself varies by some percent, of N = 4096 weights six bases fit a little more than noise.
    assert 0.9 * limit < error < 1.05 * limit


def test_the_error_is_the_least_of_all_sign_patterns_on_short_filters() -> None:
    """All 2^(N k) matrices M, each with its least squares."""
    weights = gaussian(6, 5, seed=3)
    found = decompose(weights, 2)
    for row, error in zip(weights, found.errors, strict=True):
        least = min(
            float((row - matrix @ torch.linalg.pinv(matrix) @ row).square().sum() / row.square().sum())
            for codes in itertools.product(range(4), repeat=5)
            for matrix in (sign_patterns(2)[list(codes)],)
        )
        assert float(error) == pytest.approx(least, rel=1e-6, abs=1e-9)


def test_a_fixed_point_of_both_halves() -> None:
    """No weight has a nearer level, and no other coefficients are better at these signs."""
    weights = gaussian(4, 300)
    found = decompose(weights, 3)
    distance = (weights[..., None] - found.levels()[:, None, :]).abs()
    own = distance.gather(2, found.codes.long()[..., None])[..., 0]
    assert bool((own <= distance.min(2).values + 5e-3).all())
    for row, signs, coefficients in zip(weights, found.signs().double(), found.coefficients, strict=True):
        best = torch.linalg.lstsq(signs.T, row[:, None]).solution[:, 0]
        torch.testing.assert_close(coefficients, best, rtol=1e-6, atol=1e-6)


def test_better_methods_are_better_and_more_bases_too() -> None:
    weights = gaussian(8, 2000)
    means = {
        (method, bases): float(decompose(weights, bases, method=method).errors.mean())
        for method in METHODS
        for bases in (1, 2, 4, 6)
    }
    for bases in (2, 4, 6):
        assert means["exhaustive", bases] < means["refined", bases] < means["greedy", bases]
    for method in METHODS:
        assert means[method, 1] > means[method, 2] > means[method, 4] > means[method, 6]


def test_a_filter_depends_on_no_other_and_on_the_seed_alone() -> None:
    weights = gaussian(40, 64)
    whole = decompose(weights, 4, seed=7)
    single = decompose(weights[37:38], 4, seed=7)
    assert torch.equal(whole.codes[37:38], single.codes)
    assert torch.equal(whole.coefficients[37:38], single.coefficients)
    assert not torch.equal(whole.coefficients, decompose(weights, 4, seed=8, restarts=1).coefficients)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]), min_size=4, max_size=4), min_size=1),
    bases=st.integers(1, 8),
    scale=st.sampled_from([1e-12, 1.0, 1e9]),
)
def test_degenerate_filters(rows: list[list[float]], bases: int, scale: float) -> None:
    """Zeros, repeated values, more bases than weights: finite, within the filter's energy, and of any scale."""
    weights = scale * torch.tensor(rows, dtype=torch.float64)
    found = decompose(weights, bases, restarts=8)
    assert bool(torch.isfinite(found.coefficients).all())
    assert bool((found.errors <= 1).all())
    assert bool((found.weights()[(weights == 0).all(1)] == 0).all())


def test_a_filter_of_few_levels_is_exact() -> None:
    """Weights that are sums of two bases are found again."""
    random = np.random.default_rng(0)
    signs = torch.from_numpy(random.choice([-1.0, 1.0], (3, 2, 100)))
    weights = (torch.tensor([[1.0, 0.25], [2.0, 0.5], [0.3, 0.2]])[..., None] * signs).sum(1)
    assert float(decompose(weights, 2).errors.max()) < 1e-12


@pytest.mark.parametrize(
    ("weights", "bases", "message"),
    [
        (torch.zeros(2, 3), 0, "1 to 8 bases, not 0"),
        (torch.zeros(2, 3), 9, "1 to 8 bases, not 9"),
        (torch.zeros(3), 1, "not of shape"),
        (torch.tensor([[float("nan")]]), 1, "finite"),
    ],
)
def test_refusals(weights: torch.Tensor, bases: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompose(weights, bases)
