"""The build folder: each stage's files, and records that say from which files a stage was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SYNTHESIZE = "synthesize-"


class BuildError(RuntimeError):
    """A stage lacks the files of an earlier one, or they have changed since."""


@dataclass(frozen=True, kw_only=True)
class BuildFolder:
    """Paths of a build, and its stage records.

    A record (``train.json``, ``compile.json``, ...) is written when its stage is complete, in one step, and holds the
    sha256 of every file that the stage read. A stage whose files have changed since counts as not done.

    Parameters
    ----------
    path : Path
        The folder.
    """

    path: Path

    @property
    def settings(self) -> Path:
        """What is built, with all options."""
        return self.path / "settings.json"

    @property
    def checkpoint(self) -> Path:
        """The trained network, unless it is a compressed one."""
        return self.path / "checkpoint.npz"

    @property
    def packed(self) -> Path:
        """The trained network in the file of a compressed one."""
        return self.path / "checkpoint.karui"

    @property
    def trained(self) -> Path:
        """The trained network in whichever form it is there."""
        return self.packed if self.packed.is_file() else self.checkpoint

    @property
    def floats(self) -> Path:
        """The float network that a decomposed one comes from, where it was trained here."""
        return self.path / "float.npz"

    @property
    def training_state(self) -> Path:
        """States from which an interrupted training goes on."""
        return self.path / "training"

    @property
    def design(self) -> Path:
        """Graph, folding and RTL, see `karui.flows.design.Design`."""
        return self.path / "design"

    @property
    def vectors(self) -> Path:
        """Test images, the golden model's outputs and the labels."""
        return self.path / "vectors.npz"

    def synthesis(self, device: str) -> Path:
        """Outputs of synthesis for a device."""
        return self.path / "synthesis" / device

    def record(self, stage: str) -> Path:
        """A stage's record."""
        return self.path / f"{stage}.json"

    def begin(self, stage: str) -> None:
        """Withdraw the record of a stage that is about to be done anew."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.record(stage).unlink(missing_ok=True)

    def finish(self, stage: str, result: Mapping[str, Any], *, inputs: Iterable[Path]) -> None:
        """Write the record of a stage that is complete."""
        digests = {str(path.relative_to(self.path)): sha256(path) for path in inputs}
        write_json(self.record(stage), {"inputs": digests, "result": dict(result)})

    def result(self, stage: str) -> dict[str, Any]:
        """A stage's result.

        Raises
        ------
        BuildError
            If the stage was not done, or a file that it read has changed since.
        """
        document = self._document(stage)
        if document is None:
            raise BuildError(f"{self.path} has no {stage}.json: run `{self.command(stage)}` first")
        changed = self._changed(document)
        if changed:
            raise BuildError(
                f"{changed[0]} has changed since {stage}.json was written: run `{self.command(stage)}` again"
            )
        result: dict[str, Any] = document["result"]
        return result

    def command(self, stage: str) -> str:
        """The command that does a stage."""
        if stage == "netlist":
            return f"karui simulate {self.path} --netlist"
        if stage.startswith(_SYNTHESIZE):
            return f"karui synthesize {self.path} --device {stage.removeprefix(_SYNTHESIZE)}"
        if stage != "train":
            return f"karui {stage} {self.path}"
        try:
            recipe = json.loads(self.settings.read_text())["recipe"]
        except (OSError, ValueError, KeyError, TypeError):
            recipe = "RECIPE"
        return f"karui train {recipe} --out {self.path}"

    def _document(self, stage: str) -> dict[str, Any] | None:
        path = self.record(stage)
        if not path.is_file():
            return None
        try:
            document = json.loads(path.read_text())
            return document if {"inputs", "result"} <= document.keys() else None
        except (ValueError, AttributeError):
            return None

    def _changed(self, document: Mapping[str, Any]) -> list[Path]:
        paths = {self.path / name: digest for name, digest in document["inputs"].items()}
        return [path for path, digest in paths.items() if not path.is_file() or sha256(path) != digest]


def synthesis_stage(device: str) -> str:
    """Name of the stage that synthesizes for a device; a folder may have several."""
    return f"{_SYNTHESIZE}{device}"


def sha256(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file in one step."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    partial.replace(path)
