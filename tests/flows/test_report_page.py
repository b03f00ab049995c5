"""What a report shows: verdicts, drawings to scale, images, area by module, the command that repeats a build."""

import base64
import io
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from matplotlib.image import imread

from karui.flows.build_folder import BuildError, BuildFolder
from karui.flows.cli import app
from karui.flows.recipe import HardwareConfig, find_recipe
from karui.flows.report.area import area_rows, meters
from karui.flows.report.command import OPTIONS, build_command
from karui.flows.report.figures import MATRIX_HEIGHT, MATRIX_WIDTH, pipeline, seed_strip, training_curves
from karui.flows.report.html import render
from karui.flows.report.images import png, samples
from karui.flows.report.record import assemble, confusion
from karui.flows.report.verdict import State, accuracy, bit_exact, bytes_text, size, speed, timing
from karui.flows.settings import Settings

VOID = {"meta", "img", "line", "path", "rect", "polyline"}
FIXED = {"min": 8.0, "mean": 8.0, "max": 8.0}


def layer(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "op": "MatrixVector", "activation": "Threshold", "shape_in": [16], "shape_out": [4],
        "format_in": "bipolar", "format_out": "bipolar", "weights_shape": [4, 16], "weight_format": "bipolar",
        "weight_bits": 64, "parameter_bits": 16, "simd": 8, "pe": 1, "cycles": 8,
        "estimate": {"luts": 90, "block_rams": 1, "dsps": 0},
    } | changes  # fmt: skip


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Six images of 2 x 2 pixels in three classes; numbers 1 and 4 are classified wrong."""
    path = tmp_path / "vectors.npz"
    images = np.arange(24).reshape(6, 2, 2, 1)
    np.savez(path, inputs=images, outputs=np.array([0, 2, 2, 0, 0, 1])[:, None], labels=np.array([0, 1, 2, 0, 2, 1]))
    return path


@pytest.fixture
def report() -> Any:
    """A build of which no more than training and compilation are done."""
    pool = layer("pool", op="MaxPool", activation=None, weights_shape=None, cycles=3, simd=2)
    pool |= {"shape_in": [8, 8, 1], "shape_out": [4, 4, 1]}
    return {
        "recipe": "tiny", "description": "a <tiny> network", "command": "karui build tiny",
        "request": {"device": "ecp5-25f-6", "clock_mhz": 50.0, "initiation_interval": 8, "frame_rate": None,
                    "fit": False, "images": None, "seed": None, "seeds": 1},
        "data": {"name": "dots", "provenance": "made up", "classes": ["a", "b", "c"], "pixel_maximum": 23},
        "training": {"source": "shipped", "metadata": {}, "history": []},
        "accuracy": {"model": 0.5, "golden": 4 / 6, "images": 6},
        "confusion": [[2, 0, 0], [0, 1, 1], [1, 0, 1]],
        "golden_vs_model": {"images": 6, "mismatches": 0},
        "size": {"float_bytes": 320, "stored_bytes": 10},
        "layers": [pool, layer("first"), layer("dense.2", shape_in=[4], weights_shape=[1, 4])],
        "predicted": {"initiation_interval": FIXED, "latency": FIXED},
        "frames_per_second": {"interval": "predicted", "asked_clock": 6.25e6, "reached_clock": None,
                              "device": "ecp5-25f-6"},
        "seconds": {"train": 1.0, "compile": 0.0},
        "versions": {"python": "3.11"},
        "missing": {"simulate": "not <done> yet"},
    }  # fmt: skip


@pytest.fixture
def rtl() -> Any:
    run = {"back_pressure": "none", "images": 6, "words": 6, "mismatches": 0, "initiation_interval": FIXED,
           "latency": FIXED, "cycles": 99, "cycles_per_second": 1e5, "seconds": 0.1, "seed": 1}  # fmt: skip
    return {key: run[key] for key in run if key not in ("back_pressure", "cycles", "seconds", "seed")} | {"runs": [run]}


@pytest.fixture
def synthesis() -> Any:
    cells = {"lut4": 60, "carry": 5, "ff": 70, "lutram": 2, "bram": 1, "dsp": 0}
    step = {"kind": "routing", "delay_ns": 21.0, "start": "a.Q", "end": "b.D", "net": "first.slow"}
    return {
        "device": "ecp5-25f-6", **{key: 2 * count for key, count in cells.items()}, "comb": 200,
        "capacity": {"luts": 400, "ffs": 280, "block_rams": 4, "dsps": 0}, "clock_mhz": 50.0, "fmax_mhz": 47.0,
        "timing_met": False, "limited_by": "a.Q to b.D, 21.00 ns (0.00 logic, 21.00 routing)",
        "critical_path": [step, step | {"delay_ns": 0.0, "net": "carry"}],
        "by_module": {"dense_2": cells, "first": cells},
        "shell": None, "absorption": None, "seeds": [{"seed": 1, "fmax_mhz": 47.0, "seconds": 1.0, "reason": None}],
        "seconds": {"yosys": 1.0, "nextpnr": 1.0}, "versions": {},
    }  # fmt: skip


class Balanced(HTMLParser):
    """Fails on a tag that closes another than the innermost open one."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_what_compression_did(report: Any, vectors: Path, tmp_path: Path) -> None:
    drawing = tmp_path / "checkpoint.svg"
    drawing.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    page = render(report, vectors, drawing=drawing)
    assert base64.b64encode(drawing.read_bytes()).decode() in page
    assert "--retrain" in page
    report["training"]["source"] = "trained"
    assert "--retrain" not in render(report, vectors, drawing=drawing)
    assert "svg+xml" not in render(report, vectors)
    Balanced().feed(page)


def test_the_page_of_an_unfinished_build_says_what_is_open(report: Any, vectors: Path) -> None:
    page = render(report, vectors)
    assert "Not proven" in page
    assert "Not routed" in page
    assert "a &lt;tiny&gt; network" in page
    assert "not &lt;done&gt; yet" in page
    assert "not measured" in page
    assert "4×4×1 → 16 bipolar" in page
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []


def test_the_page_of_a_finished_build_names_the_slow_path(report: Any, rtl: Any, synthesis: Any, vectors: Path) -> None:
    report |= {"rtl": rtl, "synthesis": {"ecp5-25f-6": synthesis}}
    report["training"]["history"] = [
        {"epoch": 1, "loss": 2.0, "accuracy": 0.5},
        {"epoch": 2, "loss": 1.0, "accuracy": 1},
    ]
    page = render(report, vectors)
    assert "Missed: 47.0 MHz reached, 50 MHz asked." in page
    assert "first.slow" in page
    assert ">carry</td>" not in page
    assert 'points="0.00,0.00 100.00,50.00"' in page
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []


def test_only_a_simulated_design_is_bit_exact(report: Any, rtl: Any) -> None:
    assert bit_exact(report).state is State.OPEN
    assert bit_exact(report | {"rtl": rtl}).state is State.GOOD
    assert bit_exact(report | {"rtl": rtl | {"words": 0}}).state is State.OPEN


@pytest.mark.parametrize("broken", ["golden_vs_model", "rtl", "netlist"])
def test_one_mismatch_anywhere_is_a_failure(report: Any, rtl: Any, broken: str) -> None:
    report |= {"rtl": rtl, "netlist": {"images": 2, "words": 2, "mismatches": 0}}
    assert bit_exact(report).state is State.GOOD
    report[broken] = report[broken] | {"mismatches": 1}
    assert bit_exact(report).state is State.BAD
    assert "1 mismatches" in bit_exact(report).detail


def test_timing_is_judged_on_the_device_asked_for(report: Any, synthesis: Any) -> None:
    assert timing(report | {"synthesis": {"xc7z020": synthesis}}).state is State.OPEN
    missed = timing(report | {"synthesis": {"ecp5-25f-6": synthesis}})
    assert (missed.state, missed.figure) == (State.BAD, "47.0 MHz")
    assert "a.Q to b.D" in missed.detail
    met = synthesis | {"timing_met": True, "fmax_mhz": 51.0}
    assert timing(report | {"synthesis": {"ecp5-25f-6": met}}).state is State.GOOD
    area = synthesis | {"timing_met": None, "fmax_mhz": None}
    assert timing(report | {"synthesis": {"ecp5-25f-6": area}}).figure == "Area only"


def test_figures_are_said_with_their_units(report: Any) -> None:
    assert accuracy(report).figure == "66.67 %"
    assert speed(report).figure == "6,250,000"
    assert "at the clock asked for; 8 cycles a frame, predicted" in speed(report).detail
    report["frames_per_second"]["reached_clock"] = 1234.4
    assert speed(report).figure == "1,234"
    assert "32.0 times smaller" in size(report).detail
    assert [bytes_text(count) for count in (1023, 1024, 3 << 19)] == ["1023 B", "1.0 KiB", "1.5 MiB"]


def test_the_network_is_drawn_to_scale(report: Any) -> None:
    drawn = pipeline(report)
    pool, first, second = drawn.rows
    assert pool.matrix is None
    assert first.matrix is not None
    assert second.matrix is not None
    assert (first.matrix.width, first.matrix.height) == (MATRIX_WIDTH, MATRIX_HEIGHT)
    assert second.matrix.width == pytest.approx(MATRIX_WIDTH * math.sqrt(4 / 16))
    assert first.matrix.tile_width / first.matrix.width == pytest.approx(8 / 16)
    assert first.matrix.tile_height / first.matrix.height == pytest.approx(1 / 4)
    assert pool.bar / first.bar == pytest.approx(3 / 8)
    assert [row.slowest for row in drawn.rows] == [False, True, True]
    assert second.top + 42 < drawn.height


def test_streams_that_branch_off_pass_by_on_rails(report: Any, vectors: Path) -> None:
    report["layers"] = [
        layer("stem", reads=["pixels"]),
        layer("left", reads=["stem"]),
        layer("right", reads=["stem"]),
        layer("sum", op="Add", activation=None, weights_shape=None, reads=["left", "right"], fifo_words=[1430, 3]),
        layer("depthwise", op="DepthwiseConv", weights_shape=[3, 3, 8], reads=["sum"]),
        layer("end", op="Concat", weights_shape=None, reads=["pixels", "depthwise"], fifo_words=[7, 3]),
    ]
    drawn = pipeline(report)
    assert [row.follows for row in drawn.rows] == [True, True, False, True, True, True]
    assert drawn.rows[3].incoming == "2 streams, FIFOs of 1,430 and 3 words"
    middles = [row.top + 21 for row in drawn.rows]
    # From the input to the end; from the stem past `left` to `right`; from `left` past `right` to the sum.
    assert [(rail.begin < 34, rail.ends) for rail in drawn.rails] == [
        (True, [middles[5] - 6]), (False, [middles[2] - 6]), (False, [middles[3] - 6])
    ]  # fmt: skip
    assert len({rail.x for rail in drawn.rails}) == 3
    assert drawn.rails[1].begin == middles[0] + 6
    assert drawn.margin > max(-rail.x for rail in drawn.rails)
    assert render(report, vectors).count('<path class="flow"') == 3


def test_a_rail_is_used_again_below_its_end(report: Any) -> None:
    report["layers"] = [
        layer(name, reads=reads)
        for name, reads in {
            "a": ["pixels"], "b": ["a"], "c": ["a", "b"], "d": ["c"], "e": ["c", "d"],
        }.items()
    ]  # fmt: skip
    one, other = pipeline(report).rails
    assert one.x == other.x
    assert max(one.ends) < other.begin


def test_a_chain_has_no_rails(report: Any) -> None:
    drawn = pipeline(report)
    assert (drawn.rails, drawn.margin) == ([], 0)
    assert all(row.follows for row in drawn.rows)


def test_seeds_stand_on_one_scale_with_the_clock_asked() -> None:
    seeds: Any = [
        {"seed": 1, "fmax_mhz": 150.0, "seconds": 1.0, "reason": None},
        {"seed": 2, "fmax_mhz": None, "seconds": 1.0, "reason": "crash"},
        {"seed": 3, "fmax_mhz": 170.0, "seconds": 1.0, "reason": None},
    ]
    strip = seed_strip(seeds, 160.0)
    assert (strip.low, strip.high, strip.asked_x) == (140, 180, 50.0)
    assert [(mark.x, mark.seeds, mark.best) for mark in strip.marks] == [(25.0, [1], False), (75.0, [3], True)]
    assert [seed["seed"] for seed in strip.failed] == [2]


def test_a_shipped_network_has_no_training_curve() -> None:
    assert training_curves([]) == []


def test_area_goes_along_the_stream_and_adds_up(report: Any, synthesis: Any) -> None:
    cells = synthesis["by_module"]["first"]
    synthesis["by_module"] = dict.fromkeys(["top", "odd", "dense_2", "first_width", "axi_input", "first"], cells)
    rows = area_rows(synthesis, report["layers"])
    assert [row.name for row in rows] == ["axi_input", "first", "first_width", "dense_2", "top", "odd"]
    assert [row.estimate for row in rows] == [None, 90, None, 90, None, None]
    assert {row.luts for row in rows} == {60 + 2 * 5 + 6 * 2}
    luts, ffs, brams, dsps = meters(synthesis)
    assert (luts.share, ffs.share, brams.share, dsps.share) == (0.5, 0.5, 0.5, 0.0)
    synthesis["comb"] = None
    assert meters(synthesis)[0].used == 120 + 2 * 10 + 6 * 4


def test_images_are_those_of_the_test_set(vectors: Path) -> None:
    chosen = samples(vectors, ["a", "b", "c"], 23)
    assert [sample.index for sample in chosen.right] == [0, 5, 2, 3]
    assert [(sample.index, sample.label, sample.predicted) for sample in chosen.wrong] == [(1, "b", "c"), (4, "c", "a")]
    assert samples(vectors, ["a", "b", "c"], 23, wrong=1).wrong_total == 2
    assert confusion(vectors, 3) == [[2, 0, 0], [0, 1, 1], [1, 0, 1]]


@pytest.mark.parametrize(
    ("image", "maximum", "grey"),
    [
        (np.array([[[0], [15]], [[3], [6]]]), 15, [[0, 255], [51, 102]]),
        (np.array([[[-1], [1]], [[1], [-1]]]), 1, [[0, 255], [255, 0]]),
    ],
)
def test_pictures_keep_every_pixel(image: Any, maximum: int, grey: Any) -> None:
    data = base64.b64decode(png(image, maximum).removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.rint(255 * imread(io.BytesIO(data)))[..., 0], grey)


def test_the_command_repeats_the_options_that_depart_from_the_recipe() -> None:
    recipe = find_recipe("bnn-sfc")
    usual = Settings(recipe="bnn-sfc", hardware=recipe.hardware)
    assert build_command(usual, recipe) == "karui build bnn-sfc"
    hardware = replace(HardwareConfig(), device="ice40-hx8k", clock_mhz=12.5, fit=True, seeds=7)
    changed = Settings(recipe="bnn-sfc", seed=3, retrain=True, hardware=hardware)
    command = build_command(changed, recipe)
    assert command == "karui build bnn-sfc --device ice40-hx8k --clock 12.5 --fit --seeds 7 --seed 3 --retrain"


def test_the_command_line_knows_every_option_of_the_command() -> None:
    build = typer.main.get_command(app).commands["build"]  # type: ignore[attr-defined]
    known = {option for parameter in build.params for option in parameter.opts}
    assert {*OPTIONS.values(), "--seed", "--retrain"} <= known


def test_an_import_is_not_reported(tmp_path: Path) -> None:
    folder = BuildFolder(path=tmp_path)
    Settings(recipe="model.onnx").save(folder)
    folder.finish("compile", {"dialect": "QONNX"}, inputs=[])
    with pytest.raises(BuildError, match="holds an imported network, and a report needs a recipe"):
        assemble(tmp_path)
