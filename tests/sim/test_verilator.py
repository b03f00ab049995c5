"""Models are built once, whole or not at all, and what is missing is named in one line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from karui.sim import verilator
from karui.sim.verilator import BuildError, Optimization, ToolchainError, build_model, cache_folder, find_toolchain

COUNTER = "module counter (input clk, output reg [7:0] count); always @(posedge clk) count <= count + 1; endmodule\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("KARUI_CACHE", str(tmp_path / "cache"))
    find_toolchain.cache_clear()
    yield tmp_path / "cache" / "verilator"
    find_toolchain.cache_clear()


def build(folder: Path, text: str = COUNTER, optimization: Optimization = Optimization.BUILD_TIME) -> Path:
    (folder / "counter.v").write_text(text)
    (folder / "counter.vlt").write_text("`verilator_config\n")
    return build_model(
        top="counter",
        sources=[folder / "counter.v"],
        control=folder / "counter.vlt",
        parameters={},
        defines={},
        optimization=optimization,
    )


def models(cache: Path) -> list[Path]:
    return [file for file in cache.iterdir() if file.is_file() and os.access(file, os.X_OK)]


def test_model_is_built_once_and_again_for_another_source(tmp_path: Path, own_cache: Path) -> None:
    model = build(tmp_path)
    built = model.stat().st_mtime_ns
    assert build(tmp_path) == model
    assert model.stat().st_mtime_ns == built
    assert build(tmp_path, COUNTER.replace("+ 1", "+ 2")) != model
    assert len(models(own_cache)) == 2


def test_refused_design_names_the_error_and_leaves_no_model(tmp_path: Path, own_cache: Path) -> None:
    with pytest.raises(BuildError, match=r"%Error.*counter\.v:1.*log: .*\.log"):
        build(tmp_path, COUNTER.replace("count + 1", "kount + 1"))
    assert models(own_cache) == []


def test_failing_compiler_leaves_no_model(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_toolchain()
    broken = tmp_path / "make"
    broken.write_text("#!/bin/sh\necho 'counter.cpp:1: fatal error: out of memory'\nexit 2\n")
    broken.chmod(0o755)
    variables = dict(real.__dict__) | {"make": broken}
    monkeypatch.setattr(verilator, "find_toolchain", lambda: verilator.Toolchain(**variables))
    with pytest.raises(BuildError, match=r"make failed: .*out of memory"):
        build(tmp_path)
    assert models(own_cache) == []


def test_killed_build_is_not_taken_for_a_model(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "job.py").write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from pathlib import Path\nfrom test_verilator import build\nbuild(Path({str(tmp_path)!r}))\n"
    )
    victim = subprocess.Popen([sys.executable, str(tmp_path / "job.py")], start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(own_cache.glob("*.build-*/Vtop.mk")):
        assert victim.poll() is None, "the build ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    assert models(own_cache) == []
    model = build(tmp_path)
    assert models(own_cache) == [model]
    assert not list(own_cache.glob("*.build-*"))


def test_fast_model_serves_short_runs_too(tmp_path: Path) -> None:
    fast = build(tmp_path, optimization=Optimization.RUN_TIME)
    assert build(tmp_path) == fast


def test_runtime_library_is_compiled_once(tmp_path: Path, own_cache: Path) -> None:
    build(tmp_path)
    build(tmp_path, COUNTER.replace("+ 1", "+ 2"))
    first, second = sorted(own_cache.glob("*.log"), key=lambda log: log.stat().st_mtime_ns)
    assert "verilated_vpi.cpp" in first.read_text()
    assert "verilated_vpi.cpp" not in second.read_text()


def test_processes_side_by_side_build_one_model(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "job.py").write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from pathlib import Path\nfrom test_verilator import build\nprint(build(Path({str(tmp_path)!r})))\n"
    )
    command = [sys.executable, str(tmp_path / "job.py")]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {job.communicate()[0] for job in jobs}
    assert [job.returncode for job in jobs] == [0, 0]
    assert answers == {f"{models(own_cache)[0]}\n"}


@pytest.mark.parametrize(
    ("missing", "message"),
    [(("g++", "c++"), r"no C\+\+ compiler: install g\+\+"), (("make",), "no make: install make")],
)
def test_missing_program_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], message: str
) -> None:
    for program in {"g++", "c++", "make"} - set(missing):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match=message):
        find_toolchain()


def fake_verilator(folder: Path, version: str) -> None:
    program = folder / "verilator"
    program.write_text(f"#!/bin/sh\necho 'Verilator {version} 2025-04-27 rev v{version}'\n")
    program.chmod(0o755)


def test_newer_system_verilator_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    fake_verilator(tmp_path, "5.036")
    assert find_toolchain().verilator == tmp_path / "verilator"
    assert find_toolchain().root is None


def test_older_system_verilator_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    fake_verilator(tmp_path, "4.038")
    assert find_toolchain().verilator.name == "verilator_bin"


def test_cache_with_a_space_in_its_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARUI_CACHE", str(tmp_path / "my cache"))
    with pytest.raises(ToolchainError, match="set KARUI_CACHE to a path without spaces"):
        cache_folder()
