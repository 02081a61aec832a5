"""Shared steps of the estimators: handle groups, call the loss, build the surrogate."""

from __future__ import annotations

import torch
from torch import Tensor

from sdlgm.distributions import GatedMultinomial, Grouped
from sdlgm.errors import ConfigError
from sdlgm.gradients.registry import Code, Loss


def ungrouped(posterior: Code) -> GatedMultinomial:
    """Return the gated multinomial of a posterior, with groups as its last batch dimension."""
    return posterior.base if isinstance(posterior, Grouped) else posterior  # type: ignore[return-value]


def split(posterior: Code, codes: Tensor) -> Tensor:
    """View codes of a posterior as codes of its :func:`ungrouped` distribution."""
    return posterior.split(codes) if isinstance(posterior, Grouped) else codes


def join(posterior: Code, parts: Tensor) -> Tensor:
    """View codes of the :func:`ungrouped` distribution as codes of the posterior."""
    return parts.flatten(-2) if isinstance(posterior, Grouped) else parts


def evaluate(loss: Loss, codes: Tensor) -> Tensor:
    """Call a loss and check that it returns one number per code."""
    value = loss(codes)
    if value.shape != codes.shape[:-1]:
        raise ValueError(
            f"The loss must return one number per code, shape {tuple(codes.shape[:-1])} for codes "
            f"of shape {tuple(codes.shape)}, got {tuple(value.shape)}. Sum over the dimensions of "
            "the data only, and let leading sample dimensions broadcast."
        )
    return value


def slope_at(value: Tensor, codes: Tensor, name: str) -> Tensor:
    """Return the gradient of each code's loss with respect to the code, detached."""
    if not value.requires_grad:
        raise ValueError(
            f"{name} needs a loss that is differentiable with respect to the codes, but this "
            "one is not. Use score_function or reinforce_loo, which need only its value."
        )
    return torch.autograd.grad(
        value.sum(), codes, retain_graph=True, allow_unused=True, materialize_grads=True
    )[0]


def carrying(value: Tensor, term: Tensor) -> Tensor:
    """Return ``value`` with the gradient of ``value + term``.

    Examples
    --------
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> y = carrying(torch.tensor(5.0), 3 * x)
    >>> y.item(), torch.autograd.grad(y, x)
    (5.0, (tensor(3.),))
    """
    return value + (term - term.detach())


def check_samples(samples: int, name: str) -> None:
    """Raise ``ConfigError`` unless ``samples`` is an integer of at least 2."""
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise ConfigError(
            f"{name} compares samples with each other: samples must be an integer of at least 2, "
            f"got {samples!r}. For a single sample, use score_function."
        )
