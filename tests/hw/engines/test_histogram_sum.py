"""Histograms in hardware: sums over their counts, whatever elements follow one another, and clearing."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from karui.hw.engines import histogram_sum
from karui.hw.engines.histogram_sum import HistogramSum, HistogramSumConfig

BINS, ELEMENTS = 8, 30
CONFIG = HistogramSumConfig(bins=BINS, growth=np.random.default_rng(0).integers(0, 5000, ELEMENTS))


def expected(frames: Iterable[np.ndarray]) -> list[int]:
    totals = np.concatenate([[0], np.cumsum(CONFIG.growth)])
    return [int(totals[np.bincount(frame, minlength=BINS)].sum()) for frame in frames]


class Bench:
    """Plays frames, and records in which cycles they begin and end and their sums come."""

    def __init__(self, config: HistogramSumConfig = CONFIG) -> None:
        self.histogram = HistogramSum(config)
        self.reset = Signal()
        self.sums: list[int] = []
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.summed: list[int] = []
        self.random = np.random.default_rng(1)
        self.now = 0

    async def step(self, context: Any, valid: int = 0, element: int = 0, counts: int = 0, ends: int = 0) -> None:
        histogram = self.histogram
        context.set(histogram.i.valid, valid)
        context.set(histogram.i.payload, {"bin": int(element), "counts": counts, "ends": ends})
        if context.get(histogram.o.valid):
            self.sums.append(context.get(histogram.o.payload))
            self.summed.append(self.now)
        if valid and ends:
            self.ended.append(self.now)
        await context.tick()
        context.set(histogram.begin, 0)
        self.now += 1

    async def frame(self, context: Any, elements: np.ndarray, gaps: float = 0) -> None:
        waited = 0
        while not context.get(self.histogram.room):
            await self.step(context)
            waited += 1
            assert waited < 200, "no histogram becomes clear"
        context.set(self.histogram.begin, 1)
        self.begun.append(self.now)
        for place, element in enumerate(elements):
            while self.random.random() < gaps:
                # What does not count changes nothing, valid or not.
                await self.step(context, int(self.random.integers(2)), int(self.random.integers(BINS)))
            await self.step(context, 1, element, 1, int(place == ELEMENTS - 1 and not gaps))
        if gaps and len(elements) == ELEMENTS:
            await self.step(context, 1, ends=1)

    def run(self, frames: list[np.ndarray], *, gaps: float = 0, reset_after: int | None = None) -> list[int]:
        async def bench(context: Any) -> None:
            if reset_after is not None:
                await self.frame(context, frames[0][:reset_after])
                context.set(self.reset, 1)
                await self.step(context)
                context.set(self.reset, 0)
            for elements in frames:
                await self.frame(context, elements, gaps)
            for _ in range(CONFIG.latency + 20):
                await self.step(context)

        simulator = Simulator(ResetInserter(self.reset)(self.histogram))
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
        return self.sums


def frames_of(count: int) -> list[np.ndarray]:
    """Frames of elements that often are of few bins, so that equal ones follow one another at all distances."""
    random = np.random.default_rng(2)
    frames = [random.integers(0, 1 + place % BINS, ELEMENTS) for place in range(count)]
    return frames + [np.arange(ELEMENTS) % period for period in range(1, 7)]


def test_sums_and_their_cycles() -> None:
    bench, frames = Bench(), frames_of(16)
    assert bench.run(frames) == expected(frames)
    assert bench.begun[0] == 0
    assert (np.array(bench.summed) - bench.ended).tolist() == [CONFIG.latency] * len(frames)
    # One histogram is cleared while the other is filled.
    assert bench.begun[1] == bench.ended[0] + 1
    assert all(np.array(bench.begun[2:]) - bench.ended[:-2] >= CONFIG.clear_cycles)


def test_waits_for_a_clear_histogram() -> None:
    config = HistogramSumConfig(bins=64, growth=CONFIG.growth)
    bench = Bench(config)
    frames = [frame + 7 * place for place, frame in enumerate(frames_of(1))]
    assert bench.run(frames) == expected(frames_of(1))
    waits = np.array(bench.begun[2:]) - bench.ended[:-2]
    assert set(waits[::2].tolist()) == {config.clear_cycles}


@pytest.mark.parametrize("gaps", [0.2, 0.7])
def test_what_does_not_count(gaps: float) -> None:
    frames = frames_of(8)
    assert Bench().run(frames, gaps=gaps) == expected(frames)


@pytest.mark.parametrize("reset_after", [1, 4, ELEMENTS - 1, ELEMENTS])
def test_a_reset_clears_what_was_counted(reset_after: int) -> None:
    frames = frames_of(3)
    bench = Bench()
    assert bench.run(frames, reset_after=reset_after)[-len(frames) :] == expected(frames)
    assert bench.begun[1] - bench.begun[0] > BINS


def test_counts_in_flight_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram_sum, "_IN_FLIGHT", 2)
    frames = frames_of(16)
    assert Bench().run(frames) != expected(frames)
