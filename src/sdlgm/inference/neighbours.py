"""Search among codes in bounded memory: the nearest decoded rows of each query."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sdlgm.config import Metric
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError
from sdlgm.inference.scores import code_rows, scores

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["nearest"]

SCORES_AT_ONCE = 2**24
"""Scores that are held at a time: 64 MB in single precision."""


@neutral()
@torch.no_grad()
def nearest(
    model: SDLGM, queries: Any, codes: Any, number: int = 10, metric: Metric = "l2"
) -> tuple[Tensor, Tensor]:
    """Return the codes whose decoded rows are nearest to each query, the nearest first.

    All codes are compared with each query, as :func:`scores` does, a part of them at a time.

    Parameters
    ----------
    model, queries, codes, metric
        See :func:`scores`.
    number
        Number of codes to return for each query.

    Returns
    -------
    rows, scores
        Numbers of the rows of ``codes``, and their scores, each of shape ``(q, number)``; fewer
        columns if there are fewer codes. Codes with equal scores are in any order.

    Raises
    ------
    ConfigError
        If ``number`` is no integer of at least 1, or ``metric`` is unknown.
    DataError
        If queries or codes are not tables of finite numbers of the model's widths.
    """
    try:
        operator.index(number)
    except TypeError:
        raise ConfigError(f"number must be an integer, got {number!r}.") from None
    if number < 1:
        raise ConfigError(f"number must be at least 1, got {number}.")
    table = code_rows(codes, model.config.features)
    step = max(1, SCORES_AT_ONCE // max(1, len(queries)))
    rows = torch.empty(len(queries), 0, dtype=torch.int64)
    best = torch.empty(len(queries), 0)
    for start in range(0, max(1, table.shape[0]), step):
        found = scores(model, queries, table[start : start + step], metric)
        places = torch.arange(start, start + found.shape[1]).expand(found.shape)
        found, places = torch.cat([best.to(found), found], 1), torch.cat([rows, places], 1)
        best, chosen = found.topk(min(number, found.shape[1]), dim=1)
        rows = places.gather(1, chosen)
    return rows, best
