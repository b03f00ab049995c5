"""Generated layers as a module of torch: training and evaluation modes, batches, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from karui.sw.ir.complexity_arithmetic import depth_steps
from karui.sw.nn.continuous_puppeteer import ContinuousPuppeteer, Polynomials
from karui.sw.nn.euler_puppeteer import EulerPuppeteer
from karui.sw.nn.generated_layers import SMALLEST_GAIN, GeneratedLayers, PositiveBatchNorm2d
from karui.sw.nn.image_groups import ImageGroups
from karui.sw.nn.puppeteer import Levels

LEVELS = Levels(first=4, count=3, shift=12)
MAPS = torch.rand(4, 4, 5, 5)
WORDS = torch.tensor([16_000, 20_000, 26_000, 9_000])


def layers(*, bits: int | None = None, residual: bool = False) -> GeneratedLayers:
    return GeneratedLayers(
        EulerPuppeteer(4, LEVELS, rank=3, bits=bits),
        first_depth=4,
        depth_steps=depth_steps(4, 6),
        residual=residual,
        bits=bits,
    )


def test_levels_of_a_depth_are_those_of_its_images() -> None:
    """Every word there is, by brute force; most pairs of depth and level occur with no image."""
    module = GeneratedLayers(
        EulerPuppeteer(4, replace(LEVELS, first=8, count=12, shift=11), rank=3),
        first_depth=4,
        depth_steps=depth_steps(4, 6),
    )
    words = torch.arange(1 << 16)
    depths, levels = module.depths(words), module.puppeteer.levels.of(words)
    found = {depth: sorted(set(levels[depths == depth].tolist())) for depth in (4, 5, 6)}
    assert {depth: list(module.levels_of(depth)) for depth in (4, 5, 6)} == found
    assert sum(map(len, found.values())) == 14


def test_gains_below_the_least_are_taken_as_the_least() -> None:
    norm = PositiveBatchNorm2d(2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([-3.0, 2.0]))
    given = norm.weight.clone()
    expected = MAPS[:, :2] / (1 + norm.eps) ** 0.5 * torch.tensor([SMALLEST_GAIN, 2.0])[:, None, None]
    torch.testing.assert_close(norm.eval()(MAPS[:, :2]), expected)
    assert torch.equal(norm.weight, given), "evaluation changes nothing"
    norm.train()(MAPS[:, :2])
    assert norm.weight.tolist() == [SMALLEST_GAIN, 2.0]
    assert int(norm.num_batches_tracked or 0) == 1


def test_two_forward_passes_have_one_backward_pass() -> None:
    module = layers()
    for norm in module.norms:
        torch.nn.init.constant_(norm.weight, -1.0)
    total = module(MAPS, WORDS).sum() + module(MAPS.flip(0), WORDS.flip(0)).sum()
    total.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("residual", [False, True])
def test_words_are_the_same_where_convolutions_are_in_bfloat16(residual: bool) -> None:
    module = layers(bits=8, residual=residual)
    for norm in module.norms:
        assert isinstance(norm, PositiveBatchNorm2d)
        norm.momentum = 1.0
    maps = (MAPS * 64).floor() / 64
    module(maps, WORDS)
    module.eval()
    expected = module(maps, WORDS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(maps, WORDS), expected)
    assert len(expected.unique()) > 15


def test_batches_of_no_image_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch of no images has no depth to generate kernels for; leave it out"):
        layers()(MAPS[:0], WORDS[:0])
    with pytest.raises(ValueError, match="a batch of no images"):
        ImageGroups(WORDS[:0], WORDS[:0])


def test_layers_that_make_no_sense_are_refused() -> None:
    generator = EulerPuppeteer(4, LEVELS, rank=3)
    with pytest.raises(ValueError, match=r"depths start at 1 or more and their steps ascend, not 0 and \(\)"):
        GeneratedLayers(generator, first_depth=0, depth_steps=())
    with pytest.raises(ValueError, match=r"depths start at 1 or more and their steps ascend, not 2 and \[5, 5\]"):
        GeneratedLayers(generator, first_depth=2, depth_steps=[5, 5])
    for residual, widths in ((False, (2, 2)), (True, (2,))):
        with pytest.raises(ValueError, match=r"widths of their own are for less than the first 2 layers"):
            GeneratedLayers(generator, first_depth=2, depth_steps=(), residual=residual, widths=widths)
    with pytest.raises(ValueError, match="have kernels of 3 x 3, not of 5 x 5"):
        GeneratedLayers(EulerPuppeteer(4, LEVELS, side=5), first_depth=2, depth_steps=())
    with pytest.raises(ValueError, match="activations of 8 bits need kernels of words; build the generator with bits"):
        GeneratedLayers(generator, first_depth=2, depth_steps=(), bits=8)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"limit": 32.0}, "limit of a generator of words must be 0.000976562 to 16, not 32"),
        ({"limit": 2.0**-11}, "limit of a generator of words must be 0.000976562 to 16, not 0.000488281"),
        ({"kernel_limit": 64.0}, "kernel_limit of a generator of words must be 0.125 to 32, not 64"),
        ({"kernel_limit": 0.0625}, "kernel_limit of a generator of words must be 0.125 to 32, not 0.0625"),
    ],
)
def test_limits_that_words_do_not_express_are_refused(limits: dict[str, float], message: str) -> None:
    EulerPuppeteer(4, LEVELS, **limits)
    with pytest.raises(ValueError, match=message):
        EulerPuppeteer(4, LEVELS, bits=8, **limits)


def test_words_of_a_continuous_generator_take_any_width() -> None:
    """Fewer bits are coarser kernels, not other ones."""
    torch.manual_seed(3)
    real = ContinuousPuppeteer(4, LEVELS, Polynomials(3), rank=3).eval()
    levels = torch.arange(3)
    errors = []
    for bits in (8, 4):
        coarse = ContinuousPuppeteer(4, LEVELS, Polynomials(3), rank=3, bits=bits).eval()
        coarse.load_state_dict(real.state_dict())
        pairs = zip(coarse.prepared(4)(levels), real.prepared(4)(levels), strict=True)
        errors.append(max(float((found - wanted).abs().max()) for found, wanted in pairs))
    assert 0 < errors[0] < errors[1]
