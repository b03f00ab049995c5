"""A rate and a device become a folding."""

from dataclasses import replace

import numpy as np
import pytest

from karui.flows.compiling import layers, rate_of
from karui.flows.design import Rate
from karui.flows.device_fill import DeviceFill
from karui.flows.recipe import HardwareConfig
from karui.flows.settings import Settings
from karui.flows.synthesize import find_device
from karui.hw.emit.accelerator import Accelerator
from karui.hw.memory.resources import Resources
from karui.hw.plan.folding import FoldingError, total_cost, worth
from karui.hw.plan.stages import stages
from karui.sw.configuration import from_mapping
from karui.sw.ir import Graph, GraphBuilder, graphs_equal, with_recomputed_predictions
from karui.sw.numerics import signed, unsigned


def multiplying() -> Graph:
    build = GraphBuilder("multiplying")
    edge = build.input("values", (64,), unsigned(8))
    return build.finish(build.matrix_vector("dense", edge, np.random.default_rng(0).integers(-128, 128, (64, 64))))


def capsules(count: int) -> Graph:
    """So many capsules of 8 elements to 4 of 8."""
    build = GraphBuilder("capsules")
    edge = build.input("x", (8 * count,), signed(8, fraction=7))
    edge = build.matrix_vector(
        "products", edge, np.random.default_rng(0).integers(-9, 9, (32 * count, 8)), groups=count
    )
    edge = build.requantize("words", edge, np.array([1]), np.array([0]), shift=5, output=signed(8, fraction=6))
    words = {"sums": signed(16, fraction=9), "output": signed(8, fraction=7), "logits": signed(16, fraction=10)}
    return build.finish(build.routing("routed", edge, outputs=4, length=8, iterations=3, **words))


def total(graph: Graph, rate: Rate) -> Resources:
    return total_cost(stages(graph), rate.fold(graph))


def test_predictions_are_kept_where_that_takes_less() -> None:
    roomy = Resources(luts=100_000, block_rams=500, dsps=200)
    for count, pays in ((12, False), (288, True)):
        kept = capsules(count)
        anew = with_recomputed_predictions(kept)
        rate = Rate(initiation_interval=40_000, budget=roomy)
        assert (worth(total(anew, rate)) < worth(total(kept, rate))) == pays
        assert graphs_equal(rate.with_predictions_that_pay(kept), anew if pays else kept)
        assert rate.with_predictions_that_pay(anew) is anew
        assert Rate(initiation_interval=40_000).with_predictions_that_pay(kept) is kept
    plain = multiplying()
    assert rate.with_predictions_that_pay(plain) is plain


def test_predictions_are_made_in_the_form_that_the_budget_has_room_for() -> None:
    kept = capsules(288)
    anew = with_recomputed_predictions(kept)
    # Products done more often take more logic: within the block RAMs of one form, or the look-up tables of one.
    rate = Rate(initiation_interval=40_000)
    of_kept, of_anew = total(kept, rate), total(anew, rate)
    assert of_anew.block_rams < of_kept.block_rams
    assert of_anew.luts > of_kept.luts
    roomy = Resources(luts=100_000, block_rams=500, dsps=200)
    few_rams = replace(rate, budget=replace(roomy, block_rams=of_kept.block_rams - 1))
    assert graphs_equal(few_rams.with_predictions_that_pay(kept), anew)
    folded = Accelerator(graph=anew, folding=few_rams.fold(anew))
    assert [(one["op"], one["shape_out"]) for one in layers(folded)] == [
        ("Repeat", [3, 2304]),
        ("MatrixVector", [3, 9216]),
        ("Routing", [32]),
    ]
    few_luts = replace(rate, budget=replace(roomy, luts=of_anew.luts - 1))
    assert few_luts.with_predictions_that_pay(kept) is kept


def test_a_device_gets_the_form_that_is_faster_in_it() -> None:
    kept = capsules(288)
    anew = with_recomputed_predictions(kept)
    device = find_device("ecp5-25f-6")

    def within(block_rams: int) -> Rate:
        return Rate(device=replace(device, block_rams=block_rams))

    # Room for neither, for one alone, for both of which one is faster then, and for both at nearly the same rate.
    assert within(16).with_predictions_that_pay(kept) is kept
    with pytest.raises(FoldingError, match="the smallest folding takes"):
        within(45).fold(kept)
    assert graphs_equal(within(45).with_predictions_that_pay(kept), anew)
    assert total(anew, within(48)).luts > total(kept, within(48)).luts
    assert graphs_equal(within(48).with_predictions_that_pay(kept), anew)
    assert worth(total(kept, within(56))) < worth(total(anew, within(56)))
    assert within(56).with_predictions_that_pay(kept) is kept


def test_a_build_tells_its_device() -> None:
    hardware = HardwareConfig(device="ecp5-25f-6", initiation_interval=99)
    assert rate_of(Settings(recipe="any", hardware=hardware)).budget == DeviceFill().budget(find_device("ecp5-25f-6"))
    assert rate_of(Settings(recipe="any", hardware=HardwareConfig(fit=True))).budget is None


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
