"""Corruptions that the regression must catch: a check that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, equal
from karui.flows.bench.regression import Array
from karui.flows.design import Design
from karui.hw.emit.manifest import CycleRange, Manifest
from karui.hw.plan.estimate import Fold
from karui.hw.plan.folding import Folding
from karui.hw.streams import stream
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import BIPOLAR, memory_image, read_memory_image, unsigned

SEED = 1
FRAMES = 150
# The second layer sets the pace and yields a word a cycle: its queue has the least to spare.
FOLDING = Folding(
    folds={
        "binarize": Fold(simd=2, pe=2),
        "first": Fold(simd=32, pe=2),
        "second": Fold(simd=32, pe=1),
        "last": Fold(simd=16, pe=1),
    }
)


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Corrupt one thing at a time."""
    graph = _network()
    tensor = graph.inputs[graph.input_name]
    frames = np.random.default_rng(SEED).integers(0, tensor.number_format.maximum + 1, (FRAMES, *tensor.shape))
    expected = evaluate(graph, frames)
    run.progress("the sound design")
    design = Design.create(graph, run.folder / "sound", FOLDING)
    checks = [equal("the sound design", _catch(design, frames, expected), "nothing")]

    # The images of RAMs are zeros that are written before they are read.
    roms = [name for name in Manifest.load(design.rtl).memories if any(read_memory_image(design.rtl / name))]
    for name in roms:
        run.progress(f"a bit of {name}")
        with _flipped_bit(design.rtl / name):
            checks.append(_caught(f"a bit of {name}", _catch(design, frames, expected)))
    run.progress("an expected word")
    wrong = expected.copy()
    wrong[FRAMES // 2, -1] += 1
    checks.append(_caught("an expected word", _catch(design, frames, wrong)))

    corruptions: dict[str, tuple[Graph, AbstractContextManager[object]]] = {
        "a threshold": (_with_one_threshold_moved(graph), nullcontext()),
        "queues a word shallower than their credits": (graph, patch.object(stream, "FifoConfig", _shallow_queue)),
        "credits and queues too few for the latency": (
            graph,
            patch.object(stream.ElasticOutputConfig, "depth", property(_too_few_credits)),
        ),
    }
    for what, (network, corrupted) in corruptions.items():
        run.progress(what)
        with corrupted:
            broken = Design.create(network, run.folder / what.replace(" ", "-"), FOLDING)
        checks.append(_caught(what, _catch(broken, frames, expected)))
    return BenchmarkResult(checks=tuple(checks), seed=SEED)


_enough_credits = vars(stream.ElasticOutputConfig)["depth"].fget
_queue = stream.FifoConfig


def _too_few_credits(config: stream.ElasticOutputConfig) -> int:
    """Without the spare one, and without one of those that the latency needs."""
    return int(_enough_credits(config)) - 2


def _shallow_queue(*, payload: object, depth: int) -> stream.FifoConfig:
    return _queue(payload=payload, depth=depth - 1)


def _network() -> Graph:
    """A perceptron whose output is all of its sums, so that little can hide behind an arg max."""
    random = np.random.default_rng(SEED)
    build = GraphBuilder("perceptron")
    edge = build.input("pixels", (8, 8, 1), unsigned(5))
    edge = build.threshold("binarize", build.flatten("flat", edge), np.array([[9]]), BIPOLAR)
    for name, inputs, outputs in (("first", 64, 32), ("second", 32, 64)):
        edge = build.matrix_vector(name, edge, random.choice([-1, 1], (outputs, inputs)))
        edge = build.threshold(f"{name}.fire", edge, random.integers(-6, 7, (outputs, 1)), BIPOLAR)
    return build.finish(build.matrix_vector("last", edge, random.choice([-1, 1], (12, 64)), random.integers(-3, 4, 12)))


def _with_one_threshold_moved(graph: Graph) -> Graph:
    name = "second.fire.thresholds"
    thresholds = graph.constants[name].values.copy()
    thresholds[5] += 2
    return replace(graph, constants={**graph.constants, name: replace(graph.constants[name], values=thresholds)})


@contextmanager
def _flipped_bit(image: Path) -> Iterator[None]:
    """Flip the lowest bit of a memory image's first word; put it right again afterwards."""
    sound = image.read_text()
    words = read_memory_image(image)
    words[0] ^= 1
    image.write_text(memory_image(words, 4 * len(sound.split("\n")[0])))
    try:
        yield
    finally:
        image.write_text(sound)


def _catch(design: Design, frames: Array, expected: Array) -> str:
    """The first finding of the regression: a wrong word, a stall, a rate or latency that is not the predicted one."""
    predicted = design.accelerator.predicted
    for mode in (BackPressure.NONE, BackPressure.BURSTY):
        result = run_regression(design.rtl, frames, expected, back_pressure=mode, seed=SEED)
        if not result.passed:
            return f"{mode} pauses: {result.failure().splitlines()[0]}"
        if mode is BackPressure.NONE:
            for what in ("initiation_interval", "latency"):
                measured: CycleRange = getattr(result, what)
                due: CycleRange = getattr(predicted, what)
                if measured != due:
                    return f"{what.replace('_', ' ')} {measured.max:g}, not the predicted {due.max:g}"
    return "nothing"


def _caught(what: str, found: str) -> Check:
    return Check(what=what, value=found, target="caught", passed=found != "nothing")


CORRUPTION = Benchmark(
    name="corruption",
    description="one bit of each ROM's image, an expected word, a threshold, the depths of queues and credits",
    target="nothing found in the sound design, every corruption caught",
    minutes=5,
    measure=measure,
)
