"""What the engines have in common that take each vector several times: its buffer, its weights, places for results."""

from __future__ import annotations

from typing import Protocol

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.replay_buffer import ReplayBuffer, ReplayBufferConfig
from karui.hw.memory.word_source import WeightSource
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, lanes_of
from karui.sw.numerics import NumberFormat


class ReplayedEngineConfig(Protocol):
    """What a `ReplayedEngine` asks of its parameters."""

    @property
    def input_format(self) -> NumberFormat:
        """Format of an element."""

    @property
    def output_format(self) -> NumberFormat:
        """Format of a result."""

    @property
    def simd(self) -> int:
        """Elements a beat."""

    @property
    def pe(self) -> int:
        """Results a beat."""

    @property
    def weight_source(self) -> WeightSource:
        """Where weights come from."""

    @property
    def replay(self) -> ReplayBufferConfig:
        """The buffer of vectors."""

    @property
    def pipeline_latency(self) -> int:
        """Cycles from a result's last word to the result."""


class ReplayedEngine(wiring.Component):
    """Base of the engines that read a vector again and again, against words of weights.

    Parameters
    ----------
    config : ReplayedEngineConfig

    Members
    -------
    i : In(stream)
        Vectors, `simd` elements a beat.
    weights : In(WeightSource)
        Weights in the order of the loop.
    o : Out(stream)
        Results, `pe` a beat.
    """

    i: stream.Interface
    weights: wiring.PureInterface
    o: stream.Interface

    def __init__(self, config: ReplayedEngineConfig) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.input_format, config.simd))),
                "weights": In(config.weight_source),
                "o": Out(stream.Signature(lanes_of(config.output_format, config.pe))),
            }
        )

    def issue_words(
        self, m: Module, config: ReplayedEngineConfig, *, issue: Signal, is_first: Value, cycles: int
    ) -> tuple[ReplayBuffer, ElasticOutput]:
        """Add the buffer and the output to the engine; a result's first word waits for a place for the result.

        Parameters
        ----------
        m : Module
            The engine's.
        config : ReplayedEngineConfig
        issue : Signal
            Gets whether a word of the vector and one of the weights are taken in this cycle.
        is_first : Value
            Whether they are a result's first ones.
        cycles : int
            Words of a result.

        Returns
        -------
        ReplayBuffer, ElasticOutput
            Whose words come out `config.replay.latency` cycles later, and which takes the results.
        """
        m.submodules.replay = replay = ReplayBuffer(config.replay)
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(
                payload=lanes_of(config.output_format, config.pe),
                period=cycles,
                latency=cycles - 1 + config.pipeline_latency,
            )
        )
        wiring.connect(m, wiring.flipped(self.i), replay.i)
        wiring.connect(m, output.o, wiring.flipped(self.o))
        m.d.comb += [
            issue.eq(replay.o.available & self.weights.available & (output.credit | ~is_first)),
            replay.o.take.eq(issue),
            self.weights.take.eq(issue),
            output.reserve.eq(issue & is_first),
        ]
        return replay, output
