import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from karui.sw.golden import evaluate
from karui.sw.ir import GraphError
from karui.sw.lower.from_arrays import binary_mlp_from_arrays, thresholds_on_sums

Array = npt.NDArray[Any]


class Lfc:
    """The arrays of the published network, as signs and as its own counts."""

    def __init__(self, folder: Path) -> None:
        arrays = np.load(folder / "bnn-pynq-lfc-w1a1" / "lfc_w1a1.npz")
        self.image, self.output_bits = arrays["image"], arrays["output_bits"]
        self.bits, self.matches = [], []
        for layer in range(4):
            inputs = int(arrays[f"shape{layer}"][1])
            self.bits.append(np.unpackbits(arrays[f"weight{layer}"], axis=1, bitorder="little")[:, :inputs])
            self.matches.append(arrays[f"threshold{layer}"])
        self.weights = [2 * bits.astype(np.int64) - 1 for bits in self.bits]
        self.thresholds = [
            thresholds_on_sums(matches, bits.shape[1]) for matches, bits in zip(self.matches, self.bits, strict=True)
        ]


@pytest.fixture(scope="module")
def lfc(shared_vectors: Path) -> Lfc:
    return Lfc(shared_vectors)


def test_lfc_yields_the_published_bits(lfc: Lfc) -> None:
    graph = binary_mlp_from_arrays(
        lfc.weights, lfc.thresholds, name="lfc", input_shape=(28, 28, 1), pixel_threshold=128
    )
    bits = evaluate(graph, lfc.image.reshape(1, 28, 28, 1))[0]
    np.testing.assert_array_equal(bits > 0, lfc.output_bits.astype(bool))


def test_lfc_classifies_as_published(lfc: Lfc, shared_data: Path) -> None:
    graph = binary_mlp_from_arrays(
        [*lfc.weights[:3], lfc.weights[3][:10]],
        lfc.thresholds[:3],
        name="lfc",
        bias=-2 * lfc.matches[3][:10],
        input_shape=(28, 28, 1),
        pixel_threshold=128,
        classes="0123456789",
    )
    assert evaluate(graph, lfc.image.reshape(1, 28, 28, 1)).item() == 3
    images = gzip.decompress((shared_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((shared_data / "mnist" / "t10k-labels-idx1-ubyte.gz").read_bytes())
    frames = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    right = evaluate(graph, frames)[:, 0] == np.frombuffer(labels, np.uint8, offset=8)
    assert (int(right.sum()), right.size) == (9834, 10000)


@pytest.mark.parametrize("seed", range(8))
def test_sums_and_matches_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, padded, hidden, classes = 13, 16, 9, 5
    bits = [rng.integers(0, 2, (hidden, padded)), rng.integers(0, 2, (classes, hidden))]
    matches, bias = rng.integers(4, 12, hidden), rng.integers(-4, 4, classes)
    frames = rng.integers(0, 2, (50, inputs))
    graph = binary_mlp_from_arrays(
        [2 * part - 1 for part in bits],
        [thresholds_on_sums(matches, padded)],
        name="random",
        bias=bias,
        input_shape=(inputs,),
    )
    vectors = np.concatenate([frames, np.zeros((50, padded - inputs), dtype=int)], axis=1)
    fired = (vectors[:, None] == bits[0]).sum(axis=2) > matches
    scores = 2 * (fired[:, None] == bits[1]).sum(axis=2) - hidden + bias
    np.testing.assert_array_equal(evaluate(graph, 2 * frames - 1)[:, 0], scores.argmax(axis=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thresholds": []}, "2 layers take 2 arrays of thresholds, or 1 for a classifier, not 0"),
        ({"weights": [np.zeros((3, 4)), np.ones((2, 3))]}, "layer 1: the weights must be -1 and \\+1; unpack bits"),
        ({"thresholds": [np.zeros(4)]}, "layer 1: 3 outputs need as many thresholds, not shape \\(4,\\)"),
        ({"thresholds": [np.full(3, 0.5)]}, "layer 1: the thresholds must be integers; round them first"),
        ({"thresholds": [np.zeros(3), np.zeros(2)], "bias": np.ones(2)}, "a bias needs a classifier"),
        ({"weights": [np.ones((3, 4)), np.ones((2, 5))]}, "weights of shape .* do not fit vectors of shape \\(3,\\)"),
    ],
)
def test_misfits_are_named(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"weights": [np.ones((3, 4)), np.ones((2, 3))], "thresholds": [np.zeros(3)]} | arguments
    with pytest.raises((ValueError, GraphError), match=message):
        binary_mlp_from_arrays(name="misfit", **given)
