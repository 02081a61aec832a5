"""What a gradient estimator is, and the list of those there are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, TypeVar, overload

import torch
from torch import Tensor

from sdlgm.distributions import GatedMultinomial, Grouped
from sdlgm.errors import ConfigError

__all__ = [
    "Bound",
    "Code",
    "Estimate",
    "Estimator",
    "Loss",
    "estimators",
    "get_estimator",
    "multi_sample",
    "options",
    "register",
]

Code = GatedMultinomial | Grouped
"""A posterior over codes."""

Loss = Callable[[Tensor], Tensor]
"""Maps codes of shape ``(*sample, *batch, K)`` to losses (nats) of shape ``(*sample, *batch)``.

The loss of a code depends on that code alone, not on others of the batch. Estimators that draw
several codes decode them in one call, with one ``sample`` dimension in front; the others with none.
"""

Bound = Literal["elbo", "importance"]
"""What an estimator's gradient is that of: the mean loss, or the bound of several codes."""


class Estimate(NamedTuple):
    """One draw of a gradient estimator."""

    surrogate: Tensor
    """Shape ``(*batch,)``; its gradient is the estimate. Its value means nothing by itself."""
    loss: Tensor
    """The loss at the drawn codes (nats), detached, shape ``(*batch,)``: the mean over the codes,
    or their importance-weighted bound, for an estimator that draws several."""
    codes: Tensor
    """The codes that were decoded (of several, the first), detached, shape ``(*batch, K)``."""


class Estimator(Protocol):
    r"""Estimates the gradient of :math:`\mathbb{E}_{q(z)}[f(z)]` for a loss ``f`` of a code ``z``.

    An estimator calls ``loss`` on codes that it draws from ``posterior`` and returns a surrogate
    whose gradient, with respect to the posterior's logits *and* to whatever parameters ``loss``
    has, is the estimate. All randomness comes from ``generator`` (``None``: torch's global one);
    an estimator keeps nothing from call to call but what the caller gives it (a ``baseline``).
    The KL of the objective has a closed form and is none of its business, but for estimators of
    the importance-weighted bound (:func:`multi_sample`), whose loss holds the whole log-ratio.
    """

    def __call__(
        self, posterior: Code, loss: Loss, *, generator: torch.Generator | None = None
    ) -> Estimate:
        """Draw codes, decode them, and return the surrogate."""
        ...


F = TypeVar("F", bound=Callable[..., Estimate])

_REGISTRY: dict[str, Callable[..., Estimate]] = {}
_BOUNDS: dict[str, Bound] = {}


@overload
def register(function: F) -> F: ...
@overload
def register(*, bound: Bound) -> Callable[[F], F]: ...
def register(function: F | None = None, *, bound: Bound = "elbo") -> F | Callable[[F], F]:
    """Enter an estimator under its function's name (a decorator).

    Parameters
    ----------
    function
        The estimator; its keyword-only arguments but ``generator`` are its options.
    bound
        ``"importance"`` marks an estimator of the gradient of the bound of several codes.
    """

    def enter(function: F) -> F:
        name = function.__name__
        if name in _REGISTRY:
            raise ValueError(f"An estimator named {name!r} is registered already.")
        _REGISTRY[name] = function
        _BOUNDS[name] = bound
        return function

    return enter if function is None else enter(function)


def estimators() -> tuple[str, ...]:
    """Names of all registered estimators, sorted."""
    return tuple(sorted(_REGISTRY))


@functools.cache  # it is asked at each step
def options(name: str) -> frozenset[str]:
    """Names of the options that an estimator takes besides its ``generator``.

    Raises
    ------
    ConfigError
        If no estimator has this name.
    """
    parameters = inspect.signature(_find(name)).parameters.values()
    own = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return frozenset(own - {"generator"})


def multi_sample(estimator: str | Estimator) -> bool:
    """Tell whether an estimator, or the one of a name, is of the importance-weighted bound.

    The loss of such an estimator must hold the whole log-ratio, reconstruction + log q(z) -
    log p(z), and no KL is added. A function that is not registered is none.
    """
    if isinstance(estimator, str):
        _find(estimator)
        return _BOUNDS[estimator] == "importance"
    function = estimator.func if isinstance(estimator, functools.partial) else estimator
    name = getattr(function, "__name__", "")
    return _REGISTRY.get(name) is function and _BOUNDS[name] == "importance"


def get_estimator(name: str, **own: object) -> Estimator:
    """Look an estimator up and bind its own options (such as temperatures).

    Raises
    ------
    ConfigError
        If no estimator has this name, or it does not take one of the options; the message lists
        those there are.
    """
    known = options(name)
    for option in own:
        if option not in known:
            there = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise ConfigError(f"The estimator {name!r} has no option {option!r}; {there}.")
    return functools.partial(_REGISTRY[name], **own)


def _find(name: str) -> Callable[..., Estimate]:
    if name not in _REGISTRY:
        raise ConfigError(f"No estimator is named {name!r}; there are: {', '.join(estimators())}.")
    return _REGISTRY[name]
