"""The cost model of integer matrix-vector engines against what Yosys maps."""

from pathlib import Path

import numpy as np
import pytest

from karui.flows.synthesize import CellCount, find_device
from karui.flows.synthesize.resources import count_cells
from karui.flows.synthesize.yosys import map_netlist
from karui.hw.emit.verilog import emit
from karui.hw.plan.components import component, engine
from karui.hw.plan.estimate import Fold, cost
from karui.hw.plan.stages import stages
from karui.sw.ir import GraphBuilder
from karui.sw.numerics import unsigned

DEVICE = find_device("ecp5-85f-8")


@pytest.mark.parametrize(
    ("bits", "fold"),
    [
        (8, Fold(simd=8, pe=2, multiplier="dsp")),
        (4, Fold(simd=8, pe=4, multiplier="dsp")),
        (8, Fold(simd=4, pe=2, multiplier="lut")),
        (4, Fold(simd=8, pe=4, multiplier="lut")),
    ],
    ids=str,
)
def test_cost_of_integer_products(bits: int, fold: Fold, tmp_path: Path) -> None:
    rng = np.random.default_rng(bits)
    build = GraphBuilder("dense")
    edge = build.input("values", (48,), unsigned(bits))
    edge = build.matrix_vector("dense", edge, rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (16, 48)))
    scales = rng.integers(100, 200, 16), rng.integers(0, 9000, 16)
    (stage,) = stages(build.finish(build.requantize("scale", edge, *scales, shift=bits + 5, output=unsigned(bits))))
    emit(component(engine(stage.op, stage, fold).config), tmp_path, name="engine")
    netlist = map_netlist([tmp_path / "engine.v"], top="engine", clock="clk", device=DEVICE, folder=tmp_path)
    cells = sum(count_cells(netlist.design["cells"], DEVICE.family).values(), CellCount())
    expected = cost(stage.op, stage, fold)
    assert (expected.dsps, expected.block_rams) == (cells.dsp, cells.bram)
    mapped = cells.lut + 2 * cells.carry + 6 * cells.lutram
    assert abs(expected.luts / mapped - 1) < 0.2, (expected.luts, mapped)
