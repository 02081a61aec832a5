"""Estimates of a gradient from several codes of each sample."""

from __future__ import annotations

import torch

from sdlgm.errors import ConfigError
from sdlgm.gradients.registry import Code, Estimate, Estimator, Loss, multi_sample

__all__ = ["averaged"]


def averaged(estimator: Estimator, draws: int) -> Estimator:
    """Return an estimator whose estimate is the mean of ``draws`` independent ones.

    The encoder is read once, whatever the number of codes. The variance of the estimate that is due
    to the draw of a code falls with the number.

    Parameters
    ----------
    estimator
        An estimator of the expected loss. It must not compare the samples of a batch, as those with
        a control variate do.
    draws
        Number of codes for each sample, at least 1.

    Raises
    ------
    ConfigError
        If ``draws`` is not positive, or the estimator has an objective of several codes of its own.

    Examples
    --------
    >>> from sdlgm.distributions import GatedMultinomial
    >>> from sdlgm.gradients import reinmax
    >>> q = GatedMultinomial(2, torch.zeros(8), torch.zeros(8, 3, requires_grad=True))
    >>> estimate = averaged(reinmax, 5)(q, lambda z: z[..., 0])
    >>> estimate.surrogate.shape, estimate.codes.shape
    (torch.Size([8]), torch.Size([8, 3]))
    """
    if draws < 1:
        raise ConfigError(f"draws must be at least 1, got {draws}.")
    if multi_sample(estimator):
        raise ConfigError(
            "An estimator of the importance-weighted bound compares its codes, so the mean of "
            "several estimates is another objective. Set its option samples instead."
        )
    if draws == 1:
        return estimator

    def several(
        posterior: Code, loss: Loss, *, generator: torch.Generator | None = None
    ) -> Estimate:
        repeated = posterior.expand((draws, *posterior.batch_shape))
        found = estimator(repeated, loss, generator=generator)
        return Estimate(found.surrogate.mean(0), found.loss.mean(0), found.codes[0])

    return several
