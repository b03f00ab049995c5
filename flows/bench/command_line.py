"""Real `karui` processes, for benchmarks of what a user sees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_MAIN = "from karui.flows.cli import main; main()"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended.

    Parameters
    ----------
    code : int
        Its exit code.
    errors : tuple of str
        The lines it wrote to standard error.
    """

    code: int
    errors: tuple[str, ...]

    def refuses(self, mentions: Sequence[str]) -> str:
        """What is wrong with the outcome as a refusal in one clear line that mentions certain things; or nothing."""
        if self.code <= 0:
            return f"exit code {self.code}"
        if len(self.errors) != 1:
            return f"{len(self.errors)} lines: {' / '.join(self.errors[:4])}"
        missing = [mention for mention in mentions if mention not in self.errors[0]]
        return f"no word of {', '.join(missing)} in: {self.errors[0]}" if missing else ""


def karui(*arguments: str, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run `karui` to its end."""
    done = subprocess.run(
        _command(arguments), env=os.environ | dict(environment or {}), capture_output=True, text=True, check=False
    )
    return Outcome(code=done.returncode, errors=tuple(line for line in done.stderr.splitlines() if line.strip()))


def kill_karui(*arguments: str, when: Callable[[], bool], environment: Mapping[str, str] | None = None) -> bool:
    """Start `karui` and kill it, and all that it started, as soon as `when` holds; False if it ended before."""
    process = subprocess.Popen(
        _command(arguments),
        env=os.environ | dict(environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None:
        if when():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.01)
    return False


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-c", _MAIN, *arguments]
