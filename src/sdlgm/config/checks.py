"""Checks of the types and ranges of settings."""

from __future__ import annotations

import math
import os
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from sdlgm.errors import ConfigError
from sdlgm.limits import limit

__all__ = [
    "convert_types",
    "divisors",
    "fill_in",
    "require_at_least_zero",
    "require_at_most",
    "require_few_layers",
    "require_positive",
]


def convert_types(config: object) -> None:
    """Convert each value to the plain Python type of its field, or raise ``ConfigError``."""
    for name, hint in typing.get_type_hints(type(config)).items():
        given = getattr(config, name)
        value = _convert(given, hint)
        if value is _UNFIT:
            raise ConfigError(f"{name} = {given!r} does not fit {_describe(hint)}.")
        object.__setattr__(config, name, value)


_UNFIT = object()
"""Returned by :func:`_convert` for a value of a wrong type."""


def _convert(value: Any, hint: Any) -> Any:
    """Return a value as the plain Python type of a field, or ``_UNFIT``."""
    if getattr(value, "ndim", None) == 0:  # a number of NumPy or torch
        value = value.item()
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value if value in arguments else _UNFIT
    if origin in (typing.Union, types.UnionType):
        options = (_convert(value, option) for option in arguments)
        return next((option for option in options if option is not _UNFIT), _UNFIT)
    if origin is tuple:
        return _convert_tuple(value, arguments[0])
    return _convert_plain(value, hint)


def _convert_tuple(value: Any, hint: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return _UNFIT
    items = tuple(_convert(item, hint) for item in value)
    return _UNFIT if any(item is _UNFIT for item in items) else items


def _convert_plain(value: Any, hint: type) -> Any:
    if isinstance(value, bool) and hint is not bool:
        return _UNFIT
    if hint is float and isinstance(value, int):
        return float(value)
    if hint is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    return value if isinstance(value, hint) else _UNFIT


def _describe(hint: Any) -> str:
    """Describe the type of a field in an error message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(option) for option in arguments)
    if origin is tuple:
        return f"tuple of {_describe(arguments[0])}"
    return "None" if hint is type(None) else hint.__name__


def divisors(number: int) -> list[int]:
    """Return all divisors in ascending order, in time proportional to the square root."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def fill_in(config: object, defaults: Mapping[str, Any]) -> None:
    """Replace fields that are ``None`` by their defaults."""
    for name, value in defaults.items():
        if getattr(config, name) is None:
            object.__setattr__(config, name, value)


def require_positive(config: object, *names: str) -> None:
    """Raise ``ConfigError`` unless each field is positive and finite, or ``None``."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{name} must be positive and finite, got {value}.")


def require_few_layers(name: str, widths: object) -> None:
    """Raise ``ConfigError`` if a list of widths is longer than any network is deep."""
    if isinstance(widths, list | tuple) and len(widths) > limit("layers"):
        raise ConfigError(f"{name} may have up to {limit('layers'):,} layers, got {len(widths):,}.")


def require_at_most(config: object, name: str, most: int) -> None:
    """Raise ``ConfigError`` if a field exceeds the most that is possible."""
    value = getattr(config, name)
    if value > most:
        raise ConfigError(f"{name} may be up to {most:,}, got {value:,}.")


def require_at_least_zero(config: object, *names: str) -> None:
    """Raise ``ConfigError`` unless each field is at least 0 and finite, or ``None``."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value < math.inf:
            raise ConfigError(f"{name} must be finite and at least 0, got {value}.")
