"""The manifest of a generated design: what a simulator, a synthesizer or a board driver must know about its Verilog."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from karui.sw.numerics import NumberFormat, word_bytes

MANIFEST_VERSION = 1
MANIFEST_NAME = "manifest.json"


class ManifestError(ValueError):
    """A manifest is missing, damaged or contradicts itself."""


@dataclass(frozen=True, kw_only=True)
class CycleRange:
    """Smallest, mean and largest of a number of clock cycles.

    Parameters
    ----------
    min, mean, max : float
        ``min <= mean <= max``; all equal where the figure does not depend on the data.
    """

    min: float
    mean: float
    max: float

    def __post_init__(self) -> None:
        if not 0 <= self.min <= self.mean <= self.max:
            raise ValueError(f"a cycle range needs 0 <= min <= mean <= max, not {self.min}, {self.mean}, {self.max}")

    @classmethod
    def fixed(cls, cycles: float) -> CycleRange:
        """A figure that does not depend on the data."""
        return cls(min=cycles, mean=cycles, max=cycles)

    @classmethod
    def of(cls, cycles: Sequence[float]) -> CycleRange:
        """The range of some figures, each of which is as frequent."""
        return cls(min=min(cycles), mean=sum(cycles) / len(cycles), max=max(cycles))

    def to_dict(self) -> dict[str, float]:
        """The form of ``report.json``: ``{"min": .., "mean": .., "max": ..}``."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class StreamPort:
    """One AXI4-Stream port of a design and the frames that travel on it.

    Parameters
    ----------
    shape : tuple of int
        Shape of a frame; its elements travel in C order.
    format : NumberFormat
        Format of an element.
    lanes : int
        Elements a beat, lane 0 in the lowest bits, packed without gaps.
    beats : int
        Beats a frame, ``ceil(elements / lanes)``.
    beat_bytes : int
        Bytes of ``tdata``, the lanes padded to whole bytes.

    Raises
    ------
    ManifestError
        If beats or bytes contradict shape, format and lanes.
    """

    shape: tuple[int, ...]
    format: NumberFormat
    lanes: int
    beats: int
    beat_bytes: int

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise ManifestError(f"a stream's shape needs one dimension or more, each 1 or more, not {self.shape}")
        if self.lanes < 1:
            raise ManifestError(f"a stream needs 1 lane or more, not {self.lanes}")
        beats = -(-math.prod(self.shape) // self.lanes)
        if self.beats != beats:
            raise ManifestError(f"shape {self.shape} on {self.lanes} lanes is {beats} beats a frame, not {self.beats}")
        size = word_bytes(self.lanes * self.format.bits)
        if self.beat_bytes != size:
            raise ManifestError(
                f"{self.lanes} lanes of {self.format.bits} bits are {size} bytes a beat, not {self.beat_bytes}"
            )

    @classmethod
    def for_frames(cls, *, shape: tuple[int, ...], number_format: NumberFormat, lanes: int) -> StreamPort:
        """The port that carries frames of `shape`, `lanes` elements a beat."""
        return cls(
            shape=shape,
            format=number_format,
            lanes=lanes,
            beats=-(-math.prod(shape) // lanes),
            beat_bytes=word_bytes(lanes * number_format.bits),
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return {
            "shape": list(self.shape),
            "format": self.format.to_dict(),
            "lanes": self.lanes,
            "beats": self.beats,
            "beat_bytes": self.beat_bytes,
        }


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Cycle counts that the generator's model predicts for a design.

    Parameters
    ----------
    initiation_interval : CycleRange
        Cycles between the last output beats of consecutive frames, frames back to back and no back-pressure.
    latency : CycleRange
        Cycles from a frame's first input beat to its last output beat, the pipeline empty before.
    """

    initiation_interval: CycleRange
    latency: CycleRange


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A design folder's table of contents.

    Parameters
    ----------
    name : str
        Name of the network.
    top : str
        Verilog module of the AXI4-Stream top level.
    sources : tuple of str
        Verilog files, relative to the folder.
    memories : tuple of str
        Images that the Verilog reads with ``$readmemh``, relative to the folder.
    input, output : StreamPort
        ``s_axis_*`` and ``m_axis_*``.
    predicted : Predicted
        Cycle counts to be confirmed by simulation.
    clock, reset : str
        Port names; the reset is synchronous and active high.
    """

    name: str
    top: str
    sources: tuple[str, ...]
    memories: tuple[str, ...]
    input: StreamPort
    output: StreamPort
    predicted: Predicted
    clock: str = "clk"
    reset: str = "rst"

    def __post_init__(self) -> None:
        if not self.sources:
            raise ManifestError(f"design {self.name!r} lists no Verilog sources")
        for file in (*self.sources, *self.memories):
            if Path(file).is_absolute() or ".." in Path(file).parts:
                raise ManifestError(f"design {self.name!r} lists {file!r}, which is not inside its folder")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "version": MANIFEST_VERSION,
            "name": self.name,
            "top": self.top,
            "sources": list(self.sources),
            "memories": list(self.memories),
            "clock": self.clock,
            "reset": self.reset,
            "input": self.input.to_dict(),
            "output": self.output.to_dict(),
            "predicted": {
                "initiation_interval": self.predicted.initiation_interval.to_dict(),
                "latency": self.predicted.latency.to_dict(),
            },
        }

    def save(self, folder: Path) -> Path:
        """Write ``manifest.json`` into a design folder; return its path."""
        path = folder / MANIFEST_NAME
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        return path

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read a design folder's ``manifest.json`` and check that every file it lists is there.

        Raises
        ------
        ManifestError
            If the manifest or a listed file is missing, or a field is missing, misspelt or contradictory.
        """
        path = folder / MANIFEST_NAME
        try:
            mapping = json.loads(path.read_text())
        except FileNotFoundError:
            raise ManifestError(f"{folder} is not a design folder: it has no {MANIFEST_NAME}; compile first") from None
        except json.JSONDecodeError as error:
            raise ManifestError(f"{path} is not JSON ({error}); compile again") from None
        try:
            manifest = _from_mapping(mapping)
        except KeyError as error:
            raise ManifestError(f"{path} lacks the field {error}; compile again") from None
        except (TypeError, ValueError) as error:
            raise ManifestError(f"{path}: {error}; compile again") from None
        for file in (*manifest.sources, *manifest.memories):
            if not (folder / file).is_file():
                raise ManifestError(f"{path} lists {file}, which is missing from {folder}; compile again")
        return manifest


def _from_mapping(mapping: Mapping[str, Any]) -> Manifest:
    if mapping["version"] != MANIFEST_VERSION:
        raise ManifestError(f"manifest version {mapping['version']} is not {MANIFEST_VERSION}")
    predicted = mapping["predicted"]
    return Manifest(
        name=mapping["name"],
        top=mapping["top"],
        sources=tuple(mapping["sources"]),
        memories=tuple(mapping["memories"]),
        clock=mapping["clock"],
        reset=mapping["reset"],
        input=_stream_port(mapping["input"]),
        output=_stream_port(mapping["output"]),
        predicted=Predicted(
            initiation_interval=CycleRange(**predicted["initiation_interval"]),
            latency=CycleRange(**predicted["latency"]),
        ),
    )


def _stream_port(mapping: Mapping[str, Any]) -> StreamPort:
    return StreamPort(
        shape=tuple(mapping["shape"]),
        format=NumberFormat.from_dict(mapping["format"]),
        lanes=mapping["lanes"],
        beats=mapping["beats"],
        beat_bytes=mapping["beat_bytes"],
    )
