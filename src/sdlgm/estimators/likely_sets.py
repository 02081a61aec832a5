r"""Sets that are best under the model, without a threshold: by size, or by expected F1.

Both take log-probabilities of absence ``(members, b, K)``. Given a member, labels are independent;
the model is the mean over its members, under the condition that a set has between ``min_labels``
and ``max_labels`` labels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.estimators.set_sizes import SizeCorrection, median_sizes
from sdlgm.estimators.thresholds import apply_counts, count_probabilities, presence_probabilities

__all__ = ["SetRule", "expected_f1", "likely_sets", "size_probabilities"]

SetRule = Literal["counts", "f1"]


def likely_sets(
    absent: Tensor,
    rule: SetRule,
    min_labels: int,
    max_labels: int,
    correction: SizeCorrection | None = None,
) -> NDArray[np.int64]:
    """Return the sets of rows, 0 and 1, shape ``(b, K)``: the most probable labels of each.

    Parameters
    ----------
    absent
        Log-probabilities of absence, shape ``(members, b, K)``.
    rule
        How many labels a set has: ``"counts"``, the median number; ``"f1"``, that with the highest
        expected F1 (:func:`expected_f1`).
    min_labels, max_labels
        Smallest and largest size of a set.
    correction
        That of the distribution of the number of labels.
    """
    if rule == "counts":
        sizes = median_sizes(size_probabilities(absent, min_labels, max_labels, correction))
    else:
        scores = expected_f1(absent, min_labels, min(max_labels, absent.shape[-1]))
        scores[:, :min_labels] = -1
        sizes = scores.argmax(-1).numpy()
    return apply_counts(presence_probabilities(absent).numpy(), sizes)


def size_probabilities(
    absent: Tensor, min_labels: int, max_labels: int, correction: SizeCorrection | None
) -> NDArray[np.float64]:
    """Return the distribution of the number of labels of each row, ``(b, max_labels + 1)``.

    It is the mean over the members of the Poisson-binomial distributions of their labels, between
    the bounds, and then corrected.
    """
    high = min(max_labels, absent.shape[-1])
    sizes = count_probabilities(absent, min_labels, high).mean(0).numpy()
    if correction is not None:
        sizes = correction(sizes, min_labels)
    return np.pad(sizes, ((0, 0), (0, max_labels - high)))


def expected_f1(absent: Tensor, min_labels: int, max_labels: int) -> Tensor:
    r"""Return the expected F1 of the 0, 1, ... ``max_labels`` most probable labels of each row.

    .. math:: \mathbb{E}\, \frac{2 |S \cap Y|}{|S| + |Y|}

    where Y is a set of the model; an empty S is right, with an F1 of 1, if Y is empty. For
    independent labels the best set holds the most probable labels [1]_, so that these are the only
    candidates. The numbers of labels of Y inside and outside of S are Poisson-binomial.

    Parameters
    ----------
    absent
        Log-probabilities of absence, shape ``(members, b, K)``.
    min_labels, max_labels
        Smallest and largest size of Y.

    Returns
    -------
    Tensor
        Shape ``(b, max_labels + 1)``, float64.

    References
    ----------
    .. [1] Ye et al., "Optimizing F-measures: a tale of two approaches", ICML 2012.

    Examples
    --------
    >>> absent = torch.log(torch.tensor([[[0.1, 0.6, 0.9]]]))
    >>> expected_f1(absent, 1, 3).argmax(-1)
    tensor([1])
    """
    order = presence_probabilities(absent).argsort(dim=-1, descending=True, stable=True)
    absent = absent.double().gather(-1, order.expand_as(absent))
    first, rest = absent[..., :max_labels], absent[..., max_labels:]
    # Distributions of the number of labels of Y after the first 0, 1, ... labels of the order.
    outside = [_numbers(rest, max_labels)]
    for label in reversed(range(first.shape[-1])):
        outside.append(_with_label(outside[-1], first[..., label]))
    outside.reverse()
    sizes = torch.arange(max_labels + 1, dtype=torch.float64)
    total = sizes[:, None] + sizes
    allowed = ((total >= min_labels) & (total <= max_labels)).double()
    inside = _numbers(first[..., :0], max_labels)
    norm = torch.einsum("mbh,mbo,ho->mb", inside, outside[0], allowed).clamp_min(1e-300)
    scores = [torch.einsum("mbo,o->mb", outside[0][..., :1], allowed[0, :1])]
    for size in range(1, max_labels + 1):
        inside = _with_label(inside, first[..., size - 1])
        f1 = allowed * 2 * sizes[:, None] / (size + total)
        scores.append(torch.einsum("mbh,mbo,ho->mb", inside, outside[size], f1))
    return (torch.stack(scores, -1) / norm.unsqueeze(-1)).mean(0)


def _numbers(absent: Tensor, most: int) -> Tensor:
    """Return the probabilities of 0 to ``most`` labels, shape ``(members, b, most + 1)``."""
    probs = absent.new_zeros(*absent.shape[:-1], most + 1)
    probs[..., 0] = 1
    for label in range(absent.shape[-1]):
        probs = _with_label(probs, absent[..., label])
    return probs


def _with_label(probs: Tensor, absent: Tensor) -> Tensor:
    """Return the distribution of a number of labels with one more label."""
    none = absent.exp().unsqueeze(-1)
    more = probs * none
    more[..., 1:] += probs[..., :-1] * (1 - none)
    return more
