"""A rate and a device become a folding."""

import numpy as np

from karui.flows.design import Rate, budget
from karui.flows.synthesize import find_device
from karui.hw.folding import total_cost
from karui.hw.stages import stages
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import unsigned


def multiplying() -> Graph:
    build = GraphBuilder("multiplying")
    edge = build.input("values", (64,), unsigned(8))
    return build.finish(build.matrix_vector("dense", edge, np.random.default_rng(0).integers(-128, 128, (64, 64))))


def test_a_rate_takes_no_more_multipliers_than_it_may() -> None:
    graph = multiplying()
    for dsps, made in ((128, "dsp"), (20, "lut")):
        folding = Rate(initiation_interval=64, dsps=dsps).fold(graph)
        assert folding.folds["dense"].multiplier == made
        assert total_cost(stages(graph), folding).dsps <= dsps
        same = Rate(frame_rate=1e6, clock_mhz=64, dsps=dsps).fold(graph)
        assert same == folding


def test_population_counts_are_built_for_the_device() -> None:
    graph = multiplying()
    for name, inputs in (("xc7z020", 6), ("ecp5-85f", 4)):
        device = find_device(name)
        folding = Rate(device=device).fold(graph)
        assert total_cost(stages(graph), folding).fits(budget(device))
        assert {fold.lut_inputs for fold in folding.folds.values()} == {inputs}
    assert Rate(initiation_interval=64, lut_inputs=6).fold(graph).folds["dense"].lut_inputs == 6
