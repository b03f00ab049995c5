"""Word sources: where an engine takes its operands from, in its own order and at its own time."""

from __future__ import annotations

from amaranth.hdl import ShapeLike, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out


class WordSource(wiring.Signature):
    """Words on demand, with a fixed latency.

    Unlike a stream, it lets the words of two sources arrive in the same cycle without a handshake at the end of a
    pipeline: the engine takes from all of them in one cycle, and each answers after its own, constant time.

    Parameters
    ----------
    word_shape : ShapeLike
        Shape of a word.

    Members
    -------
    available : Out(1)
        Whether the next word can be taken in this cycle. Depends on registers of the source alone.
    take : In(1)
        Takes the next word. Only while `available`.
    data : Out(word_shape)
        The word, exactly `latency` cycles after the take, for one cycle. The latency is a property of the source's
        configuration.
    """

    def __init__(self, word_shape: ShapeLike) -> None:
        super().__init__({"available": Out(1), "take": In(1), "data": Out(word_shape)})


class WeightSource(WordSource):
    """The weights of a `MatrixVector`, in the order of its loop.

    The matrix has M rows of K weights: K is the length of a vector, or of each block's part of it. Word
    ``nf * (K / SIMD) + sf`` belongs to outputs ``nf * PE .. nf * PE + PE - 1`` and inputs
    ``sf * SIMD .. sf * SIMD + SIMD - 1``; after the last word the first one follows again. It comes in `groups` parts,
    one for each group of ``PE / groups`` outputs: ``data[g]`` is valid `latency` + `g` cycles after the take, since
    each group of the engine runs one cycle behind the one before. In a part, element ``p * SIMD + j`` (from the lowest
    bits on, in the weights' format) is the weight of output ``nf * PE + g * (PE / groups) + p`` and input
    ``sf * SIMD + j``.

    Parameters
    ----------
    groups : int
        Parts of a word.
    width : int
        Bits of a part: ``PE / groups * SIMD`` weights.
    """

    def __init__(self, *, groups: int, width: int) -> None:
        super().__init__(data.ArrayLayout(unsigned(width), groups))
        self.groups = groups
        self.width = width
