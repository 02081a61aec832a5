"""The interface of gradient estimators, and their registry."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, TypeVar, overload

import torch
from torch import Tensor

from sdlgm.distributions import Chain, GatedMultinomial, Grouped
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

Code = GatedMultinomial | Grouped | Chain
"""A posterior over codes."""

Loss = Callable[[Tensor], Tensor]
"""Maps codes of shape ``(*sample, *batch, K)`` to losses (nats) of shape ``(*sample, *batch)``.

The loss of a code must depend on this code alone, not on others in the batch. Estimators that draw
several codes pass them in one call with a leading ``sample`` dimension; the others have none.
"""

Bound = Literal["elbo", "importance"]
"""The objective of an estimator: the expected loss, or the importance-weighted bound."""


class Estimate(NamedTuple):
    """The result of one call of a gradient estimator."""

    surrogate: Tensor
    """Shape ``(*batch,)``; its gradient is the estimate. Its value has no meaning of its own."""
    loss: Tensor
    """Loss at the drawn codes (nats), detached, shape ``(*batch,)``. With several codes per sample:
    their mean loss, or their importance-weighted bound."""
    codes: Tensor
    """Decoded codes (the first of several), detached, shape ``(*batch, K)``."""


class Estimator(Protocol):
    r"""Estimates the gradient of :math:`\mathbb{E}_{q(z)}[f(z)]` for a loss ``f`` of a code ``z``.

    An estimator evaluates ``loss`` at codes drawn from ``posterior`` and returns a surrogate. The
    gradient of the surrogate, with respect to the logits of the posterior *and* the parameters of
    ``loss``, is the estimate. All randomness comes from ``generator`` (``None`` uses torch's global
    one). An estimator has no state except a ``control_variate`` that the caller passes. If
    posterior and prior are products over groups, the KL of the objective has a closed form and the
    caller adds it. The loss holds the KL of a structured code given the drawn groups, and for
    estimators of the importance-weighted bound (:func:`multi_sample`) the whole log-ratio.
    """

    def __call__(
        self, posterior: Code, loss: Loss, *, generator: torch.Generator | None = None
    ) -> Estimate:
        """Draw codes, evaluate the loss, and return the surrogate."""
        ...


F = TypeVar("F", bound=Callable[..., Estimate])

_REGISTRY: dict[str, Callable[..., Estimate]] = {}
_BOUNDS: dict[str, Bound] = {}


@overload
def register(function: F) -> F: ...
@overload
def register(*, bound: Bound) -> Callable[[F], F]: ...
def register(function: F | None = None, *, bound: Bound = "elbo") -> F | Callable[[F], F]:
    """Register an estimator under the name of its function (a decorator).

    Parameters
    ----------
    function
        The estimator; its keyword-only arguments other than ``generator`` are its options.
    bound
        ``"importance"`` marks an estimator of the importance-weighted bound of several codes.

    Raises
    ------
    ValueError
        If the name is already registered.

    Examples
    --------
    ``docs/gradients.md`` checks a registered estimator against the exact gradient.

    >>> @register
    ... def mean_only(posterior, loss, *, generator=None):
    ...     value = loss(posterior.mean)
    ...     return Estimate(value, value.detach(), posterior.mean.detach())
    >>> "mean_only" in estimators()
    True
    >>> del _REGISTRY["mean_only"], _BOUNDS["mean_only"]
    """

    def enter(function: F) -> F:
        name = function.__name__
        if name in _REGISTRY:
            raise ValueError(
                f"An estimator named {name!r} is already registered; rename the function."
            )
        _REGISTRY[name] = function
        _BOUNDS[name] = bound
        return function

    return enter if function is None else enter(function)


def estimators() -> tuple[str, ...]:
    """Names of all registered estimators, sorted.

    Examples
    --------
    >>> estimators()[:3]
    ('darn', 'gumbel_softmax', 'muprop')
    """
    return tuple(sorted(_REGISTRY))


@functools.cache  # called at each training step
def options(name: str) -> frozenset[str]:
    """Names of the options that an estimator takes besides ``generator``.

    Raises
    ------
    ConfigError
        If no estimator has this name.

    Examples
    --------
    >>> options("vimco"), options("reinmax")
    (frozenset({'samples'}), frozenset())
    """
    parameters = inspect.signature(_find(name)).parameters.values()
    own = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return frozenset(own - {"generator"})


def multi_sample(estimator: str | Estimator) -> bool:
    """Return whether an estimator (or its name) estimates the importance-weighted bound.

    The loss of such an estimator must hold the whole log-ratio, reconstruction + log q(z) -
    log p(z), and no KL is added. False for functions that are not registered.

    Examples
    --------
    >>> multi_sample("vimco"), multi_sample("reinforce_loo")
    (True, False)
    """
    if isinstance(estimator, str):
        _find(estimator)
        return _BOUNDS[estimator] == "importance"
    function = estimator.func if isinstance(estimator, functools.partial) else estimator
    name = getattr(function, "__name__", "")
    return _REGISTRY.get(name) is function and _BOUNDS[name] == "importance"


def get_estimator(name: str, **own: object) -> Estimator:
    """Look up an estimator and bind its options, such as temperatures.

    Raises
    ------
    ConfigError
        If no estimator has this name, or it does not take one of the options; the message lists
        the valid ones.

    Examples
    --------
    >>> estimator = get_estimator("reinforce_loo", samples=8)
    >>> get_estimator("reinmax", samples=8)
    Traceback (most recent call last):
    sdlgm.errors.ConfigError: The estimator 'reinmax' has no option 'samples'; it takes none.
    """
    known = options(name)
    for option in own:
        if option not in known:
            there = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise ConfigError(f"The estimator {name!r} has no option {option!r}; {there}.")
    return functools.partial(_REGISTRY[name], **own)


def _find(name: str) -> Callable[..., Estimate]:
    if name not in _REGISTRY:
        raise ConfigError(f"There is no estimator {name!r}. Estimators: {', '.join(estimators())}.")
    return _REGISTRY[name]
