"""Evaluate the bounds of a model on held-out rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdlgm.data import FolderRows, Samples
from sdlgm.environment import neutral
from sdlgm.errors import TrainingError
from sdlgm.inference.codes import choose_codes
from sdlgm.inference.linear import is_quadratic
from sdlgm.inference.refinement import check_refinement, refine_posterior
from sdlgm.objectives.bounds import active_features, negative_elbo, nll_bound, relaxed_objective
from sdlgm.random import generator

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["Evaluation", "evaluate"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Means over rows in nats per sample, lower is better. Only the first two are bounds."""

    negative_elbo: float
    """Minus the evidence lower bound: discrete codes, exact KL, one code per sample."""
    nll_bound: float
    """Importance-weighted bound with discrete codes."""
    importance_samples: int
    """Number M of codes per sample in ``nll_bound``."""
    relaxed_objective: float
    """The paper's objective: relaxed samples at the model's temperatures. Not a bound."""
    reconstruction: float
    """Part of ``negative_elbo``: minus the log-likelihood given the code."""
    kl_gates: float
    """Part of ``negative_elbo``: KL divergence of the gates from the prior."""
    kl_features: float
    """Part of ``negative_elbo``: KL divergence of the features from the prior."""
    active_features_mean: float
    """Mean number of features present in a code."""
    active_features_max: int
    """Largest number of features present in a code."""
    budget: int
    """Hard limit L0 on the number of features present."""
    n_samples: int
    """Number of rows."""
    refine_steps: int = 0
    """Number of refinement steps of each row's posterior before the bounds were taken."""
    code_bits: float | None = None
    """Where codes are searched for by default: their mean length under the prior, in bits."""
    distortion: float | None = None
    """Where codes are searched for by default: the mean squared error of the rows decoded from
    them, in standard units, that is as a share of the variance of the training data."""

    def to_dict(self) -> dict[str, float | int]:
        """Return the numbers by name, without those that do not apply."""
        found = dataclasses.asdict(self)
        return {name: value for name, value in found.items() if value is not None}


@neutral()
def evaluate(
    model: SDLGM,
    rows: Samples | FolderRows,
    *,
    importance_samples: int = 100,
    refine_steps: int = 0,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate a model on rows.

    Parameters
    ----------
    model
        The model to evaluate, on its device.
    rows
        The data; rows of a folder are read as they are needed. The bits of dynamic rows are drawn
        once, from ``seed``.
    importance_samples
        Number M of codes per sample in ``nll_bound``.
    refine_steps
        Steps of :func:`~sdlgm.inference.refine_posterior` on each row. The bounds then use the
        refined posterior, with new codes; the relaxed objective always uses the encoder's.
    seed
        Source of bits and codes.
    batch_size
        Number of rows at a time. It affects the speed, and which random numbers each row gets.
        Default: 100 on a CPU, 1,000 on other devices.
    progress
        Called with the number of rows done after each batch.

    Raises
    ------
    DataError
        If the rows do not suit the model.
    ConfigError
        If ``refine_steps`` is negative.
    """
    if isinstance(rows, FolderRows):
        rows = rows.checked_by(model.check_rows)
    else:
        model.check_rows(rows)
    check_refinement(refine_steps)
    device = model.device
    bits = generator(seed, "evaluation bits")  # the same on every device
    noise = generator(seed, "evaluation codes", device=device)
    search = generator(seed, "refining codes", device=device)
    searched = is_quadratic(model)
    sums = torch.zeros(8, dtype=torch.float64)
    most = done = 0
    training = model.training
    model.eval()
    try:
        for x in rows.batches(batch_size or (100 if device.type == "cpu" else 1_000), bits):
            x = x.to(device)
            posterior = refine_posterior(model, x, refine_steps, generator=search)
            hard = negative_elbo(model, x, posterior=posterior, generator=noise)
            relaxed = relaxed_objective(model, x, generator=noise).total
            bound = nll_bound(model, x, importance_samples, posterior=posterior, generator=noise)
            active = active_features(hard.codes)
            parts = (
                hard.reconstruction, hard.kl_gates, hard.kl_features, relaxed, bound, active,
                *(_searched(model, x) if searched else (bound.new_zeros(1),) * 2),
            )  # fmt: skip
            sums += torch.stack([part.double().sum() for part in parts]).cpu()
            most = max(most, int(active.max()))
            done += len(x)
            if progress:
                progress(done)
    finally:
        model.train(training)
    means = (sums / done).tolist()
    if not all(map(math.isfinite, means)):
        raise TrainingError("The model's bounds on these rows are not finite.")
    reconstruction, kl_gates, kl_features, relaxed_mean, bound_mean, active_mean, *code = means
    return Evaluation(
        negative_elbo=reconstruction + kl_gates + kl_features,
        nll_bound=bound_mean,
        importance_samples=importance_samples,
        relaxed_objective=relaxed_mean,
        reconstruction=reconstruction,
        kl_gates=kl_gates,
        kl_features=kl_features,
        active_features_mean=active_mean,
        active_features_max=most,
        budget=model.config.budget,
        n_samples=done,
        refine_steps=refine_steps,
        code_bits=code[0] if searched else None,
        distortion=code[1] if searched else None,
    )


@torch.no_grad()
def _searched(model: SDLGM, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bits of searched codes and the squared errors of what they decode to, ``(n,)``."""
    codes = choose_codes(model, x, "search")
    bits = -model.prior().log_prob(codes) / math.log(2)
    base = model.data_distribution(codes).base_dist  # type: ignore[attr-defined]
    return bits, (base.standard_units(x) - base.standard.loc).square().mean(-1)
