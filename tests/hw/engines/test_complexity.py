"""The complexity of images in hardware against its definition: words at any back-pressure, and every cycle."""

from dataclasses import replace

import numpy as np
import pytest

from karui.hw.engines.complexity import Complexity
from karui.hw.engines.complexity_config import STORE_LATENCY, ComplexityConfig
from karui.hw.engines.fourier_sums import FourierSumsConfig
from karui.hw.engines.histogram_sum import HistogramSumConfig
from karui.hw.engines.spectrum_bins import SpectrumBinsConfig
from karui.hw.streams.stream import FIFO_LATENCY
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream, run_streams
from karui.sw.ir import complexity_of
from karui.sw.ir.complexity_arithmetic import complexity_words
from karui.sw.numerics import unsigned

FRAMES = 6
Shape = tuple[int, int, int]


def config_of(shape: Shape, lanes: int, bits: int = 8) -> ComplexityConfig:
    element = unsigned(bits)
    op, tables = complexity_of(shape, element)
    return ComplexityConfig(op=op, shape=shape, element=element, tables=tables, lanes=lanes)


def images_of(config: ComplexityConfig, frames: int = FRAMES) -> np.ndarray:
    """Noise, black, white, a wave, and few words that come in runs."""
    random = np.random.default_rng(sum(config.shape) + config.lanes)
    largest = config.element.maximum
    images = random.integers(0, largest + 1, (frames, *config.shape))
    images[1], images[2] = 0, largest
    images[3] = (1 + np.cos(np.arange(config.shape[1])))[:, None] * largest // 2
    images[4, 1:] = images[4, :1] // 2
    return images


def check(
    config: ComplexityConfig,
    *,
    source: BackPressure = BackPressure.NONE,
    sink: BackPressure = BackPressure.NONE,
    reference: ComplexityConfig | None = None,
) -> None:
    images = images_of(config)
    expected = complexity_words((reference or config).op, images, (reference or config).tables)
    assert len(set(expected.tolist())) > 3
    run = run_stream(
        Complexity(config), images.reshape(-1, 1), beats_out=FRAMES, source=source, sink=sink, seed=config.beats
    )
    assert run.words[:, 0].tolist() == expected.tolist()
    if source is BackPressure.NONE and sink is BackPressure.NONE:
        assert np.diff(run.departures).tolist() == [config.interval] * (FRAMES - 1)
        rows = STORE_LATENCY + config.rows.cycles + config.row_latency
        latency = rows + config.result_latency + FIFO_LATENCY
        assert run.departures[0] == run.accepted[config.beats - 1] + latency


@pytest.mark.parametrize(
    ("shape", "lanes"),
    [
        ((2, 2, 1), 1),
        ((4, 6, 1), 1),
        ((4, 6, 1), 2),
        ((5, 7, 1), 1),
        ((3, 2, 3), 1),
        ((6, 4, 3), 2),
        ((8, 8, 1), 4),
        ((16, 12, 1), 2),
        ((16, 16, 3), 8),
    ],
)
def test_measures_as_the_definition_says(shape: Shape, lanes: int) -> None:
    config = config_of(shape, lanes)
    check(config)
    # Small images wait for their histograms, large ones for passes.
    assert config.is_paced == (shape[0] * shape[1] < 190)


@pytest.mark.parametrize("bits", [2, 3, 7])
def test_other_words(bits: int) -> None:
    config = config_of((6, 6, 3 if bits == 7 else 1), 1, bits)
    images = images_of(config)
    run = run_stream(Complexity(config), images.reshape(-1, 1), beats_out=FRAMES)
    assert run.words[:, 0].tolist() == complexity_words(config.op, images, config.tables).tolist()


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_back_pressure(source: BackPressure, sink: BackPressure) -> None:
    check(config_of((6, 4, 1), 2), source=source, sink=sink)
    check(config_of((4, 4, 3), 1), source=source, sink=sink)


@pytest.mark.parametrize(("shape", "lanes"), [((4, 6, 1), 1), ((8, 6, 1), 1)])
@pytest.mark.parametrize("pause", ["in an image", "behind results"])
def test_long_pauses(shape: Shape, lanes: int, pause: str) -> None:
    """All that is held is full when the pause ends; then images follow one another faster than they can for long."""
    config = config_of(shape, lanes)
    # Of the few bins that are cleared last.
    images = 255 - images_of(config, 12)[::-1] % 4
    begins = np.zeros(images.size, dtype=np.int64)
    takes = np.zeros(len(images), dtype=np.int64)
    if pause == "in an image":
        begins[config.beats - 1] = 1000
    else:
        takes[0] = 6000
    _, outputs = run_streams(
        Complexity(config),
        {"i": images.reshape(-1, 1)},
        {"o": len(images)},
        arrivals={"i": np.maximum.accumulate(begins)},
        takes={"o": np.maximum.accumulate(takes)},
    )
    assert outputs["o"].words[:, 0].tolist() == complexity_words(config.op, images, config.tables).tolist()


def test_refuses_lanes_that_do_not_divide_both_sides() -> None:
    with pytest.raises(ValueError, match="lanes of a complexity must divide the 10 pixels of a row or column, not 4"):
        config_of((8, 10, 1), 4)
    with pytest.raises(ValueError, match="lanes of a complexity are at most half of 8 pixels, not 8"):
        config_of((8, 8, 1), 8)


@pytest.mark.parametrize("table", ["rows", "columns", "growth", "steps"])
def test_the_comparison_can_fail(table: str) -> None:
    config = config_of((6, 8, 1), 2)
    changed = getattr(config.tables, table).copy()
    changed[..., 1:] //= 2
    broken = replace(config, tables=config.tables._replace(**{table: changed}))
    with pytest.raises(AssertionError):
        check(broken, reference=config)


@pytest.mark.parametrize(
    ("where", "name", "change"),
    [
        (ComplexityConfig, "row_latency", 1),
        (ComplexityConfig, "result_latency", -1),
        (FourierSumsConfig, "latency", 1),
        (SpectrumBinsConfig, "latency", 1),
        (HistogramSumConfig, "latency", -1),
        (HistogramSumConfig, "clear_cycles", -4),
    ],
)
def test_what_comes_at_another_time_is_found(
    where: type, name: str, change: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = getattr(where, name).fget
    monkeypatch.setattr(where, name, property(lambda config: exact(config) + change))
    with pytest.raises(AssertionError):
        check(config_of((4, 6, 1), 1))
