"""The section [compress] of a recipe file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from karui.sw.compress.config import CompressConfig
from karui.sw.configuration import ConfigurationError, from_mapping


def load_compress_config(path: Path) -> CompressConfig | None:
    """Read the section of a recipe file; None if there is none.

    Raises
    ------
    ConfigurationError
        If a key or value is wrong.
    """
    section = tomllib.loads(path.read_text()).get("compress")
    if section is None:
        return None
    if not isinstance(section, dict):
        raise ConfigurationError(f"{path.name}: compress must be a section, not {section!r}")
    return from_mapping(CompressConfig, section, f"{path.name} [compress]")
