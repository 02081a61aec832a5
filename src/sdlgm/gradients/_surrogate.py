"""Shared steps of the estimators: handle groups, call the loss, build the surrogate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sdlgm.distributions import Chain, GatedMultinomial, Grouped
from sdlgm.errors import ConfigError
from sdlgm.gradients.registry import Code, Loss


def ungrouped(posterior: Code) -> GatedMultinomial:
    """Return the gated multinomial of a posterior, with groups as its last batch dimension.

    Raises
    ------
    ConfigError
        If the posterior has levels, so that it is not a single product.
    """
    if isinstance(posterior, Chain):
        raise ConfigError(
            "This gradient estimator needs a posterior that is a single product, but this one has "
            f"{posterior.parts} levels. Use estimator = 'reinmax', or levels = 1."
        )
    return posterior.base if isinstance(posterior, Grouped) else posterior  # type: ignore[return-value]


def draw(posterior: Code, path: Callable[[GatedMultinomial], Tensor]) -> Tensor:
    """Draw codes with a gradient; those of a posterior in levels level by level.

    Parameters
    ----------
    posterior
        Distribution of the codes.
    path
        Draws codes of a gated multinomial that carry a gradient to its logits. The distribution of
        a level depends on the codes of the levels before it, and passes the gradient on to them.
    """
    if isinstance(posterior, Chain):
        return posterior.follow(lambda part: draw(part, path))
    if isinstance(posterior, Grouped):
        return path(ungrouped(posterior)).flatten(-2)
    return path(posterior)


def split(posterior: Code, codes: Tensor) -> Tensor:
    """View codes of a posterior as codes of its :func:`ungrouped` distribution."""
    return posterior.split(codes) if isinstance(posterior, Grouped) else codes


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
