"""The entry of a loop alone: which beats come from outside and which come round, for maps of any length."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.generated.loop_entry import FRAME_GAP, KNOWN_LATENCY, LoopEntry, LoopEntryConfig
from karui.hw.streams.stream import lanes_of
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_streams
from karui.sw.numerics import unsigned

DEPTHS = np.array([1, 3, 1, 1, 4, 2, 2])
BEAT = lanes_of(unsigned(8), 1)


class _Entry(wiring.Component):
    """The entry, with depths as words of a stream."""

    def __init__(self, beats: int) -> None:
        order = data.StructLayout({"depth": range(int(DEPTHS.max()) + 1)})
        self.config = LoopEntryConfig(payload=BEAT, beats=beats, order=order)
        beat = stream.Signature(BEAT)
        super().__init__({"depths": In(beat), "i": In(beat), "again": In(beat), "o": Out(beat)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.entry = entry = LoopEntry(self.config)
        m.d.comb += [
            entry.orders.payload.depth.eq(self.depths.payload[0]),
            entry.orders.valid.eq(self.depths.valid),
            self.depths.ready.eq(entry.orders.ready),
        ]
        wiring.connect(m, wiring.flipped(self.i), entry.i)
        wiring.connect(m, wiring.flipped(self.again), entry.again)
        wiring.connect(m, entry.o, wiring.flipped(self.o))
        return m


@pytest.mark.parametrize("beats", [1, 2, 5])
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("pauses", [False, True])
def test_maps_from_outside_and_from_the_loop(beats: int, source: BackPressure, pauses: bool) -> None:
    """Each frame has one map from outside and the others from the loop, in order; unpaused, a beat a cycle."""
    rng = np.random.default_rng(beats)
    outside = rng.integers(0, 128, (len(DEPTHS), beats))
    again = rng.integers(128, 256, (int((DEPTHS - 1).sum()), beats))
    rounds = np.split(again, np.cumsum(DEPTHS - 1)[:-1])
    expected = np.concatenate(
        [np.concatenate([first[None], rest]) for first, rest in zip(outside, rounds, strict=True)]
    )
    inputs, outputs = run_streams(
        _Entry(beats),
        {"depths": DEPTHS[:, None], "i": outside.reshape(-1, 1), "again": again.reshape(-1, 1)},
        {"o": expected.size},
        source=source,
        takes={"o": np.cumsum(rng.integers(0, 4, expected.size))} if pauses else None,
        seed=beats,
    )
    assert outputs["o"].words.tolist() == expected.reshape(-1, 1).tolist()
    lasts = np.cumsum(DEPTHS * beats) - 1
    assert inputs["depths"].accepted.tolist() == outputs["o"].taken[lasts].tolist()
    if source is BackPressure.NONE and not pauses:
        steps = np.ones(expected.size, dtype=np.int64)
        steps[0], steps[lasts[:-1] + 1] = KNOWN_LATENCY, FRAME_GAP
        assert outputs["o"].departures.tolist() == np.cumsum(steps).tolist()
