import numpy as np
import pytest

from karui.hw.activations.threshold import Threshold, ThresholdConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned


def _words(values: np.ndarray, number_format: NumberFormat) -> np.ndarray:
    return (values + 1) // 2 if number_format.is_bipolar else values


def _reference(config: ThresholdConfig, values: np.ndarray) -> np.ndarray:
    vectors = values.reshape(-1, config.channels)
    levels = (vectors[:, :, None] >= config.thresholds[None]).sum(axis=2)
    return np.vectorize(config.output_format.at_level)(levels)


def _check(config: ThresholdConfig, values: np.ndarray, **patterns: object) -> None:
    beats = _words(values, config.input_format).reshape(-1, config.lanes)
    run = run_stream(Threshold(config), beats, beats_out=len(beats), **patterns)
    expected = _words(_reference(config, values), config.output_format)
    assert run.words.reshape(expected.shape).tolist() == expected.tolist()
    if patterns.get("sink", BackPressure.NONE) is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()


@pytest.mark.parametrize("bits", [1, 3, 6])
@pytest.mark.parametrize("kind", ["unsigned", "signed"])
def test_every_value_against_every_threshold(bits, kind):
    input_format = NumberFormat(kind=kind, bits=bits + (kind == "signed"))
    thresholds = np.arange(input_format.minimum - 2, input_format.maximum + 3)
    values = np.arange(input_format.minimum, input_format.maximum + 1)
    config = ThresholdConfig(
        channels=len(thresholds),
        lanes=1,
        thresholds=thresholds[:, None],
        input_format=input_format,
        output_format=BIPOLAR,
    )
    _check(config, np.repeat(values, len(thresholds)))


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize(
    ("channels", "lanes", "count", "output_format"),
    [
        (12, 4, 1, BIPOLAR),
        (12, 3, 3, unsigned(2)),
        (6, 6, 2, unsigned(2)),
        (8, 2, 3, signed(2)),
        (5, 1, 1, unsigned(8)),
    ],
)
def test_streams_with_back_pressure(channels, lanes, count, output_format, source, sink):
    random = np.random.default_rng(channels)
    config = ThresholdConfig(
        channels=channels,
        lanes=lanes,
        thresholds=np.sort(random.integers(-40, 40, size=(channels, count)), axis=1),
        input_format=signed(6),
        output_format=output_format,
    )
    _check(config, random.integers(-32, 32, size=(9, channels)), source=source, sink=sink, seed=lanes)


@pytest.mark.parametrize("count", [4, 7, 8, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_long_ladders_are_searched(count, channels):
    random = np.random.default_rng(count)
    config = ThresholdConfig(
        channels=channels,
        lanes=1,
        thresholds=np.sort(random.integers(-140, 140, size=(channels, count)), axis=1),
        input_format=signed(8),
        output_format=unsigned(8),
    )
    _check(config, np.repeat(np.arange(-128, 128), channels))


def test_one_long_ladder_for_all_channels():
    config = ThresholdConfig(
        channels=6, lanes=2, thresholds=np.arange(5, 20)[None], input_format=unsigned(5), output_format=unsigned(4)
    )
    _check(config, np.random.default_rng(0).integers(0, 32, size=(40, 6)))


def test_one_ladder_for_all_channels():
    config = ThresholdConfig(
        channels=6, lanes=2, thresholds=np.array([[128]]), input_format=unsigned(8), output_format=BIPOLAR
    )
    _check(config, np.random.default_rng(0).integers(0, 256, size=(20, 6)))


def test_bipolar_input():
    config = ThresholdConfig(
        channels=4,
        lanes=4,
        thresholds=np.array([[-1], [0], [1], [2]]),
        input_format=BIPOLAR,
        output_format=BIPOLAR,
    )
    _check(config, np.random.default_rng(0).choice([-1, 1], size=(20, 4)))


def test_interval_is_the_distance_of_frames():
    config = ThresholdConfig(
        channels=6, lanes=2, thresholds=np.array([[3]]), input_format=unsigned(4), output_format=BIPOLAR, positions=5
    )
    departures = config.schedule(np.zeros(3 * 15, dtype=np.int64)).departures
    assert np.diff(departures[14::15]).tolist() == [config.interval] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 4}, "lanes of a threshold must divide the 6 channels, not 4; use one of 1, 2, 3, 6"),
        ({"thresholds": np.zeros((4, 1))}, r"thresholds must be of shape \(1 or 6, levels - 1\), not \(4, 1\)"),
        ({"thresholds": np.array([[2, 1]])}, r"must ascend in each row; row 0 is \[2, 1\]"),
        ({"thresholds": np.array([[1, 2]])}, "2 thresholds have 3 outcomes, more than the 2 levels"),
    ],
)
def test_refuses(change, message):
    fields = {
        "channels": 6,
        "lanes": 2,
        "thresholds": np.array([[1]]),
        "input_format": unsigned(4),
        "output_format": BIPOLAR,
    }
    with pytest.raises(ValueError, match=message):
        ThresholdConfig(**(fields | change))
