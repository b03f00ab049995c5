"""Orders of frames alone against their definition: complexities at every step of the depth and edge of a level."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.generated.frame_orders import GIVEN_LATENCY, ORDERS_LATENCY, QUEUE, FrameOrders, FrameOrdersConfig
from karui.hw.streams.stream import lanes_of
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_streams
from karui.sw.ir import GeneratedLayers, LowRankGenerator
from karui.sw.ir.generated_kernels import depths_of, levels_of
from karui.sw.numerics import signed, unsigned

PERIOD = 4
"""Cycles from a frame to the next one."""
READERS = 3


def _config(
    *, bits: int, steps: tuple[int, ...], level_shift: int, first_level: int, levels: int, first_depth: int = 2
) -> FrameOrdersConfig:
    generator = LowRankGenerator(
        levels=levels, rank=1, terms=1, centre=0, h_shift=0, a_shift=0, u_shift=0, kernel_shift=0
    )
    op = GeneratedLayers(
        generator=generator,
        first_depth=first_depth,
        depth_steps=steps,
        level_shift=level_shift,
        first_level=first_level,
        accumulator=signed(24),
        shift=0,
        output=unsigned(8),
    )
    return FrameOrdersConfig(op=op, element=unsigned(bits), readers=READERS)


CONFIGS = [
    _config(bits=16, steps=(1, 700, 20_479, 20_480, 20_481, 65_535), level_shift=12, first_level=3, levels=6),
    _config(bits=16, steps=(), level_shift=11, first_level=0, levels=8, first_depth=1),
    _config(bits=16, steps=(32_768,), level_shift=13, first_level=2, levels=1),
    _config(bits=7, steps=(100, 128), level_shift=0, first_level=120, levels=5),
    _config(bits=7, steps=(64,), level_shift=4, first_level=9, levels=3),
]


class _Words(wiring.Component):
    """Orders as pairs of words, and a beat in each cycle in which one enters the queues."""

    def __init__(self, config: FrameOrdersConfig) -> None:
        self.config = config
        order = Out(stream.Signature(lanes_of(unsigned(16), 2)))
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.element, 1))),
                "given": Out(stream.Signature(lanes_of(unsigned(1), 1))),
            }
            | {f"o_{reader}": order for reader in range(config.readers)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.orders = orders = FrameOrders(self.config)
        wiring.connect(m, wiring.flipped(self.i), orders.i)
        m.d.comb += self.given.valid.eq(orders.given)
        for reader, order in enumerate(orders.outputs):
            words = getattr(self, f"o_{reader}")
            m.d.comb += [
                words.payload[0].eq(order.payload.depth),
                words.payload[1].eq(order.payload.level),
                words.valid.eq(order.valid),
                order.ready.eq(words.ready),
            ]
        return m


def _complexities(config: FrameOrdersConfig) -> np.ndarray:
    """All steps and edges of levels, one less and one more, 0 and the maximum: mixed, each twice."""
    op, maximum = config.op, config.element.maximum
    edges = np.arange((maximum >> op.level_shift) + 2) << op.level_shift
    around = np.add.outer(np.concatenate([edges, op.depth_steps, [0, maximum]]).astype(np.int64), [-1, 0, 1])
    words = np.unique(around[(around >= 0) & (around <= maximum)])
    return np.random.default_rng(len(words)).permutation(np.tile(words, 2))


def _expected(config: FrameOrdersConfig, complexities: np.ndarray) -> list[list[int]]:
    """Depth and level of each frame; all that a complexity of the format can have occur."""
    op, maximum = config.op, config.element.maximum
    depths, levels = depths_of(op, complexities), levels_of(op, complexities)
    ends = np.array([0, maximum])
    assert set(depths) == set(range(op.first_depth, int(depths_of(op, ends)[1]) + 1))
    assert set(levels) == set(range(int(levels_of(op, ends)[1]) + 1))
    return np.stack([depths, levels], axis=1).tolist()


def _readers(complexities: np.ndarray) -> dict[str, int]:
    return {f"o_{reader}": len(complexities) for reader in range(READERS)}


@pytest.mark.parametrize("config", CONFIGS)
def test_every_step_and_level(config: FrameOrdersConfig) -> None:
    """Each reader has the depth and the level of the definition, a frame every 4 cycles, in the cycle predicted."""
    complexities = _complexities(config)
    inputs, outputs = run_streams(
        _Words(config), {"i": complexities[:, None]}, _readers(complexities) | {"given": len(complexities)}
    )
    accepted = inputs["i"].accepted
    assert accepted.tolist() == list(range(0, PERIOD * len(complexities), PERIOD))
    assert outputs["given"].departures.tolist() == (accepted + GIVEN_LATENCY).tolist()
    for reader in _readers(complexities):
        assert outputs[reader].words.tolist() == _expected(config, complexities)
        assert outputs[reader].departures.tolist() == (accepted + ORDERS_LATENCY).tolist()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("source", [BackPressure.NONE, BackPressure.BURSTY])
@pytest.mark.parametrize("sink", [BackPressure.RANDOM, BackPressure.BURSTY])
def test_readers_that_pause(config: FrameOrdersConfig, source: BackPressure, sink: BackPressure) -> None:
    """Readers that pause at times of their own have all orders too."""
    complexities = _complexities(config)
    _, outputs = run_streams(
        _Words(config),
        {"i": complexities[:, None]},
        _readers(complexities),
        source=source,
        sink=sink,
        seed=len(complexities),
    )
    for reader in _readers(complexities):
        assert outputs[reader].words.tolist() == _expected(config, complexities)


@pytest.mark.parametrize("slow", range(READERS))
def test_a_reader_is_at_most_a_queue_behind(slow: int) -> None:
    """While one reader takes nothing, the others have as many orders as a queue holds, and no frame follows."""
    complexities, pause = _complexities(CONFIGS[0]), 100
    inputs, outputs = run_streams(
        _Words(CONFIGS[0]),
        {"i": complexities[:, None]},
        _readers(complexities),
        takes={f"o_{slow}": np.full(len(complexities), pause)},
    )
    for reader in _readers(complexities):
        assert outputs[reader].words.tolist() == _expected(CONFIGS[0], complexities)
        early = QUEUE if reader != f"o_{slow}" else 0
        assert int((outputs[reader].taken < pause).sum()) == early
    assert int((inputs["i"].accepted < pause).sum()) == QUEUE
