"""From a TOML mapping to nested frozen dataclasses, with messages that name the key and the way out."""

import dataclasses
import difflib
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class ConfigurationError(ValueError):
    """A key or a value of a configuration is wrong."""


def from_mapping(cls: type[T], mapping: Mapping[str, object], where: str) -> T:
    """Build a dataclass from a mapping, nested dataclasses from nested mappings.

    Fields may be of type bool, int, float (an integer is taken too), str, Literal, a tuple of these or of dataclasses
    (from a list), a dataclass, or one of these or None.

    Parameters
    ----------
    cls
        Dataclass to build.
    mapping
        Its fields, as `tomllib` reads them.
    where
        What messages call the mapping, for example ``digits-bnn.toml [train]``.

    Raises
    ------
    ConfigurationError
        If a key is unknown or missing, or a value has the wrong type or is refused by the dataclass.
    """
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"from_mapping builds dataclasses, not {cls.__name__}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = get_type_hints(cls)
    for key in mapping:
        if key not in fields:
            raise ConfigurationError(f"{where}: unknown key {key!r}; {nearest(key, list(fields))}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in mapping:
            raise ConfigurationError(f"{where}: the key {name!r} is missing; add {name} = ...")
    values = {key: _convert(hints[key], value, f"{where}, key {key!r}") for key, value in mapping.items()}
    try:
        return cls(**values)
    except ConfigurationError:
        raise
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from error


def nearest(key: str, known: list[str]) -> str:
    """Name the known key most like a wrong one, or all of them."""
    matches = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {matches[0]!r}?" if matches else f"known keys: {', '.join(sorted(known))}"


def _convert(hint: Any, value: object, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_optional(arguments, value, where)
    if origin is Literal:
        if value not in arguments:
            raise ConfigurationError(f"{where}: {value!r} is not one of {', '.join(repr(name) for name in arguments)}")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{where} must be a table, not {value!r}")
        return from_mapping(hint, value, where)  # type: ignore[arg-type]
    if hint is float and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type]
    if type(value) is not hint:
        raise ConfigurationError(f"{where} must be of type {hint.__name__}, not {value!r}")
    return value


def _convert_optional(arguments: tuple[Any, ...], value: object, where: str) -> Any:
    hints = [argument for argument in arguments if argument is not types.NoneType]
    if len(hints) != 1 or len(arguments) != 2:
        raise TypeError(f"{where}: a field may be of one type or None, not of {arguments}")
    return None if value is None else _convert(hints[0], value, where)


def _convert_tuple(arguments: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigurationError(f"{where} must be a list, not {value!r}")
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    elif len(arguments) != len(value):
        raise ConfigurationError(f"{where} must have {len(arguments)} entries, not {len(value)}")
    return tuple(
        _convert(argument, entry, f"{where}[{index}]")
        for index, (argument, entry) in enumerate(zip(arguments, value, strict=True))
    )
