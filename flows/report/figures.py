"""Geometry of a report's drawings: what the template needs to place its lines, boxes and labels."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from karui.flows.report.schema import Layer, Report, Seed

# The network's drawing, in the units of its view box.
ROW_HEIGHT = 68.0
BOX_HEIGHT = 42.0
BARS_LEFT, BARS_RIGHT = 610.0, 900.0
MATRIX_WIDTH, MATRIX_HEIGHT = 96.0, 42.0
TOP = 34.0
RAIL_DISTANCE = 12.0


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A weight matrix drawn to scale, with the tile that the engine computes in a cycle."""

    width: float
    height: float
    tile_width: float
    tile_height: float


@dataclass(frozen=True, kw_only=True)
class PipelineRow:
    """One engine in the drawing of the network."""

    top: float
    layer: Layer
    incoming: str
    operation: str
    folding: str
    weights: str
    matrix: Matrix | None
    bar: float
    slowest: bool
    follows: bool


@dataclass(frozen=True, kw_only=True)
class Rail:
    """A stream that passes engines by, left of their boxes: from the one that sends it down to its readers."""

    x: float
    begin: float
    ends: list[float]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The network, engine by engine, with cycles as bars, and rails for the streams that branch off."""

    rows: list[PipelineRow]
    rails: list[Rail]
    margin: float
    outgoing: str
    height: float
    interval: float
    interval_x: float


def pipeline(report: Report) -> Pipeline:
    """Place every engine below the one before it."""
    layers = report["layers"]
    interval = report["predicted"]["initiation_interval"]["mean"]
    longest = max(interval, *(layer["cycles"] for layer in layers))
    slowest = max(layer["cycles"] for layer in layers)
    scale = (BARS_RIGHT - BARS_LEFT) / longest
    shapes = [_matrix_shape(layer["weights_shape"]) for layer in layers if layer["weights_shape"]]
    most = [max((shape[axis] for shape in shapes), default=1) for axis in (0, 1)]
    rows = []
    before: Layer | None = None
    for index, layer in enumerate(layers):
        arrives = f"{_shape(layer['shape_in'])} {layer['format_in']}"
        follows = before is None or before["name"] in layer.get("reads", [before["name"]])
        if before is not None and follows and before["shape_out"] != layer["shape_in"]:
            arrives = f"{_shape(before['shape_out'])} → {arrives}"
        if layer.get("fifo_words"):
            arrives = f"{len(layer['fifo_words'])} streams, FIFOs of {_listed(layer['fifo_words'])} words"
        rows.append(
            PipelineRow(
                top=TOP + index * ROW_HEIGHT,
                layer=layer,
                incoming=arrives,
                operation=_operation(layer),
                folding=f"PE {layer['pe']} × SIMD {layer['simd']}" if layer["weights_shape"] else _lanes(layer["simd"]),
                weights=_weights(layer),
                matrix=_matrix(layer, most[0], most[1]),
                bar=layer["cycles"] * scale,
                slowest=layer["cycles"] == slowest,
                follows=follows,
            )
        )
        before = layer
    rails = _rails(layers)
    return Pipeline(
        rows=rows,
        rails=rails,
        margin=max((-rail.x for rail in rails), default=0.0) + RAIL_DISTANCE * bool(rails),
        outgoing=f"{_shape(layers[-1]['shape_out'])} {layers[-1]['format_out']}",
        height=TOP + len(layers) * ROW_HEIGHT + 22,
        interval=interval,
        interval_x=BARS_LEFT + interval * scale,
    )


def _rails(layers: Sequence[Layer]) -> list[Rail]:
    """Streams to others than the next engine, each on the first rail that is free along its way."""
    places = {layer["name"]: index for index, layer in enumerate(layers)}
    ways: dict[int, list[int]] = {}
    for index, layer in enumerate(layers):
        for name in layer.get("reads", []):
            # The network's input comes from above the first engine.
            sender = places.get(name, -1)
            if sender != index - 1:
                ways.setdefault(sender, []).append(index)
    taken: list[int] = []
    rails = []
    for sender, readers in sorted(ways.items()):
        track = next((track for track, last in enumerate(taken) if last <= sender), len(taken))
        taken[track : track + 1] = [readers[-1]]
        rails.append(
            Rail(
                x=-RAIL_DISTANCE * (track + 1),
                begin=_middle(sender) + 6 if sender >= 0 else TOP - 26,
                ends=[_middle(reader) - 6 for reader in readers],
            )
        )
    return rails


def _middle(index: int) -> float:
    return TOP + index * ROW_HEIGHT + BOX_HEIGHT / 2


def _matrix_shape(weights: Sequence[int]) -> tuple[int, int]:
    """Outputs and inputs of a matrix; the channels and the kernel's positions of a depthwise convolution."""
    if len(weights) == 2:
        return weights[0], weights[1]
    *kernel, channels = weights
    return channels, math.prod(kernel)


def _matrix(layer: Layer, most_outputs: int, most_inputs: int) -> Matrix | None:
    """Sides as the square roots of the sizes, lest the small matrices vanish; the tile's share of a side is true."""
    if not layer["weights_shape"]:
        return None
    outputs, inputs = _matrix_shape(layer["weights_shape"])
    width, height = (
        max(6.0, side * math.sqrt(size / most))
        for side, size, most in ((MATRIX_WIDTH, inputs, most_inputs), (MATRIX_HEIGHT, outputs, most_outputs))
    )
    return Matrix(
        width=width,
        height=height,
        tile_width=max(1.5, width * layer["simd"] / inputs),
        tile_height=max(1.5, height * layer["pe"] / outputs),
    )


def _shape(shape: list[int]) -> str:
    return "×".join(map(str, shape))


def _listed(numbers: Sequence[int]) -> str:
    *others, last = (f"{number:,}" for number in numbers)
    return f"{', '.join(others)} and {last}" if others else last


def _operation(layer: Layer) -> str:
    ops = [op for op in (layer["op"], layer["activation"]) if op]
    return " + ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", op).lower() for op in ops)


def _lanes(lanes: int) -> str:
    return f"{lanes} lane{'s' * (lanes > 1)}"


def _weights(layer: Layer) -> str:
    if not layer["weights_shape"]:
        return ""
    return f"{_shape(layer['weights_shape'])} {layer['weight_format']}"


@dataclass(frozen=True, kw_only=True)
class SeedMark:
    """Clock that a seed reached, on a scale from 0 to 100."""

    x: float
    fmax_mhz: float
    seeds: list[int]
    best: bool


@dataclass(frozen=True, kw_only=True)
class SeedStrip:
    """All seeds and the clock asked for on one scale."""

    marks: list[SeedMark]
    asked_x: float
    low: float
    high: float
    failed: list[Seed]


def seed_strip(seeds: list[Seed], clock_mhz: float) -> SeedStrip:
    """Place the seeds between round numbers around everything shown."""
    reached: dict[float, list[int]] = {}
    for seed in seeds:
        if seed["fmax_mhz"] is not None:
            reached.setdefault(seed["fmax_mhz"], []).append(seed["seed"])
    low = 10 * math.floor((min([clock_mhz, *reached]) - 2) / 10)
    high = 10 * math.ceil((max([clock_mhz, *reached]) + 2) / 10)

    def place(clock: float) -> float:
        return 100 * (clock - low) / (high - low)

    return SeedStrip(
        marks=[
            SeedMark(x=place(fmax), fmax_mhz=fmax, seeds=numbers, best=fmax == max(reached))
            for fmax, numbers in sorted(reached.items())
        ],
        asked_x=place(clock_mhz),
        low=low,
        high=high,
        failed=[seed for seed in seeds if seed["fmax_mhz"] is None],
    )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One figure over the epochs, in a box of 100 by 100 with y downwards."""

    title: str
    points: str
    low: float
    high: float
    last: float
    epochs: int


def training_curves(history: list[dict[str, float]]) -> list[Curve]:
    """Loss and accuracy on the training images; none where the network was not trained in this build."""
    if len(history) < 2:
        return []
    return [
        _curve("Training loss", [epoch["loss"] for epoch in history], low=0.0),
        _curve("Accuracy on training images, %", [100 * epoch["accuracy"] for epoch in history], high=100.0),
    ]


def _curve(title: str, values: list[float], *, low: float | None = None, high: float | None = None) -> Curve:
    low = math.floor(min(values)) if low is None else low
    high = max(values) if high is None else high
    span = (high - low) or 1.0
    points = [f"{100 * x / (len(values) - 1):.2f},{100 * (high - y) / span:.2f}" for x, y in enumerate(values)]
    return Curve(title=title, points=" ".join(points), low=low, high=high, last=values[-1], epochs=len(values))
