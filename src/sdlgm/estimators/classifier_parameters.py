"""What :class:`SDLGMClassifier` asks of its parameters."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor

from sdlgm.errors import ConfigError
from sdlgm.estimators.thresholds import ThresholdRule

__all__ = ["check_parameters", "class_sample_weight", "label_weights"]

COUNTS = ("bins", "members", "epochs", "batch_size", "slots", "max_labels", "patience")
MAY_BE_NONE = ("slots", "max_labels", "patience")
ZERO_OR_MORE = ("min_labels", "latent_features", "latent_slots", "folds")
SHARES = ("dropout", "input_dropout")
NOT_NEGATIVE = ("input_noise", "elbo_weight", "weight_decay")
POSITIVE = ("learning_rate", "temperature")
CHOICES = {
    "variant": ("discriminative", "generative", "conditional"),
    "label_likelihood": ("presence", "relaxed"),
    "inputs": ("standard", "quantile", "bins", "none"),
    "likelihood": ("gaussian", "bernoulli"),
    "activation": ("gelu", "relu", "silu", "tanh"),
}


def check_parameters(estimator: Any) -> None:
    """Raise :class:`ConfigError` for the first parameter that is out of range."""
    values = estimator.get_params(deep=False)
    for name, choices in CHOICES.items():
        if values[name] not in choices:
            raise ConfigError(
                f"{name} must be one of {', '.join(map(repr, choices))}, got {values[name]!r}."
            )
    for name in (*COUNTS, *ZERO_OR_MORE):
        low, value = int(name in COUNTS), values[name]
        if value is None and name in MAY_BE_NONE:
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
            raise ConfigError(f"{name} must be an integer of {low} or more, got {value!r}.")
    for name in (*SHARES, *NOT_NEGATIVE, *POSITIVE):
        value = values[name]
        below = 1 if name in SHARES else np.inf
        if not 0 <= value < below or (name in POSITIVE and value == 0):
            raise ConfigError(
                f"{name} must be a number {'above' if name in POSITIVE else 'of at least'} 0 and "
                f"below {below}, got {value!r}."
            )
    _check_threshold(values["threshold"])
    if values["folds"] == 1:
        raise ConfigError("folds must be 0 (nothing is held out) or at least 2, got 1.")
    if not values["folds"]:
        for name in ("patience", "threshold"):
            if values[name] is not None and not isinstance(values[name], int | float):
                raise ConfigError(f"{name}={values[name]!r} is chosen on held-out rows: folds=5.")
        if values["patience"] is not None:
            raise ConfigError("patience follows the loss on held-out rows: set folds=5.")
    if values["variant"] == "conditional" and not values["latent_features"]:
        raise ConfigError("variant='conditional' needs latent_features of 1 or more.")


def _check_threshold(threshold: Any) -> None:
    if isinstance(threshold, str):
        if threshold not in get_args(ThresholdRule):
            raise ConfigError(
                "threshold must be a number or one of "
                f"{', '.join(map(repr, get_args(ThresholdRule)))}, got {threshold!r}."
            )
    elif isinstance(threshold, bool) or not 0 <= threshold <= 1:
        raise ConfigError(f"threshold must lie from 0 to 1, got {threshold!r}.")


def class_sample_weight(class_weight: Any, y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the weight of samples of one class each, shape ``(n,)``, as scikit-learn does.

    Raises
    ------
    ConfigError
        If it is not ``None``, ``"balanced"``, a dictionary or one number a class.
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
    """Return the weight of each label, shape ``(K,)``, or ``None`` for 1.

    ``"balanced"`` is ``n / (2 n_k)`` of labels that ``n_k`` of ``n`` samples have (at least one),
    over its mean.

    Raises
    ------
    ConfigError
        If they are not ``None``, ``"balanced"``, a dictionary or K positive numbers.
    """
    if class_weight is None:
        return None
    samples, number = labels.shape
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ConfigError(
                f"class_weight must be None, 'balanced' or one number a label, got "
                f"{class_weight!r}."
            )
        there = np.bincount(labels.indices, minlength=number).clip(1)
        weights = samples / there
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
