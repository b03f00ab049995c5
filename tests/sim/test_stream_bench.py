"""The cocotb bench agrees with the player on good frames, sends malformed ones, and catches what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from karui.hw.emit.manifest import CycleRange
from karui.sim.regression import run_regression
from karui.sim.results import Mismatch
from karui.sim.stream_bench import protocol_frames, run_stream_bench
from karui.sim.testbench import Vectors

MakeInverter = Callable[[str], Path]
Frames = npt.NDArray[Any]

GOOD, MALFORMED = 20, 13  # of the inverter's 8 beats: 3 short lengths of 3 frames each, 2 long ones of 2


@pytest.mark.parametrize("back_pressure", ["none", "random", "bursty"])
def test_sound_design_passes(make_inverter: MakeInverter, inverter_frames: Frames, back_pressure: str) -> None:
    result = run_stream_bench(
        make_inverter("none"), inverter_frames, 255 - inverter_frames, back_pressure=back_pressure, seed=5
    )
    assert result.passed, result.failure()
    assert (result.images, result.words) == (GOOD + MALFORMED, 2 * (GOOD + MALFORMED))


def test_both_benches_measure_the_same_pace(make_inverter: MakeInverter, inverter_frames: Frames) -> None:
    design, expected = make_inverter("none"), 255 - inverter_frames
    driven = run_stream_bench(design, inverter_frames, expected)
    played = run_regression(design, inverter_frames, expected)
    assert driven.initiation_interval == played.initiation_interval == CycleRange.fixed(12)
    assert driven.latency == played.latency == CycleRange.fixed(13)


@pytest.mark.parametrize(
    ("fault", "check", "frame", "beat"),
    [
        ("wrong_word", "word", 2, 1),
        ("no_tlast", "tlast", 2, 1),
        ("early_tlast", "tlast", 2, 0),
        ("wrong_tuser", "tuser", 2, 0),
        ("surplus_word", "word", 3, 0),
        ("no_tuser", "tuser", 21, 1),
        ("sticky_tuser", "tuser", 22, 0),
        ("short_shifts_next", "word", 21, 0),
    ],
)
def test_wrong_output_is_caught_where_it_happens(
    make_inverter: MakeInverter,
    inverter_frames: Frames,
    fault: str,
    check: str,
    frame: int,
    beat: int,
) -> None:
    result = run_stream_bench(make_inverter(fault), inverter_frames, 255 - inverter_frames, back_pressure="bursty")
    assert not result.passed
    first = result.first_mismatches[0]
    assert (first.check, first.frame, first.beat) == (check, frame, beat)


def test_word_after_the_last_frame_is_caught(make_inverter: MakeInverter, inverter_frames: Frames) -> None:
    result = run_stream_bench(make_inverter("late_surplus"), inverter_frames, 255 - inverter_frames, protocol=False)
    assert [mismatch.check for mismatch in result.first_mismatches] == ["surplus"]


@pytest.mark.parametrize("fault", ["unstable", "drops_valid"])
def test_beat_that_changes_while_refused_is_caught(
    make_inverter: MakeInverter, inverter_frames: Frames, fault: str
) -> None:
    result = run_stream_bench(
        make_inverter(fault), inverter_frames, 255 - inverter_frames, back_pressure="random", seed=3
    )
    assert "unstable" in {mismatch.check for mismatch in result.first_mismatches}


def test_deadlock_names_the_stalled_stream(make_inverter: MakeInverter, inverter_frames: Frames) -> None:
    result = run_stream_bench(make_inverter("deadlock"), inverter_frames, 255 - inverter_frames)
    assert "s_axis refuses beat 5 of frame 2 (tready low)" in result.stall
    assert "m_axis does not give beat 0 of frame 2 (tvalid low)" in result.stall
    missing = Mismatch(check="missing", frame=2, beat=0, expected=2 * (GOOD + MALFORMED), got=4)
    assert result.first_mismatches[-1] == missing


def test_all_zero_expected_words_are_compared_too(make_inverter: MakeInverter, inverter_frames: Frames) -> None:
    expected = 255 - inverter_frames
    expected[7] = 0
    result = run_stream_bench(make_inverter("none"), inverter_frames, expected, protocol=False)
    assert {(mismatch.check, mismatch.frame) for mismatch in result.first_mismatches} == {("word", 7)}
    assert result.mismatches == 2


@pytest.mark.parametrize(("beats", "lengths"), [(1, []), (2, [1]), (3, [1, 2]), (8, [1, 4, 7])])
def test_malformed_frames_of_any_port(beats: int, lengths: list[int]) -> None:
    vectors = Vectors(
        inputs=np.arange(3 * beats * 2, dtype=np.uint8).reshape(3, beats, 2), outputs=np.ones((3, 1, 1), dtype=np.uint8)
    )
    plan = protocol_frames(vectors, first=10)
    malformed = [frame for frame in plan if frame.malformed]
    assert [len(frame.beats) for frame in malformed] == [*lengths, beats + 1, 2 * beats + 1]
    for position, frame in enumerate(plan):
        if frame.malformed and len(frame.beats) < beats:
            completed = plan[frame.reference - 10]
            assert np.array_equal(completed.beats[: len(frame.beats)], frame.beats)
            assert not completed.beats[len(frame.beats) :].any()
        if frame.malformed:
            assert not plan[position + 1].malformed
            assert plan[position + 1].known is not None
