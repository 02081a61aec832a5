"""Objectives and bounds of the unsupervised model, and likelihoods of labels and counts."""

from sdlgm.objectives.bounds import (
    ObjectiveTerms,
    active_features,
    elbo_surrogate,
    negative_elbo,
    nll_bound,
    relaxed_objective,
    training_objective,
)

__all__ = [
    "ObjectiveTerms",
    "active_features",
    "elbo_surrogate",
    "negative_elbo",
    "nll_bound",
    "relaxed_objective",
    "training_objective",
]
