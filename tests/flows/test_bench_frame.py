"""The frame of the benchmarks: what is listed, run, recorded and refused."""

import json
from pathlib import Path

import pytest

from karui.flows.bench import BENCHMARKS, main, run, running
from karui.flows.bench.benchmark import (
    Benchmark,
    BenchmarkMissed,
    BenchmarkResult,
    BenchmarkRun,
    at_least,
    at_most,
    equal,
)
from karui.flows.bench.command_line import Outcome

ROOT = Path(__file__).parents[2]
NAMES = [benchmark.name for benchmark in BENCHMARKS]


def _stand_in(limit: int) -> Benchmark:
    def measure(work: BenchmarkRun) -> BenchmarkResult:
        (work.folder / "left").write_text("something")
        checks = (at_most("cycles", 7, limit), equal("words", 3, 3), at_least("clock", 200.5, 180))
        return BenchmarkResult(checks=checks, details={"folding": "SIMD 1"}, seed=4)

    return Benchmark(name="stand-in", description="cycles", target="few", minutes=1, measure=measure)


def _install(monkeypatch: pytest.MonkeyPatch, folder: Path, *, limit: int) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(running, "BENCHMARKS", (_stand_in(limit),))


def test_a_benchmark_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "flows" / "results").mkdir(parents=True)
    _install(monkeypatch, tmp_path, limit=7)
    assert run("stand-in").passed
    record = json.loads((tmp_path / "flows" / "results" / "bench" / "stand-in.json").read_text())
    assert record["value"] == {"cycles": 7, "words": 3, "clock": 200.5}
    assert record["target"] == {"cycles": "<= 7", "words": "3", "clock": ">= 180"}
    assert (record["passed"], record["seed"], record["command"]) == (True, 4, "karui bench stand-in")
    assert record["versions"]["amaranth"]
    assert record["seconds"] >= 0


def test_a_miss_is_recorded_and_raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install(monkeypatch, tmp_path, limit=6)
    with pytest.raises(BenchmarkMissed, match=r"stand-in missed its target: cycles$"):
        run("stand-in")
    assert json.loads((tmp_path / "out" / "bench" / "stand-in.json").read_text())["passed"] is False


def test_a_run_starts_from_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install(monkeypatch, tmp_path, limit=7)
    stale = tmp_path / "out" / "bench" / "stand-in" / "stale"
    stale.parent.mkdir(parents=True)
    stale.write_text("from before")
    run("stand-in")
    assert [path.name for path in stale.parent.iterdir()] == ["left"]


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown benchmark 'finn-tfd'; did you mean 'finn-tfc'"):
        main("finn-tfd", None)


def test_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(None, None)
    listed = capsys.readouterr().out
    assert len(set(NAMES)) == len(NAMES)
    assert all(name in listed for name in NAMES)


def test_the_document_lists_the_benchmarks() -> None:
    rows = [line for line in (ROOT / "docs" / "benchmarks.md").read_text().splitlines() if line.startswith("| `")]
    assert rows == [f"| `{one.name}` | {one.description} | {one.target} | {one.minutes} |" for one in BENCHMARKS]


def test_every_record_is_of_a_benchmark_that_passed() -> None:
    records = [json.loads(path.read_text()) for path in (ROOT / "flows" / "results" / "bench").glob("*.json")]
    assert records
    for record in records:
        assert record["name"] in NAMES
        assert record["passed"], record["name"]


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (Outcome(code=1, errors=("error: no compiler: install g++",)), ""),
        (Outcome(code=0, errors=("error: no compiler: install g++",)), "exit code 0"),
        (Outcome(code=-9, errors=("error: no compiler: install g++",)), "exit code -9"),
        (Outcome(code=1, errors=()), "0 lines: "),
        (Outcome(code=1, errors=("Traceback", "ValueError: no compiler: g++")), "2 lines: Traceback / "),
        (Outcome(code=1, errors=("error: no compiler",)), "no word of g++ in: error: no compiler"),
    ],
)
def test_a_refusal_is_one_line_that_names_the_way_out(outcome: Outcome, fault: str) -> None:
    found = outcome.refuses(("no compiler", "g++"))
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_benchmark_passes(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(running, "RESULTS", tmp_path / "results" / "bench")
    monkeypatch.setattr(running, "FOLDER", tmp_path / "bench")
    assert run(name).passed
