"""``report.json`` and ``report.html``: the figures of a build, and the page that shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from karui.flows.build_folder import BuildFolder, write_json
from karui.flows.report.area import area_rows, lut_key, meters
from karui.flows.report.figures import pipeline, seed_strip, training_curves
from karui.flows.report.images import samples, svg
from karui.flows.report.record import assemble
from karui.flows.report.schema import Report, Synthesis
from karui.flows.report.verdict import bytes_text, verdicts

TEMPLATES = Path(__file__).parents[1] / "templates"


def write_report(folder: Path) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.html`` into a build folder.

    Parameters
    ----------
    folder
        A build folder, with the stages train and compile done; of later stages it shows those that were done.

    Returns
    -------
    (Path, Path)
        The JSON file and the page, each written in one step.

    Raises
    ------
    BuildError
        If the folder is none, or train or compile are not done.
    """
    record, page = folder / "report.json", folder / "report.html"
    report = assemble(folder)
    build = BuildFolder(path=folder)
    drawing = build.packed.with_suffix(".svg") if build.packed.is_file() else None
    text = render(report, build.vectors, drawing=drawing)
    write_json(record, report)
    partial = page.with_name(f"{page.name}.partial")
    partial.write_text(text)
    partial.replace(page)
    return record, page


def render(report: Report, vectors: Path, *, drawing: Path | None = None) -> str:
    """The page: one file that needs no other and no network.

    Parameters
    ----------
    report
        The figures.
    vectors
        File with the test images and the golden model's classes.
    drawing
        SVG of what compression did to the weights, where it did.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,.10g}"
    environment.filters["percent"] = lambda fraction: f"{100 * fraction:.2f} %"
    environment.filters["bytes"] = bytes_text
    context: dict[str, Any] = {
        "report": report,
        "verdicts": verdicts(report),
        "pipeline": pipeline(report),
        "cycle_rows": _cycle_rows(report),
        "devices": [_device(entry, report) for entry in _requested_first(report)],
        "samples": samples(vectors, report["data"]["classes"], report["data"]["pixel_maximum"]),
        "misses": _largest_miss(report["confusion"]),
        "drawing": None if drawing is None else svg(drawing),
        "curves": training_curves(report["training"]["history"]),
    }
    return environment.get_template("report.html.j2").render(context)


def _requested_first(report: Report) -> list[Synthesis]:
    wanted = report["frames_per_second"]["device"]
    return sorted(report.get("synthesis", {}).values(), key=lambda entry: (entry["device"] != wanted, entry["device"]))


def _device(synthesis: Synthesis, report: Report) -> dict[str, Any]:
    rows = area_rows(synthesis, report["layers"])
    path = synthesis["critical_path"] or []
    return {
        "synthesis": synthesis,
        "lut": lut_key(synthesis),
        "rows": rows,
        "most": {key: max([1.0, *(getattr(row, key) for row in rows)]) for key in ("ff", "bram", "dsp")}
        | {"luts": max([1.0, *(max(row.luts, row.estimate or 0) for row in rows)])},
        "meters": meters(synthesis),
        "strip": seed_strip(synthesis["seeds"], synthesis["clock_mhz"]) if synthesis["fmax_mhz"] is not None else None,
        # Links of a carry chain take no time: they would fill the table.
        "path": [step for step in path if step["delay_ns"] > 0 or step["kind"] == "setup"],
        "delay": sum(step["delay_ns"] for step in path),
    }


def _cycle_rows(report: Report) -> list[dict[str, Any]]:
    """Predicted and measured cycles, and how far they are apart."""
    rows = []
    measured = report.get("rtl")
    for title, predicted, found in (
        (
            "Initiation interval",
            report["predicted"]["initiation_interval"],
            measured["initiation_interval"] if measured else None,
        ),
        ("Latency", report["predicted"]["latency"], measured["latency"] if measured else None),
    ):
        apart = None if found is None else max(abs(found[key] / predicted[key] - 1) for key in ("min", "mean", "max"))
        rows.append({"title": title, "predicted": predicted, "measured": found, "apart": apart})
    return rows


def _largest_miss(confusion: list[list[int]]) -> int:
    return max(1, *(count for row, line in enumerate(confusion) for column, count in enumerate(line) if row != column))
