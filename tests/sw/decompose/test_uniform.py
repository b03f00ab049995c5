"""Plain quantization: levels, steps, and which is better than which."""

import pytest
import torch

from karui.sw.decompose.bases import decompose
from karui.sw.decompose.uniform import Scale, uniform_weights


@pytest.mark.parametrize("scale", ["layer", "filter", "filter-mse"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_levels(scale: Scale, bits: int) -> None:
    weights = torch.randn(5, 400)
    rounded = uniform_weights(weights, bits, scale)
    top = (1 << (bits - 1)) - 1
    for row in rounded:
        levels = row.unique()
        assert len(levels) <= 2 * top + 1
        step = levels[levels > 0].min() / round(float(levels[levels > 0].min() / levels.abs().max() * top) or 1)
        torch.testing.assert_close((levels / step).round() * step, levels, rtol=1e-9, atol=1e-12)


def test_more_freedom_is_less_error_and_bases_have_the_most() -> None:
    weights = torch.randn(6, 2000) * torch.tensor([0.1, 1, 1, 2, 3, 0.5])[:, None]
    for bits in (2, 3, 4):
        errors = [
            float(((uniform_weights(weights, bits, scale) - weights).square().sum(1) / weights.square().sum(1)).mean())
            for scale in ("layer", "filter", "filter-mse")
        ]
        assert errors[0] > errors[1] > errors[2] > float(decompose(weights, bits).errors.mean())


def test_zeros_stay_and_a_bit_is_refused() -> None:
    assert not uniform_weights(torch.zeros(2, 3), 4, "filter-mse").any()
    with pytest.raises(ValueError, match="2 bits or more, not 1"):
        uniform_weights(torch.zeros(2, 3), 1, "layer")
