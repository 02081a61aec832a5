"""Anomaly scores of telemetry windows: bounds of the log-likelihood, and baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from paper.telemetry.codes import rows_of, trained
from paper.telemetry.methods import Windows, cut
from paper.telemetry.profiles import Profile
from sdlgm.data import Series, sliding_windows
from sdlgm.objectives.bounds import negative_elbo, nll_bound
from sdlgm.random import generator

__all__ = ["anomaly_windows", "bound_scores", "forest_scores", "per_series", "trivial_scores"]

Scores = dict[str, list[Any]]
"""By method, the scores of the training windows and of the test windows."""


def anomaly_windows(
    series: tuple[Series, ...], size: Profile
) -> tuple[Windows, Windows, Windows, NDArray[np.bool_]]:
    """Return windows to train on, to normalise scores with and to score, and the true labels.

    Values are the asinh of standardised values. A window is anomalous if at least half of its
    samples lie in a labelled anomaly.
    """
    cuts = (("train", size.stride), ("train", 2 * size.scored), ("test", size.scored))
    parts = [cut(series, *one) for one in cuts]
    labels = [
        sliding_windows(one.anomalous[one.cut :].astype(float), size.scored).mean(1)
        for one in series
    ]
    train, past, test = (Windows(np.arcsinh(part.values), part.metric) for part in parts)
    return train, past, test, np.concatenate(labels) >= 0.5


@torch.no_grad()
def bound_scores(
    train: Windows, past: Windows, test: Windows, seed: int, iterations: int, draws: int
) -> Scores:
    """Return scores by two bounds of the negative log-likelihood."""
    model = trained(rows_of(train.values), 16, seed, iterations, 256)
    iwae, elbo = f"NLL bound, M = {draws}", f"negative ELBO, {draws} codes"
    found: Scores = {iwae: [], elbo: []}
    for part in (past, test):
        noise = generator(seed, "scores")
        batches = rows_of(part.values).values.split(500)
        bounds = [nll_bound(model, x, draws, generator=noise) for x in batches]
        found[iwae].append(torch.cat(bounds).tolist())
        elbos = [negative_elbo(model, x, samples=draws, generator=noise).total for x in batches]
        found[elbo].append(torch.cat(elbos).tolist())
    return found


def forest_scores(train: Windows, past: Windows, test: Windows, seed: int, trees: int) -> Scores:
    """Return scores by isolation forests: one for all metrics, and one per metric."""
    forest = IsolationForest(n_estimators=trees, random_state=seed).fit(train.values)
    pooled = [(-forest.score_samples(part.values)).tolist() for part in (past, test)]
    single = [np.zeros(len(part.values)) for part in (past, test)]
    for metric in np.unique(train.metric):
        forest = IsolationForest(n_estimators=trees, random_state=seed)
        forest.fit(train.values[train.metric == metric])
        for scores, part in zip(single, (past, test), strict=True):
            selected = part.metric == metric
            scores[selected] = -forest.score_samples(part.values[selected])
    return {
        "isolation forest": pooled,
        "isolation forest per metric": [scores.tolist() for scores in single],
    }


def trivial_scores(past: Windows, test: Windows) -> Scores:
    """Return the largest absolute value, and the distance to the training mean."""
    return {
        "largest absolute value": [np.abs(part.values).max(1).tolist() for part in (past, test)],
        "distance to the training mean": [
            np.sqrt(np.mean(np.sinh(part.values) ** 2, 1)).tolist() for part in (past, test)
        ],
    }


def per_series(scores: list[Any], past: Windows, test: Windows) -> NDArray[np.float64]:
    """Normalise test scores by the median and the 95 % quantile of their series in training."""
    before, after = (np.array(part) for part in scores)
    found = np.zeros_like(after)
    for metric in np.unique(test.metric):
        median, high = np.quantile(before[past.metric == metric], [0.5, 0.95])
        selected = test.metric == metric
        found[selected] = (after[selected] - median) / (high - median if high > median else 1.0)
    return found
