"""Choose one code for each sample from its posterior, for storage or as features."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch import distributions as td

from sdlgm.config import CodeMethod, ModelConfig
from sdlgm.data import Samples
from sdlgm.distributions import Grouped
from sdlgm.errors import ConfigError
from sdlgm.random import generator as make_generator

__all__ = ["BATCH", "CodeModel", "check_code", "choose_codes", "encode_batches", "limit_active"]

BATCH = 1000
"""Number of rows to encode at a time."""

CODES_AT_ONCE = 2_000
"""Number of codes to decode at a time: about what fits in a processor's cache."""


class CodeModel(Protocol):
    """What choosing a code asks of a model; :class:`~sdlgm.models.SDLGM` has it."""

    config: ModelConfig

    def posterior(self, x: Tensor) -> Grouped:
        """Return ``q(z | x)`` of samples ``(n, D)``."""
        ...

    def prior(self) -> Grouped:
        """Return ``p(z)``."""
        ...

    def data_distribution(self, codes: Tensor) -> td.Distribution:
        """Return ``p(x | z)`` of codes ``(*batch, K)``."""
        ...

    def check_rows(self, rows: Samples, what: str | None = None) -> None:
        """Raise ``DataError`` unless rows suit the model."""
        ...


@torch.no_grad()
def choose_codes(
    model: CodeModel,
    x: Tensor,
    code: CodeMethod = "mode",
    *,
    generator: torch.Generator | None = None,
    candidates: int = 16,
    max_active: int | None = None,
) -> Tensor:
    r"""Choose one code for each sample.

    ========== ==================================================== ======== ================
    code       chosen code                                          random   decoder calls
    ========== ==================================================== ======== ================
    "mode"     a most probable code, :math:`\arg\max q(z \mid x)`   no       0
    "mean"     the expected counts, rounded by largest remainders   no       0
    "sample"   a draw from :math:`q(z \mid x)`, as in training      yes      0
    "best"     the candidate with the least :math:`-\log p(x, z)`   yes      ``candidates``
    ========== ==================================================== ======== ================

    The candidates of "best" are the mode, the rounded mean and ``candidates - 2`` draws; ties go
    to the earlier candidate. Candidates are compared by the description length (in nats) of sample
    and code together,

    .. math:: -\log p(x, z) = -\log p(x \mid z) - \log p(z) \ge -\log p(x)

    so a better reconstruction must be worth the length of its code.

    Parameters
    ----------
    model
        Gives posterior, prior and decoder.
    x
        Samples, shape ``(n, D)``.
    code
        How to choose, see above.
    generator
        Source of the draws of "sample" and "best"; ``None`` is torch's global one, as for any
        torch distribution. Its seed and the split of the rows into batches determine the codes.
        "mode" and "mean" depend on the row alone.
    candidates
        Number of codes per sample that "best" compares, at least 2.
    max_active
        Largest number of features present, see :func:`limit_active`. "best" limits each candidate
        before comparing.

    Returns
    -------
    Tensor
        Counts of shape ``(n, K)``, at most ``L0 / G`` in each of the ``G`` groups.

    Raises
    ------
    ConfigError
        As :func:`check_code`.
    """
    check_code(model, code, candidates=candidates, max_active=max_active)
    posterior = model.posterior(x)
    if code == "best":
        return _best(model, x, posterior, candidates, max_active, generator)
    if code == "sample":
        codes = posterior.sample(generator=generator)
    else:
        codes = posterior.mode if code == "mode" else posterior.rounded_mean
    return limit_active(codes, posterior, max_active)


@torch.no_grad()
def encode_batches(
    model: CodeModel,
    rows: Samples,
    code: CodeMethod = "mode",
    *,
    candidates: int = 16,
    max_active: int | None = None,
    seed: int = 0,
    batch_size: int = BATCH,
) -> Iterator[Tensor]:
    """Yield batches of codes, shape ``(b, K)``, of all rows in order: see ``SDLGM.encode``."""
    model.check_rows(rows)
    check_code(model, code, candidates=candidates, max_active=max_active)
    bits, noise = (make_generator(seed, f"evaluation {what}") for what in ("bits", "codes"))
    for x in rows.batches(batch_size, bits):
        yield choose_codes(
            model, x, code, generator=noise, candidates=candidates, max_active=max_active
        )


def check_code(
    model: CodeModel, code: CodeMethod, *, candidates: int = 16, max_active: int | None = None
) -> None:
    """Check the options of :func:`choose_codes`.

    Raises
    ------
    ConfigError
        If ``code`` is unknown, ``candidates`` is below 2 or ``max_active`` below 1, or if
        ``max_active`` would close slots of a model whose gates are always open.
    """
    if code not in typing.get_args(CodeMethod):
        known = ", ".join(map(repr, typing.get_args(CodeMethod)))
        raise ConfigError(f"code must be one of {known}, got {code!r}.")
    if code == "best" and candidates < 2:
        raise ConfigError(
            f"candidates must be at least 2 (the mode and the rounded mean), got {candidates}."
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
    """Keep at most ``max_active`` features of each code and close the slots of the others.

    The features with the largest ``posterior.presence_probs`` stay, with their counts; ties go to
    the lower index.

    Parameters
    ----------
    codes
        Shape ``(*sample, *batch, K)``.
    posterior
        The posterior of the codes, batch shape ``(*batch,)``.
    max_active
        Largest number of features; ``None`` keeps all.
    """
    if max_active is None or max_active >= codes.shape[-1]:
        return codes
    absence = posterior.absence_log_probs.expand_as(codes).masked_fill(codes == 0, torch.inf)
    dropped = absence.argsort(dim=-1, stable=True)[..., max_active:]
    return codes.scatter(-1, dropped, 0.0)


def _best(
    model: CodeModel,
    x: Tensor,
    posterior: Grouped,
    candidates: int,
    max_active: int | None,
    generator: torch.Generator | None,
) -> Tensor:
    """Return for each row the candidate with the least ``-log p(x, z)``."""
    prior = model.prior()
    best = limit_active(posterior.mode, posterior, max_active)
    lowest = best.new_full(best.shape[:-1], torch.inf)
    for proposed in _candidates(posterior, candidates, generator):
        codes = limit_active(proposed, posterior, max_active)
        length = -model.data_distribution(codes).log_prob(x) - prior.log_prob(codes)
        length, winner = length.min(0)
        chosen = codes.gather(0, winner[None, :, None].expand(1, *codes.shape[1:])).squeeze(0)
        best = torch.where((length < lowest).unsqueeze(-1), chosen, best)
        lowest = torch.minimum(length, lowest)
    return best


def _candidates(
    posterior: Grouped, candidates: int, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """Yield candidates, shape ``(m, n, K)``: the mode, the rounded mean and draws."""
    yield torch.stack([posterior.mode, posterior.rounded_mean])
    chunk = max(1, CODES_AT_ONCE // max(1, posterior.batch_shape.numel()))
    for start in range(2, candidates, chunk):
        yield posterior.sample((min(chunk, candidates - start),), generator=generator)
