"""The stage of a complexity: its engine."""

from __future__ import annotations

import math

from karui.hw.engines.complexity_config import ComplexityConfig
from karui.hw.plan.stages import Stage
from karui.hw.streams.timing import divisors
from karui.sw.ir import Complexity, ComplexityTables


def complexity_engine(stage: Stage, lanes: int) -> ComplexityConfig:
    """The engine of a complexity."""
    op = stage.op
    if not isinstance(op, Complexity):
        raise TypeError(f"{type(op).__name__} is no complexity")
    height, width, channels = stage.source.shape
    return ComplexityConfig(
        op=op,
        shape=(height, width, channels),
        element=stage.source.number_format,
        tables=ComplexityTables(*(stage.graph.constants[name].values for name in stage.node.inputs[1:])),
        lanes=lanes,
    )


def complexity_lanes(stage: Stage) -> list[int]:
    """Lanes that such an engine can have."""
    height, width, _ = stage.source.shape
    return [lanes for lanes in divisors(math.gcd(height, width)) if 2 * lanes <= min(height, width)]
