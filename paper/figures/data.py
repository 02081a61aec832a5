"""The data of figures 3 and 4: decoded codes, numbers of open slots, neighbours, a map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.distributions import GatedMultinomial, greedy
from sdlgm.errors import SDLGMError
from sdlgm.models import SDLGM
from sdlgm.objectives.bounds import negative_elbo, relaxed_objective
from sdlgm.random import generator

__all__ = [
    "Decoded",
    "OpenSlots",
    "binomial_probs",
    "decode_both",
    "map_in_the_plane",
    "neighbour_accuracy",
    "open_slots",
    "require_map",
    "total_variation",
]

Array = NDArray[np.float64]
BATCH = 500
"""Batch size. A relaxed sample of a batch holds ``BATCH * L0 * K`` numbers."""
NEIGHBOURS = 10
PERPLEXITY = 30.0


@dataclass(frozen=True)
class Decoded:
    """The codes of ``n`` samples, one each, and their reconstructions."""

    codes: Tensor
    """Discrete codes, shape ``(n, K)``."""
    expected: Tensor
    """Expected counts of the posterior, shape ``(n, K)``."""
    hard: Tensor
    """Means of the data decoded from the discrete codes, shape ``(n, D)``."""
    relaxed: Tensor
    """Means decoded from relaxed samples at the model's temperatures, shape ``(n, D)``."""
    hard_loss: Tensor
    """Negative log-likelihood given the discrete codes (nats), shape ``(n,)``."""
    relaxed_loss: Tensor
    """Negative log-likelihood given the relaxed samples; not part of a bound."""
    gate_logits: Tensor
    """Sparsity logits, the outputs of ``h(x; gamma)`` of eq. 7, shape ``(n, G)``."""
    open_probs: Tensor
    """Distribution of the number of open slots of each sample, ``(n, L0 + 1)``, float64."""


@torch.no_grad()
def decode_both(model: SDLGM, bits: Tensor, seed: int = 0) -> Decoded:
    """Encode samples of shape ``(n, D)``; decode their codes and relaxed samples.

    The result depends only on the arguments.
    """
    hard_noise, relaxed_noise = (generator(seed, f"figure {kind}") for kind in ("hard", "relaxed"))
    parts = []
    for x in bits.split(BATCH):
        posterior = greedy(model.posterior(x))
        hard = negative_elbo(model, x, generator=hard_noise)
        relaxed = relaxed_objective(model, x, generator=relaxed_noise)
        totals = torch.arange(posterior.total_count + 1).unsqueeze(-1)
        parts.append(
            (
                hard.codes,
                posterior.mean,
                model.data_distribution(hard.codes).mean,
                model.data_distribution(relaxed.codes).mean,
                hard.reconstruction,
                relaxed.reconstruction,
                posterior.base.gate_logits,
                posterior.total_log_prob(totals).double().exp().T,
            )
        )
    return Decoded(*(torch.cat(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class OpenSlots:
    r"""The number ``L`` of open slots of samples, compared with the Binomial of the same mean.

    The distribution of :math:`L` over all samples is the mean of the distributions of the samples.
    These are :math:`\mathrm{Binomial}(L_0, \lambda_i)` for one group, and sums of ``G``
    independent Binomials for ``G`` groups. The variance of :math:`L` is the mean of the samples'
    variances plus the variance of their means.
    """

    drawn: Array
    """Fraction of the samples whose code opens each number of slots, shape ``(L0 + 1,)``."""
    exact: Array
    """Exact distribution, without the noise of drawing codes, shape ``(L0 + 1,)``."""
    binomial: Array
    """``Binomial(L0, E[L] / L0)``, shape ``(L0 + 1,)``."""
    prior: Array
    """``Binomial(L0, lambda0)``: the paper's prior (eq. 1), shape ``(L0 + 1,)``."""
    expected: Array
    """Expected number of open slots of each sample, shape ``(n,)``."""
    rounded: Array
    """Fraction of the samples whose expected number rounds to each, shape ``(L0 + 1,)``: for one
    group the histogram of the sparsity logits, with bins one slot wide."""
    gate_logits: Array
    """All sparsity logits, shape ``(n, G)``."""
    within: float
    """Mean of the samples' variances, divided by the variance of ``binomial``."""
    between: float
    """Variance of the samples' means, divided by the variance of ``binomial``."""

    @property
    def variance_ratio(self) -> float:
        """Variance of ``exact`` divided by that of ``binomial``: 1 for a Binomial."""
        return self.within + self.between

    @property
    def draw_noise(self) -> float:
        r"""Approximate expected total variation between ``drawn`` and ``exact``.

        .. math:: \tfrac12 \sum_l \sqrt{2 p_l (1 - p_l) / (\pi n)}
        """
        spread = np.sqrt(2 * self.exact * (1 - self.exact) / (math.pi * len(self.expected)))
        return 0.5 * float(spread.sum())


def open_slots(decoded: Decoded, prior_gate: float = 0.5) -> OpenSlots:
    """Compare the numbers of open slots of samples with a Binomial distribution."""
    probs, budget = decoded.open_probs.numpy(), decoded.open_probs.shape[1] - 1
    slots = np.arange(budget + 1, dtype=np.float64)
    means = probs @ slots
    variances = probs @ slots**2 - means**2
    share = float(means.mean()) / budget
    scale = budget * share * (1 - share)
    return OpenSlots(
        drawn=_histogram(decoded.codes.sum(-1).numpy(), budget),
        exact=probs.mean(0),
        binomial=binomial_probs(budget, share),
        prior=binomial_probs(budget, prior_gate),
        expected=means,
        rounded=_histogram(means.round(), budget),
        gate_logits=decoded.gate_logits.double().numpy(),
        within=float(variances.mean() / scale),
        between=float(means.var() / scale),
    )


def binomial_probs(budget: int, share: float) -> Array:
    """Return the probabilities of ``Binomial(budget, share)``, shape ``(budget + 1,)``."""
    odds = torch.logit(torch.tensor(share, dtype=torch.float64))
    code = GatedMultinomial(budget, odds, torch.zeros(1, dtype=torch.float64))
    return code.total_log_prob(torch.arange(budget + 1)).exp().numpy()


def _histogram(totals: NDArray[np.floating], budget: int) -> Array:
    return np.bincount(totals.astype(np.int64), minlength=budget + 1) / len(totals)


def total_variation(one: Array, other: Array) -> float:
    """Return half the sum of absolute differences of two distributions, between 0 and 1."""
    return 0.5 * float(np.abs(one - other).sum())


def neighbour_accuracy(features: Tensor, labels: Tensor) -> float:
    """Return the accuracy of a classifier by the ten nearest neighbours, leaving one out.

    Each sample is classified by its ten nearest other samples, by Euclidean distance.

    Parameters
    ----------
    features, labels
        Shapes ``(n, d)`` and ``(n,)``.
    """
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(NEIGHBOURS, algorithm="brute")
    classifier.fit(features.double().numpy(), labels.numpy())
    return float((classifier.predict(None) == labels.numpy()).mean())


def require_map() -> None:
    """Raise :class:`SDLGMError` unless openTSNE is installed."""
    try:
        import openTSNE  # noqa: F401
    except ImportError:
        raise SDLGMError(
            "The map of figure 4 needs openTSNE: pip install 'sdlgm[report]'."
        ) from None


def map_in_the_plane(features: Tensor, seed: int = 0) -> Array:
    """Map samples of shape ``(n, d)`` to the plane by t-SNE, deterministically; return ``(n, 2)``.

    Perplexity 30 (less for fewer than 91 samples), Euclidean distance, exact neighbours; the first
    two principal components are the start.

    Raises
    ------
    SDLGMError
        If openTSNE is not installed.
    """
    require_map()
    from openTSNE import TSNE

    plane = TSNE(
        perplexity=min(PERPLEXITY, (len(features) - 1) / 3),
        initialization="pca",
        neighbors="exact",
        negative_gradient_method="bh",
        n_jobs=1,
        random_state=seed,
    )
    return np.asarray(plane.fit(features.double().numpy()))
