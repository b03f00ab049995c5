"""Dataclasses from mappings: types, nesting, and messages that name the way out."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from karui.sw.configuration import ConfigurationError, from_mapping


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, not {self.size}")


@dataclass(frozen=True, kw_only=True)
class Whole:
    rate: float
    kind: Literal["fast", "small"] = "fast"
    parts: tuple[Part, ...] = ()
    shape: tuple[int, int] = (1, 1)
    spare: Part | None = None
    enabled: bool = False


def test_nested_values() -> None:
    mapping = {"rate": 2, "kind": "small", "parts": [{"name": "a"}, {"name": "b", "size": 3}], "spare": {"name": "c"}}
    expected = Whole(rate=2.0, kind="small", parts=(Part(name="a"), Part(name="b", size=3)), spare=Part(name="c"))
    assert from_mapping(Whole, mapping, "here") == expected
    assert from_mapping(Whole, {"rate": 1.5, "spare": None}, "here") == Whole(rate=1.5)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"rate": 1, "knid": "fast"}, "here: unknown key 'knid'; did you mean 'kind'?"),
        ({"rate": 1, "zzz": 1}, "unknown key 'zzz'; known keys: enabled, kind, parts, rate, shape, spare"),
        ({}, "here: the key 'rate' is missing"),
        ({"rate": "1"}, "here, key 'rate' must be of type float, not '1'"),
        ({"rate": True}, "must be of type float, not True"),
        ({"rate": 1, "enabled": 1}, "key 'enabled' must be of type bool, not 1"),
        ({"rate": 1, "kind": "big"}, "key 'kind': 'big' is not one of 'fast', 'small'"),
        ({"rate": 1, "shape": [1, 2, 3]}, "key 'shape' must have 2 entries, not 3"),
        ({"rate": 1, "shape": [1, 2.0]}, r"key 'shape'\[1\] must be of type int, not 2.0"),
        ({"rate": 1, "shape": 4}, "key 'shape' must be a list, not 4"),
        ({"rate": 1, "parts": ["a"]}, r"key 'parts'\[0\] must be a table, not 'a'"),
        ({"rate": 1, "parts": [{"nam": "a"}]}, r"key 'parts'\[0\]: unknown key 'nam'; did you mean 'name'"),
        ({"rate": 1, "spare": {"name": "a", "size": 0}}, "key 'spare': size must be at least 1, not 0"),
    ],
)
def test_wrong_mappings(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        from_mapping(Whole, mapping, "here")
