"""The parameters of :class:`~sdlgm.estimators.classifier.SDLGMClassifier`: types and ranges."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

from sdlgm.config import Activation, NetworkAccelerator
from sdlgm.errors import ConfigError
from sdlgm.estimators.label_decisions import Threshold, check_threshold, holds_out, is_split
from sdlgm.estimators.parameters import (
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_widths,
)
from sdlgm.estimators.scaling import InputScaling
from sdlgm.objectives.labels import LabelLikelihood

__all__ = ["Effort", "Variant", "check_parameters", "chosen_effort"]

Variant = Literal["discriminative", "generative", "conditional"]


class Effort(NamedTuple):
    """How long networks are trained, and how."""

    epochs: int
    batch_size: int
    learning_rate: float
    l2: float
    by_unit: bool
    """See :class:`~sdlgm.estimators.network_training.TrainingSettings`."""
    growth: tuple[int, ...] = (1,)
    """See :class:`~sdlgm.estimators.label_network.MemberRows`."""


DENSE_ROWS = Effort(
    epochs=60, batch_size=32, learning_rate=3.5e-3, l2=0.0, by_unit=False, growth=(1, 2, 4)
)
STEADY_RATE = 3e-3
"""Where batches do not grow: with a decoder, relaxed codes, another scaling, or single passes."""
SPARSE_ROWS = Effort(epochs=30, batch_size=256, learning_rate=1e-2, l2=2e-3, by_unit=True)
"""What suits many rows that are mostly 0, such as words of texts; batches of fewer are smaller."""
LEAST_BATCH = 32
BATCHES = 15
"""Least number of batches of rows that are mostly 0, unless batches are the smallest."""
MOST_PROBABILITIES = 8_000_000
"""Most probabilities (networks x rows x labels) of a batch, unless batches are the smallest."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "variant": get_args(Variant),
    "label_likelihood": get_args(LabelLikelihood),
    "inputs": get_args(InputScaling),
    "likelihood": ("gaussian", "bernoulli"),
    "activation": get_args(Activation),
    "normalisation": ("layer", "none"),
    "accelerator": get_args(NetworkAccelerator),
}
_NUMBERS = {
    "dropout": "a share",
    "input_noise": "0 or more",
    "elbo_weight": "0 or more",
    "weight_decay": "0 or more",
    "temperature": "positive",
}


def check_parameters(values: dict[str, Any]) -> None:
    """Raise :class:`ConfigError` for the first parameter that is out of range."""
    for name, choices in _CHOICES.items():
        check_choice(name, values[name], choices)
    if not isinstance(values["mixed"], bool) and values["mixed"] != "auto":
        raise ConfigError(f"mixed must be 'auto', True or False, got {values['mixed']!r}.")
    for name in ("bins", "members"):
        check_integer(name, values[name])
    for name in ("budget", "max_labels", "patience", "epochs", "batch_size"):
        check_integer(name, values[name], optional=True)
    check_integer("min_labels", values["min_labels"], low=0, optional=True)
    for name in ("latent_features", "latent_budget", "folds"):
        check_integer(name, values[name], low=0)
    check_widths("hidden", values["hidden"])
    for name in ("calibrated", "progress"):
        check_flag(name, values[name])
    for name, wanted in _NUMBERS.items():
        check_number(name, values[name], wanted)
    optional = {"input_dropout": "a share", "learning_rate": "positive", "l2": "0 or more"}
    for name, wanted in optional.items():
        if values[name] is not None:
            check_number(name, values[name], wanted)
    if values["variant"] == "conditional" and not values["latent_features"]:
        raise ConfigError("variant='conditional' needs latent_features of 1 or more.")
    check_threshold(values["threshold"])
    _check_folds(values["folds"], values["threshold"], values["patience"])


def chosen_effort(
    values: dict[str, Any], size: tuple[int, int], mostly_zero: bool, one_pass: bool
) -> Effort:
    """Return the parameters that are given, and for those that are ``None`` what suits the rows.

    ``size`` is the number of rows, and of labels.
    """
    suited = DENSE_ROWS
    if mostly_zero:
        suited = SPARSE_ROWS._replace(batch_size=_batch_size(*size, values["members"]))
    grows = (
        values["variant"] == "discriminative"
        and values["label_likelihood"] == "presence"
        and values["inputs"] in ("auto", "bins")
    )
    if one_pass or not (grows or mostly_zero):
        suited = suited._replace(learning_rate=STEADY_RATE, growth=(1,))
    given = {n: values[n] for n in suited._fields if values.get(n) is not None}
    effort = suited._replace(**given)
    return effort._replace(epochs=int(effort.epochs), batch_size=int(effort.batch_size))


def _batch_size(rows: int, labels: int, members: int) -> int:
    """Return a power of 2 that suits rows that are mostly 0."""
    most = min(SPARSE_ROWS.batch_size, rows // BATCHES, MOST_PROBABILITIES // (members * labels))
    return 1 << (max(most, LEAST_BATCH).bit_length() - 1)


def _check_folds(folds: int, threshold: Threshold, patience: int | None) -> None:
    if folds == 1:
        raise ConfigError("folds must be 0 (no rows are held out) or at least 2, got 1.")
    if patience is not None and is_split(threshold):
        raise ConfigError(
            "patience follows the loss on the rows that a guarantee with held_out='split' needs "
            "for itself. Set epochs without patience, or held_out='folds'."
        )
    if folds:
        return
    if holds_out(threshold):
        raise ConfigError(f"threshold={threshold!r} is chosen on held-out rows: set folds=5.")
    if patience is not None:
        raise ConfigError("patience follows the loss on held-out rows: set folds=5.")
