"""What puppets of every kind store, by hand: parameters and bytes of each part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from karui.sw.models.puppet import PuppetConfig, build_puppet, fixed_twin
from karui.sw.models.puppet_size import stored_size
from karui.sw.nn.precision import FLOAT, Precision

BYTES = Precision(weight_bits=8, activation_bits=8)
CONFIG = PuppetConfig(
    image=(1, 16, 16), channels=8, first_depth=3, last_depth=5, pattern_rank=4, rank=6, terms=4, precision=BYTES
)
# A multiplier of 12 bits and an offset of 32 a channel; a kernel of 3 x 3 a channel in front of that.
NORM = 8 * (12 + 32) // 8
STEM = (9 * 8 + 2 * 8, 9 * 8 + NORM)
CLASSIFIER = (8 * 10 + 10, 8 * 10 + 4 * 10)
NORMS = (5 * 2 * 8, 5 * NORM)
EULER = (9 * 8 + 8 * 8, 9 * 8 + 8 * 8)
PATTERN = (4 * (8 + 8 + 9), 4 * (8 + 8 + 9))
# u, v, t, and two coefficients a function.
LOW_RANK = 6 * (8 + 8 + 9) + 2 * 4 * 6


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, {"generator": EULER, "pattern": PATTERN, "batch norms": NORMS, "stem": STEM, "classifier": CLASSIFIER}),
        (
            {"puppet": "residual", "generator": "polynomials"},
            {"generator": (LOW_RANK, LOW_RANK), "batch norms": NORMS, "stem": STEM, "classifier": CLASSIFIER},
        ),
        (
            # A frequency and a phase of 32 bits a function.
            {"generator": "sines"},
            {
                "generator": (LOW_RANK + 2 * 4, LOW_RANK + 2 * 4 * 4),
                "batch norms": NORMS,
                "stem": STEM,
                "classifier": CLASSIFIER,
            },
        ),
        (
            # The generator's constants stay words of 8 bits.
            {"precision": Precision(weight_bits=4, activation_bits=4, edge_bits=None)},
            {
                "generator": EULER,
                "pattern": PATTERN,
                "batch norms": NORMS,
                "stem": (STEM[0], 9 * 8 // 2 + NORM),
                "classifier": (CLASSIFIER[0], 8 * 10 // 2 + 4 * 10),
            },
        ),
        (
            {"precision": FLOAT, "stem": "generated", "pattern_rank": 0},
            {
                "generator": (136, 4 * 136),
                "batch norms": (80, 4 * 80),
                "stem": (2 * 8, 4 * 2 * 8),
                "classifier": (90, 4 * 90),
            },
        ),
        (
            # Layers of 2, 4, 8, 8 and 8 channels behind a stem of 2.
            {"precision": FLOAT, "puppet": "vgg"},
            {
                "generator": (136, 4 * 136),
                "pattern": (100, 4 * 100),
                "batch norms": (2 * 30, 4 * 2 * 30),
                "stem": (9 * 2 + 2 * 2, 4 * 22),
                "classifier": (90, 4 * 90),
            },
        ),
    ],
)
def test_parts_are_those_of_a_count_by_hand(changes: dict[str, Any], parts: dict[str, tuple[int, int]]) -> None:
    config = replace(CONFIG, **changes)
    size = stored_size(build_puppet(config), config)
    assert {part.name: (part.parameters, part.bytes) for part in size.parts} == parts
    assert (size.parameters, size.bytes) == tuple(map(sum, zip(*parts.values(), strict=True)))


@pytest.mark.parametrize(
    ("changes", "kernels", "norms", "stem"),
    [
        ({}, 4 * 9 * 8 * 8, 4 * 8, 8),
        ({"puppet": "residual"}, 4 * 9 * 8 * 8, 4 * 8, 8),
        ({"puppet": "vgg"}, 9 * (2 * 2 + 2 * 4 + 4 * 8 + 8 * 8), 2 + 4 + 8 + 8, 2),
    ],
)
def test_a_twin_stores_a_kernel_a_layer(changes: dict[str, Any], kernels: int, norms: int, stem: int) -> None:
    """Four layers' kernels in words of 8 bits, or of 4; batch norms and classifier as those of the puppet."""
    for precision, bits in ((BYTES, 8), (Precision(weight_bits=4, activation_bits=4), 4)):
        config = replace(fixed_twin(replace(CONFIG, precision=precision), 4), **changes)
        parts = {part.name: (part.parameters, part.bytes) for part in stored_size(build_puppet(config), config).parts}
        assert parts == {
            "stem": (9 * stem + 2 * stem, 9 * stem + stem * 44 // 8),
            "kernels": (kernels, kernels * bits // 8),
            "batch norms": (2 * norms, norms * 44 // 8),
            "classifier": CLASSIFIER,
        }
