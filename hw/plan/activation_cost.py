"""What the activation of sums costs: thresholds, and scalings by channel."""

from __future__ import annotations

from karui.hw.activations.threshold import PARALLEL_THRESHOLDS
from karui.hw.arithmetic.ladder_search import DISTRIBUTED_WORDS as LADDER_ROM_WORDS
from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.memory.cyclic_rom import DISTRIBUTED_WORDS as CYCLIC_ROM_WORDS
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.plan.stages import Stage
from karui.sw.ir import DoubleRounding, Node, Requantize, Threshold


def activation_lane(node: Node, stage: Stage, folds: int) -> Resources:
    """One lane of a threshold, requantize or double-rounding node that serves so many channels."""
    source = stage.graph.tensors[node.inputs[0]].number_format.bits
    if isinstance(node.op, Threshold):
        channels, levels = stage.graph.constants[node.inputs[1]].values.shape
        if levels <= PARALLEL_THRESHOLDS:
            # A comparator with a constant is a look-up table or two, one with a stored threshold a carry chain.
            return Resources(luts=levels * (2 if channels == 1 and node is stage.node else source))
        ladder = Resources()
        for step in range(levels.bit_length()):
            table = memory_cost((1 if channels == 1 else folds) << step, source, distributed=LADDER_ROM_WORDS)
            ladder += table + Resources(luts=source)
        return ladder
    values = [stage.graph.constants[name].values for name in node.inputs[1:]]
    largest = int(abs(values[0]).max())
    if isinstance(node.op, DoubleRounding):
        exponents = values[1]
        places = int(exponents.max()) + max(0, -int(exponents.min()))
        largest <<= places
        second, rounding = places, 110
    else:
        second, rounding = int(abs(values[1]).max()).bit_length() + 1, 60
    multiply = WideMultiply(left=source, right=largest.bit_length() + 1)
    added = 20 * (len(multiply.partials) - 1) + 1.7 * multiply.gates
    lane = Resources(luts=round(rounding + added), dsps=multiply.multipliers)
    if isinstance(node.op, Requantize) and (abs(values[0]) == 1).all():
        # An adder with a gate in front of each bit.
        lane = Resources(luts=rounding + 3 * source)
    for stored, bits in zip(values, (multiply.right, second), strict=True):
        if not (stored == stored[0]).all():
            lane += cyclic_rom_cost(folds, bits)
    return lane


def cyclic_rom_cost(words: int, bits: int) -> Resources:
    """Cells of the channels' parameters; look-up tables that hold less than 16 words of a bit find others to join."""
    if words <= CYCLIC_ROM_WORDS:
        return Resources(luts=round(bits * words / 16))
    return memory_cost(words, bits, distributed=CYCLIC_ROM_WORDS)
