"""What a synthesis run found out, as it is recorded in ``synthesis.json``."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from karui.flows.synthesize.resources import CellCount

RESULT_NAME = "synthesis.json"

_SHORT_NS = 0.1
"""Shorter steps are left out of a printed path: a carry chain has one a bit."""


@dataclass(frozen=True, kw_only=True)
class PathSegment:
    """One step of a path: through a cell (``clk-to-q``, ``logic``, ``setup``) or along a net (``routing``)."""

    kind: str
    delay_ns: float
    start: str
    end: str
    net: str | None


@dataclass(frozen=True, kw_only=True)
class CriticalPath:
    """The slowest path from register to register."""

    segments: tuple[PathSegment, ...]

    @property
    def delay_ns(self) -> float:
        """Sum of all segments."""
        return sum(segment.delay_ns for segment in self.segments)

    @property
    def routing_ns(self) -> float:
        """The part of the delay spent on nets."""
        return sum(segment.delay_ns for segment in self.segments if segment.kind == "routing")

    def __str__(self) -> str:
        first, last = self.segments[0], self.segments[-1]
        lines = [
            f"critical path: {first.start} to {last.end}, {self.delay_ns:.2f} ns "
            f"({self.delay_ns - self.routing_ns:.2f} logic, {self.routing_ns:.2f} routing)"
        ]
        for segment in self.segments:
            if segment.delay_ns < _SHORT_NS:
                continue
            where = f"net {segment.net} to {segment.end}" if segment.net else segment.end
            lines.append(f"  {segment.delay_ns:6.2f} ns  {segment.kind:<8}  {where}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """Place and route with one seed; ``fmax_mhz`` is None and ``reason`` says why when it failed."""

    seed: int
    fmax_mhz: float | None
    seconds: float
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Absorption:
    """Registers moved into block RAMs and multipliers.

    Parameters
    ----------
    ports : int
        Read ports of block RAMs, operands and products of multipliers that got a register.
    registers : int
        Flip-flops these replaced.
    refused : dict
        Reason -> ports left as they were for it.
    """

    ports: int
    registers: int
    refused: dict[str, int]

    def __add__(self, other: "Absorption") -> "Absorption":
        refused = Counter(self.refused) + Counter(other.refused)
        return Absorption(
            ports=self.ports + other.ports,
            registers=self.registers + other.registers,
            refused=dict(sorted(refused.items())),
        )


@dataclass(frozen=True, kw_only=True)
class SynthesisResult:
    """Area and timing of a design on a device.

    Parameters
    ----------
    device : str
        Name of the device.
    lut_inputs : int
        Inputs of a look-up table: 4 or 6; the record names the count ``lut4`` or ``lut6``.
    cells : CellCount
        The design's cells in the mapped netlist, after absorption; a pin shell's are not among them.
    by_module : dict
        The same by instance under the top; the top's own logic under ``top``.
    shell : CellCount or None
        Cells of the pin shell around the design, None when it has as many pins as it needs.
    absorption : Absorption or None
        None for families without the transform.
    comb : int or None
        Look-up tables the placer occupied (carry cells take two), of the design with its shell; None when not placed.
    clock_mhz : float
        Clock asked for.
    fmax_mhz : float or None
        Clock reached by the best seed; None when not routed.
    timing_met : bool or None
        Whether it reaches what was asked; None when not routed.
    critical_path : CriticalPath or None
        Of the best seed.
    seeds : tuple of SeedResult
        Every seed tried.
    seconds : dict
        Wall time of ``yosys`` and ``nextpnr``.
    versions : dict
        Tool -> version.
    """

    device: str
    lut_inputs: int
    cells: CellCount
    by_module: dict[str, CellCount]
    shell: CellCount | None
    absorption: Absorption | None
    comb: int | None
    clock_mhz: float
    fmax_mhz: float | None
    timing_met: bool | None
    critical_path: CriticalPath | None
    seeds: tuple[SeedResult, ...]
    seconds: dict[str, float]
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The form of ``report.json``: ``lut4`` or ``lut6``, ``carry``, ``comb``, ``ff``, ``bram``, ``dsp``, ..."""
        return {
            "device": self.device,
            **self._named(self.cells),
            "comb": self.comb,
            "clock_mhz": self.clock_mhz,
            "fmax_mhz": self.fmax_mhz,
            "timing_met": self.timing_met,
            "critical_path": asdict(self.critical_path)["segments"] if self.critical_path else None,
            "by_module": {name: self._named(cells) for name, cells in self.by_module.items()},
            "shell": self._named(self.shell) if self.shell else None,
            "absorption": asdict(self.absorption) if self.absorption else None,
            "seeds": [asdict(seed) for seed in self.seeds],
            "seconds": self.seconds,
            "versions": self.versions,
        }

    def _named(self, cells: CellCount) -> dict[str, float]:
        named: dict[str, float] = asdict(cells)
        return {f"lut{self.lut_inputs}": named.pop("lut"), **named}

    def save(self, folder: Path) -> Path:
        """Write ``synthesis.json`` into a folder; return its path."""
        path = folder / RESULT_NAME
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        return path

    @classmethod
    def load(cls, folder: Path) -> "SynthesisResult":
        """Read a folder's ``synthesis.json``.

        Raises
        ------
        ValueError
            If there is none, or it is not what `save` wrote.
        """
        path = folder / RESULT_NAME
        try:
            record = json.loads(path.read_text())
            lut = "lut6" if "lut6" in record else "lut4"
            absorption = record["absorption"]
            segments = record["critical_path"]
            return cls(
                device=record["device"],
                lut_inputs=int(lut[3:]),
                cells=_cells(record, lut),
                by_module={name: _cells(cells, lut) for name, cells in record["by_module"].items()},
                shell=_cells(record["shell"], lut) if record["shell"] else None,
                absorption=Absorption(**absorption) if absorption else None,
                comb=record["comb"],
                clock_mhz=record["clock_mhz"],
                fmax_mhz=record["fmax_mhz"],
                timing_met=record["timing_met"],
                critical_path=CriticalPath(segments=tuple(PathSegment(**step) for step in segments))
                if segments
                else None,
                seeds=tuple(SeedResult(**seed) for seed in record["seeds"]),
                seconds=record["seconds"],
                versions=record["versions"],
            )
        except FileNotFoundError:
            raise ValueError(f"{folder} holds no {RESULT_NAME}; synthesize first") from None
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); synthesize again") from None


def _cells(record: dict[str, Any], lut: str) -> CellCount:
    return CellCount(lut=record[lut], **{kind: record[kind] for kind in ("carry", "ff", "lutram", "bram", "dsp")})
