"""Layers on packed bits against the layers that they stand for, and the golden model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from karui.sw.decompose.config import DecomposeConfig
from karui.sw.decompose.convert import convert
from karui.sw.decompose.packed import PackedBases, PackedLayer, packed
from karui.sw.golden import trace
from karui.sw.lower.agreement import to_graph_layout
from karui.sw.lower.from_torch import lower


def pixels(count: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(1)).float()


MODELS = {
    "linear": (lambda: nn.Sequential(nn.Linear(77, 9), nn.ReLU(), nn.Linear(9, 3)), (77,)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 12, (3, 1), stride=(2, 1), groups=4), nn.Conv2d(12, 12, 2, groups=12, dilation=2),
            nn.Flatten(), nn.Linear(48, 5),
        ),
        (3, 17, 13),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("bases", "bits"), [(1, 1), (3, 5), (8, 8)])
def test_packed_is_exact(name: str, bases: int, bits: int) -> None:
    build, shape = MODELS[name]
    model = convert(
        build(), pixels(6, *shape), DecomposeConfig(bases=(bases,), activation_bits=(bits,), restarts=2)
    ).model
    fast = packed(model)
    assert sum(isinstance(layer, PackedLayer) for layer in fast.modules()) == (2 if name == "linear" else 4)
    batch = pixels(9, *shape)
    outputs = fast(batch)
    assert torch.equal(outputs, model(batch))
    if name == "linear":
        lowered = lower(model, shape)
        scores = trace(lowered.graph, to_graph_layout(batch.numpy().astype("uint8")))[lowered.scores]
        assert torch.equal(outputs, torch.from_numpy(scores).double() * lowered.scale.double())


def test_by_hand() -> None:
    """s = + - +, x = 5, 3, 6: 3 (5 - 3 + 6) - 2 (5 + 3 + 6) + 7."""
    signs = torch.tensor([[[1, -1, 1], [1, 1, 1]]], dtype=torch.int8)
    bases = PackedBases(signs, torch.tensor([[3, -2]]), torch.tensor([7]))
    assert bases(torch.tensor([[5, 3, 6]], dtype=torch.uint8).numpy(), 3).tolist() == [[3 * 8 - 2 * 14 + 7]]
