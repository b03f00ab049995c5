"""Section [compress] of a recipe: what happens to a trained network until it is a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from karui.sw.ir.storage import LONGEST_CODE, WIDEST_CODED_GAP
from karui.sw.train.augment import AugmentConfig

Initialisation = Literal["linear", "density", "k-means++"]
Assignment = Literal["fixed", "moving"]
BOOK_SIZES = range(1, 257)
VECTORS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """A training within the pipeline; batch size, augmentation, loss, seed are those of [train].

    Parameters
    ----------
    epochs
        Passes over the training images.
    learning_rate
        Step size at the first step; it ends where that of [train] does.
    weight_decay
        Of weights, decoupled from the gradients.
    """

    epochs: int
    learning_rate: float
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, not {self.weight_decay}")


@dataclass(frozen=True, kw_only=True)
class StructureConfig(PhaseConfig):
    """Removal of whole neurons and channels, and training of what is left.

    Parameters
    ----------
    widths
        Neurons or channels kept of each hidden layer, from the input on.
    """

    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be at least 1 each, not {list(self.widths)}")


@dataclass(frozen=True, kw_only=True)
class PruneConfig(PhaseConfig):
    """Gradual pruning of weights or vectors of them, then retraining of those that are kept.

    Parameters
    ----------
    keep
        Fraction of the weights that is kept: one number over all layers (scope ``global``), or one a layer.
    scope
        ``global`` compares the scores of all layers, ``layer`` those within each.
    score
        ``magnitude``, or ``lamp``: magnitudes on a scale that is comparable between layers.
    ramp
        Fraction of the steps after which the weights are as few as they will be.
    regrow
        Whether pruned weights still learn and come back when they score high enough, until `freeze`.
    freeze
        Fraction of the steps after which the choice is final.
    every
        Steps between two choices.
    vectors
        Neighbouring weights of each layer that are kept or pruned together, by their norm: one weight each unless
        given, and then one number a layer with scope ``layer``. In the weights of a prediction in capsules, a vector of
        the length of an input capsule yields one element, the whole matrix and all matrices of an input capsule are
        vectors too.
    """

    keep: tuple[float, ...]
    scope: Literal["global", "layer"] = "global"
    score: Literal["magnitude", "lamp"] = "lamp"
    ramp: float = 0.6
    regrow: bool = False
    freeze: float = 0.8
    every: int = 30
    vectors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.keep or not all(0 < fraction <= 1 for fraction in self.keep):
            raise ValueError(f"keep must be fractions in (0, 1], not {list(self.keep)}")
        if self.scope == "global" and len(self.keep) != 1:
            raise ValueError(f'keep must be one fraction with scope = "global", not {len(self.keep)}')
        if not 0 < self.ramp <= self.freeze <= 1:
            raise ValueError(f"0 < ramp <= freeze <= 1 must hold, not ramp = {self.ramp}, freeze = {self.freeze}")
        if self.every < 1:
            raise ValueError(f"every must be at least 1 step, not {self.every}")
        if self.vectors and (self.scope != "layer" or len(self.vectors) != len(self.keep) or min(self.vectors) < 1):
            raise ValueError(
                f'vectors must be one positive number a layer with scope = "layer", as keep is, not '
                f'{list(self.vectors)} with scope = "{self.scope}"'
            )


@dataclass(frozen=True, kw_only=True)
class ShareConfig(PhaseConfig):
    """Weight sharing by clustering, then training of the shared values.

    Parameters
    ----------
    codes
        Non-zero values of each layer's code book: one number for all layers, or one a layer.
    initialisation
        Of k-means: values spread evenly over the range (``linear``), over the weights (``density``), or ``k-means++``.
    vectors
        Weights along a row that are clustered together: one number for all layers, or one a layer. A layer whose rows
        it does not divide takes the largest power of two below it that does.
    books
        Slices of a layer's columns, a power of two, with a code book each (product quantization); fewer where they do
        not divide the row's vectors.
    bias_codes
        Values of each layer's biases, shared likewise; each bias has its own unless given.
    rate
        Price of a bit in the clustering, in units of the mean squared weight: 0 is k-means, more moves weights to
        values that are coded in fewer bits, zero among them.
    assignment
        Whether training leaves each vector its entry of the code book (``fixed``), or latent weights learn too and
        take the nearest entry, at the same rate, ever anew (``moving``).
    """

    codes: tuple[int, ...]
    initialisation: Initialisation = "linear"
    vectors: tuple[int, ...] = (1,)
    books: int = 1
    bias_codes: int | None = None
    rate: float = 0.0
    assignment: Assignment = "fixed"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.codes or not all(size in BOOK_SIZES for size in self.codes):
            raise ValueError(f"codes must be 1 to 256 values a layer, not {list(self.codes)}")
        if not self.vectors or not all(vector in VECTORS for vector in self.vectors):
            raise ValueError(f"vectors must be 1, 2, 4, 8 or 16 weights each, not {list(self.vectors)}")
        if self.books < 1 or self.books & (self.books - 1):
            raise ValueError(f"books must be a power of two, not {self.books}")
        if self.bias_codes is not None and self.bias_codes not in BOOK_SIZES:
            raise ValueError(f"bias_codes must be 1 to 256 values, not {self.bias_codes}")
        if self.rate < 0:
            raise ValueError(f"rate must not be negative, not {self.rate}")
        if self.assignment == "moving" and self.books > 1:
            raise ValueError(f'assignment = "moving" takes one code book a layer, not books = {self.books}')

    def layer_codes(self, layers: int) -> tuple[int, ...]:
        """Non-zero values of the code book of each of so many layers."""
        return one_a_layer("codes", self.codes, layers)

    def layer_vectors(self, layers: int) -> tuple[int, ...]:
        """Weights that are clustered together in each of so many layers."""
        return one_a_layer("vectors", self.vectors, layers)


@dataclass(frozen=True, kw_only=True)
class SignSharingConfig(PhaseConfig):
    """Section [share] of a recipe: rows of binary weights are composed of few vectors, and training goes on with them.

    Parameters
    ----------
    vector
        Weights along a row that form a vector.
    codes
        Vectors of each layer's code book: one number for all layers, or one a layer. The last layer has none.
    """

    vector: int
    codes: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vector not in (4, 8, 16):
            raise ValueError(f"vector must be 4, 8 or 16 weights, not {self.vector}")
        if not self.codes or not all(size in BOOK_SIZES for size in self.codes):
            raise ValueError(f"codes must be 1 to 256 vectors a layer, not {list(self.codes)}")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Share of the dense network's soft targets in the loss of every phase behind it (Hinton et al. 2015).

    Parameters
    ----------
    weight
        Share of the soft targets; the labels keep the rest.
    temperature
        Divides the logits in the soft part.
    """

    weight: float = 0.5
    temperature: float = 2.0


@dataclass(frozen=True, kw_only=True)
class CodingConfig:
    """How hardware stores what is left: relative indices of the non-zeros, and Huffman codes of indices and values.

    The file has the smallest codes of its own.

    Parameters
    ----------
    gap_bits
        Bits of a relative index: one number for all layers, or one a layer; the number that makes each layer smallest
        unless given. Layers that are smaller uncoded stay so.
    longest_code
        Bits of the longest code word.
    """

    gap_bits: tuple[int, ...] = ()
    longest_code: int = LONGEST_CODE

    def __post_init__(self) -> None:
        if not all(1 <= bits <= WIDEST_CODED_GAP for bits in self.gap_bits):
            raise ValueError(f"gap_bits must be 1 to {WIDEST_CODED_GAP} a layer, not {list(self.gap_bits)}")
        if not 1 <= self.longest_code <= LONGEST_CODE:
            raise ValueError(f"longest_code must be 1 to {LONGEST_CODE} bits, not {self.longest_code}")


@dataclass(frozen=True, kw_only=True)
class CompressConfig:
    """The pipeline: [train] trains the dense network in floating point, then these phases follow in order.

    Parameters
    ----------
    prune, share
        Pruning and sharing.
    structure
        Removal of neurons before them, where given.
    teacher
        Distillation from the dense network, where given.
    augment
        Distortion of the training images in these phases; that of [train] unless given. A network of few weights has
        no capacity to spare for images that are further off than the test's.
    coding
        Storage of the result in hardware.
    """

    prune: PruneConfig
    share: ShareConfig
    structure: StructureConfig | None = None
    teacher: TeacherConfig | None = None
    augment: AugmentConfig | None = None
    coding: CodingConfig = field(default_factory=CodingConfig)


def one_a_layer(name: str, numbers: tuple[int, ...], layers: int) -> tuple[int, ...]:
    """A number for each layer, from one number for all of them or from as many.

    Raises
    ------
    ValueError
        If there are neither one nor as many; the message begins with `name`.
    """
    if len(numbers) not in (1, layers):
        raise ValueError(f"{name} must be one number or {layers}, one a layer, not {list(numbers)}")
    return numbers * layers if len(numbers) == 1 else numbers
