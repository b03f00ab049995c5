"""A bit-plane engine whose bases are constants: the engine and the ROM that it reads."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.bit_plane_engine import BitPlaneEngine, BitPlaneEngineConfig, Integers
from karui.hw.stream import lanes_of
from karui.hw.timing import Cycles, Schedule
from karui.hw.weight_rom import WeightRom, WeightRomConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstantBitPlaneEngineConfig:
    """Parameters of a `ConstantBitPlaneEngine`.

    Parameters
    ----------
    engine : BitPlaneEngineConfig
        The engine.
    bases : ndarray of int64, shape (M, bases, K / blocks)
        Values -1 and +1.
    """

    engine: BitPlaneEngineConfig
    bases: Integers

    @property
    def weights(self) -> WeightRomConfig:
        """The ROM of the bases: the words of a run of bases come again for each turn of planes."""
        engine = self.engine
        return WeightRomConfig(
            weights=_rows(self.bases, engine.pe, engine.bases),
            pe=engine.rows,
            simd=engine.simd,
            groups=engine.groups,
            repeats=engine.turns,
        )

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.engine.interval

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; the ROM is always available."""
        return self.engine.schedule(arrivals)


class ConstantBitPlaneEngine(wiring.Component):
    """A bit-plane engine with its bases in ROM.

    Parameters
    ----------
    config : ConstantBitPlaneEngineConfig

    Members
    -------
    i : In(stream)
        Vectors, SIMD elements a beat.
    o : Out(stream)
        Results, PE a beat.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: ConstantBitPlaneEngineConfig) -> None:
        self.config = config
        engine = config.engine
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(engine.input_format, engine.simd))),
                "o": Out(stream.Signature(lanes_of(engine.output_format, engine.pe))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = BitPlaneEngine(self.config.engine)
        m.submodules.weights = weights = WeightRom(self.config.weights)
        wiring.connect(m, weights.o, engine.weights)
        wiring.connect(m, wiring.flipped(self.i), engine.i)
        wiring.connect(m, engine.o, wiring.flipped(self.o))
        return m


def _rows(bases: Integers, pe: int, at_once: int) -> Integers:
    """Bases (M, bases, K) as the rows of the matrix that a `WeightRom` of ``pe * at_once`` rows a word keeps."""
    outputs, count, inputs = bases.shape
    parts = bases.reshape(outputs // pe, pe, count // at_once, at_once, inputs)
    return parts.transpose(0, 2, 1, 3, 4).reshape(outputs * count, inputs)
