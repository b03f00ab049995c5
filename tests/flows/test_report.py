"""The report: figures of complete builds, nothing stale, and a page that stands alone."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from karui.flows.build_folder import BuildFolder, synthesis_stage
from karui.flows.compiling import run_compile
from karui.flows.design import Design
from karui.flows.recipe import HardwareConfig
from karui.flows.report import schema
from karui.flows.report.html import write_report
from karui.flows.report.record import assemble
from karui.flows.report.results import BEGIN, END, NoCheckout, keep, update_readme
from karui.flows.settings import Settings
from karui.flows.synthesize import CellCount, CriticalPath, SeedResult, SynthesisResult
from karui.flows.synthesize.result import RESULT_NAME, Absorption, PathSegment
from karui.flows.training import run_train

ROOT = Path(__file__).parents[2]
RECIPE = """
description = "Small <network> & co"
[data]
name = "digits"
[model]
family = "binary-mlp"
in_features = 64
hidden = [16]
input = "pixels"
[train]
epochs = 3
"""
CELLS = CellCount(lut=700, carry=80, ff=900, lutram=12, bram=3, dsp=0)


def synthesis(fmax_mhz: float) -> SynthesisResult:
    path = CriticalPath(
        segments=(
            PathSegment(kind="clk-to-q", delay_ns=0.5, start="a.Q", end="a.Q", net=None),
            PathSegment(kind="routing", delay_ns=4.5, start="a.Q", end="b.D", net="dense1.x"),
        )
    )
    return SynthesisResult(
        device="ecp5-25f-6", lut_inputs=4, cells=CELLS, by_module={"dense1": CELLS}, shell=None,
        absorption=Absorption(ports=2, registers=64, refused={}), comb=900, clock_mhz=80.0, fmax_mhz=fmax_mhz,
        timing_met=fmax_mhz >= 80.0, critical_path=path,
        seeds=(
            SeedResult(seed=1, fmax_mhz=fmax_mhz, seconds=3.0),
            SeedResult(seed=2, fmax_mhz=None, seconds=1.0, reason="crash"),
        ),
        seconds={"yosys": 2.0, "nextpnr": 4.0}, versions={"pyosys": "0.70"},
    )  # fmt: skip


@pytest.fixture
def build(tmp_path: Path) -> BuildFolder:
    """A build whose early stages are real; what simulation and synthesis would record is written as they write it."""
    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE)
    folder = BuildFolder(path=tmp_path / "out")
    hardware = HardwareConfig(initiation_interval=128, device="ecp5-25f-6", clock_mhz=80.0)
    settings = Settings(recipe=str(recipe), hardware=hardware)
    settings.save(folder)
    run_train(folder, settings)
    run_compile(folder, settings)
    return folder


def complete(folder: BuildFolder, *, mismatches: int = 0, fmax_mhz: float = 97.0) -> None:
    design = Design.load(folder.design)
    predicted = design.accelerator.predicted
    run = {
        "back_pressure": "none", "images": 360, "words": 360, "mismatches": mismatches,
        "initiation_interval": predicted.initiation_interval.to_dict(), "latency": predicted.latency.to_dict(),
        "cycles": 46000, "cycles_per_second": 90000, "seconds": 0.5, "seed": 1,
    }  # fmt: skip
    files = design.files
    folder.finish("simulate", {"runs": [run], "seconds": 3.0}, inputs=[folder.vectors, *files])
    target = folder.synthesis("ecp5-25f-6")
    target.mkdir(parents=True)
    synthesis(fmax_mhz).save(target)
    summary = {"clock_mhz": 80.0, "timing_met": True}
    folder.finish(synthesis_stage("ecp5-25f-6"), summary, inputs=[*files, target / RESULT_NAME])
    netlist = {"device": "ecp5-25f-6", "images": 10, "words": 10, "mismatches": 0, "cycles": 2000,
               "cycles_per_second": 2000, "seconds": 1.0}  # fmt: skip
    folder.finish("netlist", netlist, inputs=[folder.vectors])


def test_a_complete_build_has_every_documented_figure(build: BuildFolder) -> None:
    complete(build)
    report = assemble(build.path)
    assert set(report) == set(schema.Report.__annotations__)
    assert report["missing"] == {}
    assert report["golden_vs_model"] == {"images": 360, "mismatches": 0, "arithmetic": "float32"}
    assert sum(map(sum, report["confusion"])) == 360
    entry = report["synthesis"]["ecp5-25f-6"]
    assert (entry["lut4"], entry["bram"], entry["timing_met"]) == (700, 3, True)
    interval = report["predicted"]["initiation_interval"]["mean"]
    assert report["frames_per_second"]["reached_clock"] == pytest.approx(97e6 / interval, abs=0.1)


def test_the_documentation_names_every_key() -> None:
    text = (ROOT / "docs/report.md").read_text()
    named = set(re.findall(r"`([a-z_0-9]+)`", text)) | {"synthesis"}
    types: list[Any] = [value for value in vars(schema).values() if hasattr(value, "__required_keys__")]
    keys = {key for form in types for key in form.__annotations__} - {"min", "mean", "max", "reason"}
    assert keys - named == set()


def test_nothing_stale_is_shown(build: BuildFolder) -> None:
    complete(build)
    settings = Settings.load(build)
    settings = replace(settings, hardware=replace(settings.hardware, initiation_interval=64))
    settings.save(build)
    run_compile(build, settings)
    report = assemble(build.path)
    assert not {"rtl", "synthesis", "netlist"} & set(report) - {"netlist"}
    assert "has changed since" in report["missing"]["simulate"]
    assert "has changed since" in report["missing"][synthesis_stage("ecp5-25f-6")]


def test_the_page_stands_alone_and_says_what_is_wrong(build: BuildFolder) -> None:
    complete(build, mismatches=3, fmax_mhz=61.0)
    record, page = write_report(build.path)
    text = page.read_text()
    assert json.loads(record.read_text())["rtl"]["mismatches"] == 3
    assert "Small &lt;network&gt; &amp; co" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "Missed: 61.0 MHz reached, 80 MHz asked." in text
    good = text.split("</style>")[1]
    complete_again = BuildFolder(path=build.path)
    for path in complete_again.path.glob("synthesis/*/*"):
        path.unlink()
    complete_again.synthesis("ecp5-25f-6").rmdir()
    complete(complete_again)
    assert write_report(build.path)[1].read_text().split("</style>")[1] != good
    assert "Missed" not in page.read_text()


def test_recorded_builds_make_the_readmes_table(
    build: BuildFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete(build)
    checkout = tmp_path / "checkout"
    (checkout / "flows").mkdir(parents=True)
    (checkout / "pyproject.toml").write_text('[project]\nname = "karui"\n')
    (checkout / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoCheckout, match="is in no checkout of karui: give a file with --record-to"):
        keep(build.path)
    monkeypatch.chdir(checkout)
    assert keep(build.path) == checkout / "flows/results/small.json"
    assert update_readme(checkout)
    assert not update_readme(checkout)
    text = (checkout / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| small | digits |" in text
    assert "| ecp5-25f-6 | 700 | 3 | 97 MHz | `karui build" in text
    assert "old" not in text


def test_an_incomplete_build_is_not_recorded(build: BuildFolder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not complete, so its figures are not kept: .* run `karui simulate"):
        keep(build.path, tmp_path / "figures.json")
    assert not (tmp_path / "figures.json").exists()


def test_the_readme_shows_the_recorded_builds(tmp_path: Path) -> None:
    results = tmp_path / "flows" / "results"
    results.mkdir(parents=True)
    for path in (ROOT / "flows/results").glob("*.json"):
        (results / path.name).write_text(path.read_text())
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text())
    assert not update_readme(tmp_path), "the README's table is not that of flows/results: run `karui table`"
