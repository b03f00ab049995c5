"""Generators of kernels: their equations, their words, what the backward pass keeps, and images in groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from karui.sw.ir.generated_kernels import generate
from karui.sw.lower.generated import generator_of
from karui.sw.nn.continuous_puppeteer import FACTOR_WORDS, ContinuousPuppeteer, Polynomials, Sines
from karui.sw.nn.euler_puppeteer import EulerPuppeteer
from karui.sw.nn.generated_layers import GeneratedLayers
from karui.sw.nn.image_groups import ImageGroups, convolve
from karui.sw.nn.puppeteer import Levels, Puppeteer

LEVELS = Levels(first=32, count=48, shift=8)
KINDS = ["euler", "sines", "polynomials"]
# Outer products enough that kernels of real numbers come from patterns, which are fewer.
MANY = 40


def puppeteer(kind: str, bits: int | None, *, channels: int = 8, rank: int = 6) -> Puppeteer:
    if kind == "euler":
        return EulerPuppeteer(channels, LEVELS, rank=rank, bits=bits)
    basis = Sines(4) if kind == "sines" else Polynomials(5)
    return ContinuousPuppeteer(channels, LEVELS, basis, rank=rank, bits=bits)


def one_depth(generator: Puppeteer, depth: int, levels: Tensor) -> Tensor:
    """Kernels of one depth, (levels, depth, C, C, 3, 3)."""
    return torch.stack(generator.kernels(torch.full_like(levels, depth), levels), dim=1)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [2, 4])
def test_words_are_those_of_the_operation(kind: str, depth: int) -> None:
    quantized = puppeteer(kind, 8).eval()
    depths, levels = range(2, 5), torch.arange(LEVELS.count)
    generator, constants = generator_of(quantized, depths)
    expected = generate(generator, constants, depths, depth, levels.numpy())
    found = one_depth(quantized, depth, levels) * 2.0**quantized.kernel_words.fraction
    assert np.array_equal(found.flatten(4).transpose(3, 4).numpy(), expected)
    assert len(np.unique(expected)) > 40


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_words_are_near_the_real_kernels(kind: str) -> None:
    real, quantized = puppeteer(kind, None).eval(), puppeteer(kind, 8).eval()
    quantized.load_state_dict(real.state_dict())
    levels = torch.tensor([3, 40])
    difference = one_depth(real, 3, levels) - one_depth(quantized, 3, levels)
    assert 0 < difference.std() < 0.1 * one_depth(real, 3, levels).std()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_words_are_near_those_of_the_real_kernels(kind: str) -> None:
    real, quantized = puppeteer(kind, None), puppeteer(kind, 8)
    quantized.load_state_dict(real.state_dict())
    levels = torch.tensor([3, 40])
    direction = torch.randn(2, 3, 8, 8, 3, 3)
    for generator in (real, quantized):
        (one_depth(generator, 3, levels) * direction).sum().backward()  # type: ignore[no-untyped-call]
    for (name, one), other in zip(real.named_parameters(), quantized.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        similarity = functional.cosine_similarity(one.grad.flatten(), other.grad.flatten(), dim=0)
        assert similarity > 0.95, name


@torch.no_grad()
def test_euler_steps_are_the_papers_equations() -> None:
    generator = EulerPuppeteer(4, LEVELS, rank=2, limit=1024.0, kernel_limit=16.0)
    for parameter in generator.parameters():
        parameter.mul_(0.1)
    level = 20
    complexity = (32 + level + 0.5) / 16
    assert generator.pattern is not None
    u, v, t = (factor.weight for factor in (generator.pattern.u, generator.pattern.v, generator.pattern.t))
    centre = sum(math.exp(1 - ((32 + each + 0.5) / 16) ** -2) for each in range(48)) / 48
    state = math.exp(1 - complexity**-2) - centre + torch.einsum("or,ir,kr->oik", u, v, t)
    for found in one_depth(generator, 3, torch.tensor([level]))[0]:
        mixed = functional.conv2d(state[None], generator.depthwise.weight, padding=1, groups=4)[0]
        slope = torch.einsum("oc,cik->oik", generator.pointwise.weight, mixed)
        state = state + slope * math.tanh(1 / complexity)
        torch.testing.assert_close(found.flatten(2), state)


@torch.no_grad()
def test_a_constant_state_makes_constant_kernels_but_for_the_border() -> None:
    generator = EulerPuppeteer(16, LEVELS, rank=0)
    kernels = one_depth(generator, 1, torch.tensor([10]))[0, 0].flatten(2)
    assert generator.base[10] == math.exp(1 - ((32 + 10.5) / 16) ** -2)
    within = kernels[:, 1:-1, 1:-1]
    assert (within - within[:, :1, :1]).abs().max() < 1e-5
    patterned = one_depth(EulerPuppeteer(16, LEVELS, rank=4), 1, torch.tensor([10]))[0, 0].flatten(2)
    assert patterned[:, 1:-1, 1:-1].std((1, 2)).min() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_groups_of_several_depths_get_what_each_gets_alone(kind: str) -> None:
    generator = puppeteer(kind, 8).eval()
    depths, levels = torch.tensor([4, 3, 3, 2]), torch.tensor([40, 30, 31, 5])
    together = generator.kernels(depths, levels)
    assert [len(kernels) for kernels in together] == [4, 4, 3, 1]
    for index, (depth, level) in enumerate(zip(depths.tolist(), levels, strict=True)):
        alone = one_depth(generator, depth, level[None])[0]
        for layer in range(depth):
            assert torch.equal(together[layer][index], alone[layer])


@torch.no_grad()
@pytest.mark.parametrize("rank", [6, MANY])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_prepared_words_are_the_same(kind: str, depth: int, rank: int) -> None:
    """Word for word, and again from what is prepared once."""
    generator = puppeteer(kind, 8, rank=rank).eval()
    levels = torch.tensor([47, 3, 20, 3])
    expected = one_depth(generator, depth, levels)
    assert len(expected.unique()) > 40
    generate = generator.prepared(depth)
    for _ in range(2):
        assert torch.equal(torch.stack(list(generate(levels)), dim=1), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_prepared_real_generation_is_the_same(kind: str) -> None:
    """Up to the order of sums in float32: sums of kernels of at most 16 differ by few of its steps of 2**-20."""
    generator = puppeteer(kind, None).eval()
    levels = torch.tensor([47, 3, 20])
    generate = generator.prepared(3)
    for _ in range(2):
        found = torch.stack(list(generate(levels)), dim=1)
        torch.testing.assert_close(found, one_depth(generator, 3, levels), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sines", "polynomials"])
@pytest.mark.parametrize("factor", ["u", "coefficients"])
@pytest.mark.parametrize("limited", [0, 1, 6, 150])
def test_real_generation_of_limited_factors_is_the_same(limited: int, factor: str, kind: str) -> None:
    """Kernels are linear in few patterns, and in one more for each factor that meets its limit."""
    depth, levels = 3, torch.arange(LEVELS.count)
    generator = puppeteer(kind, None, rank=MANY).eval()
    assert isinstance(generator, ContinuousPuppeteer)
    places = torch.arange(1, depth + 1).double() / depth
    constant, slope = generator.coefficients.weight
    offsets = (levels - LEVELS.count // 2)[:, None, None] / 32
    a = generator.basis(places).float() @ (constant + offsets * slope)
    largest = (generator.u.weight * a[..., None, :]).abs().flatten(0, 1).amax(0).flatten().sort(descending=True).values
    # The limit lies between two factors.
    limit = FACTOR_WORDS.maximum * 2.0**-FACTOR_WORDS.fraction
    scale = limit / float(largest[limited - 1 : limited + 1].mean() if limited else largest[0] * 1.01)
    generator.get_submodule(factor).get_parameter("weight").mul_(scale)
    generate = generator.prepared(depth)
    assert ("_from_patterns" in generate.__qualname__) == (limited < MANY - 2 * generator.basis.terms)
    found = torch.stack(list(generate(levels)), dim=1)
    expected = one_depth(generator, depth, levels)
    assert expected.abs().mean() > 1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


def test_levels_are_steps_of_the_complexity() -> None:
    words = torch.tensor([0, 32 * 256, 32 * 256 + 255, 33 * 256, 79 * 256 + 255, 1 << 15])
    assert LEVELS.of(words).tolist() == [0, 0, 0, 1, 47, 47]
    assert LEVELS.complexities()[1] == (33 + 0.5) / 16


def test_steps_that_are_computed_again_give_the_same_gradients_and_keep_less() -> None:
    generator = EulerPuppeteer(16, LEVELS, rank=4)
    levels = torch.arange(0, 48, 2)
    gradients, kept = [], []
    for saves in (False, True):
        generator.saves_memory = saves
        generator.zero_grad()
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            last = generator.states(torch.full_like(levels, 6), levels)[-1]
        kept.append(sum(sizes.values()))
        last.square().sum().backward()  # type: ignore[no-untyped-call]
        gradients.append([parameter.grad for parameter in generator.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    assert kept[1] < kept[0] / 4


def test_a_batch_is_sorted_by_depth_and_back() -> None:
    depths, levels = torch.tensor([2, 4, 3, 4, 2, 3]), torch.tensor([1, 9, 5, 9, 1, 4])
    batch = ImageGroups(depths, levels)
    assert (batch.depths.tolist(), batch.levels.tolist()) == ([4, 3, 3, 2], [9, 5, 4, 1])
    assert batch.counts == [2, 1, 1, 2]
    assert torch.equal(depths[batch.order][batch.back], depths)
    assert depths[batch.order].tolist() == [4, 4, 3, 3, 2, 2]


@torch.no_grad()
def test_each_group_is_convolved_with_its_own_kernels() -> None:
    values, kernels = torch.randn(5, 3, 6, 6), torch.randn(2, 4, 3, 3, 3)
    found = convolve(values, kernels, [2, 3])
    for image, group in enumerate([0, 0, 1, 1, 1]):
        expected = functional.conv2d(values[image : image + 1], kernels[group], padding=1)[0]
        torch.testing.assert_close(found[image], expected)


@pytest.mark.parametrize("residual", [False, True])
def test_images_leave_at_their_depth(residual: bool) -> None:
    layers = GeneratedLayers(puppeteer("euler", None), first_depth=2, depth_steps=(10_000, 15_000), residual=residual)
    layers.eval()
    values, words = torch.rand(4, 8, 5, 5), torch.tensor([16_000, 9_000, 12_000, 9_000])
    assert layers.depths(torch.tensor([9_999, 10_000, 15_000])).tolist() == [2, 3, 4]
    found = layers(values, words)
    for index, depth in enumerate([4, 2, 3, 2]):
        level = LEVELS.of(words[index : index + 1])
        value = values[index : index + 1]
        for kernels, norm in zip(one_depth(layers.puppeteer, depth, level)[0], layers.norms, strict=False):
            scaled = norm(functional.conv2d(value, kernels, padding=1))
            value = (scaled + value if residual else scaled).clamp(0, 4)
        torch.testing.assert_close(found[index], value[0], atol=1e-3, rtol=1e-3)


def test_gains_stay_positive() -> None:
    layers = GeneratedLayers(puppeteer("euler", 8), first_depth=2, depth_steps=(), bits=8)
    for norm in layers.norms:
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.normal_(norm.weight)
    layers(torch.rand(3, 8, 5, 5), torch.tensor([9_000, 9_500, 10_000]))
    assert (
        min(float(parameter.detach().min()) for name, parameter in layers.norms.named_parameters() if "weight" in name)
        > 0
    )
    multipliers, _, _ = layers.scaling()
    assert 0 < multipliers.min() <= multipliers.max() <= 4095
    assert multipliers.max() >= 2048


@pytest.mark.parametrize("limit", [0.0, 3.0, -4.0])
def test_ranges_end_at_powers_of_two(limit: float) -> None:
    with pytest.raises(ValueError, match="kernel_limit must be a power of two"):
        EulerPuppeteer(4, LEVELS, kernel_limit=limit)


def test_levels_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="first=0"):
        Levels(first=0, count=3, shift=8)
