"""Values of estimators as JSON and tensors, and back, without pickle."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.errors import ModelFileError
from sdlgm.estimators.guarantees import Guarantee, guarantee_named
from sdlgm.estimators.mixed_columns import MixedColumns
from sdlgm.limits import check

__all__ = ["pack", "unpack"]

_NUMBERS = "biuf"
"""Kinds of numpy types that are stored: bool, signed, unsigned, float."""
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Convert a value to JSON types; its arrays of numbers go into ``tensors``.

    Numbers, strings, ``None``, lists, tuples, dictionaries with keys of strings and integers,
    guarantees, mixed columns, and arrays of numbers or strings can be packed. A type that JSON
    lacks becomes an object with one key that names the type: ``{"tuple": [...]}``, ``{"array":
    [name, type, shape]}`` and so on.

    Parameters
    ----------
    value
        The value to store.
    name
        Its name, for its arrays and the error message.
    tensors
        Dictionary that receives the arrays.

    Raises
    ------
    ModelFileError
        If a value has another type.
    """
    if isinstance(value, np.generic) and value.dtype.kind in _NUMBERS:
        return {"scalar": [value.dtype.name, pack(value.item(), name, tensors)]}
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)  # also numpy's string type, which compares equal
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, list | tuple):
        items = [pack(item, f"{name}.{place}", tensors) for place, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {k: pack(v, f"{name}.{k}", tensors) for k, v in value.items()}}
    if isinstance(value, dict) and all(isinstance(key, str | int | np.integer) for key in value):
        pairs = [(str(k) if isinstance(k, str) else int(k), part) for k, part in value.items()]
        return {"pairs": [[k, pack(part, f"{name}.{k}", tensors)] for k, part in pairs]}
    if isinstance(value, np.ndarray):
        return _pack_array(value, name, tensors)
    if isinstance(value, Guarantee):
        own = pack(dataclasses.asdict(value), name, tensors)
        return {"guarantee": [type(value).__name__, own]}
    if isinstance(value, MixedColumns):
        return {"columns": pack(vars(value), name, tensors)}
    raise _unknown(value, name)


def _pack_array(value: NDArray[Any], name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    if value.dtype.kind in _NUMBERS:
        try:
            # A copy, which does not change with the original.
            own = np.array(value, value.dtype.newbyteorder("="), order="C")
            tensors[name] = torch.from_numpy(own)
        except TypeError:  # numpy's long doubles
            raise _unknown(value, name) from None
        return {"array": [name, tensors[name].numpy().dtype.name, list(value.shape)]}
    items = value.ravel().tolist()
    if value.dtype.kind in "UO" and all(isinstance(item, str) for item in items):
        kind = "object" if value.dtype.kind == "O" else "str"
        return {"strings": [kind, list(value.shape), items]}
    raise _unknown(value, name)


def _unknown(value: Any, name: str) -> ModelFileError:
    kind = f"{type(value).__name__} of {value.dtype}" if hasattr(value, "dtype") else ""
    return ModelFileError(
        f"{name} cannot be saved: it is a {kind or type(value).__name__}. Only numbers, strings, "
        "None, arrays of numbers or strings, and lists, tuples and dictionaries of these can be."
        + (
            " set_params(random_state=estimator.seed_) gives it the integer that seeded the fit."
            if name == "params.random_state"
            else ""
        )
    )


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """Restore a value that :func:`pack` converted, taking its arrays out of ``tensors``.

    Raises
    ------
    ModelFileError
        If it is not of the form that :func:`pack` makes, or an array is missing or has another type
        or shape than described.
    """
    if packed is None or isinstance(packed, bool | int | float | str):
        return packed
    if isinstance(packed, list):
        return [unpack(item, tensors) for item in packed]
    match packed:
        case {"tuple": list(items), **rest} if not rest:
            return tuple(unpack(item, tensors) for item in items)
        case {"dict": dict(items), **rest} if not rest:
            return {key: unpack(item, tensors) for key, item in items.items()}
        case {"pairs": list(pairs), **rest} if not rest and all(map(_is_pair, pairs)):
            return {key: unpack(item, tensors) for key, item in pairs}
    return _unpack_leaf(packed, tensors)


def _unpack_leaf(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """Restore a number that JSON lacks, or an array."""
    match packed:
        case {"float": str(word), **rest} if not rest and word in _SPECIAL:
            return _SPECIAL[word]
        case {"scalar": [str(kind), number], **rest} if not rest:
            value = unpack(number, tensors)
            if isinstance(value, bool | int | float):
                return _dtype(kind, packed).type(value)
        case {"guarantee": [str(name), dict(values)], **rest} if not rest:
            return guarantee_named(name, unpack(values, tensors))
        case {"columns": dict(packed_columns), **rest} if not rest:
            return MixedColumns.restore(unpack(packed_columns, tensors))
        case {"array": [str(name), str(kind), list(shape)], **rest} if not rest:
            return _take(name, _dtype(kind, packed), tuple(shape), tensors)
        case {"strings": ["object" | "str" as kind, list(shape), list(items)], **rest} if not rest:
            if all(isinstance(item, str) for item in items):
                return _strings(kind, shape, items)
    raise ModelFileError(
        f"The file holds {str(packed)[:80]!r}, which is not a value that sdlgm saves."
    )


def _strings(kind: str, shape: list[Any], items: list[str]) -> NDArray[Any]:
    """Return an array of strings; numpy gives each of fixed width that of the longest."""
    if kind == "str":
        size = 4 * len(items) * max(map(len, items), default=0)
        check("text_bytes", size, "The size of an array of fixed-width strings")
    return np.array(items, object if kind == "object" else np.str_).reshape(shape)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str | int)


def _dtype(kind: str, packed: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype(kind)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in _NUMBERS:
        raise ModelFileError(
            f"The file holds {str(packed)[:80]!r}, which is not a type of numbers."
        )
    return dtype


def _take(
    name: str, dtype: np.dtype[Any], shape: tuple[Any, ...], tensors: dict[str, Tensor]
) -> NDArray[Any]:
    if name not in tensors:
        raise ModelFileError(f"The tensor {name!r} is missing.")
    values = tensors.pop(name).numpy()
    if values.dtype != dtype or values.shape != shape:
        raise ModelFileError(
            f"The tensor {name!r} is {values.dtype} {values.shape}, not {dtype} {shape}."
        )
    return values
