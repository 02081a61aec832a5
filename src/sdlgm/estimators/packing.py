"""Parameters and fitted attributes as JSON and tensors, and back to what they were, by type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.errors import ModelFileError

__all__ = ["pack", "unpack"]

_NUMBERS = "biuf"
"""Kinds of numpy's types that are stored: bool, signed, unsigned, float."""
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Turn a value into what JSON holds; its arrays of numbers go into ``tensors``.

    Numbers, strings, ``None``, lists, tuples, dictionaries with strings for keys, and arrays of
    numbers or strings are known. What JSON has no word for is an object of one key, which says
    what it is: ``{"tuple": [...]}``, ``{"array": [name, type, shape]}`` and the like.

    Parameters
    ----------
    value
        What is stored.
    name
        Name of the value, for its arrays and in the message.
    tensors
        Where arrays are put.

    Raises
    ------
    ModelFileError
        If a value is of another type.
    """
    if isinstance(value, np.generic) and value.dtype.kind in _NUMBERS:
        return {"scalar": [value.dtype.name, pack(value.item(), name, tensors)]}
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)  # also of numpy's own kind, which is equal to it
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, list | tuple):
        items = [pack(item, f"{name}.{place}", tensors) for place, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {k: pack(v, f"{name}.{k}", tensors) for k, v in value.items()}}
    if isinstance(value, np.ndarray):
        return _pack_array(value, name, tensors)
    raise _unknown(value, name)


def _pack_array(value: NDArray[Any], name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    if value.dtype.kind in _NUMBERS:
        try:
            # Copied: what is saved must not change with what it was made from.
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
    )


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn what :func:`pack` made back into the value; arrays are taken out of ``tensors``.

    Raises
    ------
    ModelFileError
        If it is not of the form that :func:`pack` makes, or an array is missing or of another type
        or shape than is said.
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
        case {"float": str(word), **rest} if not rest and word in _SPECIAL:
            return _SPECIAL[word]
        case {"scalar": [str(kind), number], **rest} if not rest:
            return _dtype(kind, packed).type(unpack(number, tensors))
        case {"array": [str(name), str(kind), list(shape)], **rest} if not rest:
            return _take(name, _dtype(kind, packed), tuple(shape), tensors)
        case {"strings": ["object" | "str" as kind, list(shape), list(items)], **rest} if not rest:
            if all(isinstance(item, str) for item in items):
                return np.array(items, object if kind == "object" else np.str_).reshape(shape)
    raise ModelFileError(f"The file holds {str(packed)[:80]!r}, which is no value of format 1.")


def _dtype(kind: str, packed: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype(kind)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in _NUMBERS:
        raise ModelFileError(f"The file holds {str(packed)[:80]!r}, which is no type of numbers.")
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
