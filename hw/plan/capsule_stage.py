"""Stages of capsule networks: their engines, and what they cost."""

from __future__ import annotations

from karui.hw.arithmetic.integer_dot_product import IntegerDotProductConfig, Multiplier
from karui.hw.engines.repeat import RepeatConfig
from karui.hw.engines.routing import RoutingConfig
from karui.hw.engines.squared_length import SquaredLengthConfig
from karui.hw.engines.squash import SquashConfig
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, DISTRIBUTED_ROM_WORDS
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.plan.stages import Stage
from karui.sw.ir import Repeat, Routing, SquaredLength, Squash

CapsuleEngine = SquashConfig | SquaredLengthConfig | RepeatConfig | RoutingConfig


def capsule_engine(stage: Stage, lanes: int, multiplier: Multiplier) -> CapsuleEngine:
    """The engine of a squash, of squared lengths, of a repeat or of a routing."""
    element = stage.source.number_format
    tables = [stage.graph.constants[name].values for name in stage.node.inputs[1:]]
    match stage.op:
        case Squash() as op:
            return SquashConfig(
                channels=op.length,
                lanes=lanes,
                input_format=element,
                output_format=op.output,
                positions=stage.source.elements // op.length,
                gains=tables[0],
                shift=op.shift,
                multiplier=multiplier,
            )
        case SquaredLength() as op:
            return SquaredLengthConfig(
                element=element,
                output_format=stage.result.number_format,
                length=op.length,
                lanes=lanes,
                vectors=stage.result.elements,
                multiplier=multiplier,
            )
        case Repeat() as op:
            return RepeatConfig(element=element, elements=stage.source.elements, times=op.times, lanes=lanes)
        case Routing() as op:
            return RoutingConfig(
                op=op,
                element=element,
                capsules=stage.source.shape[-1] // (op.outputs * op.length),
                kept=len(stage.source.shape) == 1,
                lanes=lanes,
                gains=tables[0],
                powers=tables[1],
                reciprocals=tables[2],
                multiplier=multiplier,
            )
        case op:
            raise TypeError(f"{type(op).__name__} is no operation of capsules")


def capsule_cost(engine: CapsuleEngine) -> Resources:
    """Cells of such an engine."""
    match engine:
        case SquashConfig():
            # The queue at the output is distributed RAM.
            return _squash(engine) + Resources(luts=90 + 2 * engine.lanes * engine.output_format.bits)
        case SquaredLengthConfig():
            total = engine.output_format.bits
            return Resources(luts=35 + total * (2 + (engine.beats > 1))) + _products(engine.squares)
        case RepeatConfig():
            bits = engine.lanes * engine.element.bits
            words = memory_cost(engine.replay.capacity, bits, distributed=DISTRIBUTED_RAM_WORDS)
            # The queue at the output is distributed RAM, which is half as dear again as a ROM.
            return Resources(luts=165 + bits + 3 * words.luts // 2, block_rams=words.block_rams)
        case RoutingConfig():
            return _routing(engine)


def _squash(squash: SquashConfig) -> Resources:
    """The pipeline of a squash."""
    norm, table = squash.normalize, squash.gains.size
    word = squash.input_format.bits
    waiting = memory_cost(squash.stored_words, squash.lanes * word, distributed=DISTRIBUTED_RAM_WORDS)
    gains = memory_cost(table, squash.gain_format.bits, distributed=DISTRIBUTED_ROM_WORDS)
    rounded = squash.products.product_format.bits + squash.output_format.bits
    luts = norm.latency * norm.width + norm.width * (squash.folds > 1) + squash.lanes * rounded + 60
    return (
        Resources(luts=round(luts + 1.5 * waiting.luts), block_rams=waiting.block_rams)
        + gains
        + _products(squash.squares)
        + _products(squash.products)
    )


def _routing(routing: RoutingConfig) -> Resources:
    element, lanes = routing.element.bits, routing.lanes
    memories = [(length, lanes * element) for length in routing.rings]
    memories.append((routing.output.stored_words, lanes * routing.op.output.bits))
    waiting = [memory_cost(words, bits, distributed=DISTRIBUTED_RAM_WORDS) for words, bits in memories]
    total = Resources(luts=260 + 3 * sum(one.luts for one in waiting) // 2)
    total += Resources(block_rams=sum(one.block_rams for one in waiting))
    total += routing.predictions.cost + routing.vectors.cost
    total += _sums(routing) + _squash(routing.squash)
    if routing.op.iterations > 1:
        total += _logits(routing) + _couplings(routing)
    return total


def _sums(routing: RoutingConfig) -> Resources:
    """Weighted sums, in a ring, and their rounding."""
    sums = routing.sums
    width = sums.sum_format.bits
    held = memory_cost(0 if sums.in_registers else sums.beats, sums.lanes * width, distributed=DISTRIBUTED_RAM_WORDS)
    per_lane = 3 * width + routing.op.sums.bits
    return Resources(luts=round(sums.lanes * per_lane + 1.5 * held.luts + 40), block_rams=held.block_rams) + _products(
        sums.products
    )


def _logits(routing: RoutingConfig) -> Resources:
    logits = routing.logits
    multiply = logits.multiply
    added = 20 * (len(multiply.partials) - 1) + 1.7 * multiply.gates
    luts = logits.agreement.bits * (1 + (logits.folds > 1)) + 4 * routing.op.logits.bits + added + 60
    return Resources(luts=round(luts), dsps=multiply.multipliers) + logits.memory.cost + _products(logits.products)


def _couplings(routing: RoutingConfig) -> Resources:
    couplings, op = routing.couplings, routing.op
    share = int(couplings.powers.max()).bit_length()
    rings = memory_cost(op.outputs, op.logits.bits + share, distributed=DISTRIBUTED_RAM_WORDS)
    tables = memory_cost(len(couplings.powers), share, distributed=256)
    tables += memory_cost(len(couplings.reciprocals), share, distributed=256)
    norm = couplings.normalize
    luts = 5 * op.logits.bits + 4 * share + norm.width * (norm.latency + 4) + tables.luts + 1.5 * rings.luts + 60
    return Resources(
        luts=round(luts), block_rams=rings.block_rams + tables.block_rams, dsps=couplings.multiply.multipliers
    )


def _products(products: IntegerDotProductConfig) -> Resources:
    return Resources(luts=round(products.luts), dsps=products.dsps)
