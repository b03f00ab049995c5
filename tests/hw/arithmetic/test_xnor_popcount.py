import numpy as np
import pytest
from amaranth.sim import Simulator

from karui.hw.arithmetic.xnor_popcount import XnorPopcount, XnorPopcountConfig


def _counts(config: XnorPopcountConfig, activations: list[int], weights: list[list[int]]) -> list[list[int]]:
    """Counts of operands fed one a cycle, read `latency` cycles later."""
    component = XnorPopcount(config)
    counts = []

    async def bench(context):
        for cycle in range(len(activations) + config.latency):
            if cycle < len(activations):
                context.set(component.i.payload.activations.as_value(), activations[cycle])
                for row in range(config.rows):
                    context.set(component.i.payload.weights[row], weights[cycle][row])
            context.set(component.i.valid, cycle < len(activations))
            assert context.get(component.o.valid) == (cycle >= config.latency)
            if cycle >= config.latency:
                counts.append([context.get(component.o.payload[row]) for row in range(config.rows)])
            await context.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return counts


@pytest.mark.parametrize("lut_inputs", [4, 6])
@pytest.mark.parametrize("simd", range(1, 6))
def test_every_pair_of_short_vectors(simd, lut_inputs):
    pairs = [(a, w) for a in range(1 << simd) for w in range(1 << simd)]
    counts = _counts(
        XnorPopcountConfig(rows=1, simd=simd, lut_inputs=lut_inputs), [a for a, _ in pairs], [[w] for _, w in pairs]
    )
    assert counts == [[simd - (a ^ w).bit_count()] for a, w in pairs]


@pytest.mark.parametrize("lut_inputs", [4, 6])
@pytest.mark.parametrize("simd", [7, 8, 9, 16, 31, 49, 64, 65, 100])
def test_long_vectors(simd, lut_inputs):
    random = np.random.default_rng(simd)
    config = XnorPopcountConfig(rows=3, simd=simd, lut_inputs=lut_inputs)
    draw = [int.from_bytes(random.bytes(16)) % (1 << simd) for _ in range(200)]
    activations, weights = draw[:50], [draw[50 + 3 * index : 53 + 3 * index] for index in range(50)]
    weights[0] = [activations[0], activations[0] ^ ((1 << simd) - 1), 0]
    counts = _counts(config, activations, weights)
    assert counts[0][:2] == [simd, 0]
    assert counts == [[simd - (a ^ w).bit_count() for w in row] for a, row in zip(activations, weights, strict=True)]


def test_refuses_an_empty_vector():
    with pytest.raises(ValueError, match="simd of an XNOR-popcount must be 1 or more, not 0"):
        XnorPopcountConfig(rows=1, simd=0)
