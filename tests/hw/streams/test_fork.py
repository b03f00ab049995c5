import numpy as np
import pytest

from karui.hw.streams.fork import Fork, ForkConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_streams
from karui.sw.numerics import BIPOLAR, signed


@pytest.mark.parametrize("readers", [2, 3, 5])
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_every_reader_gets_every_beat(readers: int, source: BackPressure, sink: BackPressure) -> None:
    config = ForkConfig(element=signed(5), elements=120, lanes=2, readers=readers)
    beats = np.random.default_rng(readers).integers(-16, 16, (120, 2))
    names = [f"o_{reader}" for reader in range(readers)]
    _, outputs = run_streams(
        Fork(config), {"i": beats}, dict.fromkeys(names, 120), source=source, sink=sink, seed=readers
    )
    for name in names:
        assert outputs[name].words.tolist() == beats.tolist()


def test_a_fast_reader_is_a_beat_ahead_of_a_slow_one_at_most() -> None:
    config = ForkConfig(element=BIPOLAR, elements=60, lanes=1, readers=2)
    _, outputs = run_streams(
        Fork(config), {"i": np.zeros((60, 1), dtype=int)}, {"o_0": 60, "o_1": 60}, sink=BackPressure.BURSTY, seed=1
    )
    one, other = outputs["o_0"].taken, outputs["o_1"].taken
    assert (one[1:] > other[:-1]).all()
    assert (other[1:] > one[:-1]).all()
    assert (one != other).any()


def test_refuses_a_single_reader() -> None:
    with pytest.raises(ValueError, match="a fork needs 2 readers or more, not 1"):
        ForkConfig(element=BIPOLAR, elements=4, lanes=2, readers=1)
