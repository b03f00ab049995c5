"""Stages of binary bases: their engine, and what it costs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from karui.hw.arithmetic.binary_dot_product import BinaryDotProductConfig
from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.arithmetic.popcount import LutInputs
from karui.hw.engines.bit_plane_engine import BitPlaneEngineConfig, Integers
from karui.hw.engines.coefficient_sums import CoefficientSumsConfig
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, DISTRIBUTED_ROM_WORDS
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.plan.activation_cost import activation_lane
from karui.hw.plan.stages import Stage
from karui.sw.ir import BinaryBases, Constant


def bit_plane_engine(
    stage: Stage,
    *,
    simd: int,
    pe: int,
    planes: int,
    bases: int,
    multiplier: Multiplier,
    lut_inputs: LutInputs,
) -> BitPlaneEngineConfig:
    """The engine of a stage, without its activation."""
    op = stage.op
    assert isinstance(op, BinaryBases)
    signs, coefficients, *bias = (stage.graph.constants[name] for name in stage.node.inputs[1:])
    return BitPlaneEngineConfig(
        inputs=stage.source.shape[-1],
        coefficients=coefficients.values,
        negatives=_negatives(signs),
        bias=bias[0].values if bias else None,
        blocks=op.groups,
        pe=pe,
        simd=simd,
        planes=planes,
        bases=bases,
        input_format=stage.source.number_format,
        accumulator=op.accumulator,
        positions=stage.positions,
        multiplier=multiplier,
        lut_inputs=lut_inputs,
    )


@lru_cache(maxsize=64)
def _negatives(signs: Constant) -> Integers:
    """Of a stage's bases, for which each of its foldings asks."""
    counted: Integers = np.count_nonzero(signs.values < 0, axis=2)
    return counted


def bit_plane_cost(stage: Stage, engine: BitPlaneEngineConfig) -> Resources:
    """Cells of a stage's engine."""
    group = engine.group(0)
    total, made = group.products.total_format.bits, group.products.products
    if isinstance(made, BinaryDotProductConfig):
        # A choice for each pair of products, and adders between pairs; all rows share the pairs' sums and differences.
        row = 1.3 * (made.pairs * (engine.planes + 2) + (made.pairs - 1) * (engine.planes + 3))
        operand = made.pairs * (2.0 * engine.planes + 5)
    else:
        # An XNOR and its share of the tree of counts.
        row, operand = 3.3 * engine.simd, 0.0
    # The accumulator, what doubles it, and the register that its totals leave through.
    row += total * (3.0 if group.sums.steps > 1 else 2.0)
    replay = memory_cost(
        engine.replay.capacity if engine.replay.passes > 1 else 0,
        engine.simd * engine.input_format.bits,
        distributed=DISTRIBUTED_RAM_WORDS,
    )
    if engine.turns > 1:
        operand += 0.6 * engine.turns * engine.planes * engine.simd
    weights = memory_cost(
        engine.output_fold * engine.rounds * engine.input_fold,
        engine.rows // engine.groups * engine.simd,
        distributed=DISTRIBUTED_ROM_WORDS,
    )
    of_a_group = _sums(group.sums, engine.output_fold * engine.rounds * group.sums.steps) + weights
    if stage.activation is not None:
        of_a_group += activation_lane(stage.activation, stage, engine.output_fold * engine.group_lanes)
    result = engine.pe * stage.result.number_format.bits
    total_luts = engine.rows * row + 1.5 * (replay.luts + result) + operand + 120
    return Resources(
        luts=round(total_luts) + engine.groups * of_a_group.luts,
        block_rams=replay.block_rams + engine.groups * of_a_group.block_rams,
        dsps=engine.groups * of_a_group.dsps,
    )


def _sums(sums: CoefficientSumsConfig, words: int) -> Resources:
    """What multiplies a group's totals by coefficients and adds them up."""
    if sums.multiplier == "lut":
        products = Resources(luts=round(0.92 * sums.dot_product.luts))
    else:
        multiply = sums.multiply
        partials = 20 * (len(multiply.partials) - 1) + 1.7 * multiply.gates
        added = (sums.products - 1) * (multiply.left + multiply.right)
        products = Resources(luts=round(sums.products * partials + added), dsps=sums.products * multiply.multipliers)
    constants = memory_cost(words, sums.coefficient_bits, distributed=DISTRIBUTED_ROM_WORDS)
    constants += memory_cost(sums.offsets.size, sums.sum_format.bits, distributed=DISTRIBUTED_ROM_WORDS)
    return Resources(luts=60 + 2 * sums.sum_format.bits) + products + constants
