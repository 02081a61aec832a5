"""Choose one code for each sample from its posterior, for storage or as features."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdlgm.config import CodeMethod, ModelConfig, quadratic
from sdlgm.data import Samples
from sdlgm.distributions import Chain, Grouped, conditionals, greedy
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, DataError
from sdlgm.inference.linear import quadratic_search, standard_residual
from sdlgm.inference.search import search_codes
from sdlgm.inference.slots import counts_of
from sdlgm.random import generator as make_generator
from sdlgm.random import on_device

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = [
    "BATCH",
    "CANDIDATES",
    "check_code",
    "check_posterior",
    "choose_codes",
    "default_code",
    "encode_batches",
    "limit_active",
]

BATCH = 1000
"""Number of rows to encode at a time."""

CANDIDATES = 16
"""Number of codes that "best" compares, and that the beam of "search" keeps, by default."""

CODES_AT_ONCE = 2_000
"""Number of codes to decode at a time: about what fits in a processor's cache."""


@neutral()
@torch.no_grad()
def choose_codes(
    model: SDLGM,
    x: Tensor,
    code: CodeMethod | None = None,
    *,
    generator: torch.Generator | None = None,
    candidates: int = CANDIDATES,
    max_active: int | None = None,
    name: str = "x",
    first_row: int = 0,
) -> Tensor:
    r"""Choose one code for each sample.

    ========== ==================================================== ======== ================
    code       chosen code                                          random   decoder calls
    ========== ==================================================== ======== ================
    "mode"     a most probable code, :math:`\arg\max q(z \mid x)`   no       0
    "mean"     the expected counts, rounded by largest remainders   no       0
    "sample"   a draw from :math:`q(z \mid x)`, as in training      yes      0
    "best"     the candidate with the least :math:`-\log p(x, z)`   yes      ``candidates``
    "search"   the code with the least :math:`J(z)` that is found   no       see below
    ========== ==================================================== ======== ================

    The mode and the mean of a posterior in levels are greedy: those of each level, given the codes
    chosen for the levels before it.

    The candidates of "best" are the mode, the rounded mean and ``candidates - 2`` draws; ties go
    to the earlier candidate. Candidates are compared by the description length (in nats) of sample
    and code together,

    .. math:: -\log p(x, z) = -\log p(x \mid z) - \log p(z) \ge -\log p(x)

    so a better reconstruction must be worth the length of its code.

    "search" looks for the code itself. It minimises

    .. math:: J(z) = -\log p(x \mid z) - \beta \log p(z)

    where :math:`\beta` is the model's ``rate_weight``. In a model with ``prefixes``, the first term
    is its mean over the prefixes and the whole code. If the decoder is linear, with a Gaussian
    likelihood and one slot per group, a beam search over the groups keeps ``candidates`` codes, and
    each is then improved slot by slot (:class:`~sdlgm.inference.linear.AdditiveSearch`). This does
    not decode, and neither needs the encoder. For other models the search starts at the mode and
    decodes ``L0 (K / G + 1)`` codes in each of up to three sweeps
    (:func:`~sdlgm.inference.search_codes`).

    Parameters
    ----------
    model
        Gives posterior, prior and decoder.
    x
        Samples, shape ``(n, D)``. They may be on another device than the model; their codes are
        where they are.
    code
        How to choose, see above. Default: :func:`default_code`.
    generator
        Source of the draws of "sample" and "best"; ``None`` is torch's global one, as for any
        torch distribution. Its seed and the split of the rows into batches determine the codes.
        "mode" and "mean" depend on the row alone.
    candidates
        Number of codes per sample that "best" compares, at least 2, and that the beam of "search"
        keeps, at least 1.
    max_active
        Largest number of features present, see :func:`limit_active`. "best" limits each candidate
        before comparing; "search" closes the slots that raise ``J`` least.
    name, first_row
        What messages call the samples, and the number of the first.

    Returns
    -------
    Tensor
        Counts of shape ``(n, K)``, at most ``L0 / G`` in each of the ``G`` groups.

    Raises
    ------
    ConfigError
        As :func:`check_code`.
    DataError
        As :func:`check_posterior`.
    """
    code = default_code(model.config) if code is None else code
    check_code(model, code, candidates=candidates, max_active=max_active)
    home, x = x.device, x.to(model.device)
    generator = on_device(generator, model.device)
    codes = _chosen(model, x, code, generator, candidates, max_active, name, first_row)
    return codes.to(home)


def _chosen(
    model: SDLGM,
    x: Tensor,
    code: CodeMethod,
    generator: torch.Generator | None,
    candidates: int,
    max_active: int | None,
    name: str,
    first_row: int,
) -> Tensor:
    """Return the codes of samples on the model's device: see :func:`choose_codes`."""
    if code == "search" and quadratic(model.config):
        return _searched(model, x, candidates, max_active, name, first_row)
    posterior = model.posterior(x)
    check_posterior(model, posterior, name, first_row)
    if code == "search":
        weight = 1 / float(model.rate_weight)
        codes = search_codes(model, x, posterior.mode, weight=weight)
        return limit_active(codes, posterior, max_active)
    if code == "best":
        return _best(model, x, posterior, candidates, max_active, generator)
    if code == "sample":
        codes = posterior.sample(generator=generator)
    else:
        codes = posterior.mode if code == "mode" else posterior.rounded_mean
    return limit_active(codes, posterior, max_active)


def default_code(config: ModelConfig) -> CodeMethod:
    """Return how a model chooses codes by default: "search" where it is fast, else "mode".

    Examples
    --------
    >>> default_code(ModelConfig()), default_code(ModelConfig(likelihood="gaussian"))
    ('mode', 'search')
    """
    return "search" if quadratic(config) else "mode"


@torch.no_grad()
def encode_batches(
    model: SDLGM,
    rows: Samples,
    code: CodeMethod | None = None,
    *,
    candidates: int = CANDIDATES,
    max_active: int | None = None,
    seed: int = 0,
    batch_size: int = BATCH,
) -> Iterator[Tensor]:
    """Yield batches of codes, shape ``(b, K)``, of all rows in order: see ``SDLGM.encode``."""
    model.check_rows(rows)
    check_code(model, code, candidates=candidates, max_active=max_active)
    bits = make_generator(seed, "evaluation bits")  # the same on every device
    noise = make_generator(seed, "evaluation codes", device=model.device)
    done = 0
    for x in rows.batches(batch_size, bits):
        yield choose_codes(
            model, x, code, generator=noise, candidates=candidates, max_active=max_active,
            name=rows.name, first_row=done,
        )  # fmt: skip
        done += len(x)


def check_posterior(
    model: SDLGM, posterior: Grouped | Chain, name: str, first_row: int = 0
) -> None:
    """Check that a posterior of rows, shape ``(n, K)``, is finite; levels are, along their modes.

    Values far outside of the training data overflow in the encoder.

    Raises
    ------
    DataError
        If it is not, with the number of the first row.
    """
    try:
        base = greedy(posterior).base
    except ValueError:  # logits that are not finite have no mode
        base = _given_nothing(posterior).base
    finite = base.feature_logits.isfinite().flatten(-2).all(-1)
    if model.config.gates == "learned":
        finite &= base.gate_logits.isfinite().all(-1)
    if not bool(finite.all()):
        row = first_row + int((~finite).nonzero()[0])
        raise DataError(
            f"{name}: the encoder overflows at row {row} (counted from 0), so that it has no code. "
            "Its values are too far from those of the training data: drop it, or correct it."
        )


def _given_nothing(posterior: Grouped | Chain) -> Grouped:
    """Return the groups' distributions given that all slots before them are closed."""
    if not isinstance(posterior, Chain):
        return posterior
    shape = posterior.batch_shape + posterior.event_shape
    return posterior.given(posterior.nothing().new_zeros(shape))


def check_code(
    model: SDLGM,
    code: CodeMethod | None = None,
    *,
    candidates: int = CANDIDATES,
    max_active: int | None = None,
) -> None:
    """Check the options of :func:`choose_codes`.

    Raises
    ------
    ConfigError
        If ``code`` is unknown, ``candidates`` is below 2 or ``max_active`` below 1, or if
        ``max_active`` would close slots of a model whose gates are always open.
    """
    if code is not None and code not in typing.get_args(CodeMethod):
        known = ", ".join(map(repr, typing.get_args(CodeMethod)))
        raise ConfigError(f"code must be one of {known}, got {code!r}.")
    if code == "best" and candidates < 2:
        raise ConfigError(
            f"candidates must be at least 2 (the mode and the rounded mean), got {candidates}."
        )
    if candidates < 1:
        raise ConfigError(f"candidates must be at least 1, got {candidates}.")
    if max_active is None:
        return
    if max_active < 1:
        raise ConfigError(f"max_active must be at least 1, got {max_active}.")
    if model.config.gates == "open" and max_active < model.config.budget:
        raise ConfigError(
            f"max_active = {max_active} would close slots, but a model with gates = 'open' fills "
            f"all {model.config.budget}. Train one with gates = 'learned'."
        )


def limit_active(codes: Tensor, posterior: Grouped | Chain, max_active: int | None) -> Tensor:
    """Keep at most ``max_active`` features of each code and close the slots of the others.

    The features with the largest ``posterior.presence_probs`` stay, with their counts; ties go to
    the lower index. In a posterior with levels, the probabilities are those given the levels of the
    code before.

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
    absence = (
        conditionals(posterior, codes)
        .absence_log_probs.expand_as(codes)
        .masked_fill(codes == 0, torch.inf)
    )
    dropped = absence.argsort(dim=-1, stable=True)[..., max_active:]
    return codes.scatter(-1, dropped, 0.0)


def _searched(
    model: SDLGM,
    x: Tensor,
    width: int,
    max_active: int | None,
    name: str,
    first_row: int,
) -> Tensor:
    """Return the codes that the search finds in a model that is quadratic."""
    residual = standard_residual(model, x)
    finite = residual.isfinite().all(-1)
    if not bool(finite.all()):
        row = first_row + int((~finite).nonzero()[0])
        raise DataError(
            f"{name}: row {row} (counted from 0) overflows in the units of the training data, so "
            "that it has no code. Drop it, or correct it."
        )
    search, rate = quadratic_search(model), 2 * model.rate_weight
    slots = search(residual, rate=rate, width=width)
    if max_active is not None:
        slots = search.close(residual, slots, max_active, rate=rate)
    return counts_of(slots, model.groups, model.config.features // model.groups)


def _best(
    model: SDLGM,
    x: Tensor,
    posterior: Grouped | Chain,
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
    posterior: Grouped | Chain, candidates: int, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """Yield candidates, shape ``(m, n, K)``: the mode, the rounded mean and draws."""
    yield torch.stack([posterior.mode, posterior.rounded_mean])
    chunk = max(1, CODES_AT_ONCE // max(1, posterior.batch_shape.numel()))
    for start in range(2, candidates, chunk):
        yield posterior.sample((min(chunk, candidates - start),), generator=generator)
