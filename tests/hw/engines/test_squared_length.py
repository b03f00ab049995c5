import numpy as np
import pytest

from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.engines.squared_length import SquaredLength, SquaredLengthConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import NumberFormat, format_for_range, signed, unsigned

VECTORS = 8
BYTE = signed(8)


def _config(
    length: int, lanes: int, element: NumberFormat = BYTE, multiplier: Multiplier = "dsp"
) -> SquaredLengthConfig:
    largest = length * max(element.minimum**2, element.maximum**2)
    return SquaredLengthConfig(
        element=element,
        output_format=format_for_range(0, largest),
        length=length,
        lanes=lanes,
        vectors=VECTORS,
        multiplier=multiplier,
    )


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize("multiplier", ["dsp", "lut"])
@pytest.mark.parametrize(
    ("length", "lanes", "element"),
    [(16, 1, BYTE), (16, 4, BYTE), (3, 3, unsigned(4)), (1, 1, signed(5))],
)
def test_sums_squares(
    length: int, lanes: int, element: NumberFormat, multiplier: Multiplier, source: BackPressure, sink: BackPressure
) -> None:
    config = _config(length, lanes, element, multiplier)
    vectors = np.random.default_rng(length).integers(element.minimum, element.maximum + 1, (VECTORS, length))
    vectors[1] = element.minimum
    words = vectors.reshape(-1, lanes)
    run = run_stream(SquaredLength(config), words, beats_out=VECTORS, source=source, sink=sink, seed=lanes)
    assert run.words[:, 0].tolist() == (vectors**2).sum(axis=1).tolist()
    if sink is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()
        if source is BackPressure.NONE:
            assert np.diff(run.departures).tolist() == [config.beats] * (VECTORS - 1)


def test_refuses_lanes_that_do_not_divide_the_vector() -> None:
    with pytest.raises(ValueError, match="lanes of a squared length must divide the 16 elements of a vector, not 3"):
        _config(16, 3)
