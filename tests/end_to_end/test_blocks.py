"""The blocks of light architectures, with integer weights, through generator and Verilator."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from karui.flows.synthesize import find_device
from karui.flows.synthesize.block_ram_register import absorb_output_registers
from karui.flows.synthesize.yosys import map_netlist, write_netlist
from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.plan.folding import fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.netlist import ecp5_models, write_netlist_design
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sim.stream_bench import run_stream_bench
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import NumberFormat, signed, unsigned

ACTIVATION = unsigned(4)


class Block(GraphBuilder):
    """Builds layers of random 4-bit weights whose results are 4 bits again."""

    def __init__(self, name: str, size: int, channels: int, number_format: NumberFormat = ACTIVATION) -> None:
        super().__init__(name)
        self.rng = np.random.default_rng(len(name))
        self.pixels = self.input("pixels", (size, size, channels), number_format)

    def weights(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-7, 8, shape)

    def quantized(self, name: str, edge: str, output: NumberFormat = ACTIVATION) -> str:
        """Channel by channel onto the output's range, with a gain and an offset of its own."""
        tensor = self.tensor(edge)
        spread = tensor.number_format.maximum // 3
        gains = self.rng.integers(40, 100, tensor.shape[-1])
        shift = max(1, int(np.log2(70 * spread / output.maximum)))
        offsets = self.rng.integers(0, (output.maximum // 2) << shift, tensor.shape[-1])
        return self.requantize(f"{name}.relu", edge, gains, offsets, shift=shift, output=output)

    def pointwise(
        self, name: str, edge: str, channels: int, *, groups: int = 1, output: NumberFormat = ACTIVATION
    ) -> str:
        columns = self.tensor(edge).shape[-1] // groups
        return self.quantized(
            name, self.matrix_vector(name, edge, self.weights(channels, columns), groups=groups), output
        )

    def conv(self, name: str, edge: str, channels: int, kernel: int, *, stride: int = 1) -> str:
        padding = (kernel // 2,) * 4
        pad_value = 0 if kernel > 1 else None
        windows = self.sliding_window(
            f"{name}.window", edge, (kernel, kernel), stride=(stride, stride), padding=padding, pad_value=pad_value
        )
        return self.pointwise(name, windows, channels)

    def depthwise(self, name: str, edge: str, *, stride: int = 1) -> str:
        weights = self.weights(3, 3, self.tensor(edge).shape[-1])
        return self.quantized(
            name,
            self.depthwise_conv(name, edge, weights, stride=(stride, stride), padding=(1, 1, 1, 1), pad_value=0),
        )


def inverted_residual() -> Graph:
    """MobileNetV2: expand, depthwise, project linearly, add."""
    build = Block("inverted residual", 8, 4, signed(5))
    edge = build.depthwise("depthwise", build.pointwise("expand", build.pixels, 16))
    edge = build.pointwise("project", edge, 4, output=signed(5))
    return build.finish(build.add("sum", build.pixels, edge))


def fire() -> Graph:
    """SqueezeNet: squeeze, expand by 1 x 1 and 3 x 3, concatenate."""
    build = Block("fire", 8, 8)
    squeezed = build.pointwise("squeeze", build.pixels, 4)
    edge = build.concat("both", build.pointwise("one", squeezed, 6), build.conv("three", squeezed, 6, 3))
    return build.finish(edge)


def shuffle_unit() -> Graph:
    """ShuffleNet at stride 1: grouped pointwise, shuffle, depthwise, grouped pointwise, add."""
    build = Block("shuffle", 8, 12)
    edge = build.channel_shuffle("mix", build.pointwise("compress", build.pixels, 6, groups=3), 3)
    edge = build.pointwise("expand", build.depthwise("depthwise", edge), 12, groups=3)
    return build.finish(build.quantized("sum", build.add("sum", build.pixels, edge)))


def shuffle_unit_strided() -> Graph:
    """ShuffleNet at stride 2: the shortcut is an average pool, and is concatenated."""
    build = Block("shuffle strided", 8, 6)
    edge = build.channel_shuffle("mix", build.pointwise("compress", build.pixels, 6, groups=3), 3)
    edge = build.pointwise("expand", build.depthwise("depthwise", edge, stride=2), 9, groups=3)
    pooled = build.sum_pool("average", build.pixels, (3, 3), (2, 2), (1, 1, 1, 1))
    return build.finish(build.concat("both", build.quantized("average", pooled), edge))


def inception() -> Graph:
    """GoogLeNet: 1 x 1, 3 x 3 and 5 x 5 behind reductions, 3 x 3 max pool and 1 x 1."""
    build = Block("inception", 8, 8)
    return build.finish(
        build.concat(
            "all",
            build.pointwise("one", build.pixels, 6),
            build.conv("three", build.pointwise("three.reduce", build.pixels, 4), 8, 3),
            build.conv("five", build.pointwise("five.reduce", build.pixels, 2), 4, 5),
            build.pointwise("pool.reduce", build.max_pool("pool", build.pixels, (3, 3), (1, 1), (1, 1, 1, 1)), 4),
        )
    )


def xception() -> Graph:
    """Xception: two separable convolutions and a max pool at stride 2, beside a strided 1 x 1 shortcut."""
    build = Block("xception", 8, 4)
    edge = build.pointwise("first.pointwise", build.depthwise("first", build.pixels), 8)
    edge = build.pointwise("second.pointwise", build.depthwise("second", edge), 8)
    edge = build.max_pool("pool", edge, (3, 3), (2, 2), (1, 1, 1, 1))
    edge = build.add("sum", edge, build.conv("shortcut", build.pixels, 8, 1, stride=2))
    edge = build.sum_pool("average", build.quantized("sum", edge), (4, 4))
    return build.finish(build.flatten("flat", edge))


CASES = [
    (inverted_residual, 300),
    pytest.param(inverted_residual, 2500, marks=pytest.mark.slow),
    (fire, 2000),
    (shuffle_unit, 500),
    pytest.param(shuffle_unit, 4000, marks=pytest.mark.slow),
    (shuffle_unit_strided, 700),
    (inception, 1700),
    (xception, 600),
    pytest.param(xception, 5000, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("block", "interval"), CASES)
def test_blocks_are_bit_exact_and_as_fast_as_predicted(
    block: Callable[[], Graph], interval: int, tmp_path: Path
) -> None:
    graph = block()
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), interval))
    write_design(accelerator, tmp_path)
    tensor = graph.inputs[graph.input_name]
    low, high = tensor.number_format.minimum, tensor.number_format.maximum
    frames = np.random.default_rng(1).integers(low, high + 1, (12, *tensor.shape))
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 4
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=interval)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval == accelerator.predicted.initiation_interval
            assert result.latency == accelerator.predicted.latency


def test_malformed_frames_pass_a_block_in_order(tmp_path: Path) -> None:
    graph = inverted_residual()
    write_design(Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 1000)), tmp_path)
    frames = np.random.default_rng(2).integers(-16, 16, (4, 8, 8, 4))
    result = run_stream_bench(tmp_path, frames, evaluate(graph, frames), back_pressure=BackPressure.BURSTY)
    assert result.passed, result.failure()


@pytest.mark.slow
def test_netlist_of_forks_joins_and_a_shuffle(tmp_path: Path) -> None:
    """Queues in block RAM and in distributed RAM, banks and crossbars, as Yosys maps them."""
    build = Block("netlist", 8, 8)
    shuffled = build.channel_shuffle("mix", build.pixels, 4)
    edge = build.quantized("sum", build.add("sum", build.pixels, build.depthwise("depthwise", shuffled)))
    graph = build.finish(build.concat("both", shuffled, edge))
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 700))
    assert sorted(fifo.depth > 33 for fifo in accelerator.dataflow.fifos.values()) == [False, False, True, True]
    manifest = write_design(accelerator, tmp_path)
    mapped = tmp_path / "mapped"
    mapped.mkdir()
    netlist = map_netlist(
        [tmp_path / source for source in manifest.sources],
        top=manifest.top,
        clock=manifest.clock,
        device=find_device("ecp5-85f-8"),
        folder=mapped,
    )
    absorb_output_registers(netlist.design)
    write_netlist(netlist, mapped)
    write_netlist_design(tmp_path, mapped / "netlist.v", tmp_path / "netlist")
    frames = np.random.default_rng(3).integers(0, 16, (8, 8, 8, 8))
    for mode in BackPressure:
        result = run_regression(
            tmp_path / "netlist", frames, evaluate(graph, frames), back_pressure=mode, libraries=ecp5_models()
        )
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval == accelerator.predicted.initiation_interval
