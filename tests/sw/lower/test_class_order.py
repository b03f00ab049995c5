import numpy as np
import pytest

from karui.sw.lower.class_order import integer_order, keeps_order
from karui.sw.lower.real_meaning import Meaning, add, leaky_rectify, plain

LOW, HIGH = -9, 9


@pytest.mark.parametrize("seed", range(30))
def test_integers_order_classes_as_their_reals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 5))
    scale = rng.choice([0.5, 1.0, 1.5], classes) if seed % 2 else np.full(classes, 0.7)
    # Whole biases make ties between classes, which the lower class must win.
    bias = (rng.integers(-3, 4, classes) * 0.5 if seed % 3 else rng.normal(size=classes)).astype(np.float32)
    meaning = Meaning(scale=scale, offset=np.zeros(1)).then(add(bias))
    found = integer_order(meaning, classes, LOW, HIGH)
    assert found is not None
    multiplier, offset = found
    words = np.stack(np.meshgrid(*[np.arange(LOW, HIGH + 1)] * classes), axis=-1).reshape(-1, classes)
    words = words[rng.permutation(len(words))[:20000]]
    np.testing.assert_array_equal((words * multiplier + offset).argmax(axis=1), meaning.evaluate(words).argmax(axis=1))


def test_a_tie_of_rounding_goes_to_the_larger_bias() -> None:
    # Near 2**20 float32 has steps of 1/8 or 1/16: it rounds both classes to one number, near zero it tells them apart.
    meaning = Meaning(scale=np.full(1, 64.0), offset=np.zeros(1)).then(add(np.array([0.01, 0.02], np.float32)))
    words = np.array([[1 << 14, 1 << 14], [1, 1], [2, 1], [1, 2]])
    assert meaning.evaluate(words).argmax(axis=1).tolist() == [0, 1, 0, 1]
    found = integer_order(meaning, 2, -(1 << 14), 1 << 14)
    assert found is not None
    assert (words * found[0] + found[1]).argmax(axis=1).tolist() == [1, 1, 0, 1]


def test_what_no_line_orders_is_refused() -> None:
    bent = Meaning(scale=np.array([1.0, 2.0]), offset=np.zeros(1)).then(leaky_rectify(np.full(1, 0.5, np.float32)))
    assert integer_order(bent, 2, LOW, HIGH) is None
    assert integer_order(plain(), 10, -(1 << 20), 1 << 20) is None


def test_words_are_compared_as_they_are_only_where_rounding_never_joins_them() -> None:
    assert keeps_order(plain(0.3).then(add(np.full(1, -7.7, np.float32))), -100, 100)
    assert not keeps_order(plain(0.3).then(add(np.full(1, 1e9, np.float32))), -100, 100)
    assert not keeps_order(plain().then(add(np.array([0.0, 1.0], np.float32))), LOW, HIGH)
