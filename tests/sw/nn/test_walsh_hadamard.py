"""The fast Walsh-Hadamard transform: values, gradients, order, rounding."""

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard

from karui.sw.golden import compute
from karui.sw.ir import WalshHadamard
from karui.sw.nn.walsh_hadamard import rounded_walsh_hadamard, sequency_order, walsh_hadamard
from karui.sw.numerics import Rounding


@pytest.mark.parametrize("stages", range(15))
def test_transform_is_the_hadamard_matrix(stages: int) -> None:
    size = 1 << stages
    values = torch.randint(-128, 128, (2, 3, size), generator=torch.Generator().manual_seed(stages)).float()
    matrix, step = hadamard(size, dtype=np.int8), 1024
    # All sums are integers below 2**24: exact in any order.
    expected = np.zeros(values.shape, np.float32)
    for row in range(0, size, step):
        expected += values[..., row : row + step].numpy() @ matrix[row : row + step].astype(np.float32)
    assert np.array_equal(walsh_hadamard(values).numpy(), expected)
    if size > 1:
        assert np.array_equal(compute(WalshHadamard(size=size), values.long()).numpy(), expected)


@pytest.mark.parametrize(("vectors", "size"), [(127, 2048), (300, 1024), (33, 8192)])
def test_batches_are_transformed_vector_by_vector(vectors: int, size: int) -> None:
    """More elements than the transform works on at a time, not a multiple of them."""
    values = torch.randint(-128, 128, (vectors, size), generator=torch.Generator().manual_seed(size)).float()
    transformed = walsh_hadamard(values)
    assert torch.equal(transformed, torch.stack([walsh_hadamard(vector) for vector in values]))
    shifts = (1, *[0] * (size.bit_length() - 3), 2)
    rounded = rounded_walsh_hadamard(values, fraction=0, shifts=shifts, rounding=Rounding.HALF_UP)
    assert torch.equal(rounded, 8 * compute(WalshHadamard(size=size, shifts=shifts), values.long()))


def test_gradients_of_both_orders() -> None:
    for size in (1, 2, 8, 128):
        values = torch.randn(2, size, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(walsh_hadamard, (values,))
        assert torch.autograd.gradgradcheck(walsh_hadamard, (values,))


def test_transform_twice_multiplies_by_its_size() -> None:
    values = torch.randint(-8, 8, (4, 5, 2048)).float()
    assert torch.equal(walsh_hadamard(walsh_hadamard(values)), 2048 * values)


@pytest.mark.parametrize("size", [1, 2, 8, 256])
def test_sequency_order_sorts_by_sign_changes(size: int) -> None:
    rows = walsh_hadamard(torch.eye(size))[sequency_order(size)]
    assert (rows[:, 1:] != rows[:, :-1]).sum(1).tolist() == list(range(size))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize(
    "shifts", [(0,) * 7, (1,) * 7, (0, 0, 3, 0, 0, 2, 0), (0, 0, 0, 0, 0, 0, 5), (4, 0, 0, 0, 0, 0, 0)]
)
def test_rounded_transform_is_the_golden_one(shifts: tuple[int, ...], rounding: Rounding) -> None:
    words = torch.randint(-128, 128, (50, 128), generator=torch.Generator().manual_seed(1))
    expected = compute(WalshHadamard(size=128, shifts=shifts, rounding=rounding), words)
    values = rounded_walsh_hadamard(words * 2.0**-3, fraction=3, shifts=shifts, rounding=rounding)
    assert torch.equal(values, expected * 2.0 ** (sum(shifts) - 3))


def test_gradient_of_the_rounded_transform_passes_through() -> None:
    values = torch.arange(8.0, requires_grad=True)
    gradient = torch.arange(8.0) ** 2
    rounded_walsh_hadamard(values, fraction=0, shifts=(2, 0, 2), rounding=Rounding.FLOOR).backward(gradient)
    assert torch.equal(values.grad, walsh_hadamard(gradient))


@pytest.mark.parametrize("size", [0, 3, 12])
def test_other_sizes_are_refused(size: int) -> None:
    for refused in (lambda: walsh_hadamard(torch.zeros(2, size)), lambda: sequency_order(size)):
        with pytest.raises(ValueError, match=f"not {size}"):
            refused()


def test_a_shift_is_missing() -> None:
    with pytest.raises(ValueError, match="8 elements take 3 stages"):
        rounded_walsh_hadamard(torch.zeros(8), fraction=0, shifts=(1, 1), rounding=Rounding.FLOOR)
