import numpy as np
import pytest

from karui.hw.engines.channel_shuffle import ChannelShuffle, ChannelShuffleConfig
from karui.hw.memory.memory_style import Storage
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.golden import evaluate
from karui.sw.ir import GraphBuilder
from karui.sw.numerics import BIPOLAR, signed, unsigned

# Channels, groups, lanes: lanes that divide the channels of a group or not, the groups or not, neither, a whole pixel.
SHAPES = [(12, 3, 1), (12, 3, 2), (12, 3, 3), (12, 2, 4), (12, 3, 6), (12, 3, 12), (24, 4, 8), (30, 5, 6), (8, 1, 2)]


@pytest.mark.parametrize(("channels", "groups", "lanes"), SHAPES)
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_shuffles_as_the_golden_model_does(channels, groups, lanes, source, sink) -> None:
    config = ChannelShuffleConfig(element=signed(6), channels=channels, groups=groups, positions=6, lanes=lanes)
    build = GraphBuilder("shuffle")
    graph = build.finish(build.channel_shuffle("mix", build.input("map", (2, 3, channels), signed(6)), groups))
    maps = np.random.default_rng(channels).integers(-32, 32, (1, 2, 3, channels))
    beats = 6 * config.words
    run = run_stream(
        ChannelShuffle(config), maps.reshape(beats, lanes), beats_out=beats, source=source, sink=sink, seed=groups
    )
    assert run.words.reshape(maps.shape).tolist() == evaluate(graph, maps).tolist()
    if sink is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()


@pytest.mark.parametrize(("channels", "groups", "lanes"), SHAPES)
@pytest.mark.parametrize("storage", ["block", "distributed"])
def test_interval_is_the_steady_distance_of_frames(channels, groups, lanes, storage: Storage) -> None:
    config = ChannelShuffleConfig(
        element=BIPOLAR, channels=channels, groups=groups, positions=4, lanes=lanes, storage=storage
    )
    run = run_stream(
        ChannelShuffle(config), np.zeros((5 * config.interval, lanes), dtype=int), beats_out=5 * config.interval
    )
    assert np.diff(run.taken[config.interval - 1 :: config.interval]).tolist() == [config.interval] * 4


@pytest.mark.parametrize(("channels", "groups", "lanes"), [*SHAPES, (240, 3, 16), (544, 2, 34), (576, 8, 9)])
def test_no_beat_needs_a_bank_twice(channels: int, groups: int, lanes: int) -> None:
    config = ChannelShuffleConfig(element=BIPOLAR, channels=channels, groups=groups, lanes=lanes)
    for beats in (config.banks.reshape(-1, lanes), config.banks[config.order].reshape(-1, lanes)):
        assert np.sort(beats, axis=1).tolist() == [list(range(lanes))] * config.words


def test_refuses_what_does_not_divide() -> None:
    with pytest.raises(ValueError, match="groups of a channel shuffle must divide the 12 channels, not 5"):
        ChannelShuffleConfig(element=unsigned(8), channels=12, groups=5, lanes=1)
    with pytest.raises(ValueError, match="lanes of a channel shuffle must divide the 12 channels, not 8"):
        ChannelShuffleConfig(element=unsigned(8), channels=12, groups=3, lanes=8)
