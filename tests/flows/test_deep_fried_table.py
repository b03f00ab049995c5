"""What the table of Deep Fried networks counts."""

import pytest
import torch

from karui.flows.bench.deep_fried_table import numbers
from karui.sw.models.build import build_model
from karui.sw.models.deep_fried import DeepFriedConfig, Head


@pytest.mark.parametrize(
    ("head", "features", "expected"),
    [
        ("adaptive-fastfood", 2048, 52_124),
        ("fastfood", 2048, 52_124),
        ("adaptive-fastfood", 1024, 38_812),
        ("dense", 500, 430_500),
        ("random-projection", 1024, 25_500 + 1024 * (800 + 10)),
    ],
)
def test_numbers_are_counted_as_in_the_paper(head: Head, features: int, expected: int) -> None:
    with torch.device("meta"):
        assert numbers(build_model(DeepFriedConfig(head=head, features=features))) == expected
