"""Settings of a model: its code, its networks and its prior."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, Literal

from sdlgm.config.checks import (
    convert_types,
    divisors,
    fill_in,
    require_at_most,
    require_few_layers,
    require_positive,
)
from sdlgm.config.names import Activation, LikelihoodName, PriorName, Scaling
from sdlgm.errors import ConfigError
from sdlgm.limits import MAX_BUDGET, limit

__all__ = [
    "FEW_MASKED",
    "MAX_LEVELS",
    "MAX_MASKED",
    "PLAIN_NETWORKS",
    "ModelConfig",
    "masked",
    "quadratic",
    "structured",
]

_WIDTHS = ("encoder_hidden", "decoder_hidden", "sparsity_hidden", "prior_hidden", "level_hidden")
"""Fields that hold the widths of hidden layers."""


MAX_LEVELS = 64
"""Most levels, each of which has networks of its own."""


FEW_MASKED = 1_024
"""Most features with which a masked prior is the default: its weights grow with their square."""


MAX_MASKED = 8_192
"""Most features of an autoregressive prior over groups: its direct weights then take 256 MiB."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Settings of a model: its code, its networks and its prior.

    Raises
    ------
    ConfigError
        If a value has a wrong type, is out of range, or does not fit another.

    Examples
    --------
    >>> ModelConfig(features=60, budget=12).groups
    12
    >>> ModelConfig(encoder_hidden=16)
    Traceback (most recent call last):
    sdlgm.errors.ConfigError: encoder_hidden = 16 does not fit tuple of int or None.
    """

    features: int = 200
    """Number K of features that a code can count."""
    budget: int = 40
    """Hard budget L0: the largest sum of counts of a code, hence of its active features."""
    groups: int | None = None
    """Number G of groups that share features and budget evenly; 1 is the paper's model. Default:
    the budget, so that each group has one slot."""
    gates: Literal["learned", "open"] = "learned"
    """"open" fills every slot; with one slot per group this gives categorical latents."""
    prefixes: tuple[int, ...] = ()
    """Numbers of groups, ascending and below G. The first so many groups of a code then serve as a
    code by themselves: codes and decoder minimise the mean of the squared errors of these prefixes
    and of the whole code. For real numbers with a linear decoder, one slot per group and learned
    gates."""
    joint_gates: bool | None = None
    """Let "closed" compete with the features of a group in one softmax: the log of the mean
    exponential of their logits is added to the gate's logit. This keeps gates from getting stuck
    open. Default: for bits only."""
    likelihood: LikelihoodName = "bernoulli"
    """Distribution of the data given a code."""
    scaling: Scaling = "columns"
    """Units of real numbers: the standard deviation of each column, which suits tables, or one
    common deviation for all columns, which suits embeddings, images and series."""
    encoder_hidden: tuple[int, ...] | None = None
    """Widths of the hidden layers of the encoder. Default: (512, 512, 512) for bits, (512, 384,
    256) for other likelihoods."""
    decoder_hidden: tuple[int, ...] | None = None
    """Widths of the hidden layers of the decoder. Default: none (a linear decoder) for real numbers
    with one slot per group, else those of the encoder in reverse."""
    sparsity_hidden: tuple[int, ...] = (256, 64)
    """Widths of the hidden layers of the sparsity network, which computes the gates."""
    shared_trunk: bool | None = None
    """Feed the sparsity network with the last hidden layer of the encoder instead of the data.
    Default: for bits only."""
    residual: bool | None = None
    """Add the input of each hidden layer to its output if both have the same width. Default: for
    bits only."""
    activation: Activation = "gelu"
    """Activation function of the hidden layers (the paper: relu)."""
    normalisation: Literal["layer", "none"] = "layer"
    """Normalisation before each activation: layer normalisation or none (the paper: none)."""
    prior: PriorName | None = None
    """What the prior learns. A product over groups: gates and features (learned), gates only, so
    that fewer features become unused (learned_gates), or nothing (fixed, as in the paper). A
    structured prior: a mixture of products (mixture), one masked network that sees the groups
    before each group (masked), or a network for each level that sees the levels before it
    (autoregressive; with one level the same as masked). Default: for bits, or with several levels,
    masked; for bits with one group, or with one level and more than 1,024 features, learned_gates;
    with several levels and more than 1,024 features autoregressive; learned for other
    likelihoods."""
    prior_hidden: tuple[int, ...] | None = None
    """Widths of the hidden layers of a masked or an autoregressive prior; of the latter, of each
    level's if there are several. Default: (512,)."""
    mixture_components: int | None = None
    """Number of products in a mixture prior. Default: 64."""
    levels: int = 1
    """Number of levels that the groups are cut into. The posterior of a level sees the sample and
    the levels before it. 1 is a product over all groups."""
    level_hidden: tuple[int, ...] | None = None
    """Widths of the hidden layers of the network of each further level. It reads the last hidden
    layer of the encoder (the data, without shared_trunk) and the levels before. Default: (512,
    512)."""
    prior_gate: float = 0.5
    """Initial probability of an open gate, in the prior (lambda0) and in posteriors."""
    gate_temperature: float = 1.0
    """Initial temperature of relaxed gates, for estimators that draw relaxed samples."""
    feature_temperature: float = 1.0
    """Initial temperature of relaxed features, for estimators that draw relaxed samples."""

    def __post_init__(self) -> None:
        for name in _WIDTHS:
            require_few_layers(name, getattr(self, name))
        convert_types(self)
        require_positive(self, "features", "budget", "gate_temperature", "feature_temperature")
        require_positive(self, "levels", "mixture_components")
        require_at_most(self, "features", limit("features"))
        require_at_most(self, "budget", MAX_BUDGET)
        require_at_most(self, "levels", MAX_LEVELS)
        self._resolve_groups()
        fill_in(self, {"prior": _default_prior(self)})
        fill_in(self, _networks(self.likelihood))
        self._resolve_structure()
        linear = self.likelihood == "gaussian" and self.groups == self.budget
        mirrored = tuple(self.encoder_hidden or ())[::-1]
        fill_in(self, {"decoder_hidden": () if linear else mirrored})
        for name in _WIDTHS:
            widths = getattr(self, name)
            if widths and any(width < 1 for width in widths):
                raise ConfigError(f"{name} must hold positive widths, got {widths}.")
        if not 0 < self.prior_gate < 1:
            raise ConfigError(f"prior_gate must lie between 0 and 1, got {self.prior_gate}.")
        self._check_prefixes()

    def _check_prefixes(self) -> None:
        groups = self.groups or self.budget
        within = (0, *self.prefixes, groups)
        if self.prefixes and any(low >= high for low, high in itertools.pairwise(within)):
            raise ConfigError(
                f"prefixes must ascend from at least 1 to below groups = {groups}, got "
                f"{list(self.prefixes)}."
            )
        if self.prefixes and not (quadratic(self) and self.gates == "learned"):
            raise ConfigError(
                "prefixes need likelihood = 'gaussian', decoder_hidden = (), groups = budget, "
                "gates = 'learned', levels = 1 and a factorised prior: codes are searched for, and "
                "a prefix closes the other slots."
            )

    def _resolve_groups(self) -> None:
        fill_in(self, {"groups": self.budget})
        require_positive(self, "groups")
        groups = self.groups or self.budget
        if self.features % groups or self.budget % groups:
            fitting = divisors(math.gcd(self.features, self.budget))
            raise ConfigError(
                f"groups = {groups} does not divide both features = {self.features} and "
                f"budget = {self.budget}. Groups that do: {', '.join(map(str, fitting))}."
            )

    def _resolve_structure(self) -> None:
        """Fill in and check the settings of levels and of a structured prior."""
        groups = self.groups or self.budget
        if groups % self.levels:
            fitting = ", ".join(map(str, divisors(groups)))
            raise ConfigError(
                f"levels = {self.levels} does not divide groups = {groups}. Levels that do: "
                f"{fitting}."
            )
        self._resolve_prior(groups)
        if self.levels > 1:
            fill_in(self, {"level_hidden": (512, 512)})
            if not self.level_hidden:
                raise ConfigError("level_hidden must hold at least one width.")
        elif self.level_hidden is not None:
            raise ConfigError("level_hidden sets the networks of further levels: set levels, too.")

    def _resolve_prior(self, groups: int) -> None:
        if self.prior in ("autoregressive", "masked"):
            self._resolve_networks(groups)
        elif self.prior_hidden is not None:
            raise ConfigError(
                "prior_hidden belongs to prior = 'autoregressive' or 'masked', got prior = "
                f"{self.prior!r}."
            )
        if self.prior == "mixture":
            fill_in(self, {"mixture_components": 64})
            if self.levels > 1 or groups != self.budget:
                raise ConfigError(
                    "prior = 'mixture' needs levels = 1 and one slot per group (groups = budget), "
                    f"got levels = {self.levels}, groups = {groups} and budget = {self.budget}. "
                    "Use prior = 'autoregressive'."
                )
        elif self.mixture_components is not None:
            raise ConfigError(
                f"mixture_components belongs to prior = 'mixture', got prior = {self.prior!r}."
            )

    def _resolve_networks(self, groups: int) -> None:
        """Fill in and check the networks of a masked or an autoregressive prior."""
        fill_in(self, {"prior_hidden": (512,)})
        if groups == 1:
            raise ConfigError(f"prior = {self.prior!r} needs at least 2 groups, got groups = 1.")
        if not masked(self):
            if not self.prior_hidden:
                raise ConfigError("With several levels, prior_hidden must hold at least one width.")
        elif self.features > MAX_MASKED:
            raise ConfigError(
                f"A masked prior takes up to {MAX_MASKED:,} features, got {self.features:,}: its "
                "weights grow with their square. Use prior = 'autoregressive' with several levels."
            )


def _networks(likelihood: str) -> dict[str, Any]:
    """Return the recommended networks of a likelihood (docs/research/discrete-bound)."""
    if likelihood == "bernoulli":
        return {
            "encoder_hidden": (512, 512, 512),
            "residual": True,
            "shared_trunk": True,
            "joint_gates": True,
        }
    return PLAIN_NETWORKS


def _default_prior(model: ModelConfig) -> PriorName:
    """Return the recommended prior (docs/research/discrete-bound)."""
    few = model.features <= FEW_MASKED
    if model.levels > 1:
        return "masked" if few else "autoregressive"
    if model.likelihood != "bernoulli":
        return "learned"
    return "masked" if few and model.groups != 1 else "learned_gates"


PLAIN_NETWORKS: dict[str, Any] = {
    "encoder_hidden": (512, 384, 256),
    "residual": False,
    "shared_trunk": False,
    "joint_gates": False,
}


def quadratic(model: ModelConfig) -> bool:
    """Whether ``-log p(x | z)`` is quadratic in ``z``, with at most one feature in each group.

    This holds for real numbers, a linear decoder and one slot per group. Codes are then found by a
    fast search, if the prior is a product over groups.
    """
    one_slot = model.groups == model.budget and not structured(model)
    return model.likelihood == "gaussian" and not model.decoder_hidden and one_slot


def structured(model: ModelConfig) -> bool:
    """Whether the code has levels, or a prior that is not a product over groups.

    Examples
    --------
    >>> structured(ModelConfig()), structured(ModelConfig(prior="learned"))
    (True, False)
    """
    return model.levels > 1 or model.prior in ("mixture", "autoregressive", "masked")


def masked(model: ModelConfig) -> bool:
    """Whether the prior is one masked network over all groups.

    Examples
    --------
    >>> masked(ModelConfig()), masked(ModelConfig(levels=2, prior="autoregressive"))
    (True, False)
    """
    one_level = model.levels == 1 and model.prior == "autoregressive"
    return model.prior == "masked" or one_level
