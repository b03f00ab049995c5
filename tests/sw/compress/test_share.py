"""Shared weights: values, summed gradients, zeros that stay."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from karui.sw.compress.code_book import ASSIGNED_EVERY, MovingCodeBook
from karui.sw.compress.config import ShareConfig
from karui.sw.compress.share import cluster_weights, own_weights, power_of_two_divisor, share, share_by_clustering
from karui.sw.nn.quant_linear import QuantLinear


def config(**changes: object) -> ShareConfig:
    return ShareConfig(**{"epochs": 1, "learning_rate": 0.1, "codes": (4,), **changes})  # type: ignore[arg-type]


def test_gradient_of_an_entry_is_the_sum_of_its_weights_gradients() -> None:
    torch.manual_seed(1)
    layer, inputs = QuantLinear(6, 4), torch.randn(5, 6)
    codes = torch.randint(0, 4, (24,))
    share(layer, torch.tensor([[-0.5], [0.25], [1.0]]), codes)
    weight = layer.weight
    weight.retain_grad()
    functional = nn.functional.linear(inputs, weight).square().sum()
    functional.backward()
    assert weight.grad is not None
    book = layer.parametrizations.weight.original  # type: ignore[union-attr]
    assert isinstance(book, nn.Parameter)
    assert book.grad is not None
    expected = [weight.grad.flatten()[codes == code].sum() for code in (1, 2, 3)]
    assert torch.allclose(book.grad.flatten(), torch.stack(expected), rtol=1e-5)
    assert not weight.flatten()[codes == 0].any()


@pytest.mark.parametrize("vector", [1, 4])
def test_training_keeps_zeros_and_the_number_of_values(vector: int) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(QuantLinear(16, 12, weight_bits=8, per_channel=False), QuantLinear(12, 3))
    with torch.no_grad():
        for layer in model:
            vectors = layer.weight.view(-1, vector)
            vectors[torch.rand(len(vectors)) < 0.5] = 0
    zeros = [layer.weight == 0 for layer in model]
    share_by_clustering(model, config(vectors=(vector,)), seed=1)
    before = [layer.weight.detach().clone() for layer in model]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        (model(torch.randn(8, 16)) - 1).square().sum().backward()
        optimizer.step()
    own_weights(model)
    for layer, zero, earlier in zip(model, zeros, before, strict=True):
        assert isinstance(layer.weight, nn.Parameter)
        assert not layer.weight[zero].any()
        assert not torch.equal(layer.weight, earlier)
        assert len(torch.unique(layer.weight.view(-1, vector), dim=0)) <= 5
    assert "weight" in dict(model[0].named_parameters())


@pytest.mark.parametrize("bias_codes", [None, 3])
def test_code_book_and_bias_are_integers_on_one_grid_in_training_and_after_it(bias_codes: int | None) -> None:
    torch.manual_seed(1)
    layer = QuantLinear(16, 12, weight_bits=4, per_channel=False)
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.uniform_(-1, 1)
        layer.bias[2] = 0.0
    model = nn.Sequential(layer)
    share_by_clustering(model, config(codes=(5,), bias_codes=bias_codes), seed=1)
    inputs = torch.randn(4, 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model(inputs).square().sum().backward()
    optimizer.step()
    outputs = model(inputs).detach()
    if bias_codes is not None:
        assert len(torch.unique(layer.bias)) <= bias_codes + 1
        assert layer.bias[2] == 0
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    assert layer.parametrizations.weight.original.requires_grad  # type: ignore[union-attr]
    own_weights(model)
    assert layer.weight_bits == 4
    step = 2.0 ** -float(layer.weight_fraction())
    assert torch.equal(layer.integer_weight() * step, weight)
    assert torch.equal(layer.integer_bias() * step, bias)
    assert int(layer.integer_weight().abs().max()) <= 8
    assert torch.equal(model(inputs), outputs)


def moving_layer(price: float, *, steps: int, third: float = 0.5) -> tuple[QuantLinear, MovingCodeBook]:
    """Six pairs of which one is pruned, around two entries; training pulls all weights to `TARGET`."""
    layer = QuantLinear(4, 3)
    pairs = torch.tensor([[1.0, 0.9], [0.9, 1.0], [third, third], [-1.0, -0.9], [-0.9, -1.0], [0.0, 0.0]])
    with torch.no_grad():
        layer.weight.copy_(pairs.view(3, 4))
    share(layer, torch.tensor([[0.9, 0.9], [-0.9, -0.9]]), torch.tensor([1, 1, 1, 2, 2, 0]), price=price)
    (book,) = layer.parametrizations.weight  # type: ignore[union-attr, misc]
    assert isinstance(book, MovingCodeBook)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer.weight - TARGET).square().sum().backward()
        optimizer.step()
    return layer, book


TARGET = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0], [-1.0, -1.0, -1.0, -1.0]])


def test_moving_weights_go_where_their_gradients_pull_them() -> None:
    before, book = moving_layer(0.0, steps=ASSIGNED_EVERY)
    assert book.codes.tolist() == [1, 1, 1, 2, 2, 0]
    layer, book = moving_layer(0.0, steps=20 * ASSIGNED_EVERY)
    # The third pair has crossed to the other entry; the pruned one wants to as well, and stays.
    assert book.codes.tolist() == [1, 1, 2, 2, 2, 0]
    assert not layer.weight.flatten()[-2:].any()
    assert len(torch.unique(layer.weight.detach().view(-1, 2), dim=0)) == 3
    assert (layer.weight - TARGET).square().sum() < (before.weight - TARGET).square().sum()


def test_evaluation_takes_the_last_assignment() -> None:
    layer, book = moving_layer(0.0, steps=ASSIGNED_EVERY)
    codes = book.codes.clone()
    with torch.no_grad():
        parametrizations = layer.parametrizations.weight  # type: ignore[union-attr]
        parametrizations.original.copy_(TARGET)  # type: ignore[union-attr, operator]
        assert layer.training
        assert layer.weight is not None
        assert torch.equal(book.codes, codes)
    layer.eval()
    assert torch.equal(layer.weight.detach().view(-1, 2)[2], book.code_book[0])
    assert torch.equal(book.codes, codes)
    layer.train()
    assert layer.weight.requires_grad
    assert book.codes.tolist() != codes.tolist()


def test_a_price_draws_vectors_to_what_is_used_most() -> None:
    # The third pair is 0.5 from the first entry, whose code takes a bit, and 0.32 from zero, whose code takes log2(6).
    assert moving_layer(0.0, steps=1, third=0.4)[1].codes.tolist() == [1, 1, 0, 2, 2, 0]
    assert moving_layer(0.1, steps=1, third=0.4)[1].codes.tolist() == [1, 1, 0, 2, 2, 0]
    assert moving_layer(0.13, steps=1, third=0.4)[1].codes.tolist() == [1, 1, 1, 2, 2, 0]
    # A bit that is worth more than any distance leaves the entry that is used most.
    assert moving_layer(100.0, steps=1)[1].codes.tolist() == [1, 1, 1, 1, 1, 0]


def test_moving_weights_are_integers_on_their_grid_afterwards() -> None:
    torch.manual_seed(1)
    layer = QuantLinear(16, 12, weight_bits=5, per_channel=False)
    model = nn.Sequential(layer)
    share_by_clustering(model, config(codes=(5,), vectors=(4,), rate=0.05, assignment="moving"), seed=1)
    inputs = torch.randn(4, 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(3 * ASSIGNED_EVERY):
        optimizer.zero_grad()
        (model(inputs) - 1).square().sum().backward()
        optimizer.step()
    outputs, weight = model(inputs).detach(), layer.weight.detach().clone()
    assert len(torch.unique(weight.view(-1, 4), dim=0)) <= 6
    own_weights(model)
    assert not parametrize.is_parametrized(layer)
    assert torch.equal(layer.integer_weight() * 2.0 ** -float(layer.weight_fraction()), weight)
    assert torch.equal(model(inputs), outputs)


def test_entries_that_nothing_uses_do_not_refine_the_grid_of_biases() -> None:
    layer = QuantLinear(4, 1, weight_bits=8, per_channel=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, 1.0, 0.5, 1.0]]))
        layer.bias.fill_(0.3)  # type: ignore[union-attr]
    model = nn.Sequential(layer)
    share(layer, torch.tensor([[0.5], [1.0], [0.3125]]), torch.tensor([1, 2, 1, 2]), price=0.0)
    outputs = model(torch.ones(1, 4)).detach()
    own_weights(model)
    assert torch.equal(model(torch.ones(1, 4)), outputs)


def test_rows_that_a_vector_does_not_divide_take_shorter_ones() -> None:
    assert [power_of_two_divisor(25, most) for most in (1, 2, 16)] == [1, 1, 1]
    assert [power_of_two_divisor(12, most) for most in (1, 2, 16)] == [1, 2, 4]
    weight = QuantLinear(12, 8).weight.detach().numpy()
    assert cluster_weights(weight, 3, 16, config(), seed=1).code_book.shape == (4, 4)
    assert len(cluster_weights(weight, 3, 2, config(books=2), seed=1).code_book) == 7


def test_clusters_are_those_of_the_weights_that_are_left() -> None:
    weight = np.zeros((4, 8), dtype=np.float32)
    weight[0, :4], weight[3, 2] = [1.0, 1.1, -2.0, -2.2], 1.05
    clustering = cluster_weights(weight, 2, 1, config(), seed=1)
    assert clustering.code_book.ravel() == pytest.approx([0.0, -2.1, 1.05])
    assert clustering.codes.reshape(4, 8)[0, :4].tolist() == [2, 2, 1, 1]
    assert np.count_nonzero(clustering.codes) == 5
    with pytest.raises(ValueError, match="no weight left to share"):
        cluster_weights(np.zeros((2, 2), dtype=np.float32), 2, 1, config(), seed=1)


def test_wrong_configurations() -> None:
    model = nn.Sequential(QuantLinear(4, 4), QuantLinear(4, 4))
    with pytest.raises(ValueError, match=r"codes must be one number or 2, one a layer, not \[4, 4, 4\]"):
        share_by_clustering(model, config(codes=(4, 4, 4)), seed=1)
    for changes, message in [
        ({"codes": (0,)}, "codes must be 1 to 256"),
        ({"vectors": (3,)}, "vectors must be 1, 2, 4, 8 or 16"),
        ({"rate": -1.0}, "rate must not be negative"),
        ({"books": 2, "assignment": "moving"}, 'assignment = "moving" takes one code book a layer, not books = 2'),
    ]:
        with pytest.raises(ValueError, match=message):
            config(**changes)
