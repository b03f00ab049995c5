"""Deep Fried Convnets: the paper's parameter counts, the graph, truncated heads, the way over the disk."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from karui.sw.ir import WalshHadamard
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.models.build import build_model
from karui.sw.models.count import count
from karui.sw.models.deep_fried import DeepFriedConfig, Head, truncate_head
from karui.sw.nn.fastfood import Fastfood
from karui.sw.nn.precision import Precision
from karui.sw.train.checkpoint import load_checkpoint, save_checkpoint
from karui.sw.train.recipe import model_config

SMALL = DeepFriedConfig(image=(1, 16, 16), channels=(4, 20), features=64)
QUANTIZED = Precision(weight_bits=8, activation_bits=8, per_channel=False)


@pytest.mark.parametrize(
    ("head", "features", "parameters"),
    [
        ("adaptive-fastfood", 1024, 38_812),
        ("adaptive-fastfood", 2048, 52_124),
        ("dense", 500, 430_500),
        ("fastfood", 1024, 35_740),
    ],
)
def test_published_parameter_counts(head: Head, features: int, parameters: int) -> None:
    config = DeepFriedConfig(head=head, features=features, head_bias=False)
    with torch.device("meta"):
        model = build_model(config)
    named = dict(model.named_parameters())
    assert sum(value.numel() for name, value in named.items() if not name.endswith("bias")) == parameters


def test_fastfood_multiplies_once_an_element_of_its_diagonals() -> None:
    counted = count(build_model(DeepFriedConfig(features=2048)), (1, 28, 28))
    (head,) = (layer for layer in counted.layers if layer.name == "head")
    assert (head.layer, head.input_shape, head.output_shape) == ("AdaptiveFastfood", (800,), (2048,))
    assert (head.parameters, head.macs) == (4 * 2048, 3 * 2048)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, head="fastfood", features=50, dropout=0.5),
        replace(SMALL, mixing_shifts=(0, 0, 1, 0, 2), projecting_shifts=(1, 1, 1, 1, 1)),
        replace(SMALL, head="truncated", rank=5),
    ],
    ids=["adaptive", "fixed", "rounded", "truncated"],
)
def test_graph_computes_what_the_network_computes(config: DeepFriedConfig) -> None:
    torch.manual_seed(1)
    config = replace(config, precision=QUANTIZED)
    model = build_model(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.uniform_(-0.3, 0.3)
    lowered = lower(model, config.image)
    agreement = compare_with_golden(model, lowered, torch.randint(0, 256, (100, 1, 16, 16)).numpy())
    assert agreement.mismatches == 0
    assert len(set(agreement.golden_classes.tolist())) > 1
    transforms = [node.op for node in lowered.graph.nodes if isinstance(node.op, WalshHadamard)]
    assert len(transforms) == (0 if config.head == "truncated" else 2)


def test_network_learns() -> None:
    torch.manual_seed(2)
    model = build_model(replace(SMALL, precision=QUANTIZED))
    images, labels = torch.randint(0, 256, (64, 1, 16, 16)).float(), torch.randint(0, 10, (64,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


def test_truncated_head_of_full_rank_is_the_dense_one() -> None:
    torch.manual_seed(3)
    config = replace(SMALL, head="dense", features=30)
    model = build_model(config).eval()
    images = torch.randint(0, 256, (20, 1, 16, 16)).float()
    narrow, truncated = truncate_head(config, model, 20)
    assert (narrow.head, narrow.rank) == ("truncated", 20)
    assert torch.allclose(truncated(images), model(images), atol=1e-4)
    _, smaller = truncate_head(config, model, 2)
    assert not torch.allclose(smaller(images), model(images), atol=1e-2)
    with pytest.raises(ValueError, match="only a dense head of real weights"):
        truncate_head(narrow, truncated, 2)


@pytest.mark.parametrize("precision", [{}, {"precision": {"weight_bits": 8, "activation_bits": 8}}])
def test_network_survives_the_disk(tmp_path: Path, precision: dict[str, object]) -> None:
    mapping = {"family": "deep-fried", "image": [1, 16, 16], "channels": [4, 20], "head": "fastfood", "features": 70}
    config = model_config(mapping | precision | {"mixing_shifts": [1] * 5 if precision else []}, "test")
    assert isinstance(config, DeepFriedConfig)
    model = build_model(config).eval()
    save_checkpoint(tmp_path / "model.npz", model, config, {})
    loaded = load_checkpoint(tmp_path / "model.npz")
    assert loaded.config == config
    assert isinstance(loaded.model.get_submodule("head"), Fastfood)
    images = torch.randint(0, 256, (5, 1, 16, 16)).float()
    assert torch.equal(loaded.model(images), model(images))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "fried"}, "head must be one of adaptive-fastfood, .*, not 'fried'"),
        ({"rank": 3}, "a truncated head has a rank"),
        ({"head": "truncated"}, "a truncated head has a rank"),
        ({"dropout": 1.0}, "dropout must be a share"),
        ({"head": "random-projection", "precision": QUANTIZED}, "has real weights"),
        ({"image": (1, 15, 28)}, "at least 16 x 16"),
    ],
)
def test_wrong_configurations(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DeepFriedConfig(), **changes)
