"""Fit a structured prior to a trained model, all else unchanged."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import nn

from sdlgm.config import ModelConfig
from sdlgm.data import Rows
from sdlgm.distributions import conditionals, kl_terms
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError
from sdlgm.models import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.progress import progress_bar
from sdlgm.random import generator
from sdlgm.training.optimiser import Schedule, make_adam, set_learning_rate
from sdlgm.training.order import Order

__all__ = ["fit_prior"]

_RATES = {"mixture": 3e-2, "autoregressive": 3e-3, "masked": 3e-3}
"""Learning rate of each prior."""


@neutral()
def fit_prior(
    model: SDLGM,
    rows: Rows,
    prior: Literal["mixture", "autoregressive", "masked"] = "masked",
    *,
    prior_hidden: tuple[int, ...] | None = None,
    mixture_components: int | None = None,
    iterations: int = 2_000,
    batch_size: int = 200,
    learning_rate: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> SDLGM:
    r"""Return a copy of a trained model with a structured prior, fitted to codes of rows.

    Minimises the expected KL, the part of the negative ELBO that depends on the prior,

    .. math:: \frac1n \sum_i \mathrm{KL}\big(q(z \mid x_i) \,\|\, p(z)\big)

    by Adam. Encoder and decoder stay as they are, so codes do not change; the lengths of files and
    the bounds do. A prior that is trained with the model (``prior="masked"`` in
    :class:`~sdlgm.config.ModelConfig`, the default for bits) is better still.

    Parameters
    ----------
    model
        A trained model; unchanged.
    rows
        Rows to fit the prior to, such as those that the model was trained on.
    prior
        The new prior. A model with levels cannot have a mixture.
    prior_hidden, mixture_components
        Size of the new prior, as in :class:`~sdlgm.config.ModelConfig`.
    iterations, batch_size
        Number of gradient steps, and rows in each.
    learning_rate
        Initial learning rate; it falls to 0 along half a cosine. Default: 3e-2 for a mixture, 3e-3
        for networks.
    seed
        Source of initial weights, order, bits and codes.
    progress
        Show a progress bar.

    Raises
    ------
    ConfigError
        If the prior does not fit the model's groups or levels, or a number is not positive.
    DataError
        If the rows do not suit the model.

    Examples
    --------
    >>> from sdlgm.config import ModelConfig
    >>> config = ModelConfig(features=6, budget=3, encoder_hidden=(8,))
    >>> model = SDLGM(config, DataStatistics(torch.full((4,), 0.5), torch.ones(4), 2))
    >>> rows = Rows((torch.rand(20, 4) < 0.5).float())
    >>> fit_prior(model, rows, "mixture", mixture_components=2, iterations=3).config.prior
    'mixture'
    """
    if min(iterations, batch_size) < 1 or not (learning_rate is None or learning_rate > 0):
        raise ConfigError(
            "fit_prior needs positive iterations, batch_size and learning_rate, got "
            f"{iterations}, {batch_size} and {learning_rate}."
        )
    if prior not in _RATES:
        raise ConfigError(f"prior must be one of {', '.join(_RATES)}, got {prior!r}.")
    model.check_rows(rows)
    config = dataclasses.replace(
        model.config, prior=prior, prior_hidden=prior_hidden, mixture_components=mixture_components
    )
    fitted = _with_prior(model, config, seed)
    device = fitted.output_head.weight.device
    part = nn.ModuleList([fitted.prior_network])  # type: ignore[list-item]
    schedule = Schedule(learning_rate or _RATES[prior], iterations)
    adam = make_adam(part, schedule.highest)
    order, noise = Order(len(rows), batch_size, seed), generator(seed, "noise", device=device)
    with progress_bar("fitting the prior", iterations, progress) as update:
        for step in range(iterations):
            x = rows.batch(order.batch(step), generator(seed, "bits", step)).to(device)
            with torch.no_grad():
                posterior = fitted(x)
                codes = posterior.sample(generator=noise)
                posterior = conditionals(posterior, codes)
            known = fitted.prior()
            loss = kl_terms(posterior, conditionals(known, codes)).total.mean()
            adam.zero_grad()
            loss.backward()
            set_learning_rate(adam, schedule(step))
            adam.step()
            update(step + 1, {"kl": float(loss.detach())} if step % 100 == 0 else {})
    fitted.zero_grad()
    return fitted.eval()


def _with_prior(model: SDLGM, config: ModelConfig, seed: int) -> SDLGM:
    """Return a copy of a model with other settings of its prior, whose networks are new."""
    statistics = DataStatistics(
        torch.full((model.n_inputs,), 0.5), torch.ones(model.n_inputs), model.levels
    )
    new = SDLGM(config, statistics, generator(seed, "weights"))
    new = new.to(model.output_head.weight)
    known = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith("prior_network.")
    }
    new.load_state_dict(known, strict=False)
    return new
