import numpy as np
import pytest

from karui.hw.memory.deep_fifo import DeepFifo, DeepFifoConfig, least_depth
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import signed, unsigned


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize("depth", [3, 4, 16, 17, 40])
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_keeps_order(depth: int, source: BackPressure, sink: BackPressure, registered: bool) -> None:
    config = DeepFifoConfig(element=signed(9), lanes=3, depth=depth, registered=registered)
    beats = np.random.default_rng(depth).integers(-256, 256, (200, 3))
    run = run_stream(DeepFifo(config), beats, beats_out=200, source=source, sink=sink, seed=depth)
    assert run.words.tolist() == beats.tolist()
    if source is sink is BackPressure.NONE:
        assert (run.taken - run.accepted).tolist() == [3 if registered else 2] * 200


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize(("bits", "depth", "banks", "slices"), [(18, 2100, 3, (18,)), (20, 4500, 3, (9, 9, 2))])
def test_keeps_order_in_banks(bits: int, depth: int, banks: int, slices: tuple[int, ...], registered: bool) -> None:
    config = DeepFifoConfig(element=unsigned(bits), lanes=1, depth=depth, registered=registered)
    assert (config.memory.banks, config.memory.slices) == (banks, slices)
    assert config.cost.block_rams == banks * len(slices)
    count = 2 * depth
    beats = np.random.default_rng(depth).integers(0, 1 << bits, (count, 1))
    # Words enter without a pause, so the queue is full for most of the time, and goes round all banks.
    run = run_stream(
        DeepFifo(config), beats, beats_out=count, source=BackPressure.NONE, sink=BackPressure.RANDOM, seed=depth
    )
    assert run.words.tolist() == beats.tolist()


@pytest.mark.parametrize("source", [BackPressure.RANDOM, BackPressure.BURSTY])
@pytest.mark.parametrize("sink", [BackPressure.RANDOM, BackPressure.BURSTY])
@pytest.mark.parametrize("seed", [1, 2])
def test_least_depth_refuses_no_word_and_one_less_does(source: BackPressure, sink: BackPressure, seed: int) -> None:
    beats = np.arange(150)[:, None] % 256

    def play(depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        config = DeepFifoConfig(element=unsigned(8), lanes=1, depth=depth)
        run = run_stream(DeepFifo(config), beats, beats_out=150, source=source, sink=sink, seed=seed)
        return run.arrivals, run.accepted, run.taken

    arrivals, accepted, taken = play(150)
    depth = least_depth(accepted, taken)
    assert 3 < depth < 150
    assert play(depth)[1].tolist() == accepted.tolist()
    assert play(depth - 1)[1].tolist() != accepted.tolist()
    assert (accepted >= arrivals).all()


def test_refuses_a_depth_that_is_slow() -> None:
    with pytest.raises(ValueError, match="depth of 3 or more, not 2"):
        DeepFifoConfig(element=unsigned(8), lanes=1, depth=2)
