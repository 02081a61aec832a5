"""Checks of estimators' parameters, and the weights of classes and labels."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor

from sdlgm.errors import ConfigError
from sdlgm.estimators.frames import shown

__all__ = [
    "check_choice",
    "check_flag",
    "check_integer",
    "check_number",
    "check_widths",
    "class_sample_weight",
    "is_integer",
    "is_real",
    "label_weights",
    "plain",
    "positive_weights",
]


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer of Python or numpy, and not a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Return whether a value is a number of Python or numpy, and not a bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_integer(name: str, value: Any, low: int = 1, *, optional: bool = False) -> None:
    """Raise :class:`ConfigError` unless a value is an integer of at least 0 or 1.

    ``None`` passes where the value is optional.
    """
    if value is None and optional:
        return
    if not is_integer(value) or value < low:
        wanted = "a positive integer" if low else "an integer of 0 or more"
        raise ConfigError(
            f"{name} must be {wanted}{' or None' if optional else ''}, got {value!r}."
        )


def check_number(name: str, value: Any, wanted: str = "0 or more") -> None:
    """Raise :class:`ConfigError` unless a number is ``0 or more``, ``positive`` or ``a share``."""
    fits = is_real(value) and 0 <= value < (1 if wanted == "a share" else np.inf)
    if not fits or (wanted == "positive" and value == 0):
        rule = "lie in [0, 1)" if wanted == "a share" else f"be {wanted} and finite"
        raise ConfigError(f"{name} must {rule}, got {value!r}.")


def check_flag(name: str, value: Any) -> None:
    """Raise :class:`ConfigError` unless a value is true or false, of Python or numpy."""
    if not isinstance(value, bool | np.bool_):
        raise ConfigError(f"{name} must be True or False, got {value!r}.")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise :class:`ConfigError` unless a value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def check_widths(name: str, value: Any) -> None:
    """Raise :class:`ConfigError` unless a value is a tuple or list of positive integers."""
    if not isinstance(value, tuple | list) or not all(is_integer(v) and v > 0 for v in value):
        raise ConfigError(
            f"{name} must be a tuple of positive integers, such as (128,), got {value!r}."
        )


def plain(value: Any) -> Any:
    """Return the Python value of a numpy scalar, also within lists and tuples.

    Searches over parameters set numpy's scalars.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value


def class_sample_weight(
    class_weight: Any, classes: NDArray[Any], y: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the weight of samples of one class each, shape ``(n,)``, as scikit-learn does.

    Raises
    ------
    ConfigError
        See :func:`label_weights`; weights may be 0.
    """
    if class_weight is None or isinstance(class_weight, str):
        _check_balanced(class_weight)
        return compute_sample_weight(class_weight, y)
    weights = _weights(class_weight, classes, "classes")
    return weights[np.searchsorted(classes, y)]


def positive_weights(positive_weight: Any, classes: NDArray[Any]) -> Tensor | None:
    """Return the weight of each label where it is present, shape ``(K,)``, or ``None``.

    Raises
    ------
    ConfigError
        If it is not ``None``, a positive number, a dictionary or K positive numbers, or if a key is
        no label.
    """
    if positive_weight is None:
        return None
    name = "positive_weight"
    if is_real(positive_weight):
        positive_weight = [positive_weight] * len(classes)
    elif isinstance(positive_weight, str):
        raise ConfigError(
            f"{name} must be a number, one number for each label or a dictionary, got "
            f"{positive_weight!r}."
        )
    weights = _weights(positive_weight, classes, "labels", name)
    if not (weights > 0).all():
        raise ConfigError(f"{name} must hold positive numbers, got {positive_weight!r}.")
    return torch.from_numpy(weights.astype(np.float32))


def label_weights(class_weight: Any, labels: sp.csr_array, classes: NDArray[Any]) -> Tensor | None:
    """Return the weight of each label, shape ``(K,)``, or ``None`` for equal weights.

    ``"balanced"`` weights a label by the inverse of its frequency, with a mean of 1. The keys of a
    dictionary are names of labels, or their places if names are text; other labels weigh 1.

    Raises
    ------
    ConfigError
        If it is not ``None``, ``"balanced"``, a dictionary or K positive numbers, or if a key is no
        label.
    """
    if class_weight is None:
        return None
    samples, number = labels.shape
    if isinstance(class_weight, str):
        _check_balanced(class_weight)
        frequency = np.bincount(labels.indices, minlength=number).clip(1)
        weights = samples / frequency
        weights = weights / weights.mean()
    else:
        weights = _weights(class_weight, classes, "labels")
    if not (weights > 0).all():
        raise ConfigError(
            f"class_weight must hold a positive number for each of the {number} labels, got "
            f"{class_weight!r}."
        )
    return torch.from_numpy(weights.astype(np.float32))


def _check_balanced(class_weight: str | None) -> None:
    if class_weight not in (None, "balanced"):
        raise ConfigError(
            "class_weight must be None, 'balanced', a dictionary or one number for each label, got "
            f"{class_weight!r}."
        )


def _weights(
    class_weight: Any, classes: NDArray[Any], what: str, parameter: str = "class_weight"
) -> NDArray[np.float64]:
    """Return the weight of each class from a dictionary or a list."""
    names = classes.tolist()
    if hasattr(class_weight, "iloc") and class_weight.index.tolist() != list(range(len(names))):
        class_weight = class_weight.to_dict()  # a column of pandas with an index of labels
    if isinstance(class_weight, dict):
        places = {name: place for place, name in enumerate(names)}
        if all(isinstance(name, str) for name in names):
            places |= {place: place for place in range(len(names))}
        given: list[Any] = [1.0] * len(names)
        for key, weight in class_weight.items():
            if isinstance(key, bool | np.bool_) is not isinstance(names[0], bool) or (
                key not in places
            ):
                raise ConfigError(
                    f"{parameter} has the key {key!r}, which is none of the {len(names)} {what} "
                    f"{shown(names)}."
                )
            given[places[key]] = weight
    else:
        given = np.ravel(class_weight).tolist()
        if len(given) != len(names):
            raise ConfigError(
                f"{parameter} must hold one number for each of the {len(names)} {what}, got "
                f"{class_weight!r}."
            )
    if not all(is_real(weight) and 0 <= weight < np.inf for weight in given):
        raise ConfigError(
            f"{parameter} must hold finite numbers of 0 or more, got {class_weight!r}."
        )
    return np.array(given, np.float64)
