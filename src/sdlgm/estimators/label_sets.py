"""From log-probabilities of absence to sets of labels and their number, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.errors import ConfigError
from sdlgm.estimators.label_network import LabelNetwork, LabelTraining
from sdlgm.estimators.thresholds import ThresholdRule, apply_threshold, choose_threshold

__all__ = ["choose_held_out", "class_proba", "count_law", "decide", "mean_presence"]

MAX_CELLS = 100_000_000
"""Held-out probabilities that may be kept to choose a threshold that needs them all."""


def mean_presence(absent: Tensor) -> Tensor:
    """Probabilities ``(b, K)`` from the members' log-probabilities of absence."""
    return -torch.expm1(absent.double()).mean(0)


def class_proba(absent: Tensor) -> Tensor:
    """Probabilities ``(b, K)`` where a sample has one label: those of labels over their sum."""
    present = mean_presence(absent).clamp_min(1e-30)
    return present / present.sum(-1, keepdim=True)


def decide(
    proba: Tensor, threshold: float | NDArray[np.float64], low: int, high: int
) -> sp.csr_array:
    """Turn probabilities ``(b, K)`` into sets of labels, 0 and 1, by a threshold, floor and cap."""
    if np.ndim(threshold):
        return sp.csr_array(apply_threshold(proba.numpy(), threshold, low, high))
    # Of one threshold only the best of each row can be over it and within the cap.
    best = proba.topk(min(high, proba.shape[1]), sorted=True)
    chosen = apply_threshold(best.values.numpy(), threshold, low, high)
    row, place = np.nonzero(chosen)
    columns = best.indices.numpy()[row, place]
    ones = np.ones(len(row), np.int64)
    return sp.csr_array((ones, (row, columns)), shape=tuple(proba.shape))


def choose_held_out(
    network: LabelNetwork, training: LabelTraining, rule: ThresholdRule, low: int, high: int
) -> float | NDArray[np.float64]:
    """Choose the threshold on probabilities of rows by members that never saw them.

    Raises
    ------
    ConfigError
        If the rule needs more probabilities at once than ``MAX_CELLS``.
    """
    labels = training.labels.shape[1]
    number = int(training.members.held.any(0).sum())
    if rule != "micro" and number * labels > MAX_CELLS:
        raise ConfigError(
            f"threshold={rule!r} needs {number} x {labels} probabilities at once. Use 'micro' or a "
            "number."
        )
    scores, truth = [], []
    for index, proba in network.held_out(training):
        there = training.labels[index].toarray()
        if rule == "micro":
            proba, there = _leading(proba, there, high)
        scores.append(proba)
        truth.append(there)
    width = max(part.shape[1] for part in scores)
    return choose_threshold(
        np.concatenate([_widen(part, width) for part in scores]),
        np.concatenate([_widen(part, width) for part in truth]),
        rule,
        min_labels=low,
        max_labels=high,
    )


def count_law(absent: Tensor, low: int, high: int) -> Tensor:
    r"""Law of the number of labels, given that it lies in ``low..high``: ``(*batch, high + 1)``.

    The labels of a member are independent given the sample, so that their number is
    Poisson-binomial; its law is built label by label, ``O(K high)``, in float64.

    Parameters
    ----------
    absent
        Log-probabilities of absence, shape ``(*batch, K)``.
    """
    absent = absent.double()
    none, one = absent.exp().unsqueeze(-1), -torch.expm1(absent).unsqueeze(-1)
    law = none.new_zeros(*absent.shape[:-1], high + 1)
    law[..., 0] = 1
    for label in range(absent.shape[-1]):
        more = law[..., :-1] * one[..., label, :]
        law = law * none[..., label, :]
        law[..., 1:] += more
    law[..., :low] = 0
    total = law.sum(-1, keepdim=True)
    # Where floor and cap are out of all proportion, nothing is left of the law but its nearer end.
    expected = one.squeeze(-1).sum(-1)
    nearer = torch.where(expected < low, low, high)
    end = torch.nn.functional.one_hot(nearer.long(), high + 1).to(law)
    return torch.where(total > 1e-250, law / total.clamp_min(1e-300), end)


def _leading(
    proba: NDArray[np.float64], there: NDArray[Any], cap: int
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Narrow a block to its ``cap`` best scores, and as many columns of labels that they miss.

    One threshold under this cap chooses the same, and misses as many labels, as in the whole table.
    """
    cap = min(cap, proba.shape[1])
    order = np.argsort(-proba, axis=1, kind="stable")[:, :cap]
    hits = np.take_along_axis(there, order, 1)
    missed = there.sum(1) - hits.sum(1)
    rest = (np.arange(missed.max(initial=0)) < missed[:, None]).astype(there.dtype)
    best = np.take_along_axis(proba, order, 1)
    return np.hstack([best, np.zeros(rest.shape)]), np.hstack([hits, rest])


def _widen(table: NDArray[Any], width: int) -> NDArray[Any]:
    return np.pad(table, ((0, 0), (0, width - table.shape[1])))
