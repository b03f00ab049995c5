"""What the command line shows while a stage runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console()
error_console = Console(stderr=True)


class StageDisplay:
    """One line for the work in progress, a bar where its length is known."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def line(self, text: str) -> None:
        """Say what begins."""
        self._progress.update(self._task, description=text, completed=0, total=None)

    def count(self, text: str, done: int, total: int) -> None:
        """Say how far it is."""
        self._progress.update(self._task, description=text, completed=done, total=total)


@contextmanager
def stage_display(name: str) -> Iterator[StageDisplay]:
    """Show a stage while the body runs."""
    columns = (
        TextColumn(f"[bold]{name:<10}[/bold]"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield StageDisplay(progress)


def done(stage: str, text: str) -> None:
    """Say what a stage found."""
    console.print(f"[bold green]✓[/bold green] [bold]{stage:<10}[/bold] {text}", highlight=False, soft_wrap=True)
