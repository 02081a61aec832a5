"""One code a sample: how it is chosen from the posterior, for storage or as features."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdlgm.config import Choice
from sdlgm.data import Samples
from sdlgm.distributions import Grouped
from sdlgm.errors import ConfigError
from sdlgm.random import generator as make_generator

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["BATCH", "Choice", "check_choice", "choose_codes", "encode_batches", "limit_active"]

BATCH = 1000
"""Rows that are encoded at a time."""

CODES_AT_ONCE = 2_000
"""Codes that are decoded at a time: as many as a processor's cache can hold."""


@torch.no_grad()
def choose_codes(
    model: SDLGM,
    x: Tensor,
    choice: Choice = "mode",
    *,
    generator: torch.Generator | None = None,
    candidates: int = 16,
    max_active: int | None = None,
) -> Tensor:
    r"""Choose one code for each sample.

    ========== ==================================================== ======== ================
    choice     code                                                 random   decoder calls
    ========== ==================================================== ======== ================
    "sample"   a draw from :math:`q(z \mid x)`, as in training      yes      0
    "mode"     a most probable one, :math:`\arg\max q(z \mid x)`    no       0
    "mean"     the expected counts, rounded by largest remainders   no       0
    "best"     the candidate with the least :math:`-\log p(x, z)`   yes      ``candidates``
    ========== ==================================================== ======== ================

    The candidates of "best" are the mode, the rounded mean and ``candidates - 2`` draws; ties go
    to the earlier one. What is compared is the length (nats) of sample and code together,

    .. math:: -\log p(x, z) = -\log p(x \mid z) - \log p(z) \ge -\log p(x)

    so that a code that reconstructs better must be worth what it costs.

    Parameters
    ----------
    model
        Gives posterior, prior and decoder.
    x
        Samples, shape ``(n, D)``.
    choice
        Which code, see above.
    generator
        Source of the draws of "sample" and "best"; ``None`` is torch's global one, as for any
        torch distribution. Its seed and the split of the rows into batches determine the codes.
        A row's "mode" and "mean" depend on nothing but the row.
    candidates
        Number of codes a sample that "best" compares, at least 2.
    max_active
        Largest number of features present, see :func:`limit_active`. "best" limits each candidate
        before it compares.

    Returns
    -------
    Tensor
        Counts of shape ``(n, K)``, at most ``L0 / G`` in each of the ``G`` groups.

    Raises
    ------
    ConfigError
        As :func:`check_choice`.
    """
    check_choice(model, choice, candidates=candidates, max_active=max_active)
    posterior = model.posterior(x)
    if choice == "best":
        return _best(model, x, posterior, candidates, max_active, generator)
    if choice == "sample":
        codes = posterior.sample(generator=generator)
    else:
        codes = posterior.mode if choice == "mode" else posterior.rounded_mean
    return limit_active(codes, posterior, max_active)


@torch.no_grad()
def encode_batches(
    model: SDLGM,
    rows: Samples,
    choice: Choice = "mode",
    *,
    candidates: int = 16,
    max_active: int | None = None,
    seed: int = 0,
    batch_size: int = BATCH,
) -> Iterator[Tensor]:
    """Yield batches of codes, shape ``(b, K)``, of all rows in order: see ``SDLGM.encode``."""
    model.check_rows(rows)
    check_choice(model, choice, candidates=candidates, max_active=max_active)
    bits, noise = (make_generator(seed, f"evaluation {what}") for what in ("bits", "codes"))
    for x in rows.batches(batch_size, bits):
        yield choose_codes(
            model, x, choice, generator=noise, candidates=candidates, max_active=max_active
        )


def check_choice(
    model: SDLGM, choice: Choice, *, candidates: int = 16, max_active: int | None = None
) -> None:
    """Raise :class:`ConfigError` unless :func:`choose_codes` can do what is asked of it.

    That is, if ``choice`` is unknown, ``candidates`` is below 2 or ``max_active`` below 1, or if
    features are to be dropped whose slots a model with open gates cannot close.
    """
    if choice not in typing.get_args(Choice):
        known = ", ".join(map(repr, typing.get_args(Choice)))
        raise ConfigError(f"The choice of a code is one of {known}, got {choice!r}.")
    if choice == "best" and candidates < 2:
        raise ConfigError(
            f"candidates must be at least 2, the mode and the rounded mean, got {candidates}."
        )
    if max_active is None:
        return
    if max_active < 1:
        raise ConfigError(f"max_active must be at least 1, got {max_active}.")
    if model.config.gates == "open" and max_active < model.config.budget:
        raise ConfigError(
            f"max_active = {max_active} would close slots, but a model with gates = 'open' fills "
            f"all {model.config.budget}. Train one with gates = 'learned'."
        )


def limit_active(codes: Tensor, posterior: Grouped, max_active: int | None) -> Tensor:
    """Keep at most ``max_active`` features of each code, and close the slots of the others.

    Those stay that the posterior most probably has present, ``posterior.presence_probs`` (ties:
    the lower index), with their counts.

    Parameters
    ----------
    codes
        Shape ``(*sample, *batch, K)``.
    posterior
        Of batch shape ``(*batch,)``.
    max_active
        ``None`` keeps all.
    """
    if max_active is None or max_active >= codes.shape[-1]:
        return codes
    absence = posterior.absence_log_probs.expand_as(codes).masked_fill(codes == 0, torch.inf)
    dropped = absence.argsort(dim=-1, stable=True)[..., max_active:]
    return codes.scatter(-1, dropped, 0.0)


def _best(
    model: SDLGM,
    x: Tensor,
    posterior: Grouped,
    candidates: int,
    max_active: int | None,
    generator: torch.Generator | None,
) -> Tensor:
    """Return the candidate of least ``-log p(x, z)`` of each row."""
    prior = model.prior()
    best = limit_active(posterior.mode, posterior, max_active)
    lowest = best.new_full(best.shape[:-1], torch.inf)
    for proposed in _propose(posterior, candidates, generator):
        codes = limit_active(proposed, posterior, max_active)
        length = -model.data_distribution(codes).log_prob(x) - prior.log_prob(codes)
        length, winner = length.min(0)
        chosen = codes.gather(0, winner[None, :, None].expand(1, *codes.shape[1:])).squeeze(0)
        best = torch.where((length < lowest).unsqueeze(-1), chosen, best)
        lowest = torch.minimum(length, lowest)
    return best


def _propose(
    posterior: Grouped, candidates: int, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """Yield candidates, shape ``(m, n, K)``: the mode, the rounded mean, and draws."""
    yield torch.stack([posterior.mode, posterior.rounded_mean])
    chunk = max(1, CODES_AT_ONCE // max(1, posterior.batch_shape.numel()))
    for start in range(2, candidates, chunk):
        yield posterior.sample((min(chunk, candidates - start),), generator=generator)
