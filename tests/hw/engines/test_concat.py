import numpy as np
import pytest

from karui.hw.engines.concat import Concat, ConcatConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_streams
from karui.sw.numerics import BIPOLAR, signed


@pytest.mark.parametrize(
    ("channels", "lanes"), [((4, 4), 4), ((4, 8), 2), ((2, 6, 4), 2), ((1, 2, 1, 3), 1), ((6, 3), 3)]
)
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_joins_the_channels_of_each_pixel(channels, lanes, source, sink) -> None:
    config = ConcatConfig(element=signed(4), channels=channels, positions=9, lanes=lanes)
    rng = np.random.default_rng(lanes)
    parts = [rng.integers(-8, 8, (9, count)) for count in channels]
    whole = np.concatenate(parts, axis=1).reshape(-1, lanes)
    _, outputs = run_streams(
        Concat(config),
        {f"i_{part}": words.reshape(-1, lanes) for part, words in enumerate(parts)},
        {"o": len(whole)},
        source=source,
        sink=sink,
        seed=3,
    )
    assert outputs["o"].words.tolist() == whole.tolist()


def test_refuses_lanes_across_parts() -> None:
    with pytest.raises(ValueError, match="lanes of a concat must divide the 6 channels of part 1, not 4"):
        ConcatConfig(element=BIPOLAR, channels=(8, 6), lanes=4)
    with pytest.raises(ValueError, match="a concat needs 2 parts or more, not 1"):
        ConcatConfig(element=BIPOLAR, channels=(8,), lanes=4)
