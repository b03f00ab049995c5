import itertools

import numpy as np
import pytest
from qonnx.custom_op.general.bipolar_quant import binary_quant
from qonnx.custom_op.general.intquant import int_quant
from qonnx.custom_op.general.multithreshold import multithreshold

from karui.sw.lower.quantizer import ROUNDING_MODES, bipolar_quantizer, multi_threshold, uniform_quantizer
from karui.sw.numerics import BIPOLAR, signed, unsigned

# Every quarter step, so that ties and both ends are hit.
VALUES = np.arange(-90, 91, dtype=np.float32)[:, None] / 8


@pytest.mark.parametrize("mode", ROUNDING_MODES)
@pytest.mark.parametrize(("is_signed", "narrow"), list(itertools.product([False, True], repeat=2)))
def test_quant_is_qonnx_own(mode: str, is_signed: bool, narrow: bool) -> None:
    for bits, scale, zero in itertools.product([1, 2, 4], [0.5, 0.3], [0.0, 2.0, -1.0]):
        parameters = np.full(1, scale, np.float32), np.full(1, zero, np.float32)
        quantizer = uniform_quantizer(*parameters, bits, is_signed=is_signed, narrow=narrow, rounding_mode=mode)
        words = quantizer.words(VALUES)
        expected = int_quant(VALUES, *parameters, np.float32(bits), is_signed, narrow, mode).astype(np.float32)
        np.testing.assert_array_equal(quantizer.meaning.evaluate(words), expected)
        assert quantizer.output.admits(words)


def test_bipolar_quant_is_qonnx_own() -> None:
    scale = np.array([0.25, 3.0], np.float32)
    quantizer = bipolar_quantizer(scale)
    values = np.broadcast_to(VALUES, (len(VALUES), 2))
    np.testing.assert_array_equal(
        quantizer.meaning.evaluate(quantizer.words(values)), binary_quant(values, scale).astype(np.float32)
    )


@pytest.mark.parametrize(
    ("steps", "scale", "bias", "output"),
    [
        (1, 2.0, -1.0, BIPOLAR),
        (1, 0.2, -0.1, BIPOLAR),
        (1, 1.0, 0.0, unsigned(1)),
        (2, 1.0, -1.0, signed(2)),
        (7, 0.3, 0.0, unsigned(3)),
        (15, 0.5, -4.0, signed(4)),
        (3, 0.1, 0.07, unsigned(2)),
        (3, -0.5, 1.0, signed(2)),
    ],
)
def test_multi_threshold_is_qonnx_own(steps: int, scale: float, bias: float, output: object) -> None:
    thresholds = np.linspace(-6, 5, 2 * steps, dtype=np.float32).reshape(2, steps)
    quantizer = multi_threshold(thresholds, float(np.float32(scale)), float(np.float32(bias)))
    values = np.broadcast_to(np.concatenate([VALUES, thresholds.reshape(-1, 1)]), (len(VALUES) + 2 * steps, 2))
    words = quantizer.words(values)
    expected = multithreshold(values, thresholds, float(np.float32(scale)), float(np.float32(bias)))
    np.testing.assert_array_equal(quantizer.meaning.evaluate(words), expected.astype(np.float32))
    assert quantizer.output == output
    assert quantizer.output.admits(words)


def test_constant_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="out_scale 0 and 3 thresholds make the output constant"):
        multi_threshold(np.zeros((1, 3), np.float32), 0.0, 1.0)
