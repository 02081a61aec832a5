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

__all__ = [
    "check_choice",
    "check_integer",
    "check_number",
    "class_sample_weight",
    "is_integer",
    "label_weights",
    "plain",
]


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer of Python or numpy, and not a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


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
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    fits = real and 0 <= value < (1 if wanted == "a share" else np.inf)
    if not fits or (wanted == "positive" and value == 0):
        rule = "lie in [0, 1)" if wanted == "a share" else f"be {wanted} and finite"
        raise ConfigError(f"{name} must {rule}, got {value!r}.")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise :class:`ConfigError` unless a value is one of the choices."""
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def plain(value: Any) -> Any:
    """Return the Python value of a numpy scalar, also within lists and tuples.

    Searches over parameters set numpy's scalars.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value


def class_sample_weight(class_weight: Any, y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the weight of samples of one class each, shape ``(n,)``, as scikit-learn does.

    Raises
    ------
    ConfigError
        If it is not ``None``, ``"balanced"``, a dictionary or one number for each class.
    """
    if not (class_weight is None or isinstance(class_weight, str | dict)):
        classes, given = np.unique(y), np.ravel(class_weight)
        if len(given) != len(classes):
            raise ConfigError(
                f"class_weight must hold one number for each of the {len(classes)} classes, got "
                f"{class_weight!r}."
            )
        class_weight = dict(zip(classes.tolist(), given.tolist(), strict=True))
    try:
        return compute_sample_weight(class_weight, y)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def label_weights(class_weight: Any, labels: sp.csr_array, classes: NDArray[Any]) -> Tensor | None:
    """Return the weight of each label, shape ``(K,)``, or ``None`` for equal weights.

    ``"balanced"`` weights a label by the inverse of its frequency, with a mean of 1.

    Raises
    ------
    ConfigError
        If it is not ``None``, ``"balanced"``, a dictionary or K positive numbers.
    """
    if class_weight is None:
        return None
    samples, number = labels.shape
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ConfigError(
                "class_weight must be None, 'balanced' or one number for each label, got "
                f"{class_weight!r}."
            )
        frequency = np.bincount(labels.indices, minlength=number).clip(1)
        weights = samples / frequency
        weights = weights / weights.mean()
    elif isinstance(class_weight, dict):
        weights = np.array([class_weight.get(name, 1.0) for name in classes.tolist()], np.float64)
    else:
        weights = np.asarray(class_weight, np.float64)
    if weights.shape != (number,) or not (np.isfinite(weights) & (weights > 0)).all():
        raise ConfigError(
            f"class_weight must hold a positive number for each of the {number} labels, got "
            f"{class_weight!r}."
        )
    return torch.from_numpy(weights.astype(np.float32))
