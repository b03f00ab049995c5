"""A rate and a device become a folding."""

import numpy as np
import pytest

from karui.flows.design import Rate
from karui.flows.device_fill import DeviceFill
from karui.flows.recipe import HardwareConfig
from karui.flows.synthesize import find_device
from karui.hw.plan.folding import total_cost
from karui.hw.plan.stages import stages
from karui.sw.configuration import from_mapping
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
        assert total_cost(stages(graph), folding).fits(DeviceFill().budget(device))
        assert {fold.lut_inputs for fold in folding.folds.values()} == {inputs}
        assert folding.far == {"dense"}
    assert Rate(initiation_interval=64, lut_inputs=6).fold(graph).folds["dense"].lut_inputs == 6
    assert not Rate(initiation_interval=64).fold(graph).far


def test_a_design_fills_what_it_is_told() -> None:
    device = find_device("ecp5-25f-6")
    graph = multiplying()
    little, much = (
        total_cost(stages(graph), Rate(device=device, fill=DeviceFill(logic=share)).fold(graph)).luts
        for share in (0.2, 0.9)
    )
    assert little < 0.2 * device.luts < much < 0.9 * device.luts
    with pytest.raises(ValueError, match="logic of a device's fill must be above 0 and at most 1, not 2"):
        DeviceFill(logic=2)
    hardware = from_mapping(HardwareConfig, {"fit": True, "fill": {"memory": 0.5}}, "recipe")
    assert hardware.fill == DeviceFill(memory=0.5)
