"""Arg max over classes whose integers have scales and biases of their own: integers in the same order, proven."""

from __future__ import annotations

import numpy as np

from karui.sw.lower.real_meaning import Integers, Meaning

# Words times classes that the proof enumerates.
_MOST_POINTS = 1 << 22
# Multipliers tried for the largest scale: small ones give scales of small whole ratio exactly, then ever finer ones.
_LARGEST = (*range(1, 17), *(1 << fraction for fraction in range(5, 30)))


def keeps_order(meaning: Meaning, low: int, high: int) -> bool:
    """Whether all classes mean the same and a larger word always means a larger number, never an equal one."""
    if not meaning.is_uniform or high - low >= _MOST_POINTS:
        return False
    reals = meaning.evaluate(np.arange(low, high + 1)[:, None])[:, 0]
    return bool(np.all(np.diff(reals) > 0))


def integer_order(meaning: Meaning, classes: int, low: int, high: int) -> tuple[Integers, Integers] | None:
    """Multipliers and offsets that order the classes' words as the model's reals do.

    The class with the largest ``multiplier * word + offset`` (the lowest of equal ones) is the class with the largest
    real, for any words: every word of every class is checked. Far from zero float32 may round the reals of two classes
    to the same number where their biases differ; only if no integers reproduce that may such a tie be decided by the
    biases instead of by the lower class.

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
    preference = np.arange(classes)[::-1]
    reals = np.broadcast_to(meaning.evaluate(words), words.shape).reshape(-1)
    order = np.lexsort((words.reshape(-1), np.broadcast_to(preference, words.shape).reshape(-1), reals))
    groups = np.flatnonzero(np.diff(reals[order], prepend=-np.inf) > 0)
    relaxed = None
    for largest in _LARGEST:
        multiplier = np.rint(scale / unit * largest).astype(np.int64)
        bias = np.rint(scale / unit * offset * largest).astype(np.int64)
        if np.any(multiplier <= 0):
            continue
        # What the arg max compares: scores, then classes.
        keys = ((words * multiplier + bias) * classes + preference).reshape(-1)[order]
        if np.all(np.diff(keys) >= 0):
            return multiplier, bias
        if relaxed is None and np.all(np.maximum.reduceat(keys, groups)[:-1] < np.minimum.reduceat(keys, groups)[1:]):
            relaxed = multiplier, bias
    return relaxed
