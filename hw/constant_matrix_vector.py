"""A matrix-vector engine whose weights are constants: the engine and the ROM that it reads."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.matrix_vector import MatrixVector, MatrixVectorConfig
from karui.hw.shared_weights import SharedWeights, SharedWeightsConfig
from karui.hw.stream import lanes_of
from karui.hw.timing import Cycles, Schedule
from karui.hw.weight_rom import WeightRom, WeightRomConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstantMatrixVectorConfig:
    """Parameters of a `ConstantMatrixVector`.

    Parameters
    ----------
    engine : MatrixVectorConfig
        The engine.
    weights : WeightRomConfig or SharedWeightsConfig
        Its weights, in the engine's groups.
    """

    engine: MatrixVectorConfig
    weights: WeightRomConfig | SharedWeightsConfig

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.engine.interval

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; the ROM is always available."""
        return self.engine.schedule(arrivals)


class ConstantMatrixVector(wiring.Component):
    """A matrix-vector engine with its weights in ROM.

    Parameters
    ----------
    config : ConstantMatrixVectorConfig

    Members
    -------
    i : In(stream)
        Vectors, SIMD elements a beat.
    o : Out(stream)
        Results, PE a beat.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: ConstantMatrixVectorConfig) -> None:
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
        m.submodules.engine = engine = MatrixVector(self.config.engine)
        source = self.config.weights
        weights = WeightRom(source) if isinstance(source, WeightRomConfig) else SharedWeights(source)
        m.submodules.weights = weights
        wiring.connect(m, weights.o, engine.weights)
        wiring.connect(m, wiring.flipped(self.i), engine.i)
        wiring.connect(m, engine.o, wiring.flipped(self.o))
        return m
