"""A model that fails, says nothing or does not end is an error that shows its last words."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from karui.sim.simulate import SimulationError, simulate


def run(folder: Path, script: str, *, time_limit: float = 60.0) -> None:
    model = folder / "model"
    model.write_text(f"#!/bin/sh\n{script}\n")
    model.chmod(0o755)
    simulate(
        model=model,
        top="top",
        test_module="none",
        folder=folder,
        result=folder / "result",
        time_limit=time_limit,
    )


def test_model_that_does_not_end_is_killed(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(SimulationError, match=r"top was ended after 0\.5 s:\nstuck at cycle 7"):
        run(tmp_path, "echo stuck at cycle 7; exec sleep 60", time_limit=0.5)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "script",
    ["echo FAIL=0; touch result; exit 3", "echo FAIL=0", "echo FAIL=1; touch result"],
    ids=["exit code", "no result", "failed test"],
)
def test_model_without_a_sound_result_is_an_error(tmp_path: Path, script: str) -> None:
    with pytest.raises(SimulationError, match=r"top ended without a result:\n.*FAIL="):
        run(tmp_path, script)


def test_sound_run_passes(tmp_path: Path) -> None:
    run(tmp_path, "echo FAIL=0; touch result")
