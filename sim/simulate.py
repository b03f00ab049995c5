"""Runs a model that Verilator built, with cocotb and a Python test module inside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cocotb_tools.config
import find_libpython

TIME_LIMIT = 4 * 3600.0
"""Seconds after which a simulation is ended: far beyond any sound run, since stalls end by the bench's own watchdog."""


class SimulationError(RuntimeError):
    """A simulation ended without a result."""


def simulate(
    *,
    model: Path,
    top: str,
    test_module: str,
    folder: Path,
    plusargs: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    result: Path,
    time_limit: float = TIME_LIMIT,
) -> None:
    """Run a model to its end.

    Parameters
    ----------
    model : Path
        Executable of `karui.sim.verilator.build_model`.
    top : str
        Its top module.
    test_module : str
        Module with the cocotb test, importable in this process.
    folder : Path
        Working folder; the memory images that the design reads lie in it.
    plusargs : sequence of str
        ``+name=value`` arguments for the Verilog.
    environment : mapping, optional
        Additional variables for the test module.
    result : Path
        File that a complete run leaves behind.
    time_limit : float
        Seconds after which the model is killed: a loop without time steps never reaches the bench's watchdog.

    Raises
    ------
    SimulationError
        If the model failed, left no result or did not end in time; the message has the last lines it printed.
    """
    # Settings for other simulations must not reach this one: a filter or a log level would hide the outcome.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COCOTB_", "GPI_"))}
    variables = {
        "COCOTB_TOPLEVEL": top,
        "COCOTB_TEST_MODULES": test_module,
        "COCOTB_RESULTS_FILE": str(folder / "cocotb.xml"),
        # Verilator applies inertial writes itself: cocotb need not schedule them, and its fast clock may be used.
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "TOPLEVEL_LANG": "verilog",
        "GPI_USERS": f"{find_libpython.find_libpython()};{cocotb_tools.config.pygpi_entry_point()}",
        "PYGPI_PYTHON_BIN": sys.executable,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    log = folder / "simulation.log"
    in_time = True
    code = 0
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                [str(model), *plusargs],
                cwd=folder,
                env=inherited | variables | dict(environment or {}),
                stdout=output,
                stderr=output,
                check=False,
                timeout=time_limit,
            ).returncode
        except subprocess.TimeoutExpired:
            in_time = False
    text = log.read_text(errors="replace")
    if not in_time or code != 0 or not result.is_file() or "FAIL=0" not in text:
        lines = [line for line in text.splitlines() if line.strip()]
        what = "ended without a result" if in_time else f"was ended after {time_limit:g} s"
        raise SimulationError(f"the simulation of {top} {what}:\n" + "\n".join(lines[-25:]))
