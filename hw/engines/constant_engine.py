"""An engine whose weights are constants: the engine and the memory that it reads."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.engines.bit_plane_engine import BitPlaneEngine, BitPlaneEngineConfig
from karui.hw.engines.matrix_vector import MatrixVector, MatrixVectorConfig
from karui.hw.memory.shared_weights import SharedWeights, SharedWeightsConfig
from karui.hw.memory.weight_rom import WeightRom, WeightRomConfig
from karui.hw.streams.stream import lanes_of
from karui.hw.streams.timing import Cycles, Schedule


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstantEngineConfig:
    """Parameters of a `ConstantEngine`.

    Parameters
    ----------
    engine : MatrixVectorConfig or BitPlaneEngineConfig
        The engine.
    weights : WeightRomConfig or SharedWeightsConfig
        Its weights or bases, in the engine's groups.
    """

    engine: MatrixVectorConfig | BitPlaneEngineConfig
    weights: WeightRomConfig | SharedWeightsConfig

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.engine.interval

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; the memory is always available."""
        return self.engine.schedule(arrivals)


class ConstantEngine(wiring.Component):
    """An engine with its weights in ROM.

    Parameters
    ----------
    config : ConstantEngineConfig

    Members
    -------
    i : In(stream)
        Vectors, SIMD elements a beat.
    o : Out(stream)
        Results, PE a beat.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: ConstantEngineConfig) -> None:
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
        config, source = self.config.engine, self.config.weights
        engine = MatrixVector(config) if isinstance(config, MatrixVectorConfig) else BitPlaneEngine(config)
        weights = WeightRom(source) if isinstance(source, WeightRomConfig) else SharedWeights(source)
        m.submodules.engine = engine
        m.submodules.weights = weights
        wiring.connect(m, weights.o, engine.weights)
        wiring.connect(m, wiring.flipped(self.i), engine.i)
        wiring.connect(m, engine.o, wiring.flipped(self.o))
        return m
