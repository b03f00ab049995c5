"""Binary layers: exact forward values, straight-through gradients, clipping."""

import math

import pytest
import torch
from torch import nn

from karui.sw.nn.binary_activation import BinaryActivation, InputBinarize
from karui.sw.nn.binary_conv import BinaryConv2d
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.binary_weight import BinaryWeightLayer, clamp_latent_weights, use_real_valued_weights
from karui.sw.nn.logit_scale import LogitScale
from karui.sw.nn.straight_through import nearest_vector_identity, sign_hard_tanh


def integer_convolution(
    pixels: torch.Tensor, weight: torch.Tensor, stride: int, padding: int, pad_value: int
) -> torch.Tensor:
    """The convolution by its definition, in int64."""
    count, channels, height, width = pixels.shape
    padded = torch.full((count, channels, height + 2 * padding, width + 2 * padding), pad_value, dtype=torch.int64)
    padded[:, :, padding : padding + height, padding : padding + width] = pixels
    kernel = weight.shape[-1]
    rows = range(0, padded.shape[2] - kernel + 1, stride)
    columns = range(0, padded.shape[3] - kernel + 1, stride)
    output = torch.empty(count, len(weight), len(rows), len(columns), dtype=torch.int64)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            window = padded[:, :, row : row + kernel, column : column + kernel]
            output[:, :, y, x] = (window[:, None] * weight).sum((2, 3, 4))
    return output


def test_linear_accumulates_pixels_exactly() -> None:
    torch.manual_seed(0)
    layer = BinaryLinear(3072, 50)
    pixels = torch.randint(0, 256, (20, 3072))
    pixels[0] = 255
    layer.weight.data[0] = 0.5
    expected = pixels @ layer.binary_weight().long().T
    assert expected.max() == 255 * 3072
    assert torch.equal(layer(pixels.float()).long(), expected)


@pytest.mark.parametrize(("stride", "padding", "pad_value"), [(1, 0, -1), (1, 1, -1), (2, 1, 1), (2, 2, 0), (3, 1, -1)])
def test_convolution_equals_its_definition(stride: int, padding: int, pad_value: int) -> None:
    torch.manual_seed(1)
    layer = BinaryConv2d(5, 7, 3, stride=stride, padding=padding, pad_value=pad_value)
    pixels = torch.randint(0, 256, (3, 5, 9, 8))
    expected = integer_convolution(pixels, layer.binary_weight().long(), stride, padding, pad_value)
    assert torch.equal(layer(pixels.float()).long(), expected)


def test_wide_convolution_is_exact() -> None:
    """No fast algorithm that rounds (Winograd, FFT) may stand in for the direct sum."""
    torch.manual_seed(2)
    layer = BinaryConv2d(128, 64, 3, padding=1)
    pixels = torch.randint(0, 256, (2, 128, 12, 12))
    expected = integer_convolution(pixels, layer.binary_weight().long(), 1, 1, -1)
    assert torch.equal(layer(pixels.float()).double(), expected.double())


def test_weight_zero_is_plus_one() -> None:
    layer = BinaryLinear(3, 1)
    layer.weight.data[0] = torch.tensor([0.0, -0.0, -1e-30])
    assert layer.binary_weight().tolist() == [[1, 1, -1]]


def test_weight_gradient_passes_straight_through() -> None:
    """The gradient of the latent weights is that of a linear layer at the binary weights."""
    torch.manual_seed(3)
    layer = BinaryLinear(6, 4)
    inputs, upstream = torch.randn(5, 6), torch.randn(5, 4)
    layer(inputs).backward(upstream)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, upstream.T @ inputs)


def test_stochastic_weights_follow_the_hard_sigmoid() -> None:
    torch.manual_seed(4)
    layer = BinaryLinear(4, 10_000, stochastic=True)
    latent = torch.tensor([-1.0, -0.5, 0.2, 1.0])
    layer.weight.data[:] = latent
    drawn = layer.forward_weight().detach()
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    share = (drawn > 0).double().mean(0)
    # Five standard deviations of a share of 10,000 draws at most.
    assert torch.all((share - (latent.double() + 1) / 2).abs() <= 5 * math.sqrt(0.25 / 10_000))
    assert share[0] == 0
    assert share[3] == 1


def test_stochastic_weights_are_signs_in_evaluation() -> None:
    layer = BinaryLinear(8, 8, stochastic=True).eval()
    assert torch.equal(layer.forward_weight(), layer.binary_weight())


def test_sampled_gradient_passes_straight_through() -> None:
    layer = BinaryLinear(3, 2, stochastic=True)
    inputs, upstream = torch.randn(7, 3), torch.randn(7, 2)
    layer(inputs).backward(upstream)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, upstream.T @ inputs)


@pytest.mark.parametrize("shape", [(6, 12), (5, 8, 3, 3)])
def test_vectors_of_a_code_book_are_the_nearest(shape: tuple[int, ...]) -> None:
    """Along the inputs, of every output and tap; by squared distances in float64."""
    torch.manual_seed(5)
    book, latent = torch.randn(7, 4).sign(), torch.randn(shape)
    rows = latent.movedim(1, -1).reshape(-1, 1, 4).double()
    nearest = (rows - book).square().sum(-1).argmin(1)
    expected = book[nearest].view(latent.movedim(1, -1).shape).movedim(-1, 1)
    assert torch.equal(nearest_vector_identity(latent, book), expected)


def test_gradient_passes_straight_through_a_code_book() -> None:
    torch.manual_seed(6)
    layer = BinaryLinear(8, 4)
    layer.code_book = torch.randn(3, 4).sign()
    inputs, upstream = torch.randn(5, 8), torch.randn(5, 4)
    output = layer(inputs)
    output.backward(upstream)
    assert torch.equal(output, inputs @ layer.binary_weight().T)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, upstream.T @ inputs)


def test_clamp_reaches_nested_layers_and_nothing_else() -> None:
    model = nn.Sequential(BinaryConv2d(1, 1, 1), nn.Sequential(BinaryLinear(2, 2), nn.BatchNorm1d(2)))
    for parameter in model.parameters():
        parameter.data.fill_(-3.0)
    clamp_latent_weights(model)
    for module in model.modules():
        if isinstance(module, BinaryWeightLayer):
            assert torch.all(module.weight == -1)
        elif isinstance(module, nn.BatchNorm1d):
            assert torch.all(module.weight == -3)


def test_real_valued_weights_are_used_as_they_are() -> None:
    layer = BinaryLinear(4, 3)
    use_real_valued_weights(layer)
    inputs = torch.randn(2, 4)
    assert torch.equal(layer(inputs), inputs @ layer.weight.T)


def test_activation_of_zero_is_plus_one() -> None:
    assert BinaryActivation()(torch.tensor([-1e-30, -0.0, 0.0, 3.0])).tolist() == [-1, 1, 1, 1]


def test_activation_gradient_is_that_of_hard_tanh() -> None:
    real = torch.tensor([-1.5, -1.0, -0.3, 0.0, 1.0, 1.0001], requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    sign_hard_tanh(real).backward(upstream)
    assert real.grad is not None
    assert real.grad.tolist() == [0, 2, 3, 4, 5, 0]


def test_input_threshold_is_inclusive() -> None:
    assert InputBinarize(128)(torch.tensor([127.0, 128.0, 255.0])).tolist() == [-1, 1, 1]


def test_logits_keep_the_order_of_integer_scores() -> None:
    """Equal scores stay equal and neighbours distinct, up to the documented 2**22, so the arg max is an integer one."""
    layer = LogitScale(3, initial_scale=0.0123)
    layer.bias.data = torch.tensor([0.4, 0.6, -1.2])
    assert layer.integer_bias().tolist() == [0, 1, -1]
    scores = torch.tensor([[5.0, 4.0, 6.0], [2.0**22 - 1, 2.0**22 - 1, 0.0]])
    logits = layer(scores).detach()
    assert logits[0, 0] == logits[0, 1] == logits[0, 2]
    assert logits[0].argmax() == 0
    assert logits[1, 1] > logits[1, 0]


def test_logit_bias_gets_the_gradient_of_its_rounded_value() -> None:
    layer = LogitScale(2, initial_scale=0.5)
    layer(torch.zeros(3, 2)).backward(torch.ones(3, 2))
    assert layer.bias.grad is not None
    torch.testing.assert_close(layer.bias.grad, torch.tensor([1.5, 1.5]))


@pytest.mark.parametrize("pad_value", [-2, 2, 255])
def test_undeclared_padding_is_refused(pad_value: int) -> None:
    with pytest.raises(ValueError, match=rf"pad_value must be -1 or \+1 .* not {pad_value}"):
        BinaryConv2d(1, 1, 3, padding=1, pad_value=pad_value)


def test_empty_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="out_features=0"):
        BinaryLinear(4, 0)
    with pytest.raises(ValueError, match="stride=0"):
        BinaryConv2d(1, 1, 3, stride=0)
    with pytest.raises(ValueError, match="must be positive, not 0"):
        LogitScale(3, initial_scale=0)
