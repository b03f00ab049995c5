"""Arg max over classes whose integers have scales and biases of their own: integers in the same order, proven."""

from __future__ import annotations

import numpy as np

from karui.sw.lower.real_meaning import Integers, Meaning

# Words times classes that the proof enumerates.
_MOST_POINTS = 1 << 22
_MOST_FRACTION = 30


def keeps_order(meaning: Meaning, low: int, high: int) -> bool:
    """Whether all classes mean the same and a larger word always means a larger number, never an equal one."""
    if not meaning.is_uniform or high - low >= _MOST_POINTS:
        return False
    reals = meaning.evaluate(np.arange(low, high + 1)[:, None])[:, 0]
    return bool(np.all(np.diff(reals) > 0))


def integer_order(meaning: Meaning, classes: int, low: int, high: int) -> tuple[Integers, Integers] | None:
    """Multipliers and offsets that order the classes' words as the model's reals do.

    For any two classes c and d and any words q and r, ``multiplier[c] * q + offset[c]`` and
    ``multiplier[d] * r + offset[d]`` compare as the reals of q and r, the lower class winning a tie. This is checked
    on every word of every class: sorted by (real, class descending), the integers must ascend by the same rule.

    Parameters
    ----------
    meaning : Meaning
        Nondecreasing in each class.
    classes : int
    low, high : int
        Range of the words.

    Returns
    -------
    (ndarray, ndarray) or None
        Of the narrowest integers that were found; None if there are none, or too many words to check.
    """
    line = meaning.line()
    if line is None or (high - low + 1) * classes > _MOST_POINTS:
        return None
    scale, offset = (np.broadcast_to(part, (classes,)) for part in line)
    unit = scale.max()
    words = np.arange(low, high + 1)[:, None] + np.zeros(classes, dtype=np.int64)
    reals = np.broadcast_to(meaning.evaluate(words), words.shape).reshape(-1)
    rank = np.broadcast_to(-np.arange(classes), words.shape).reshape(-1)
    order = np.lexsort((words.reshape(-1), rank, reals))
    for fraction in range(_MOST_FRACTION):
        multiplier = np.rint(scale / unit * 2.0**fraction).astype(np.int64)
        bias = np.rint(scale / unit * offset * 2.0**fraction).astype(np.int64)
        scores = (words * multiplier + bias).reshape(-1)[order]
        ties = (np.diff(scores) == 0) & (np.diff(rank[order]) < 0)
        if np.all(multiplier > 0) and not np.any(np.diff(scores) < 0) and not np.any(ties):
            return multiplier, bias
    return None
