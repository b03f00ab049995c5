"""A memory of generated kernels, read by the engine that multiplies with them."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.engines.matrix_vector import MatrixVector, MatrixVectorConfig, pe_groups
from karui.hw.generated.kernel_memory import KERNEL_READ_LATENCY, WRITE_DELAY, KernelMemory, KernelMemoryConfig
from karui.hw.streams.stream import lanes_of
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_streams
from karui.sw.numerics import signed, unsigned

WEIGHT, ELEMENT = signed(8), unsigned(4)
MATRICES = 5


class _Products(wiring.Component):
    """Vectors times the matrices that are written."""

    def __init__(self, memory: KernelMemoryConfig) -> None:
        self.memory = memory
        self.engine = MatrixVectorConfig(
            outputs=memory.outputs,
            inputs=memory.inputs * memory.places,
            pe=memory.pe,
            simd=memory.simd,
            input_format=ELEMENT,
            weight_format=WEIGHT,
            accumulator=signed(24),
            weight_latency=KERNEL_READ_LATENCY,
        )
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(ELEMENT, memory.simd))),
                "weights": In(stream.Signature(lanes_of(WEIGHT, memory.lanes))),
                "o": Out(stream.Signature(lanes_of(signed(24), memory.pe))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = KernelMemory(self.memory)
        m.submodules.engine = engine = MatrixVector(self.engine)
        wiring.connect(m, wiring.flipped(self.weights), memory.i)
        wiring.connect(m, memory.o, engine.weights)
        wiring.connect(m, wiring.flipped(self.i), engine.i)
        wiring.connect(m, engine.o, wiring.flipped(self.o))
        return m


def _config(
    *, outputs: int = 4, inputs: int = 4, places: int = 3, pe: int = 2, simd: int = 2, lanes: int = 1, reads: int = 2
) -> KernelMemoryConfig:
    return KernelMemoryConfig(
        outputs=outputs,
        inputs=inputs,
        places=places,
        pe=pe,
        simd=simd,
        groups=pe_groups(pe),
        weight_format=WEIGHT,
        lanes=lanes,
        reads=reads,
    )


@pytest.mark.parametrize(
    "config",
    [
        _config(),
        _config(pe=4, simd=4, lanes=2),
        _config(pe=4, simd=1, lanes=4),
        _config(outputs=24, inputs=2, places=1, pe=24, simd=2, lanes=4),
        _config(outputs=24, inputs=2, places=1, pe=24, simd=1, lanes=8, reads=1),
        _config(outputs=6, inputs=3, places=9, pe=3, simd=3, lanes=3),
        _config(outputs=2, inputs=1, places=1, pe=2, simd=1, lanes=2, reads=1),
        _config(outputs=2, inputs=1, places=1, pe=1, simd=1, lanes=1, reads=1),
    ],
)
@pytest.mark.parametrize(
    ("source", "sink"),
    [
        (BackPressure.NONE, BackPressure.NONE),
        (BackPressure.RANDOM, BackPressure.NONE),
        (BackPressure.RANDOM, BackPressure.RANDOM),
    ],
)
def test_products_with_matrix_after_matrix(
    config: KernelMemoryConfig, source: BackPressure, sink: BackPressure
) -> None:
    rng = np.random.default_rng(4)
    kernels = rng.integers(-128, 128, (MATRICES, config.inputs, config.places, config.outputs))
    vectors = rng.integers(0, 16, (MATRICES, config.reads, config.places, config.inputs))
    expected = np.einsum("mrki,miko->mro", vectors, kernels)
    component = _Products(config)
    inputs, outputs = run_streams(
        component,
        {"i": vectors.reshape(-1, config.simd), "weights": kernels.reshape(-1, config.lanes)},
        {"o": expected.size // config.pe},
        source=source,
        sink=sink,
        seed=2,
    )
    assert outputs["o"].words.reshape(expected.shape).tolist() == expected.tolist()
    if source is BackPressure.NONE:
        # A matrix is read as soon as it is there, and the next two are not written before there is room.
        accepted = inputs["weights"].accepted.reshape(MATRICES, -1)
        assert accepted[0].tolist() == list(range(config.beats))
        first = accepted[0, -1] + WRITE_DELAY
        last = first + config.reads * config.words - 1
        departs = last + component.engine.pipeline_latency + 2
        assert outputs["o"].departures[config.reads * (config.outputs // config.pe) - 1] == departs
        assert accepted[2, 0] == max(accepted[1, -1] + 1, last + config.release_delay)


def test_refuses_lanes_that_fit_no_group() -> None:
    with pytest.raises(ValueError, match="lanes of a kernel memory must divide the 4 outputs of a word, not 3"):
        _config(pe=4, lanes=3)
    with pytest.raises(ValueError, match="simd must divide the 4 inputs, not 3"):
        _config(simd=3)
