"""Memory images: the ``.mem`` text that Verilog's ``$readmemh`` reads, one hexadecimal word a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def memory_image(words: Sequence[int], bits: int) -> str:
    """The text of a memory image.

    Parameters
    ----------
    words : sequence of int
        Contents, address 0 first; each 0 to ``2**bits - 1``.
    bits : int
        Width of a word.
    """
    digits = -(-bits // 4)
    for address, word in enumerate(words):
        if not 0 <= word < 1 << bits:
            raise ValueError(f"memory word {address} is {word:#x}, which does not fit {bits} bits")
    return "".join(f"{word:0{digits}x}\n" for word in words)


def read_memory_image(path: Path) -> list[int]:
    """The words of a ``.mem`` file, address 0 first.

    Raises
    ------
    ValueError
        If a line is not a hexadecimal word.
    """
    words = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        text = line.split("//")[0].strip()
        if not text or text.startswith("@0"):
            continue
        try:
            words.append(int(text, 16))
        except ValueError:
            raise ValueError(f"{path}, line {number}: {text!r} is not a hexadecimal word") from None
    return words
