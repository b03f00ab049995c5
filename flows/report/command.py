"""The command that repeats a build."""

from __future__ import annotations

import shlex
from dataclasses import fields

from karui.flows.recipe import Recipe
from karui.flows.settings import Settings

# Field of the hardware section -> option of `karui build`.
OPTIONS = {
    "device": "--device",
    "clock_mhz": "--clock",
    "initiation_interval": "--interval",
    "frame_rate": "--frame-rate",
    "fit": "--fit",
    "images": "--images",
    "seeds": "--seeds",
}


def build_command(settings: Settings, recipe: Recipe) -> str:
    """``karui build`` with the options in which a build departs from its recipe."""
    words = ["karui", "build", settings.recipe]
    for field in fields(settings.hardware):
        value, usual = (getattr(hardware, field.name) for hardware in (settings.hardware, recipe.hardware))
        if field.name not in OPTIONS or value == usual or value in (None, False):
            continue
        words.append(OPTIONS[field.name])
        if value is not True:
            words.append(f"{value:g}" if isinstance(value, float) else str(value))
    if settings.seed is not None:
        words += ["--seed", str(settings.seed)]
    if settings.retrain:
        words.append("--retrain")
    return shlex.join(words)
