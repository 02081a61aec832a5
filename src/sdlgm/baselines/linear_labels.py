"""Linear multi-label classifiers with the three losses of Martins & Astudillo 2016."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from sdlgm.baselines.labels import LabelBaseline
from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators.parameters import check_integer, check_number

__all__ = [
    "LinearLabels",
    "LinearLoss",
    "label_distribution",
    "losses",
    "sparsemax",
    "sparsemax_loss",
]

LinearLoss = Literal["logistic", "softmax", "sparsemax"]


class LinearLabels(LabelBaseline):
    r"""Fit scores ``z = W x + b`` by L-BFGS to the mean loss plus ``l2 / 2 |W|^2``.

    The bias is not penalised, and all weights start at 0.

    Parameters
    ----------
    loss
        ``"logistic"``: K independent logistic losses; ``"softmax"`` and ``"sparsemax"``: the loss
        of one distribution over all labels, whose target is uniform over the labels of the row.
        These two skip rows without labels.
    l2
        Strength of the penalty.
    scale
        Factor of the scores at prediction: an inverse temperature, which changes the size of the
        support of sparsemax, that is its predicted set.
    threshold
        A label is predicted if its ``predict_proba`` is above it. Default: 0.5 for ``logistic``,
        ``1 / K`` for ``softmax``, 0 for ``sparsemax``.
    min_labels, max_labels
        Smallest and largest number of labels of a row. ``min_labels=None``: the fewest labels of a
        training row.
    max_iter
        Largest number of iterations of L-BFGS; the published experiments use 100.
    """

    def __init__(
        self,
        loss: LinearLoss = "logistic",
        *,
        l2: float = 1e-3,
        scale: float = 1.0,
        threshold: Any = None,
        min_labels: int | None = None,
        max_labels: int | None = None,
        max_iter: int = 100,
    ) -> None:
        self.loss = loss
        self.l2 = l2
        self.scale = scale
        self.threshold = threshold
        self.min_labels = min_labels
        self.max_labels = max_labels
        self.max_iter = max_iter

    def _fit(self, X: Any, Y: Any, sample_weight: NDArray[np.float64] | None) -> None:  # noqa: N803
        if self.loss not in get_args(LinearLoss):
            raise ConfigError(
                f"loss must be one of {', '.join(map(repr, get_args(LinearLoss)))}, got "
                f"{self.loss!r}."
            )
        check_number("l2", self.l2)
        check_number("scale", self.scale, "positive")
        check_integer("max_iter", self.max_iter)
        target = np.asarray(Y.todense() if self.sparse_labels_ else Y, np.float64)
        if self.loss != "logistic":
            target = target / np.maximum(target.sum(1, keepdims=True), 1)
        share = np.ones(len(target)) if sample_weight is None else sample_weight
        if self.loss != "logistic":
            share = share * (target.sum(1) > 0)
        if not share.sum():
            raise DataError("No row with a positive weight has a label: there is nothing to learn.")
        truth, each = torch.from_numpy(target), torch.from_numpy(share / share.sum())
        inputs, labels = X.shape[1], target.shape[1]

        def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            table = flat.reshape(inputs + 1, labels)
            scores = torch.from_numpy(X @ table[:-1] + table[-1])
            value, slope = losses(self.loss, scores, truth)
            along = slope.mul_(each.unsqueeze(-1)).numpy()
            gradient = np.vstack([X.T @ along + self.l2 * table[:-1], along.sum(0)])
            penalty = 0.5 * self.l2 * float((table[:-1] ** 2).sum())
            return float(value @ each) + penalty, gradient.ravel()

        options = {
            "maxiter": self.max_iter,
            "maxcor": 10,
            "ftol": 100 * np.finfo(float).eps,
            "gtol": 1e-8,
            "maxfun": 10 * self.max_iter,
        }
        start = np.zeros((inputs + 1) * labels)
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        table = found.x.reshape(inputs + 1, labels)
        self.coef_, self.intercept_, self.n_iter_ = table[:-1], table[-1], found.nit

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the scores z, shape ``(n, K)``."""
        return np.asarray(self._checked(X) @ self.coef_ + self.intercept_)

    def _proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        scores = np.asarray(X @ self.coef_ + self.intercept_)
        return label_distribution(self.loss, self.scale * scores)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return probabilities, one array ``(n, K)``.

        For ``logistic``, each is the probability of its label. For ``softmax`` and ``sparsemax``, a
        row sums to 1: the values are shares in the set of labels, not probabilities of presence.
        """
        return super().predict_proba(X)

    def _level(self) -> Any:
        default = {"logistic": 0.5, "softmax": 1 / self.n_labels_, "sparsemax": 0.0}
        return default[self.loss] if self.threshold is None else self.threshold


def label_distribution(loss: LinearLoss, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities that belong to scores ``(n, K)`` under a loss."""
    return _distribution(loss, torch.from_numpy(scores)).numpy()


def losses(loss: LinearLoss, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of each row, ``(n,)``, and its gradient with respect to the scores.

    For all three losses, the gradient ``(n, K)`` is the distribution minus the target.
    """
    slope = _distribution(loss, scores) - target
    if loss == "sparsemax":
        return sparsemax_loss(scores, target), slope
    inside = F.softplus(scores).sum(-1) if loss == "logistic" else scores.logsumexp(-1)
    return inside - torch.linalg.vecdot(scores, target), slope


def _distribution(loss: LinearLoss, scores: Tensor) -> Tensor:
    if loss == "logistic":
        return scores.sigmoid()
    return scores.softmax(-1) if loss == "softmax" else sparsemax(scores)


def sparsemax(scores: Tensor) -> Tensor:
    r"""Project scores onto the simplex: :math:`\arg\min_{p \in \Delta} \|p - z\|^2`.

    :math:`p_j = \max(z_j - \tau(z), 0)` with the :math:`\tau` that makes the sum 1 (Martins &
    Astudillo 2016, algorithm 1). Entries with scores far below the largest are exactly 0.

    Parameters
    ----------
    scores
        Shape ``(*batch, K)``.

    Returns
    -------
    Tensor
        Shape ``(*batch, K)``; differentiable where the support is constant.

    Examples
    --------
    >>> sparsemax(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """
    return (scores - _sparsemax_threshold(scores)[0]).clamp_min(0)


def sparsemax_loss(scores: Tensor, target: Tensor) -> Tensor:
    r"""Return the convex loss whose gradient is ``sparsemax(z) - q``.

    .. math:: -q^\top z + \tfrac12 \sum_{j \in S(z)} (z_j^2 - \tau(z)^2) + \tfrac12 \|q\|^2

    with the support :math:`S` of the projection (Martins & Astudillo 2016); 0 if and only if
    ``sparsemax(z) = q``.

    Parameters
    ----------
    scores
        Shape ``(*batch, K)``.
    target
        Distributions q over the labels, same shape: for a set of labels, uniform over the set.

    Returns
    -------
    Tensor
        Shape ``(*batch,)``.
    """
    tau, support = _sparsemax_threshold(scores)
    inside = torch.where(support, scores.square() - tau.square(), 0).sum(-1)
    return 0.5 * (inside + target.square().sum(-1)) - (target * scores).sum(-1)


def _sparsemax_threshold(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return tau ``(*batch, 1)`` and a mask of the scores above it."""
    ordered = scores.sort(-1, descending=True).values
    sums = ordered.cumsum(-1)
    number = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
    kept = (1 + number * ordered > sums).sum(-1, keepdim=True)
    tau = (sums.gather(-1, kept - 1) - 1) / kept
    return tau, scores > tau
