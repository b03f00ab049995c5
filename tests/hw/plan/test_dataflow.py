"""Stages of graphs that branch, the ways between them, and what follows from their cycles."""

from dataclasses import replace

import numpy as np
import pytest

from karui.hw.emit.accelerator import Accelerator
from karui.hw.memory.deep_fifo import LEAST_DEPTH
from karui.hw.memory.resources import Resources
from karui.hw.plan.estimate import cost
from karui.hw.plan.folding import fold_for_interval, total_cost
from karui.hw.plan.stages import readers, stages
from karui.sw.ir import Graph, GraphBuilder, GraphError
from karui.sw.numerics import BIPOLAR, signed, unsigned

SIZE, CHANNELS = 8, 4


def residual(kernel: int = 3) -> Graph:
    """A convolution beside the identity, joined, and flattened into a dense layer."""
    rng = np.random.default_rng(0)
    build = GraphBuilder("residual")
    pixels = build.input("pixels", (SIZE, SIZE, CHANNELS), unsigned(4))
    edge = build.sliding_window("conv.window", pixels, (kernel,) * 2, padding=(kernel // 2,) * 4, pad_value=0)
    edge = build.matrix_vector("conv", edge, rng.choice([-1, 1], (CHANNELS, kernel * kernel * CHANNELS)))
    edge = build.requantize("relu", edge, np.array([3]), np.array([0]), shift=2, output=unsigned(4))
    edge = build.flatten("flat", build.add("sum", pixels, edge))
    return build.finish(build.matrix_vector("last", edge, rng.choice([-1, 1], (5, build.tensor(edge).elements))))


def accelerator_of(graph: Graph, interval: int) -> Accelerator:
    return Accelerator(graph=graph, folding=fold_for_interval(stages(graph), interval))


def test_stages_know_what_they_read() -> None:
    pipeline = stages(residual())
    assert [(stage.name, stage.reads, stage.writes) for stage in pipeline] == [
        ("conv.window", ("pixels",), "conv.window"),
        ("conv", ("conv.window",), "relu"),
        ("sum", ("pixels", "relu"), "sum"),
        ("last", ("sum",), "last"),
    ]
    ends = readers(pipeline[0].graph, pipeline)
    assert [(stage and stage.name, port) for stage, port in ends["pixels"]] == [("conv.window", 0), ("sum", 0)]
    assert ends["last"] == ((None, 0),)
    assert [tensor.shape for tensor in pipeline[2].sources] == [(SIZE, SIZE, CHANNELS)] * 2


def test_an_activation_that_shares_its_product_is_a_stage() -> None:
    build = GraphBuilder("shared")
    product = build.matrix_vector("dense", build.input("bits", (4,), BIPOLAR), np.ones((3, 4)))
    relu = build.requantize("relu", product, np.array([3]), np.array([0]), shift=1, output=signed(3))
    pipeline = stages(build.finish(build.add("sum", product, relu)))
    assert [stage.name for stage in pipeline] == ["dense", "relu", "sum"]
    assert pipeline[0].activation is None


def test_forks_and_fifos_stand_where_streams_branch_and_join() -> None:
    flow = accelerator_of(residual(), 600).dataflow
    assert {stream: fork.readers for stream, fork in flow.forks.items()} == {"pixels": 2}
    assert {(link.reader, link.port) for link in flow.fifos} == {("sum", 0), ("sum", 1)}
    assert [link.stream for link in flow.inputs["sum"]] == ["pixels", "relu"]
    assert flow.output == "last"


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("interval", [1600, 4000, 20000])
def test_an_identity_waits_for_the_rows_that_the_convolution_needs(kernel: int, interval: int) -> None:
    flow = accelerator_of(residual(kernel), interval).dataflow
    (identity,) = (fifo for link, fifo in flow.fifos.items() if link.stream == "pixels")
    row = SIZE * CHANNELS // identity.lanes
    # The rows below the window's middle are complete, and the convolution works on the first row of results. Two beats
    # wait in the fork and two in a converter, if there is one.
    rows = kernel // 2 + 1
    beats_before = 4 * flow.input_lanes // identity.lanes
    assert rows * row - beats_before <= identity.depth <= (rows + 1) * row + 5


def test_frames_shorter_than_the_pipeline_wait_together() -> None:
    build = GraphBuilder("vectors")
    vector = build.input("vector", (16,), unsigned(4))
    edge = build.matrix_vector("dense", vector, np.random.default_rng(0).choice([-1, 1], (16, 16)))
    edge = build.requantize("relu", edge, np.array([3]), np.array([0]), shift=2, output=unsigned(4))
    accelerator = accelerator_of(build.finish(build.add("sum", vector, edge)), 2)
    flow = accelerator.dataflow
    (identity,) = (fifo for link, fifo in flow.fifos.items() if link.stream == "vector")
    # Words of 8 lanes, two a frame: as many as come in while the dense layer works on a frame.
    (link,) = (link for link in flow.fifos if link.stream == "vector")
    assert (flow.interval, link.lanes_out) == (2, 8)
    assert identity.depth > 10 * flow.interval
    assert accelerator.axi_input.frames_in_flight > identity.depth // flow.interval


def test_costs_count_forks_and_fifos() -> None:
    graph = residual()
    pipeline = stages(graph)
    folding = fold_for_interval(pipeline, 600)
    flow = Accelerator(graph=graph, folding=folding).dataflow
    engines = sum((cost(stage.op, stage, folding.folds[stage.name]) for stage in pipeline), start=Resources())
    fifos = sum((fifo.cost for fifo in flow.fifos.values()), start=Resources())
    assert flow.cost.luts > fifos.luts > 0
    assert total_cost(pipeline, folding) == engines + flow.cost


def test_transfers_that_cannot_settle_are_named() -> None:
    flow = accelerator_of(residual(), 600).dataflow
    for link, fifo in flow.fifos.items():
        flow.fifos[link] = replace(fifo, depth=LEAST_DEPTH)
    with pytest.raises(ArithmeticError, match="graph residual: its transfers do not settle"):
        flow.crossing()


def test_what_is_no_stream_is_refused() -> None:
    build = GraphBuilder("nothing")
    with pytest.raises(GraphError, match="graph nothing computes nothing between its input and its output"):
        stages(build.finish(build.flatten("flat", build.input("bits", (2, 2, 1), BIPOLAR))))
