import numpy as np
import pytest
from amaranth.hdl import unsigned
from amaranth.lib import data

from karui.hw.streams.reverse_slice import ReverseSlice
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream

LAYOUT = data.ArrayLayout(unsigned(8), 1)


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_beats_pass_in_order_and_at_once(source, sink):
    words = np.random.default_rng(3).integers(0, 256, (300, 1))
    run = run_stream(ReverseSlice(LAYOUT), words, beats_out=300, source=source, sink=sink, seed=5)
    assert run.words.tolist() == words.tolist()
    if sink is BackPressure.NONE:
        assert run.departures.tolist() == run.accepted.tolist()
    if sink is source is BackPressure.NONE:
        assert np.all(np.diff(run.accepted) == 1)


def test_it_holds_a_single_beat_while_the_sink_refuses():
    words = np.arange(300)[:, None] % 256
    run = run_stream(ReverseSlice(LAYOUT), words, beats_out=300, sink=BackPressure.BURSTY, seed=5)
    assert np.all(run.accepted[1:] > run.taken[:-1])
    assert (run.taken > run.accepted).any()
