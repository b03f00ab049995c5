import numpy as np
import pytest

from karui.hw.engines.add import Add, AddConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_streams
from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned


def words_of(number_format: NumberFormat, shape: tuple[int, ...], seed: int) -> np.ndarray:
    words = np.random.default_rng(seed).integers(number_format.minimum, number_format.maximum + 1, shape)
    words.flat[:2] = number_format.minimum, number_format.maximum
    return words


@pytest.mark.parametrize(
    ("formats", "shifts", "output"),
    [
        ((unsigned(4), unsigned(4)), (0, 0), unsigned(5)),
        ((signed(6), unsigned(3)), (0, 2), signed(7)),
        ((unsigned(2), signed(8)), (3, 1), signed(10)),
    ],
)
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_sums(formats, shifts, output, source, sink) -> None:
    config = AddConfig(input_formats=formats, shifts=shifts, output_format=output, elements=150, lanes=3)
    first, second = (words_of(number_format, (50, 3), index) for index, number_format in enumerate(formats))
    inputs, outputs = run_streams(
        Add(config), {"i_0": first, "i_1": second}, {"o": 50}, source=source, sink=sink, seed=9
    )
    assert outputs["o"].words.tolist() == ((first << shifts[0]) + (second << shifts[1])).tolist()
    assert inputs["i_0"].accepted.tolist() == inputs["i_1"].accepted.tolist()


def test_refuses_what_it_cannot_add() -> None:
    with pytest.raises(ValueError, match="sums from 0 to 30 do not fit the output format"):
        AddConfig(input_formats=(unsigned(4), unsigned(4)), output_format=unsigned(4), elements=4, lanes=1)
    with pytest.raises(ValueError, match="must be unsigned or signed, not bipolar"):
        AddConfig(input_formats=(BIPOLAR, unsigned(4)), output_format=signed(6), elements=4, lanes=1)
    with pytest.raises(ValueError, match="lanes of an add must divide the 4 elements of a frame, not 3"):
        AddConfig(input_formats=(unsigned(4), unsigned(4)), output_format=unsigned(5), elements=4, lanes=3)
