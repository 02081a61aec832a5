"""What a gradient estimator is, and the list of those there are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from sdlgm.distributions import GatedMultinomial, Grouped
from sdlgm.errors import ConfigError

__all__ = ["Code", "Estimate", "Estimator", "Loss", "estimators", "get_estimator", "register"]

Code = GatedMultinomial | Grouped
"""A posterior over codes."""

Loss = Callable[[Tensor], Tensor]
"""Maps codes of shape ``(*batch, K)`` to losses (nats) of shape ``(*batch,)``."""


class Estimate(NamedTuple):
    """One draw of a gradient estimator."""

    surrogate: Tensor
    """Shape ``(*batch,)``; its gradient is the estimate. Its value means nothing by itself."""
    loss: Tensor
    """The loss at the drawn codes (nats), detached, shape ``(*batch,)``."""
    codes: Tensor
    """The codes that were decoded, detached, shape ``(*batch, K)``."""


class Estimator(Protocol):
    r"""Estimates the gradient of :math:`\mathbb{E}_{q(z)}[f(z)]` for a loss ``f`` of a code ``z``.

    An estimator calls ``loss`` on codes that it draws from ``posterior`` and returns a surrogate
    whose gradient, with respect to the posterior's logits *and* to whatever parameters ``loss``
    has, is the estimate. All randomness comes from ``generator`` (``None``: torch's global one).
    The KL of the objective has a closed form and is none of its business.
    """

    def __call__(
        self, posterior: Code, loss: Loss, *, generator: torch.Generator | None = None
    ) -> Estimate:
        """Draw codes, decode them, and return the surrogate."""
        ...


F = TypeVar("F", bound=Callable[..., Estimate])

_REGISTRY: dict[str, Callable[..., Estimate]] = {}


def register(function: F) -> F:
    """Enter an estimator under its function's name (a decorator)."""
    name = function.__name__
    if name in _REGISTRY:
        raise ValueError(f"An estimator named {name!r} is registered already.")
    _REGISTRY[name] = function
    return function


def estimators() -> tuple[str, ...]:
    """Names of all registered estimators, sorted."""
    return tuple(sorted(_REGISTRY))


def get_estimator(name: str, **options: object) -> Estimator:
    """Look an estimator up and bind its own options (such as temperatures).

    Raises
    ------
    ConfigError
        If no estimator has this name; the message lists those there are.
    """
    if name not in _REGISTRY:
        raise ConfigError(f"No estimator is named {name!r}; there are: {', '.join(estimators())}.")
    return functools.partial(_REGISTRY[name], **options)


def ungrouped(posterior: Code) -> GatedMultinomial:
    """Return the gated multinomial behind a posterior, groups as its last batch dimension."""
    return posterior.base if isinstance(posterior, Grouped) else posterior  # type: ignore[return-value]


def split(posterior: Code, codes: Tensor) -> Tensor:
    """View codes of a posterior as those of :func:`ungrouped`."""
    return posterior.split(codes) if isinstance(posterior, Grouped) else codes
