"""The manifest survives its file, and a damaged one is refused in one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from karui.hw.emit.manifest import CycleRange, Manifest, ManifestError, Predicted, StreamPort
from karui.sw.numerics import BIPOLAR, unsigned

MANIFEST = Manifest(
    name="tiny",
    top="accelerator",
    sources=("accelerator.v",),
    memories=("weights.mem",),
    input=StreamPort.for_frames(shape=(3, 3, 2), number_format=unsigned(8), lanes=4),
    output=StreamPort.for_frames(shape=(11,), number_format=BIPOLAR, lanes=11),
    predicted=Predicted(initiation_interval=CycleRange.fixed(5), latency=CycleRange(min=7, mean=8.5, max=9)),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "accelerator.v").touch()
    (tmp_path / "weights.mem").touch()
    MANIFEST.save(tmp_path)
    return tmp_path


def test_round_trip(folder: Path) -> None:
    assert Manifest.load(folder) == MANIFEST
    assert (MANIFEST.input.beats, MANIFEST.input.beat_bytes) == (5, 4)
    assert (MANIFEST.output.beats, MANIFEST.output.beat_bytes) == (1, 2)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_missing_manifest_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=f"{tmp_path} is not a design folder"):
        Manifest.load(tmp_path)


def test_cut_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(ManifestError, match="is not JSON"):
        Manifest.load(folder)


def test_missing_field(folder: Path) -> None:
    path = folder / "manifest.json"
    mapping = json.loads(path.read_text())
    del mapping["top"]
    path.write_text(json.dumps(mapping))
    with pytest.raises(ManifestError, match="lacks the field 'top'"):
        Manifest.load(folder)


def test_missing_memory_image(folder: Path) -> None:
    (folder / "weights.mem").unlink()
    with pytest.raises(ManifestError, match=r"lists weights\.mem, which is missing"):
        Manifest.load(folder)


def test_other_version(folder: Path) -> None:
    edit(folder, version=2)
    with pytest.raises(ManifestError, match="version 2 is not 1"):
        Manifest.load(folder)


def test_file_outside_the_folder(folder: Path) -> None:
    edit(folder, sources=["../accelerator.v"])
    with pytest.raises(ManifestError, match="not inside its folder"):
        Manifest.load(folder)


def test_contradictory_beats(folder: Path) -> None:
    edit(folder, input=MANIFEST.input.to_dict() | {"beats": 4})
    with pytest.raises(ManifestError, match="is 5 beats a frame, not 4"):
        Manifest.load(folder)


def test_contradictory_beat_bytes(folder: Path) -> None:
    edit(folder, output=MANIFEST.output.to_dict() | {"beat_bytes": 1})
    with pytest.raises(ManifestError, match="are 2 bytes a beat, not 1"):
        Manifest.load(folder)


def test_disordered_cycle_range() -> None:
    with pytest.raises(ValueError, match="min <= mean <= max"):
        CycleRange(min=3, mean=2, max=4)
