"""The report's figures against the file they are of, counted by hand."""

from pathlib import Path

import numpy as np
import pytest

from karui.sw.coding.container import RawTensor, SharedTensor, write_container
from karui.sw.coding.relative_index import to_entries
from karui.sw.compress.report import report_file
from karui.sw.numerics import signed


def test_every_bit_of_the_file_is_in_the_report(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    codes = generator.integers(1, 4, 600) * (generator.random(600) < 0.1)
    codes[300] = 3
    weights = SharedTensor(
        name="ip1",
        shape=(20, 30),
        vector=1,
        code_book=np.array([[-3], [1], [7]]),
        number_format=signed(4),
        fraction=2,
        codes=codes,
    )
    bias = RawTensor(name="ip1.bias", values=generator.integers(-8, 8, 20), number_format=signed(4), fraction=2)
    path = tmp_path / "network.karui"
    account = write_container(path, {"family": "lenet-300-100"}, [weights, bias])
    report = report_file(path)
    (layer,) = report.layers
    assert report.bytes == path.stat().st_size == account.total // 8
    assert layer.file_bits == account.by_tensor["ip1"] + account.by_tensor["ip1.bias"]
    assert layer.file_bits + account.by_tensor[""] == 8 * report.bytes
    assert (report.weights, report.kept, layer.values) == (600, np.count_nonzero(codes), 3)
    assert report.float_bytes == 4 * (600 + 20)
    assert report.ratio == pytest.approx(2480 / report.bytes)
    entries = len(to_entries(codes, layer.gap_bits).gaps)
    assert layer.fillers == entries - report.kept
    # Floats and relative indices; then codes of 2 bits for three values and the filler, and a code book of three words.
    assert layer.pruned_bits == entries * (layer.gap_bits + 32) + 20 * 32
    assert layer.shared_bits == entries * (layer.gap_bits + 2) + 3 * 4 + 20 * 32
    sizes = list(report.stage_bytes.values())
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("slices", [1, 2])
def test_biases_count_where_there_are_some(slices: int, tmp_path: Path) -> None:
    names = ["ip1"] if slices == 1 else ["ip1.0", "ip1.1"]
    parts = [
        SharedTensor(
            name=name,
            shape=(4, 6),
            vector=1,
            code_book=np.array([[3]]),
            number_format=signed(3),
            fraction=2,
            codes=np.ones(24, dtype=np.int64),
        )
        for name in names
    ]
    bias = RawTensor(name="ip1.bias", values=np.array([1, -2, 3, 0]), number_format=signed(3), fraction=2)
    path = tmp_path / "network.karui"
    write_container(path, {"family": "lenet-300-100"}, parts)
    without = report_file(path)
    assert without.float_bytes == 4 * slices * 24
    write_container(path, {"family": "lenet-300-100"}, [*parts, bias])
    with_bias = report_file(path)
    assert with_bias.float_bytes == 4 * (slices * 24 + 4)
    account = with_bias.account.by_tensor
    assert with_bias.layers[0].file_bits == account[names[0]] + account["ip1.bias"]
    assert sum(layer.file_bits for layer in with_bias.layers) + account[""] == 8 * with_bias.bytes
