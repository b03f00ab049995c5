"""What a report says first: each claim of a build with its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from karui.flows.report.schema import Report


class State(StrEnum):
    """Whether a claim holds, fails, or was not put to the test; a plain figure is neither."""

    GOOD = "good"
    BAD = "bad"
    OPEN = "open"
    PLAIN = "plain"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One tile at the head of a report.

    Parameters
    ----------
    title : str
        What is judged.
    state : State
        Decides the colour.
    figure : str
        The answer, in a word or a number.
    detail : str
        What it rests on.
    """

    title: str
    state: State
    figure: str
    detail: str


def verdicts(report: Report) -> list[Verdict]:
    """The claims of a build, most important first."""
    return [bit_exact(report), timing(report), accuracy(report), speed(report), size(report)]


def bit_exact(report: Report) -> Verdict:
    """Model, golden model, RTL and netlist: any difference anywhere is a failure; an untested RTL is no success."""
    golden = report["golden_vs_model"]
    links = [(f"golden = model on {golden['images']:,} images", golden["images"], golden["mismatches"])]
    if "rtl" in report:
        rtl = report["rtl"]
        links.append((f"RTL = golden on {rtl['images']:,}, {rtl['words']:,} words", rtl["words"], rtl["mismatches"]))
    if "netlist" in report:
        netlist = report["netlist"]
        links.append((f"netlist = golden on {netlist['images']:,}", netlist["words"], netlist["mismatches"]))
    failures = [f"{mismatches:,} mismatches: {claim}" for claim, _, mismatches in links if mismatches]
    if failures:
        return Verdict(title="Bit-exact", state=State.BAD, figure="No", detail="; ".join(failures))
    detail = "; ".join(claim for claim, _, _ in links)
    if "rtl" not in report or not all(compared for _, compared, _ in links):
        return Verdict(title="Bit-exact", state=State.OPEN, figure="Not proven", detail=f"{detail}; RTL not simulated")
    return Verdict(title="Bit-exact", state=State.GOOD, figure="Yes", detail=detail)


def timing(report: Report) -> Verdict:
    """The clock reached on the device asked for, against the one asked."""
    request = report["request"]
    synthesis = report.get("synthesis", {}).get(report["frames_per_second"]["device"])
    asked = f"{request['clock_mhz']:g} MHz asked"
    if synthesis is None:
        return Verdict(title="Timing", state=State.OPEN, figure="Not routed", detail=f"{asked}; not synthesized")
    if synthesis["fmax_mhz"] is None:
        return Verdict(
            title="Timing", state=State.OPEN, figure="Area only", detail=f"no router for {request['device']}"
        )
    seeds = len(synthesis["seeds"])
    detail = f"{asked} on {synthesis['device']}, best of {seeds} seed{'s' * (seeds > 1)}"
    figure = f"{synthesis['fmax_mhz']:.1f} MHz"
    if synthesis["timing_met"]:
        return Verdict(title="Timing met", state=State.GOOD, figure=figure, detail=detail)
    detail = f"{detail}; critical path {synthesis['limited_by']}"
    return Verdict(title="Timing missed", state=State.BAD, figure=figure, detail=detail)


def accuracy(report: Report) -> Verdict:
    """Accuracy of the golden model, which the RTL shares when it is bit-exact."""
    figures = report["accuracy"]
    detail = f"of {figures['images']:,} held-out images; PyTorch model {100 * figures['model']:.2f} %"
    return Verdict(title="Accuracy", state=State.PLAIN, figure=f"{100 * figures['golden']:.2f} %", detail=detail)


def speed(report: Report) -> Verdict:
    """Frames a second at the clock reached, or else at the one asked for."""
    frames = report["frames_per_second"]
    rate = frames["asked_clock"] if frames["reached_clock"] is None else frames["reached_clock"]
    clock = "clock asked for" if frames["reached_clock"] is None else "clock reached"
    counts = report.get("rtl", {}).get("initiation_interval") or report["predicted"]["initiation_interval"]
    detail = f"frames/s at the {clock}; {counts['mean']:,g} cycles a frame, {frames['interval']}"
    return Verdict(title="Speed", state=State.PLAIN, figure=f"{rate:,.0f}", detail=detail)


def size(report: Report) -> Verdict:
    """Bytes that the hardware stores against the float parameters'."""
    stored, real = report["size"]["stored_bytes"], report["size"]["float_bytes"]
    detail = f"weights and thresholds; {real / stored:.1f} times smaller than float32"
    return Verdict(title="Size", state=State.PLAIN, figure=bytes_text(stored), detail=detail)


def bytes_text(count: float) -> str:
    """A number of bytes in a unit that keeps it short."""
    for unit, scale in (("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"
