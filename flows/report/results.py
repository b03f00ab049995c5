"""Recorded builds: ``flows/results/<recipe>.json`` in a checkout, and the README's table made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from karui.flows.build_folder import write_json
from karui.flows.report.record import assemble

RESULTS = Path("flows") / "results"
BEGIN = "<!-- recipes: written by `karui table` from flows/results/*.json -->"
END = "<!-- end of recipes -->"

_HEADER = (
    "| recipe | data | accuracy | weights | cycles | frames/s | target | LUT4 | block RAMs | clock | command |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)


class NoCheckout(ValueError):
    """The current folder is in no checkout of karui."""


def find_checkout(start: Path) -> Path:
    """The checkout of karui that a folder is in.

    Raises
    ------
    NoCheckout
        If there is none.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        project = folder / "pyproject.toml"
        if project.is_file() and 'name = "karui"' in project.read_text() and (folder / "flows").is_dir():
            return folder
    raise NoCheckout(f"{start.resolve()} is in no checkout of karui: give a file with --record-to FILE")


def keep(folder: Path, to: Path | None = None) -> Path:
    """Keep the figures of a complete build.

    Parameters
    ----------
    folder : Path
        Build folder with every stage done.
    to : Path, optional
        File to write; ``flows/results/<recipe>.json`` of the current checkout unless given.

    Raises
    ------
    NoCheckout
        If no file is given and the current folder is in no checkout.
    ValueError
        If a stage of the build was not done.
    """
    report = assemble(folder)
    if report["missing"]:
        raise ValueError(
            f"{folder} is not complete, so its figures are not kept: {next(iter(report['missing'].values()))}"
        )
    path = to or find_checkout(Path.cwd()) / RESULTS / f"{report['recipe']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = dict(report)
    record["training"] = {key: value for key, value in report["training"].items() if key != "history"}
    write_json(path, record)
    return path


def recipe_table(results: Path) -> str:
    """The table of recorded builds, in Markdown."""
    records = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    return _HEADER + "".join(_row(record) for record in records)


def _row(record: dict[str, Any]) -> str:
    synthesis = record["synthesis"][record["frames_per_second"]["device"]]
    reached = synthesis["fmax_mhz"]
    cells = (
        record["recipe"],
        record["data"]["name"] + (" (JPEG copies)" if record["data"]["name"] == "cifar10" else ""),
        f"{record['accuracy']['golden']:.2%}",
        f"{record['size']['stored_bytes'] / 1024:.1f} KiB",
        f"{record['rtl']['initiation_interval']['mean']:,.0f}",
        f"{record['frames_per_second']['reached_clock'] or record['frames_per_second']['asked_clock']:,.0f}",
        synthesis["device"],
        f"{synthesis.get('lut4', synthesis.get('lut6')):,}",
        f"{synthesis['bram']:g}",
        "-" if reached is None else f"{reached:.0f} MHz",
        f"`{record['command']}`",
    )
    return f"| {' | '.join(cells)} |\n"


def update_readme(checkout: Path) -> bool:
    """Write the table into the README of a checkout; whether that changed it.

    Raises
    ------
    ValueError
        If the README lacks the marks around the table.
    """
    path = checkout / "README.md"
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{path} lacks the marks of the table, {BEGIN!r} and {END!r}: put them where it belongs")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    updated = f"{before}{BEGIN}\n\n{recipe_table(checkout / RESULTS)}\n{END}{after}"
    if updated != text:
        path.write_text(updated)
    return updated != text
