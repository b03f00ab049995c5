from itertools import product

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from karui.hw.arithmetic.integer_dot_product import IntegerDotProduct, IntegerDotProductConfig
from karui.hw.streams.stream import delayed, lanes_of
from karui.sw.numerics import BIPOLAR, NumberFormat, pack, signed, to_integers, unsigned


class Prepared(wiring.Component):
    """Dot products with the preparation of their activations."""

    def __init__(self, config: IntegerDotProductConfig) -> None:
        self.config = config
        super().__init__(
            {
                "activations": In(lanes_of(config.input_format, config.simd)),
                "weights": In(config.operands["weights"].shape),
                "valid": In(1),
                "totals": Out(lanes_of(config.term_format, config.rows)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.products = products = IntegerDotProduct(config)
        late = config.prepare_latency
        m.d.comb += [
            products.i.payload.activations.as_value().eq(config.prepare(m, self.activations)),
            products.i.payload.weights.as_value().eq(delayed(m, self.weights.as_value(), late, name="weights")),
            products.i.valid.eq(delayed(m, self.valid, late, name="valid", control=True)),
            self.totals.eq(products.o.payload),
            self.done.eq(products.o.valid),
        ]
        return m


def _check(config: IntegerDotProductConfig, vectors: np.ndarray, weights: np.ndarray) -> None:
    """Vectors (n, simd) with weights (n, rows, simd), fed one a cycle, read the stated latency later."""
    component = Prepared(config)
    latency = config.prepare_latency + config.latency
    activation_words = to_integers(pack(vectors, config.input_format))
    weight_words = [to_integers(pack(rows, config.weight_format)) for rows in weights]
    totals = []

    async def bench(context):
        for cycle in range(len(vectors) + latency):
            if cycle < len(vectors):
                context.set(component.activations.as_value(), activation_words[cycle])
                for row, word in enumerate(weight_words[cycle]):
                    context.set(component.weights[row], word)
            context.set(component.valid, cycle < len(vectors))
            assert context.get(component.done) == (cycle >= latency)
            if cycle >= latency:
                totals.append([context.get(component.totals[row]) for row in range(config.rows)])
            await context.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert totals == np.einsum("ni,nri->nr", vectors, weights).tolist()


def _every(number_format: NumberFormat) -> list[int]:
    return [-1, 1] if number_format.is_bipolar else list(range(number_format.minimum, number_format.maximum + 1))


NARROW = [(signed(2), signed(2)), (unsigned(2), signed(2)), (unsigned(2), unsigned(2)), (BIPOLAR, signed(2))]


@pytest.mark.parametrize("multiplier", ["dsp", "lut"])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(("inputs", "weights"), NARROW, ids=str)
def test_every_pair_of_narrow_vectors(inputs, weights, rows, multiplier):
    operands = list(product(*[_every(inputs)] * 2, *[_every(weights)] * 2))
    vectors = np.array([operand[:2] for operand in operands])
    first = np.array([operand[2:] for operand in operands])
    both = np.stack([first, np.random.default_rng(0).permutation(first)], axis=1)[:, :rows]
    config = IntegerDotProductConfig(
        rows=rows, simd=2, input_format=inputs, weight_format=weights, multiplier=multiplier
    )
    assert config.packs == (multiplier == "dsp" and rows == 2)
    _check(config, vectors, both)


@pytest.mark.parametrize("multiplier", ["dsp", "lut"])
@pytest.mark.parametrize(("inputs", "weights"), [(unsigned(4), signed(4)), (signed(4), signed(4))], ids=str)
def test_every_product_beside_every_other_weight(inputs, weights, multiplier):
    operands = np.array(list(product(_every(inputs), _every(weights), _every(weights))))
    config = IntegerDotProductConfig(rows=2, simd=1, input_format=inputs, weight_format=weights, multiplier=multiplier)
    _check(config, operands[:, :1], operands[:, 1:, None])


INPUTS = [BIPOLAR, unsigned(1), unsigned(3), unsigned(8), signed(8), signed(16)]
WEIGHTS = [signed(2), signed(3), signed(4), signed(8), unsigned(1), unsigned(8), signed(12)]


@pytest.mark.parametrize("multiplier", ["dsp", "lut"])
@pytest.mark.parametrize(("rows", "simd"), [(1, 1), (3, 7), (2, 18)])
@pytest.mark.parametrize("inputs", INPUTS, ids=str)
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_any_widths(inputs, weights, rows, simd, multiplier):
    random = np.random.default_rng(simd)
    config = IntegerDotProductConfig(
        rows=rows, simd=simd, input_format=inputs, weight_format=weights, multiplier=multiplier
    )
    vectors = random.choice(_every(inputs), size=(24, simd))
    matrices = random.choice(_every(weights), size=(24, rows, simd))
    # The ends of the ranges, all four together.
    for index, (vector, weight) in enumerate(
        product((inputs.minimum, inputs.maximum), (weights.minimum, weights.maximum))
    ):
        vectors[index], matrices[index] = vector, weight
    _check(config, vectors, matrices)


@pytest.mark.parametrize(
    ("inputs", "weights", "packs", "dsps"),
    [
        (unsigned(8), signed(4), True, 10),
        (signed(8), signed(4), True, 10),
        (unsigned(8), signed(5), False, 15),
        (unsigned(4), signed(6), True, 10),
        (unsigned(8), signed(8), False, 15),
    ],
    ids=str,
)
def test_two_narrow_products_share_a_multiplier(inputs, weights, packs, dsps):
    config = IntegerDotProductConfig(rows=3, simd=5, input_format=inputs, weight_format=weights)
    assert (config.packs, config.dsps) == (packs, dsps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "rows of an integer dot product must be 1 or more, not 0"),
        ({"simd": 0}, "simd of an integer dot product must be 1 or more, not 0"),
        ({"weight_format": BIPOLAR}, "must be integers, not bipolar"),
        ({"multiplier": "booth"}, "multiplier must be dsp or lut, not 'booth'"),
    ],
)
def test_refuses(change, message):
    fields = {"rows": 1, "simd": 1, "input_format": unsigned(8), "weight_format": signed(8)}
    with pytest.raises(ValueError, match=message):
        IntegerDotProductConfig(**(fields | change))
