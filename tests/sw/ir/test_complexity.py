"""The complexity of images in integers: against plain loops, against float64, and the depths that it leads to."""

from dataclasses import replace
from pathlib import Path

import mpmath
import numpy as np
import pytest

from karui.sw.data.datasets import load
from karui.sw.golden import evaluate
from karui.sw.ir import (
    Complexity,
    ComplexityTables,
    Constant,
    Graph,
    GraphBuilder,
    GraphError,
    complexity_of,
    graphs_equal,
    load_graph,
    save_graph,
    verify,
)
from karui.sw.ir.complexity_arithmetic import (
    binned_magnitudes,
    brightness,
    complexity_words,
    depth_steps,
    depths,
    histograms,
    power_bins,
    reference_complexity,
    reference_spectrum,
    spectrum,
    spectrum_bins,
    whole,
)
from karui.sw.ir.complexity_bound import entropy_change, error_bounds, largest_part, spectrum_error, word_error
from karui.sw.numerics import NumberFormat, signed, unsigned

PIXEL = unsigned(8)
SHAPES = [(4, 6, 1), (5, 4, 3), (7, 5, 1), (2, 2, 1)]
LIMIT = 0.005
"""Share of images whose depth may be another than that of float64."""


def complexity_graph(shape: tuple[int, int, int], pixel: NumberFormat = PIXEL) -> Graph:
    build = GraphBuilder("complexity")
    return build.finish(build.complexity("h", build.input("x", shape, pixel)))


def images_of(shape: tuple[int, int, int], count: int, pixel: NumberFormat = PIXEL) -> np.ndarray:
    """Noise, a black and a white image, and the rest pictures of few frequencies on black, as data sets have them."""
    random = np.random.default_rng(sum(shape))
    y, x = np.mgrid[: shape[0], : shape[1]]
    images = random.integers(0, pixel.maximum + 1, (count, *shape))
    for image in images[3:]:
        waves = sum(
            random.normal() * np.cos(np.tensordot(random.normal(0, 0.7, 3), [y, x, 1 + 0 * x], 1)) for _ in range(4)
        )
        image[:] = np.clip(waves * pixel.maximum, 0, pixel.maximum)[..., None]
    images[1], images[2] = 0, pixel.maximum
    return images


def spelled_out(op: Complexity, tables: ComplexityTables, image: np.ndarray) -> int:
    """The docstring of `Complexity`, word by word."""
    (cx, sx), (cy, sy), growth, steps = (table.tolist() for table in tables)
    height, width, channels = image.shape
    grey = image[..., 0] if channels == 1 else (image[..., 0] + 2 * image[..., 1] + image[..., 2]) // 4
    x = (grey - op.centre).tolist()

    def rounded(total: int, shift: int) -> int:
        return (2 * total + (1 << shift)) // (2 << shift)

    spectrum_counts = dict.fromkeys(range(256), 0)
    for u in range(width // 2 + 1):
        a = [rounded(sum(x[y][k] * cx[u * k % width] for k in range(width)), op.row_shift) for y in range(height)]
        b = [rounded(sum(x[y][k] * sx[u * k % width] for k in range(width)), op.row_shift) for y in range(height)]
        for v in range(height // 2 + 1):
            p, r = (sum(a[y] * table[v * y % height] for y in range(height)) for table in (cy, sy))
            q, s = (sum(b[y] * table[v * y % height] for y in range(height)) for table in (sy, cy))
            back = (op.centre * height * width << op.column_shift + op.fraction) if u == v == 0 else 0
            for real, imaginary, there in ((p - q, r + s, True), (p + q, s - r, 0 < v < height / 2)):
                power = rounded(real + back, op.column_shift) ** 2 + rounded(imaginary, op.column_shift) ** 2
                place = max(power.bit_length() - 1, 0)
                below = (power << 16 >> place) & 0xFFFF
                part = sum(below >= step for step in steps)
                found = min(max(8 * (place - 2 * (op.lowest + op.fraction)) + part, 0), 255)
                spectrum_counts[found] += there * (2 if 0 < u < width / 2 else 1)
    assert sum(spectrum_counts.values()) == height * width
    pixels = image.ravel().tolist()
    s1 = sum(growth[c] for value in range(256) for c in range(pixels.count(value)))
    s2 = sum(growth[c] for count in spectrum_counts.values() for c in range(count))
    word = rounded(op.offset - (s1 + channels * s2) * op.multiplier, op.shift)
    return min(max(word, 0), op.output.maximum)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [8, 3])
def test_words_are_those_of_the_definition(shape: tuple[int, int, int], bits: int) -> None:
    pixel = unsigned(bits)
    op, tables = complexity_of(shape, pixel)
    images = images_of(shape, 8, pixel)
    expected = [spelled_out(op, tables, image) for image in images]
    assert complexity_words(op, images, tables).tolist() == expected
    assert evaluate(complexity_graph(shape, pixel), images)[:, 0].tolist() == expected


def test_no_tables_make_other_words() -> None:
    """Each table and each parameter is in use: changed a little, some word changes."""
    op, tables = complexity_of((6, 8, 1), PIXEL)
    images = images_of((6, 8, 1), 40)
    words = complexity_words(op, images, tables)
    for place in range(len(tables)):
        for entry in np.ndindex(tables[place].shape):
            if place == 2 and entry[0] > 12:
                break
            changed = [table.copy() for table in tables]
            changed[place][entry] += 4000
            assert not np.array_equal(words, complexity_words(op, images, ComplexityTables(*changed))), (place, entry)
    for name, step in {"lowest": 8, "offset": 1 << (op.shift - 1), "multiplier": 1000, "shift": 1}.items():
        changed_op = replace(op, **{name: getattr(op, name) + step})
        assert not np.array_equal(words, complexity_words(changed_op, images, tables)), name


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (9, 14, 1), (64, 64, 3)])
def test_keeps_its_error_bound(shape: tuple[int, int, int]) -> None:
    op, tables = complexity_of(shape, PIXEL)
    images, (height, width, _) = images_of(shape, 120), shape
    real, imaginary = spectrum(op, images, tables)
    magnitudes = reference_spectrum(images)
    off = np.abs(np.ldexp(np.hypot(real, imaginary), -op.fraction) - magnitudes).max()
    assert off <= spectrum_error(op, height, width)
    assert max(np.abs(real).max(), np.abs(imaginary).max()) <= largest_part(op, height, width)

    error = np.abs(complexity_words(op, images, tables) * 2.0**-12 - reference_complexity(op, images))
    bounds, may_be_wrong = error_bounds(op, images)
    assert np.all(error <= bounds)
    # With the bins that are wrong indeed the same reasoning leaves little.
    found, exact = spectrum_bins(op, images, tables), whole(binned_magnitudes(op, magnitudes), height, width)
    moved = (found != exact).sum(axis=1)
    assert np.all(moved <= may_be_wrong)
    tight = word_error(op, shape) + entropy_change(moved, histograms(exact).max(axis=1), height * width)
    assert np.all(error <= tight)
    assert error.max() > tight.min()
    assert word_error(op, shape) < 2.0**-11


@pytest.mark.parametrize(("shape", "magnitude", "units"), [((28, 28, 1), 2.83, 0.89), ((32, 32, 3), 3.58, 0.84)])
def test_bounds_are_those_of_the_documents(shape: tuple[int, int, int], magnitude: float, units: float) -> None:
    op, _ = complexity_of(shape, PIXEL)
    assert round(spectrum_error(op, *shape[:2]), 2) == magnitude
    assert round(word_error(op, shape) * 2**12, 2) == units


@pytest.mark.parametrize("shape", [(6, 8, 1), (7, 9, 3), (8, 5, 1)])
def test_the_half_spectrum_stands_for_the_whole(shape: tuple[int, int, int]) -> None:
    op, _ = complexity_of(shape, PIXEL)
    images = images_of(shape, 10)
    full = np.abs(np.fft.fft2(brightness(images)))
    expected = histograms(binned_magnitudes(op, full).reshape(len(images), -1))
    assert np.array_equal(histograms(whole(binned_magnitudes(op, reference_spectrum(images)), *shape[:2])), expected)


def test_bins_are_steps_of_the_power() -> None:
    op, tables = complexity_of((28, 28, 1), PIXEL)
    edges = np.exp2(np.arange(1, 256) / 8 + 12)
    powers = np.unique(np.add.outer(np.ceil(edges).astype(np.int64), [-2, -1, 0, 1, 2]))
    bins = power_bins(op, powers, tables.steps)
    # Edges have 17 leading bits.
    assert np.all(bins >= np.searchsorted(edges * (1 + 2.0**-17), powers, side="right"))
    assert np.all(bins <= np.searchsorted(edges * (1 - 2.0**-17), powers, side="right"))
    assert power_bins(op, np.array([0, 1, 1 << 60 - 16]), tables.steps).tolist() == [0, 0, 255]


def test_plain_images_have_no_complexity() -> None:
    op, tables = complexity_of((28, 28, 1), PIXEL)
    images = np.zeros((3, 28, 28, 1), dtype=np.int64)
    images[1, 14:] = 255
    images[2] = np.arange(28)[:, None] * 9
    words = complexity_words(op, images, tables)
    assert words[0] == 0
    # Half of the words are of each kind: a bit of pixels; the spectrum has few lines.
    assert 0.5 * 4096 < words[1] < 0.7 * 4096
    assert words[2] > words[1]


def test_depth_steps_are_exact_for_every_word() -> None:
    words = np.arange(1, 1 << 16)
    with mpmath.workdps(40):
        expected = [int(mpmath.floor(mpmath.coth(mpmath.mpf(1 << 12) / word))) for word in words.tolist()]
    assert depths(words, 1, 16).tolist() == expected
    assert depth_steps(3, 6) == (16037, 20204, 24347)
    assert depths(np.array([0, 20203, 20204, 24346, 24347, 65535]), 4, 6).tolist() == [4, 4, 5, 5, 6, 6]
    with pytest.raises(ValueError, match="depths ascend from 1 or more, not from 0 to 3"):
        depth_steps(0, 3)
    with pytest.raises(ValueError, match="depths ascend"):
        depth_steps(5, 4)


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_depths_are_those_of_float64(name: str, shared_data: Path) -> None:
    images = load(name, shared_data).test_images.transpose(0, 2, 3, 1)
    op, tables = complexity_of(images.shape[1:], PIXEL)
    words, exact = complexity_words(op, images, tables), reference_complexity(op, images)
    expected = np.floor(1 / np.tanh(1 / exact))
    assert np.mean(depths(words, 1, 9) != expected) <= LIMIT
    assert np.abs(words * 2.0**-12 - exact).max() < 0.03
    if name == "fashion-mnist":
        assert np.mean((expected >= 4) & (expected <= 6)) > 0.99
        assert set(expected) == {3, 4, 5, 6}


def test_graphs_are_saved_and_loaded(tmp_path: Path) -> None:
    graph = complexity_graph((5, 6, 3))
    save_graph(graph, tmp_path)
    assert graphs_equal(load_graph(tmp_path), graph)
    assert str(graph.tensors["h"].number_format) == str(unsigned(16, fraction=12))


@pytest.mark.parametrize(
    ("shape", "pixel", "message"),
    [
        ((5, 6, 2), PIXEL, "a complexity is that of an image"),
        ((1, 6, 1), PIXEL, "a complexity is that of an image"),
        ((5, 6), PIXEL, "a complexity is that of an image"),
        ((4, 6027, 1), PIXEL, "fewer than 24,108 elements, not of 4 x 6027 x 1: resize it"),
        ((5, 6, 1), signed(8), "takes an image .* of 2 to 8 bits unsigned"),
        ((5, 6, 1), unsigned(1), "takes an image .* of 2 to 8 bits unsigned"),
        ((5, 6, 1), unsigned(9), "takes an image .* of 2 to 8 bits unsigned"),
    ],
)
def test_refuses_what_is_no_image(shape: tuple[int, ...], pixel: NumberFormat, message: str) -> None:
    build = GraphBuilder("complexity")
    # Two elements less than the least that are too many.
    complexity_of((2, 12_053, 1), PIXEL)
    with pytest.raises(ValueError, match=message):
        build.complexity("h", build.input("x", shape, pixel))


@pytest.mark.parametrize(
    ("name", "factor", "offset", "message"),
    [
        ("rows", 1, 1, "the twiddles are -65536 to 65536, not -65536 to 65537"),
        ("steps", -1, 60000, "the steps of an octave do not ascend"),
        ("growth", -1, 0, "the growth of c log2 c is 0 to 65535"),
    ],
)
def test_refuses_tables_that_do_not_suit(name: str, factor: int, offset: int, message: str) -> None:
    graph = complexity_graph((28, 28, 1))
    constant = graph.constants[f"h.{name}"]
    changed = Constant(
        values=constant.values * factor + offset,
        number_format=signed(20, fraction=constant.number_format.fraction),
    )
    constants = {**graph.constants, f"h.{name}": changed}
    with pytest.raises(GraphError, match=message):
        verify(replace(graph, constants=constants))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"centre": 64}, "the centre of u8 is 128, not 64|the centre of .* is 128, not 64"),
        ({"sums": signed(17, fraction=5)}, "sums of rows reach from .* more than the format"),
        ({"fraction": 6, "lowest": 0}, "take more than 23 bits: use fewer fractional bits"),
        ({"output": unsigned(16, fraction=11)}, "complexity have 12 fractional bits"),
    ],
)
def test_refuses_formats_that_do_not_suit(changes: dict[str, object], message: str) -> None:
    graph = complexity_graph((28, 28, 1))
    (node,) = graph.nodes
    assert isinstance(node.op, Complexity)
    changed = replace(node, op=replace(node.op, **changes))  # type: ignore[arg-type]
    with pytest.raises(GraphError, match=message):
        verify(replace(graph, nodes=(changed,)))


def test_refuses_parameters_that_mean_nothing() -> None:
    op, _ = complexity_of((28, 28, 1), PIXEL)
    with pytest.raises(ValueError, match="a complexity has a shift of 1 or more, not 0"):
        replace(op, shift=0)
    with pytest.raises(ValueError, match=r"bins begin at 2\*\*-4, .* not at 2\*\*-5"):
        replace(op, lowest=-5)
    with pytest.raises(ValueError, match="signed sums of rows and an unsigned word"):
        replace(op, output=signed(16, fraction=12))
