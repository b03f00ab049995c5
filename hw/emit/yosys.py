"""Native Yosys, run as a process of its own.

A pass that fails ends the process it runs in, and a large design takes gigabytes: neither may reach the caller.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ENTRY = "import sys; from pyosys import libyosys; libyosys.run_pass('script ' + sys.argv[1])"


class YosysError(RuntimeError):
    """Yosys refused a command or died; the message ends with the log that tells more."""


def run_yosys(commands: Sequence[str], *, folder: Path, name: str = "yosys") -> Path:
    """Run Yosys commands in a folder.

    Parameters
    ----------
    commands
        Yosys commands, in order. File names in them are relative to ``folder``.
    folder
        Working directory; ``<name>.ys`` (the commands) and ``<name>.log`` (all that Yosys said) are written there.
    name
        Stem of these two files.

    Returns
    -------
    Path
        The log.

    Raises
    ------
    YosysError
        When Yosys reports an error or is killed.
    """
    script = folder / f"{name}.ys"
    log = folder / f"{name}.log"
    script.write_text("\n".join(commands) + "\n")
    with log.open("w") as sink:
        code = subprocess.run(
            [sys.executable, "-c", _ENTRY, script.name],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if code != 0:
        errors = [line for line in log.read_text(errors="replace").splitlines() if "ERROR: " in line]
        reason = errors[-1].replace("ERROR: ", "") if errors else f"ended with code {code}"
        raise YosysError(f"yosys: {reason} (log: {log})")
    return log
