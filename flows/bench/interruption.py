"""Builds killed in the middle of a stage, then done again by the same command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from karui.flows.bench.benchmark import Check, equal
from karui.flows.bench.command_line import karui, kill_karui
from karui.flows.build_folder import BuildError, BuildFolder, sha256
from karui.sim.verilator import CACHE_VARIABLE

# Epochs that a training is let go before it is killed.
_EPOCHS_BEFORE = 3

RECIPE = """
description = "A network that trains in seconds"
[data]
name = "digits"
[model]
family = "binary-mlp"
in_features = 64
hidden = [16]
input = "pixels"
[train]
epochs = 40
batch_size = 50
[hardware]
initiation_interval = 64
images = 50
"""


def interrupted_builds(folder: Path, progress: Callable[[str], None]) -> list[Check]:
    """Kill train, compile and simulate; the folder must not pass for good, and the second try must give the same."""
    recipe = folder / "interrupted.toml"
    recipe.write_text(RECIPE)
    whole, broken = BuildFolder(path=folder / "whole"), BuildFolder(path=folder / "broken")
    environment = {CACHE_VARIABLE: str((folder / "cache").resolve())}
    history = broken.training_state / "history.jsonl"
    partial_design = broken.design.with_name("design.partial")
    cache = folder / "cache" / "verilator"
    stages: dict[str, tuple[Callable[[BuildFolder], list[str]], Callable[[], bool]]] = {
        "train": (
            lambda build: ["train", str(recipe), "--out", str(build.path)],
            lambda: history.is_file() and len(history.read_text().splitlines()) >= _EPOCHS_BEFORE,
        ),
        "compile": (lambda build: ["compile", str(build.path)], partial_design.is_dir),
        "simulate": (lambda build: ["simulate", str(build.path)], lambda: any(cache.glob("*.build-*/*.cpp"))),
    }
    checks = []
    for stage, (command, when) in stages.items():
        progress(f"killing {stage}")
        killed = kill_karui(*command(broken), when=when, environment=environment)
        checks += [
            equal(f"{stage} killed on its way", killed, True),
            equal(f"{stage} killed: taken for done", _is_done(broken, stage), False),
            equal(f"{stage} again: exit code", karui(*command(broken), environment=environment).code, 0),
            equal(f"{stage} never killed: exit code", karui(*command(whole), environment=environment).code, 0),
            equal(f"{stage} again: same result", _outcome(broken, stage) == _outcome(whole, stage), True),
        ]
    return checks


def _is_done(build: BuildFolder, stage: str) -> bool:
    try:
        build.result(stage)
    except BuildError:
        return False
    return True


def _outcome(build: BuildFolder, stage: str) -> Any:
    """A stage's record without its times, and the digests of the files that later stages read."""
    if not _is_done(build, stage):
        return f"{build.path} is not done"
    record = json.loads(build.record(stage).read_text())
    # Archives hold the time of their making: the arrays in them are compared by the records of the stages that read.
    digests = {
        name: digest for name, digest in record["inputs"].items() if not name.endswith(".npz") or stage == "train"
    }
    design = sorted(build.design.rglob("*.mem")) + sorted(build.design.rglob("*.v"))
    return _without_times(record["result"]), digests, [sha256(path) for path in design]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_times(entry) for key, entry in value.items() if key not in ("seconds", "cycles_per_second")
        }
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value
