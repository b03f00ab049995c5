"""A compressed capsule network from torch to RTL: Huffman-coded convolutions, predictions of shared vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.emit.manifest import CycleRange
from karui.hw.plan.folding import fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.compress.config import ShareConfig
from karui.sw.compress.share import own_weights, share_by_clustering
from karui.sw.golden import evaluate, trace
from karui.sw.ir import Graph, Huffman, Shared
from karui.sw.lower.agreement import compare_with_golden, to_graph_layout
from karui.sw.lower.compressed_storage import with_compressed_storage
from karui.sw.lower.from_torch import lower
from karui.sw.models.build import build_model
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_ranges import CapsuleRanges
from karui.sw.nn.precision import Precision

CONFIG = CapsNetConfig(
    image=(1, 12, 12),
    channels=8,
    types=2,
    capsule=8,
    classes=5,
    vector=4,
    kernel=3,
    precision=Precision(weight_bits=8, activation_bits=8, per_channel=False),
    ranges=CapsuleRanges(votes=1.0, sums=4.0),
)
IMAGES = torch.randint(0, 256, (30, *CONFIG.image), generator=torch.Generator().manual_seed(1)).numpy()


def compressed(vector: int) -> Graph:
    """Few values or vectors a layer; single weights of the primary capsules are mostly zero."""
    torch.manual_seed(2)
    model = build_model(CONFIG)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.2)
        primary = model.get_submodule("primary").weight
        primary.mul_(3 * (torch.rand_like(primary) < (0.3 if vector == 1 else 1.0)))
        model.get_submodule("prediction").weight.mul_(5)
    sharing = ShareConfig(
        epochs=1, learning_rate=0.1, codes=(16, 12, 64), vectors=(1, vector, 8), initialisation="k-means++"
    )
    share_by_clustering(model, sharing, seed=1)
    own_weights(model)
    lowered = lower(model, CONFIG.image)
    assert compare_with_golden(model, lowered, IMAGES).mismatches == 0
    return with_compressed_storage(lowered.graph)


@pytest.mark.parametrize(("vector", "kind"), [(1, Huffman), (4, Shared)])
def test_compressed_capsules_in_rtl(vector: int, kind: type, tmp_path: Path) -> None:
    graph, frames = compressed(vector), to_graph_layout(IMAGES)
    assert isinstance(graph.constants["primary.weights"].storage, kind)
    assert graph.constants["prediction.weights"].storage == Shared(vector=8)
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 4000))
    write_design(accelerator, tmp_path)
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 2
    assert len(np.unique(trace(graph, frames)["length"])) > 50
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=3)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval == CycleRange.fixed(accelerator.interval)
            assert result.latency == CycleRange.fixed(accelerator.latency)
