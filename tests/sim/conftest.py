"""A small hand-made design whose pace is known and that can be broken on purpose, without a new build."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from karui.hw.emit.manifest import CycleRange, Manifest, Predicted, StreamPort
from karui.sw.numerics import unsigned

INVERTER = Path(__file__).parent / "fixtures" / "invert.v"


@pytest.fixture
def make_inverter(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the design folder of the inverter with a fault, named as in fixtures/invert.v; "none" is sound."""
    faults = {"none": 0} | {
        name.lower(): int(number) for name, number in re.findall(r"([A-Z_]+) = (\d+)", INVERTER.read_text())
    }

    def make(fault: str) -> Path:
        folder = tmp_path / fault
        folder.mkdir()
        shutil.copy(INVERTER, folder)
        (folder / "fault.mem").write_text(f"{faults[fault]:x}\n")
        Manifest(
            name="invert",
            top="accelerator",
            sources=("invert.v",),
            memories=("fault.mem",),
            input=StreamPort.for_frames(shape=(8,), number_format=unsigned(8), lanes=1),
            output=StreamPort.for_frames(shape=(8,), number_format=unsigned(8), lanes=4),
            predicted=Predicted(initiation_interval=CycleRange.fixed(12), latency=CycleRange.fixed(13)),
        ).save(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def inverter_frames() -> npt.NDArray[Any]:
    """Twenty input frames of the inverter; 255 minus them must come out."""
    return np.random.default_rng(0).integers(0, 256, (20, 8))
