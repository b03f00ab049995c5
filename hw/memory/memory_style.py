"""Where a memory's bits go: block RAM, look-up tables, or as the synthesis tool decides."""

from __future__ import annotations

from typing import Literal

Storage = Literal["block", "distributed", "auto"]

DISTRIBUTED_ROM_WORDS = 16
"""Deepest ROM that `auto` keeps in look-up tables: one LUT4 holds 16 words of a bit."""
DISTRIBUTED_RAM_WORDS = 32
"""Deepest RAM that `auto` keeps in look-up tables: two distributed RAMs of 16 words."""


def resolve(storage: Storage, *, depth: int, limit: int) -> Literal["block", "distributed"]:
    """What `auto` stands for in a memory of `depth` words; other values are returned as they are.

    Raises
    ------
    ValueError
        If the storage is none of the three.
    """
    if storage not in ("block", "distributed", "auto"):
        raise ValueError(f"storage must be block, distributed or auto, not {storage!r}")
    if storage != "auto":
        return storage
    return "distributed" if depth <= limit else "block"


def rom_attributes(storage: Literal["block", "distributed"]) -> dict[str, str | int]:
    """Memory attributes that Yosys obeys for a ROM (its 'distributed' means RAM: a table of constants is logic)."""
    return {"rom_style": "logic" if storage == "distributed" else storage}


def ram_attributes(storage: Literal["block", "distributed"]) -> dict[str, str | int]:
    """Memory attributes that Yosys obeys for a RAM whose words are never read in the cycle that writes them.

    Without `no_rw_check` Yosys builds a bypass around the memory for that case, after the slow block RAM output.
    """
    return {"ram_style": storage, "no_rw_check": 1}
