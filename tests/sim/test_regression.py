"""The full-speed player passes a sound design, measures its pace, and catches each way of being wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from karui.hw.emit.manifest import CycleRange, Manifest, Predicted, StreamPort
from karui.sim.regression import run_regression
from karui.sim.results import Mismatch, RegressionResult
from karui.sim.simulate import SimulationError
from karui.sim.stream_bench import run_stream_bench
from karui.sw.numerics import unsigned

MakeInverter = Callable[[str], Path]
Frames = npt.NDArray[Any]


@pytest.mark.parametrize("back_pressure", ["none", "random", "bursty"])
@pytest.mark.parametrize("seed", [0, 1])
def test_sound_design_passes(
    make_inverter: MakeInverter, inverter_frames: Frames, back_pressure: str, seed: int
) -> None:
    result = run_regression(
        make_inverter("none"), inverter_frames, 255 - inverter_frames, back_pressure=back_pressure, seed=seed
    )
    assert result.passed, result.failure()
    assert (result.images, result.words, result.mismatches) == (20, 40, 0)
    assert result.failure() == ""


def test_pace_is_the_designs(make_inverter: MakeInverter, inverter_frames: Frames) -> None:
    result = run_regression(make_inverter("none"), inverter_frames, 255 - inverter_frames)
    assert result.initiation_interval == CycleRange.fixed(12)
    assert result.latency == CycleRange.fixed(13)


@pytest.mark.parametrize("run", [run_regression, run_stream_bench])
def test_pauses_slow_the_design_down_and_differ_by_mode_and_seed(
    run: Callable[..., RegressionResult], make_inverter: MakeInverter, inverter_frames: Frames
) -> None:
    design = make_inverter("none")
    cycles = {
        (mode, seed): run(design, inverter_frames, 255 - inverter_frames, back_pressure=mode, seed=seed).cycles
        for mode in ("random", "bursty")
        for seed in (0, 3)
    }
    assert len(set(cycles.values())) == 4
    assert min(cycles.values()) > 20 * 12 + 13 + 150 + 50  # what frames, latency and the watch for surplus words take
    assert run(design, inverter_frames, 255 - inverter_frames, back_pressure="random").cycles == cycles["random", 0]


@pytest.mark.parametrize("run", [run_regression, run_stream_bench])
def test_frames_of_one_beat_find_the_pipeline_empty(
    run: Callable[..., RegressionResult], inverter_frames: Frames, tmp_path: Path
) -> None:
    """A latency measured behind another frame would be 5 cycles more: the design takes two frames at once."""
    shutil.copy(Path(__file__).parent / "fixtures" / "single_beat.v", tmp_path)
    port = StreamPort.for_frames(shape=(1,), number_format=unsigned(8), lanes=1)
    Manifest(
        name="single",
        top="accelerator",
        sources=("single_beat.v",),
        memories=(),
        input=port,
        output=port,
        predicted=Predicted(initiation_interval=CycleRange.fixed(5), latency=CycleRange.fixed(6)),
    ).save(tmp_path)
    frames = inverter_frames.reshape(-1, 1)
    options = {} if run is run_regression else {"protocol": False}
    result = run(tmp_path, frames, 255 - frames, latency_frames=10, **options)
    assert result.passed, result.failure()
    assert result.latency == CycleRange.fixed(6)
    assert result.initiation_interval == CycleRange.fixed(5)


def test_environment_of_other_simulations_is_ignored(
    make_inverter: MakeInverter, inverter_frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCOTB_TEST_FILTER", "nothing")
    monkeypatch.setenv("COCOTB_LOG_LEVEL", "CRITICAL")
    assert run_regression(make_inverter("none"), inverter_frames, 255 - inverter_frames).passed


def test_model_that_dies_is_an_error_with_its_last_words(make_inverter: MakeInverter, inverter_frames: Frames) -> None:
    design = make_inverter("none")
    (design / "fault.mem").write_text("not hexadecimal\n")
    with pytest.raises(SimulationError, match=r"(?s)ended without a result.*fault\.mem"):
        run_regression(design, inverter_frames, 255 - inverter_frames)


def test_single_frame(make_inverter: MakeInverter, inverter_frames: Frames) -> None:
    result = run_regression(make_inverter("none"), inverter_frames, 255 - inverter_frames, frames=1)
    assert result.passed
    assert result.latency == CycleRange.fixed(13)
    assert result.initiation_interval is None


@pytest.mark.parametrize("back_pressure", ["none", "random", "bursty"])
@pytest.mark.parametrize(
    ("fault", "check", "frame", "beat"),
    [
        ("wrong_word", "word", 2, 1),
        ("no_tlast", "tlast", 2, 1),
        ("early_tlast", "tlast", 2, 0),
        ("wrong_tuser", "tuser", 2, 0),
        ("surplus_word", "word", 3, 0),
        ("late_surplus", "surplus", 20, 0),
    ],
)
def test_wrong_output_is_caught_where_it_happens(
    make_inverter: MakeInverter,
    inverter_frames: Frames,
    fault: str,
    check: str,
    frame: int,
    beat: int,
    back_pressure: str,
) -> None:
    result = run_regression(make_inverter(fault), inverter_frames, 255 - inverter_frames, back_pressure=back_pressure)
    assert not result.passed
    first = result.first_mismatches[0]
    assert (first.check, first.frame, first.beat) == (check, frame, beat)
    assert f"{check}: frame {frame}, beat {beat}" in result.failure()
    assert f"pauses: {back_pressure}, seed 0" in result.failure()


@pytest.mark.parametrize("fault", ["unstable", "drops_valid"])
def test_beat_that_changes_while_refused_is_caught(
    make_inverter: MakeInverter, inverter_frames: Frames, fault: str
) -> None:
    design = make_inverter(fault)
    assert run_regression(design, inverter_frames, 255 - inverter_frames).passed  # nothing is refused
    result = run_regression(design, inverter_frames, 255 - inverter_frames, back_pressure="random", seed=3)
    assert "unstable" in {mismatch.check for mismatch in result.first_mismatches}


def test_deadlock_names_the_stalled_stream(make_inverter: MakeInverter, inverter_frames: Frames) -> None:
    result = run_regression(make_inverter("deadlock"), inverter_frames, 255 - inverter_frames)
    assert not result.passed
    assert "s_axis refuses beat 5 of frame 2 (tready low)" in result.stall
    assert "m_axis does not give beat 0 of frame 2 (tvalid low)" in result.stall
    assert result.first_mismatches[-1] == Mismatch(check="missing", frame=2, beat=0, expected=40, got=4)
    assert result.mismatches == 36
    assert result.initiation_interval is None


def test_lost_frame_is_a_stall_of_the_output(make_inverter: MakeInverter, inverter_frames: Frames) -> None:
    result = run_regression(make_inverter("lost_frame"), inverter_frames, 255 - inverter_frames, back_pressure="bursty")
    assert "s_axis has taken every frame; m_axis does not give beat 0 of frame 19" in result.stall
    assert result.mismatches > 0


def test_endless_output_ends_the_run(make_inverter: MakeInverter, inverter_frames: Frames) -> None:
    result = run_regression(make_inverter("babble"), inverter_frames, 255 - inverter_frames)
    assert not result.passed
    assert result.stall


def test_altered_expected_word_is_caught(make_inverter: MakeInverter, inverter_frames: Frames) -> None:
    expected = 255 - inverter_frames
    expected[13, 6] ^= 1
    result = run_regression(make_inverter("none"), inverter_frames, expected)
    assert result.mismatches == 1
    assert (result.first_mismatches[0].frame, result.first_mismatches[0].beat) == (13, 1)
    assert result.first_mismatches[0].expected ^ result.first_mismatches[0].got == 1 << 16


@pytest.mark.parametrize(
    ("inputs", "outputs", "frames", "message"),
    [
        (np.zeros((3, 7), int), np.zeros((3, 8), int), None, r"inputs of design 'invert' have the shape \(8,\)"),
        (np.zeros((3, 8), int), np.zeros((2, 8), int), None, "as many inputs as outputs, not 3 and 2"),
        (np.zeros((3, 8), int), np.zeros((3, 8), int), 4, "frames to play must be 1 to 3, not 4"),
        (np.full((3, 8), 256), np.zeros((3, 8), int), None, "do not fit the number format u8"),
    ],
)
def test_frames_that_do_not_fit_are_refused(
    make_inverter: MakeInverter, inputs: Frames, outputs: Frames, frames: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_regression(make_inverter("none"), inputs, outputs, frames=frames)
