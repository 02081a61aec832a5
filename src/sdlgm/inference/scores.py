"""Search among codes: scores of queries against decoded rows, and weights for inverted indexes."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.config import Metric, WeightMetric
from sdlgm.data import as_numbers
from sdlgm.distributions import Chain, greedy
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, DataError
from sdlgm.inference.codes import check_posterior
from sdlgm.inference.linear import is_linear
from sdlgm.inference.prefixes import features_of_prefix
from sdlgm.nn.likelihoods import Gaussian
from sdlgm.random import generator

if TYPE_CHECKING:
    import scipy.sparse as sp

    from sdlgm.models import SDLGM

__all__ = [
    "code_rows",
    "document_weights",
    "linear_decoder",
    "query_weights",
    "scores",
]

CELLS = 2**20
"""Numbers in the largest temporary array."""
LARGEST_GRAM = 8192
"""Largest number of features for which all inner products of the decoder's columns are stored."""

SMALLEST_UNIT = 1e-140
"""Least deviation of columns whose products double precision holds with all digits."""


# --- scores -------------------------------------------------------------------------------------


@neutral()
@torch.no_grad()
def scores(model: SDLGM, queries: Any, codes: Any, metric: Metric = "l2") -> Tensor:
    r"""Return the score of each query with each decoded row; the higher, the nearer.

    ================= ===============================================================
    metric            score of query :math:`q` and decoded row :math:`\hat x(z)`
    ================= ===============================================================
    "l2"              :math:`-\|q - \hat x\|^2`
    "cosine"          :math:`q^\top \hat x / (\|q\| \|\hat x\|)`; 0 if a norm is 0
    "inner_product"   :math:`q^\top \hat x`
    ================= ===============================================================

    The query keeps its real numbers, only the documents are codes (asymmetric search). With a
    linear decoder (:func:`is_linear`) no row is decoded: a table holds the inner product of each
    query with each of the K features, and a score adds the entries of the active features. Other
    decoders decode one block of rows at a time. Both compute in double precision.

    For rows of unit length, such as most embeddings, choose ``"cosine"``. Decoded rows are shrunk
    towards the mean, more so where the code explains less, and this disturbs distances more than
    angles. With 31,000 word vectors and codes of 8 bytes, the first 10 answers held .572 of the 10
    nearest rows by cosine, and .508 by L2.

    Parameters
    ----------
    model
        The model that made the codes.
    queries
        Rows in the units of the data, shape ``(q, D)``.
    codes
        Codes of the documents, shape ``(n, K)``: sparse, an array or a tensor.
    metric
        See above.

    Returns
    -------
    Tensor
        Shape ``(q, n)``, in the precision of ``SDLGM.decode``. For a large n, see :func:`nearest`.

    Raises
    ------
    ConfigError
        If ``metric`` is unknown.
    DataError
        If queries or codes are not tables of finite numbers of the model's widths.
    """
    _check_metric(metric, typing.get_args(Metric))
    _check_unit(model)
    rows, table = _rows(model, queries), code_rows(codes, model.config.features)
    compare = _linear_scores if is_linear(model) else _decoded_scores
    return compare(model, rows, table, metric)


def _linear_scores(model: SDLGM, rows: Tensor, table: sp.csr_array, metric: Metric) -> Tensor:
    origin, _ = linear_decoder(model)
    asked = _linear_query(model, rows, metric).T
    documents = _linear_documents(model, table, metric)
    if metric == "l2":
        factor, constant = 2.0, -np.square(rows.double().numpy() - origin).sum(1)
    else:
        factor, constant = 1.0, np.zeros(len(rows))
        if metric == "inner_product":
            constant = rows.double().numpy() @ origin
    found = torch.empty(len(rows), table.shape[0], dtype=_precision(model))
    for part, place in _blocks(documents, len(rows)):
        block = part @ asked
        block *= factor
        block += constant
        found[:, place] = torch.from_numpy(block).to(found.dtype).T
    return found.clamp_(max=0) if metric == "l2" else found


def _decoded_scores(model: SDLGM, rows: Tensor, table: sp.csr_array, metric: Metric) -> Tensor:
    asked = rows.double()
    found = torch.empty(len(rows), table.shape[0], dtype=_precision(model))
    for part, place in _blocks(table, max(len(rows), table.shape[1], model.n_inputs)):
        codes = torch.from_numpy(part.toarray()).float().to(model.device)
        decoded = model.data_distribution(codes).mean.cpu().double()
        found[:, place] = _COMPARE[metric](asked, decoded).to(found.dtype)
    return found


def _nearness(asked: Tensor, decoded: Tensor) -> Tensor:
    centre = decoded.mean(0)  # a common offset would cost digits
    return -torch.cdist(asked - centre, decoded - centre).square()


_COMPARE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l2": _nearness,
    "cosine": lambda asked, decoded: _unit(asked) @ _unit(decoded).T,
    "inner_product": lambda asked, decoded: asked @ decoded.T,
}


# --- weights ------------------------------------------------------------------------------------


@neutral()
@torch.no_grad()
def query_weights(
    model: SDLGM,
    queries: Any,
    metric: WeightMetric | None = None,
    *,
    top: int | None = None,
    positive: bool = False,
    prefix: int | None = None,
) -> sp.csr_array:
    r"""Return weights of the features for each query, for an index that adds weights.

    An inverted index knows nothing but the sparse inner product of a query with a document. These
    weights make that product rank the documents of :func:`document_weights` with the same metric:

    ================= ============================================ ==============================
    metric            weight of feature k in the query             documents rank by
    ================= ============================================ ==============================
    "plain"           :math:`(q - c)^\top a_k` less the part of    about :math:`-\|q - \hat
                      :math:`\|A z\|^2 / 2` expected of k          x(z)\|^2`, see below
    "inner_product"   :math:`q^\top a_k`                           :math:`q^\top \hat x(z)`
    "cosine"          :math:`q^\top a_k / \|q\|`; and              the cosine of :math:`q` and
                      :math:`q^\top c / \|q\|`, the bias           :math:`\hat x(z)`
    "l2"              :math:`(q - c)^\top a_k`; and 1, the bias    :math:`-\|q - \hat x(z)\|^2`
    "posterior"       :math:`\log \frac{p(\text{slot holds } k     :math:`\log q(z \mid x)` of the
                      \mid q)}{p(\text{slot is closed} \mid q)}`   query's posterior
    ================= ============================================ ==============================

    where :math:`\hat x(z) = c + A z`. All but the last need a linear decoder (:func:`is_linear`).
    ``"l2"`` ranks exactly as :func:`scores` does. ``"plain"`` needs no bias: it takes the slots as
    independent under the prior, so that feature k adds :math:`\|a_k\|^2 / 2 + a_k^\top m_k` to
    :math:`\|A z\|^2 / 2`, with :math:`m_k` the mean of what the other slots add.
    ``"inner_product"`` takes no account of the norms of decoded rows. ``"posterior"`` does without
    decoding and is exact for one slot per group; if gates are always open, its weights are the
    log-probabilities of the features. The documents of ``"plain"``, ``"inner_product"`` and
    ``"posterior"`` are the codes themselves.

    Parameters
    ----------
    model
        The model that made the codes.
    queries
        Rows in the units of the data, shape ``(q, D)``.
    metric
        See above. ``None``: ``"plain"`` with a linear decoder and ``"posterior"`` with any other.
    top
        Largest number of weights of a query, for engines with a limit. The weights of the largest
        magnitude are kept, and the bias. With ``positive``, the highest are kept, reduced by the
        highest one that is left out: all others count as equal to that. Keep several times the
        budget. ``None``: all.
    positive
        Make the weights of metrics without a bias at least 0, for engines that
        refuse others, with the same ranking: a last column, the weight of a closed slot, is added,
        and the least weight is subtracted from all. The documents must be made with ``positive``,
        too; they count their closed slots. ``"posterior"`` needs it with a ``top`` below K, as
        features without a weight would count as much as a closed slot.
    prefix
        For documents that were cut to so many groups (:func:`prefix_codes`), one of the model's
        ``prefixes``. Features of other groups get no weight, and ``"plain"`` takes their slots as
        closed. ``None``: whole codes.

    Returns
    -------
    csr_array
        float32, shape ``(q, K)``; ``(q, K + 1)`` for ``"cosine"`` and ``"l2"``, whose last column
        is the bias, and with ``positive``.

    Raises
    ------
    ConfigError
        If the metric is unknown or does not suit the decoder or ``positive``, ``top`` is below 1
        (below 2 with a bias), or the model was not trained for the prefix.
    DataError
        If the queries are not a table of finite numbers of the model's width.
    """
    from scipy.sparse import csr_array, vstack

    metric = _weight_metric(model, metric, positive)
    biased = metric in ("l2", "cosine")
    if top is not None and top < 1 + biased:
        raise ConfigError(f"top must be at least {1 + biased} with metric {metric!r}, got {top}.")
    if metric == "posterior" and not positive and top is not None and top < model.config.features:
        raise ConfigError(
            f"top = {top} with metric 'posterior' needs positive=True, for queries and documents: "
            "features without a weight would count as much as a closed slot."
        )
    rows, kept = _rows(model, queries), features_of_prefix(model.config, prefix)
    size = max(1, CELLS // max(model.config.features, model.n_inputs))
    parts = []
    for start in range(0, max(1, len(rows)), size):
        part = rows[start : start + size]
        if metric == "posterior":
            weights = _log_odds(model, part, start)
        else:
            weights = _linear_query(model, part, metric, kept)
        weights[:, kept : model.config.features] = 0
        if positive:
            weights = _highest(np.column_stack([weights, np.zeros(len(part))]), top)
        elif top is not None and top < weights.shape[1]:
            weights = _largest(weights, top, biased)
        parts.append(csr_array(weights.astype(np.float32)))
    return vstack(parts, format="csr")


@neutral()
@torch.no_grad()
def document_weights(
    model: SDLGM, codes: Any, metric: WeightMetric | None = None, *, positive: bool = False
) -> sp.csr_array:
    r"""Return the weights of documents, to be stored in an index and added up by it.

    ============================== ======================================== ====================
    metric                         weight of feature k                      bias, the last column
    ============================== ======================================== ====================
    without a bias                 the count :math:`z_k`                    none
    "cosine"                       :math:`z_k / \|\hat x(z)\|`              :math:`1/\|\hat x(z)\|`
    "l2"                           :math:`z_k`                              :math:`-\|A z\|^2 / 2`
    ============================== ======================================== ====================

    With ``positive``, the last column is the number of closed slots, :math:`L_0 - \sum_k z_k`.

    Parameters
    ----------
    model
        The model that made the codes.
    codes
        Codes, shape ``(n, K)``: sparse, an array or a tensor.
    metric, positive
        Those of :func:`query_weights`, which describes them.

    Returns
    -------
    csr_array
        float32, shape ``(n, K)``, or ``(n, K + 1)`` with a bias or ``positive``.

    Raises
    ------
    ConfigError
        If the metric is unknown or does not suit the decoder or ``positive``.
    DataError
        If the codes are not a table of finite numbers with one column for each feature, or with
        ``positive`` exceed the budget.
    """
    metric = _weight_metric(model, metric, positive)
    table = code_rows(codes, model.config.features)
    if positive:
        table = _with_closed(table, model.config.budget)
    elif metric != "posterior":
        table = _linear_documents(model, table, metric)
    return table.astype(np.float32)


def _weight_metric(model: SDLGM, metric: WeightMetric | None, positive: bool) -> WeightMetric:
    linear = is_linear(model)
    if metric is None:
        metric = "plain" if linear else "posterior"
    if positive and metric in ("l2", "cosine"):
        raise ConfigError(
            f"positive does not suit metric {metric!r}, whose weights have no common offset. Take "
            "'plain', 'inner_product' or 'posterior'."
        )
    _check_metric(metric, typing.get_args(WeightMetric))
    if metric != "posterior" and not linear:
        raise ConfigError(
            f"metric {metric!r} needs a linear decoder: likelihood='gaussian' and "
            f"decoder_hidden=(), not {model.config.likelihood!r} and "
            f"{model.config.decoder_hidden!r}. No weights of features rank as it does. Take "
            "metric='posterior', or rank by scores(), which decodes."
        )
    if metric != "posterior":
        _check_unit(model)
    return metric


def _check_unit(model: SDLGM) -> None:
    """Raise ``DataError`` if products of numbers of the data vanish in double precision."""
    largest = float(model.input_scale.max())
    if model.config.likelihood == "gaussian" and largest < SMALLEST_UNIT:
        raise DataError(
            f"The columns deviate by {largest:.2g} at most, so that distances and products vanish "
            "in double precision. Multiply all rows by a power of ten before fit."
        )


def _log_odds(model: SDLGM, rows: Tensor, first_row: int) -> NDArray[np.float64]:
    """Return ``log p(feature) - log p(closed)`` of a slot under the posteriors, ``(q, K)``.

    That of a level is given the greedy codes of the levels before it.
    """
    posterior = model.posterior(rows.to(model.device))
    check_posterior(model, posterior, "the queries", first_row)
    base = greedy(posterior).base
    weights = base.feature_logits.cpu().double().log_softmax(-1)
    if model.config.gates == "learned":
        weights = weights + base.gate_logits.cpu().double().unsqueeze(-1)
    return weights.flatten(-2).numpy()


def _largest(weights: NDArray[Any], top: int, biased: bool) -> NDArray[Any]:
    """Set all but the largest of each row to 0; the last column is kept if it is a bias."""
    size = np.abs(weights)
    if biased:
        size[:, -1] = np.inf
    dropped = np.argpartition(-size, top - 1, axis=1)[:, top:]
    np.put_along_axis(weights, dropped, 0.0, axis=1)
    return weights


def _highest(weights: NDArray[Any], top: int | None) -> NDArray[Any]:
    """Reduce weights by the highest one that is left out, or by the least, and end at 0."""
    place = weights.shape[1] - 1 if top is None else min(top, weights.shape[1] - 1)
    left_out = -np.partition(-weights, place, axis=1)[:, [place]]
    return np.maximum(weights - left_out, 0.0)


def _with_closed(table: sp.csr_array, budget: int) -> sp.csr_array:
    closed = budget - table.sum(1)
    if (closed < 0).any():
        row = int(np.flatnonzero(closed < 0)[0])
        raise DataError(f"The code in row {row} (counted from 0) exceeds the budget of {budget}.")
    return _with_bias(table, closed)


# --- the linear decoder -------------------------------------------------------------------------


def linear_decoder(model: SDLGM) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return :math:`c`, shape ``(D,)``, and :math:`A^\top`, ``(K, D)``, of a linear decoder."""
    likelihood, head = typing.cast(Gaussian, model.likelihood), model.output_head
    parts = (likelihood.shift, likelihood.unit, head.bias, head.weight.T)
    shift, unit, bias, weight = (part.detach().cpu().double().numpy() for part in parts)
    return shift + unit * bias, np.ascontiguousarray(unit * weight)


def _linear_query(
    model: SDLGM, rows: Tensor, metric: WeightMetric, kept: int | None = None
) -> NDArray[np.float64]:
    origin, columns = linear_decoder(model)
    asked = rows.double().numpy()
    if metric == "inner_product":
        return asked @ columns.T
    if metric == "plain":
        return (asked - origin) @ columns.T - _expected_half_norms(model, columns, kept)
    if metric == "cosine":
        asked = _unit(rows.double()).numpy()
        return np.column_stack([asked @ columns.T, asked @ origin])
    return np.column_stack([(asked - origin) @ columns.T, np.ones(len(asked))])


def _expected_half_norms(
    model: SDLGM, columns: NDArray[np.float64], kept: int | None
) -> NDArray[np.float64]:
    """Return what a feature adds to half of ``|A z|^2``, with the other slots as in the prior.

    Slots of all but the first ``kept`` features are closed.
    """
    share = _prior_mean(model).detach().cpu().double().numpy()[:, None] * columns
    share[kept:] = 0
    own = share.reshape(model.groups, -1, columns.shape[1]).sum(1)
    slots = model.config.budget // model.groups
    size = model.config.features // model.groups
    others = share.sum(0) - np.repeat(own / slots, size, axis=0)
    return 0.5 * np.square(columns).sum(1) + (columns * others).sum(1)


def _prior_mean(model: SDLGM) -> Tensor:
    """Return the expected counts under the prior; those of a structured one from 4,096 draws."""
    prior = model.prior()
    if not isinstance(prior, Chain):
        return prior.mean
    noise = generator(0, "mean of the prior", device=model.output_head.weight.device)
    return prior.sample((4096,), generator=noise).mean(0)


def _linear_documents(model: SDLGM, table: sp.csr_array, metric: WeightMetric) -> sp.csr_array:
    if metric in ("plain", "inner_product"):
        return table
    origin, columns = linear_decoder(model)
    if metric == "l2":
        return _with_bias(table, -0.5 * _squared_norms(table, columns))
    extended = _with_bias(table, np.ones(table.shape[0]))
    norms = np.sqrt(_squared_norms(extended, np.vstack([columns, origin])))
    factors = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    extended.data *= np.repeat(factors, np.diff(extended.indptr))
    extended.eliminate_zeros()
    return extended


def _with_bias(table: sp.csr_array, bias: NDArray[np.float64]) -> sp.csr_array:
    from scipy.sparse import csr_array, hstack

    return hstack([table, csr_array(bias[:, None])], format="csr")


def _squared_norms(table: sp.csr_array, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared norms of ``A z`` for all rows ``z`` of a table.

    The inner products of the active columns with one another give them without decoding, if they
    are fewer than the entries of a decoded row.
    """
    features, width = columns.shape
    found = np.empty(table.shape[0])
    longest = int(np.diff(table.indptr).max(initial=0))
    if features > LARGEST_GRAM or longest > width:
        for part, place in _blocks(table, width):
            found[place] = np.square(part @ columns).sum(1)
        return found
    gram = columns @ columns.T
    for part, place in _blocks(table, max(1, longest**2)):
        index, count = _padded(part, longest)
        pairs = gram[index[:, :, None], index[:, None, :]]
        found[place] = np.einsum("ni,nij,nj->n", count, pairs, count)
    return np.maximum(found, 0.0)


def _padded(table: sp.csr_array, width: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the features and counts of rows, shape ``(n, width)``; unused places count 0."""
    lengths = np.diff(table.indptr)
    used = np.arange(width) < lengths[:, None]
    index, count = np.zeros(used.shape, np.int64), np.zeros(used.shape)
    index[used], count[used] = table.indices, table.data
    return index, count


# --- what is given ------------------------------------------------------------------------------


def code_rows(codes: Any, features: int) -> sp.csr_array:
    """Return codes, sparse or dense, as a checked CSR table ``(n, K)`` of float64.

    Raises
    ------
    DataError
        If they are not a table of finite numbers with one column for each feature.
    """
    from scipy.sparse import csr_array, issparse

    if isinstance(codes, Tensor):
        codes = codes.detach().cpu()
        codes = codes.to_dense().numpy() if codes.layout != torch.strided else codes.numpy()
    if not issparse(codes):
        codes = as_numbers(np.asarray(codes))
    if codes.ndim != 2 or codes.shape[1] != features:
        raise DataError(
            f"The codes have shape {tuple(codes.shape)}, but must have one column for each of the "
            f"model's {features} features."
        )
    table = csr_array(codes, dtype=np.float64, copy=True)
    table.sum_duplicates()
    table.eliminate_zeros()
    finite = np.isfinite(table.data)
    if not finite.all():
        row = int(np.searchsorted(table.indptr, np.flatnonzero(~finite)[0], side="right")) - 1
        raise DataError(f"The code in row {row} (counted from 0) is not finite. Drop the row.")
    return table


def _rows(model: SDLGM, queries: Any) -> Tensor:
    """Return queries as a checked tensor ``(q, D)`` on the CPU, in their own precision."""
    rows = queries.detach().cpu() if isinstance(queries, Tensor) else None
    if rows is None:
        rows = torch.from_numpy(np.require(as_numbers(np.asarray(queries)), requirements="W"))
    if rows.ndim != 2 or rows.shape[1] != model.n_inputs:
        raise DataError(
            f"The queries have shape {tuple(rows.shape)}, but must have the {model.n_inputs} "
            "columns that the model was trained on."
        )
    rows = rows if rows.dtype == torch.float32 else rows.double()
    if not bool(rows.isfinite().all()):
        row = int((~rows.isfinite().all(1)).nonzero()[0])
        raise DataError(f"The query in row {row} (counted from 0) is not finite. Drop the row.")
    return rows


def _check_metric(metric: str, known: tuple[str, ...]) -> None:
    if metric not in known:
        raise ConfigError(f"metric must be one of {', '.join(map(repr, known))}, got {metric!r}.")


def _precision(model: SDLGM) -> torch.dtype:
    """Return the type of decoded rows."""
    device = model.device
    return model.data_distribution(torch.zeros(1, model.config.features, device=device)).mean.dtype


def _unit(rows: Tensor) -> Tensor:
    """Scale rows to length 1; rows of zeros stay."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1.0)


def _blocks(table: sp.csr_array, width: int) -> Iterator[tuple[sp.csr_array, slice]]:
    """Yield parts of a table, with their places, whose arrays of this width fit the memory."""
    size = max(1, CELLS // max(1, width))
    for start in range(0, table.shape[0], size):
        place = slice(start, start + size)
        yield table[place], place
