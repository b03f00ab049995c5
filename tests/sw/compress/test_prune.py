"""Masks keep the best weights, exactly as many as asked, and stay in training."""

import pytest
import torch
from torch import nn

from karui.sw.compress.config import PruneConfig
from karui.sw.compress.prune import Pruner, lamp_score, top_mask
from karui.sw.nn.quant_conv import QuantConv2d
from karui.sw.nn.quant_linear import QuantLinear


def layers() -> dict[str, QuantLinear]:
    torch.manual_seed(1)
    return {"ip1": QuantLinear(30, 20), "ip2": QuantLinear(20, 10)}


def config(**changes: object) -> PruneConfig:
    return PruneConfig(**{"epochs": 1, "learning_rate": 0.1, "keep": (0.1,), **changes})  # type: ignore[arg-type]


def test_top_mask_keeps_the_largest_over_all_tensors_and_breaks_ties_by_order() -> None:
    first, second = top_mask([torch.tensor([[1.0, 5.0], [3.0, 3.0]]), torch.tensor([3.0, 4.0])], 0.5)
    assert first.tolist() == [[0, 1], [1, 0]]
    assert second.tolist() == [0, 1]
    assert sum(int(mask.sum()) for mask in top_mask([torch.zeros(7), torch.zeros(3)], 0.4)) == 4


def test_lamp_score_is_the_share_among_weights_not_larger() -> None:
    weight = torch.tensor([[3.0, -1.0], [2.0, 0.0]])
    # The largest has the whole sum above it: 9/9; then 4/(9 + 4); 1/(9 + 4 + 1); 0.
    assert lamp_score(weight).flatten().tolist() == pytest.approx([1.0, 1 / 14, 4 / 13, 0.0])
    assert not lamp_score(torch.zeros(3, 2)).any()


def test_global_scope_weighs_layers_against_each_other_and_layer_scope_does_not() -> None:
    for scope, keep, counts in [("global", (0.1,), {80}), ("layer", (0.1, 0.5), {60, 100})]:
        nets = layers()
        with torch.no_grad():
            nets["ip2"].weight.mul_(100.0)
        pruner = Pruner(nets, config(scope=scope, keep=keep, score="magnitude"))
        pruner.prune()
        kept = [int(layer.weight.count_nonzero()) for layer in nets.values()]
        if scope == "global":
            assert sum(kept) == 80
            assert kept[0] == 0, "the layer of larger weights keeps them all"
        else:
            assert set(kept) == counts
        pruner.finish()
        assert [int(layer.weight.count_nonzero()) for layer in nets.values()] == kept
        assert all(isinstance(layer.weight, nn.Parameter) for layer in nets.values())


def test_density_falls_along_the_cubic_and_then_stays() -> None:
    nets = layers()
    pruner = Pruner(nets, config(ramp=0.5, freeze=0.5, every=1))
    kept = []
    for step in range(1, 11):
        pruner(step / 10)
        kept.append(sum(int(layer.weight.count_nonzero()) for layer in nets.values()))
    expected = [round(800 * (0.1 + 0.9 * (1 - min(step / 5, 1)) ** 3)) for step in range(1, 11)]
    assert kept[:4] == expected[:4]
    assert kept[-1] == 80
    assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize("regrow", [False, True])
def test_pruned_weights_learn_only_where_they_may_come_back(regrow: bool) -> None:
    nets = layers()
    pruner = Pruner(nets, config(regrow=regrow, every=1, ramp=0.2, freeze=0.9))
    pruner(0.15)
    layer = nets["ip1"]
    masked = layer.weight == 0
    layer(torch.ones(1, 30)).sum().backward()
    gradient = layer.parametrizations.weight.original.grad  # type: ignore[union-attr]
    assert isinstance(gradient, torch.Tensor)
    assert bool(gradient[masked].any()) == regrow
    assert gradient[~masked].all()
    # A pruned weight that has grown comes back at the next choice before `freeze`, and no longer after it.
    index = tuple(masked.nonzero()[0].tolist())
    with torch.no_grad():
        layer.parametrizations.weight.original[index] = 50.0  # type: ignore[union-attr, index, operator]
    pruner(0.5)
    assert (float(layer.weight[index].detach()) == 50.0) == regrow
    pruner(0.95)
    kept = layer.weight != 0
    with torch.no_grad():
        layer.parametrizations.weight.original[~kept] = 99.0  # type: ignore[union-attr, index, operator]
    pruner(1.0)
    assert torch.equal(layer.weight != 0, kept)


def test_retraining_leaves_pruned_weights_at_zero() -> None:
    nets = layers()
    pruner = Pruner(nets, config())
    pruner.prune()
    masks = {name: layer.weight != 0 for name, layer in nets.items()}
    model = nn.Sequential(*nets.values())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 30)).square().sum().backward()
        optimizer.step()
    pruner.finish()
    for name, layer in nets.items():
        assert not layer.weight[~masks[name]].any()


def test_wrong_configurations() -> None:
    for changes, message in [
        ({"keep": (0.0,)}, r"keep must be fractions in \(0, 1\]"),
        ({"keep": (0.1, 0.2)}, 'keep must be one fraction with scope = "global", not 2'),
        ({"ramp": 0.9, "freeze": 0.8}, "ramp <= freeze"),
        ({"every": 0}, "every must be at least 1 step"),
    ]:
        with pytest.raises(ValueError, match=message):
            config(**changes)
    with pytest.raises(ValueError, match=r"keep has 3 fractions for 2 layers \(ip1, ip2\)"):
        Pruner(layers(), config(scope="layer", keep=(0.1, 0.2, 0.3)))


def test_vectors_cross_no_rows() -> None:
    nets = {"conv": QuantConv2d(3, 4, 3), "fc": QuantLinear(6, 4)}
    with pytest.raises(ValueError, match="vectors of 4 divide neither the rows of 27 weights of conv nor consist of"):
        Pruner(nets, config(keep=(0.5, 0.5), scope="layer", vectors=(4, 1)))
    Pruner(nets, config(keep=(0.5, 0.5), scope="layer", vectors=(27, 12)))
