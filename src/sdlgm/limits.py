"""Limits on files from strangers, and JSON and YAML that are read within them.

A file may be small and ask for a large amount of memory or time. Each loader compares what a file
claims with a limit, or with the size of the file, before it allocates anything. Every limit can be
raised by an environment variable; ``docs/security.md`` lists them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from sdlgm.errors import ConfigError, ModelFileError, SDLGMError

__all__ = [
    "LIMITS",
    "MAX_BUDGET",
    "check",
    "check_cells",
    "is_integer",
    "limit",
    "open_regular",
    "parse_json",
    "parse_yaml",
    "read_bytes",
    "reading",
    "reason",
]

LIMITS: dict[str, int] = {
    "json_bytes": 16 * 2**20,
    "yaml_bytes": 2**17,
    "log_bytes": 2**28,
    "depth": 64,
    "digits": 20,
    "values": 1_000_000,
    "string_length": 2**16,
    "text_bytes": 2**26,
    "header_bytes": 2**26,
    "tensors": 20_000,
    "features": 2**22,
    "inputs": 2**22,
    "layers": 1_000,
    "columns": 100_000,
    "cells": 2**25,
    "cells_per_byte": 100,
    "cells_per_coded_byte": 2**12,
    "block_cells": 2**26,
    "inflated_bytes": 2**28,
    "data_bytes": 2**26,
}
"""The limits by name. ``SDLGM_MAX_<NAME>`` replaces one."""

MAX_BUDGET = 2**24
"""Largest budget. It cannot be raised: counts are float32 numbers, exact up to here."""


def limit(name: str) -> int:
    """Return a limit: the value of its environment variable, or else its default.

    Raises
    ------
    ConfigError
        If the environment variable is not a positive integer.

    Examples
    --------
    >>> limit("depth")
    64
    """
    given = os.environ.get(_variable(name))
    if not given:
        return LIMITS[name]
    if not (given.isascii() and given.isdecimal() and len(given) <= 20 and int(given)):
        raise ConfigError(f"{_variable(name)} must be a positive integer, got {given[:40]!r}.")
    return int(given)


def _variable(name: str) -> str:
    return f"SDLGM_MAX_{name.upper()}"


def check(name: str, value: int, what: str, error: type[SDLGMError] = ModelFileError) -> None:
    """Raise ``error`` if a value exceeds a limit; the message says how to raise the limit."""
    most = limit(name)
    if value > most:
        raise error(
            f"{what}: {value:,} is more than the limit of {most:,}. If you trust the file, set "
            f"{_variable(name)}={value}."
        )


def check_cells(
    cells: int, size: int, what: str, error: type[SDLGMError], *, coded: bool = False
) -> None:
    """Raise ``error`` if a file of ``size`` bytes claims a table that is too large for it.

    Small tables always pass. Larger ones may have ``cells_per_byte`` numbers for each byte of the
    file, and ``cells_per_coded_byte`` if it is ``coded`` by a model, whose codes of a few bytes
    stand for thousands of numbers: honest files stay below that, files made to exhaust memory do
    not.
    """
    rate = limit("cells_per_coded_byte" if coded else "cells_per_byte")
    most = max(limit("cells"), rate * size)
    if cells > most:
        raise error(
            f"{what} claims a table of {cells:,} numbers in {size:,} bytes, more than the limit of "
            f"{most:,}. If you trust the file, set {_variable('cells')}={cells}."
        )


def is_integer(value: object, low: int = 0, high: float = math.inf) -> bool:
    """Return whether a value from a file is an integer (not a Boolean) from ``low`` to ``high``."""
    return type(value) is int and low <= value <= high


# --- files --------------------------------------------------------------------------------------


def open_regular(path: Path | str, error: type[SDLGMError] = ModelFileError) -> BinaryIO:
    """Open a regular file for reading. Anything else, such as a pipe, would block or never end.

    Raises
    ------
    SDLGMError
        ``error``, if there is no such file, it is not a regular file, or it may not be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"{path} does not exist.") from None
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{path} cannot be read ({reason}).") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise error(f"{path} is not a regular file.")
    return os.fdopen(handle, "rb")


def read_bytes(path: Path | str, name: str, error: type[SDLGMError] = ModelFileError) -> bytes:
    """Return the content of a regular file whose size is within the limit ``name``."""
    with open_regular(path, error) as file:
        check(name, os.fstat(file.fileno()).st_size, f"The size of {path} in bytes", error)
        try:
            return file.read(limit(name) + 1)
        except OSError as problem:
            raise error(f"{path} cannot be read ({problem.strerror}).") from None


def reason(error: BaseException) -> str:
    """Return the message of a library's error; some fail to format theirs."""
    try:
        return str(error)
    except Exception:
        return type(error).__name__


@contextlib.contextmanager
def reading(what: object, error: type[SDLGMError] = ModelFileError) -> Iterator[None]:
    """Turn whatever a reader raises on a bad file into ``error``.

    Readers check what they expect to be wrong, with better messages. This is for the rest: a field
    of another type, a number that overflows, a library's own errors.
    """
    try:
        yield
    except SDLGMError:
        raise
    except MemoryError as problem:
        raise error(f"{what} does not fit into memory ({problem or 'MemoryError'}).") from None
    except Exception as problem:
        text = reason(problem).strip().split("\n")[0][:200]
        raise error(
            f"{what} is damaged or holds what it should not ({type(problem).__name__}: {text})."
        ) from problem


# --- JSON and YAML ------------------------------------------------------------------------------


def parse_json(text: str | bytes, what: str, error: type[SDLGMError] = ModelFileError) -> Any:
    """Parse JSON whose depth, numbers and strings are within the limits.

    Raises
    ------
    SDLGMError
        ``error``, if it is not JSON, or exceeds a limit.
    """
    longest = limit("digits")

    def integer(digits: str) -> int:
        if len(digits) > longest:
            length = len(digits.lstrip("-"))
            check("digits", length, f"{what} has an integer that is too long", error)
        return int(digits)

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise error(f"{what} is damaged: {digits[:40]} is too large a number.")
        return value

    def constant(word: str) -> NoReturn:
        raise error(f"{what} is damaged: {word} is not a number of JSON.")

    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(text, parse_int=integer, parse_float=number, parse_constant=constant)
    except RecursionError:
        check("depth", len(text), f"{what} is nested too deeply", error)
        raise error(f"{what} is nested too deeply.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise error(f"{what} is damaged: it is not JSON ({problem}).") from None
    _check_values(value, what, error)
    return value


def parse_yaml(text: str | bytes, what: str, error: type[SDLGMError] = ConfigError) -> Any:
    """Parse YAML within the limits; aliases are refused, as a few can stand for billions of values.

    Raises
    ------
    SDLGMError
        ``error``, if it is not YAML, has an alias, or exceeds a limit.
    """
    import yaml

    loader = _yaml_loader()
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = yaml.load(text, Loader=loader)  # noqa: S506 (a subclass of SafeLoader)
    except UnicodeDecodeError as problem:
        raise error(f"{what} is not YAML: {problem}") from None
    except yaml.YAMLError as problem:
        raise error(f"{what} is not YAML: {problem}") from None
    except SDLGMError as problem:
        raise error(f"{what}: {problem}") from None
    except (ValueError, ArithmeticError, LookupError, TypeError, RecursionError) as problem:
        raise error(f"{what} is not YAML: {type(problem).__name__}: {problem}") from None
    _check_values(value, what, error)
    return value


@functools.cache
def _yaml_loader() -> type[Any]:
    """Return a loader of plain values without aliases; yaml is imported only when it is needed."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ConfigError("aliases are not allowed (an asterisk before a name).")
            self.depth += 1
            check("depth", self.depth, "it is nested too deeply", ConfigError)
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_yaml_int(self, node: Any) -> Any:
            check("digits", len(str(node.value).lstrip("+-")), "an integer is too long")
            return super().construct_yaml_int(node)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    return Loader


def _check_values(value: Any, what: str, error: type[SDLGMError]) -> None:
    """Check the depth, the number of values and the strings of parsed JSON or YAML."""
    level, depth, number = [value], 0, 0
    longest, deepest, most = limit("string_length"), limit("depth"), limit("values")
    while level:
        depth, number = depth + 1, number + len(level)
        if depth > deepest:
            check("depth", depth, f"{what} is nested too deeply", error)
        if number > most:
            check("values", number, f"{what} holds too many values", error)
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                if len(item) > longest:
                    check(
                        "string_length", len(item), f"{what} has a string that is too long", error
                    )
                if not item.isascii() and any("\ud800" <= letter <= "\udfff" for letter in item):
                    raise error(f"{what} is damaged: a string is not Unicode.")
            elif isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list | tuple | set):
                below += item
        level = below
