"""Settings: three frozen dataclasses drive Python, YAML, the command line and saved files.

The defaults are the recommended settings. A field that is ``None`` is resolved when the object is
made; ``learning_rate`` and ``weight_decay``, which depend on the model's likelihood, when a
training starts. A saved configuration always holds what was used. :func:`preset` returns other
named settings. This module imports nothing heavy, so that ``sdlgm --help`` stays fast.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from sdlgm.errors import ConfigError

__all__ = [
    "PRESETS",
    "Activation",
    "Binarisation",
    "CodeMethod",
    "DataConfig",
    "LikelihoodName",
    "ModelConfig",
    "TrackerName",
    "TrainingConfig",
    "from_dict",
    "iterations_of",
    "preset",
    "resolve_training",
    "to_dict",
]

LikelihoodName = Literal["bernoulli", "gaussian", "poisson", "categorical"]
Activation = Literal["gelu", "relu", "silu", "tanh"]
Binarisation = Literal["dynamic", "fixed", "threshold", "none"]
TrackerName = Literal["none", "tensorboard", "mlflow"]
CodeMethod = Literal["mode", "mean", "sample", "best"]
"""How to choose one code from a posterior: :func:`sdlgm.inference.choose_codes`."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The shape of a model: its code, its networks, its prior."""

    features: int = 200
    """Number K of features that a code counts."""
    budget: int = 40
    """Hard budget L0: the largest sum of counts, and so of active features, of any code."""
    groups: int | None = None
    """Groups G that split features and budget evenly; 1 is the paper's model. Default: the budget,
    that is one slot a group."""
    gates: Literal["learned", "open"] = "learned"
    """"open" fills every slot: with one slot a group a plain categorical latent."""
    joint_gates: bool | None = None
    """Let "closed" compete with a group's features in one softmax: a gate's logit is the sparsity
    net's output plus the log of the mean of the features' exponentials. The posteriors are the
    same family, but gates stay in use where they would get stuck open."""
    likelihood: LikelihoodName = "bernoulli"
    """Distribution of a sample given its code."""
    encoder_hidden: tuple[int, ...] | None = None
    """Widths of the encoder's hidden layers; the decoder mirrors them. Default: (512, 512, 512) for
    bits, (512, 384, 256) for other likelihoods."""
    sparsity_hidden: tuple[int, ...] = (256, 64)
    """Widths of the hidden layers of the sparsity net, which sets the gates."""
    shared_trunk: bool | None = None
    """Feed the sparsity net with the encoder's last hidden layer instead of the data. Default: for
    bits only."""
    residual: bool | None = None
    """Add the input of a hidden layer to its output where both have the same width. Default: for
    bits only."""
    activation: Activation = "gelu"
    """Activation after each hidden layer (the paper: relu)."""
    normalisation: Literal["layer", "none"] = "layer"
    """Normalisation before each activation (the paper: none)."""
    prior: Literal["learned", "learned_gates", "fixed"] | None = None
    """Learn the prior's gates and features; learn its gates only, so that features stay equally
    likely and fewer of them die; or keep the initial prior (the paper: fixed). Default:
    learned_gates for bits, else learned."""
    prior_gate: float = 0.5
    """Start of the probability that a gate is open, of the prior (lambda0) and of posteriors."""
    gate_temperature: float = 1.0
    """Start of the relaxed gates' temperature (used, and learned, by the paper's objective)."""
    feature_temperature: float = 1.0
    """Start of the relaxed features' temperature (used, and learned, by the paper's objective)."""

    def __post_init__(self) -> None:
        for name, value in _networks(self.likelihood).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        _require_positive(self, "features", "budget", "gate_temperature", "feature_temperature")
        groups = self.budget if self.groups is None else self.groups
        object.__setattr__(self, "groups", groups)
        _require_positive(self, "groups")
        if self.features % groups or self.budget % groups:
            shared = math.gcd(self.features, self.budget)
            fitting = [g for g in range(1, shared + 1) if shared % g == 0]
            raise ConfigError(
                f"groups = {groups} does not divide both features = {self.features} and "
                f"budget = {self.budget}. Groups that do: {', '.join(map(str, fitting))}."
            )
        for name in ("encoder_hidden", "sparsity_hidden"):
            widths = tuple(getattr(self, name))
            object.__setattr__(self, name, widths)
            if any(width < 1 for width in widths):
                raise ConfigError(f"{name} must hold positive widths, got {widths}.")
        if not 0 < self.prior_gate < 1:
            raise ConfigError(f"prior_gate must lie between 0 and 1, got {self.prior_gate}.")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained."""

    iterations: int = 10_000
    """Number of gradient steps."""
    batch_size: int = 100
    """Samples a step, of all devices together."""
    objective: Literal["elbo", "paper"] = "elbo"
    """"elbo" trains the discrete bound; "paper" the relaxed objective (Gumbel-Softmax samples,
    KL of eqs. 13 and 14, learned temperatures), which is not a bound."""
    estimator: str | None = None
    """Gradient estimator of the discrete bound. Default: reinmax. (The paper's objective has its
    own, gumbel_softmax.)"""
    kl: Literal["exact", "paper"] | None = None
    """Form of the KL. Default: exact for "elbo", paper for "paper"."""
    kl_warmup: float | None = None
    """Share of the iterations over which the KL's weight rises from 0 to 1. Default: 0.4 for
    "elbo", 0 for "paper"."""
    learning_rate: float | None = None
    """Learning rate of Adam. Default: 2e-3 for bits, 1e-3 for other likelihoods."""
    temperature: Literal["learned", "annealed", "fixed"] | None = None
    """Of relaxed samples: learned; annealed, that is their start times exp(-temperature_decay *
    step), down to 0.5 (Jang et al. 2017); or fixed at its start. An annealed slope is its inverse.
    Default: annealed for slope_annealed_st, else learned."""
    temperature_decay: float = 1e-4
    """Rate r of the annealing."""
    weight_decay: float | None = None
    """Share of the weights of all layers (not of biases, normalisations, the prior) that a step
    takes away, times the rate: AdamW (Loshchilov and Hutter 2019). Default: 0.3 for bits, 0 for
    other likelihoods."""
    slot_cost: float = 0.0
    """Nats that training charges for each slot that is expected to be open, beside the objective.
    It makes "closed" a gate's usual state; no number that is reported contains it."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Course of the rate: constant, or falling to zero along a half cosine."""
    gradient_clip: float | None = None
    """Largest norm of the gradient of the mean loss; larger ones are scaled down to it."""
    validation_fraction: float = 0.0
    """Share of the training rows held out to follow the discrete bound during training."""
    patience: int | None = None
    """Stop after this many evaluations without a better validation bound, and keep the best
    weights. Needs validation_fraction."""
    evaluate_every: int = 500
    """Iterations between two evaluations on the validation rows."""
    checkpoint_every: int = 1000
    """Iterations between two checkpoints."""
    seed: int = 0
    """Source of all randomness: weights, order, binarisation, codes."""
    accelerator: Literal["cpu", "gpu", "mps", "auto"] = "cpu"
    """Device to train on (Lightning Fabric's names)."""
    devices: int = 1
    """Processes on this machine, one a device, that share every batch (DDP). Draws
    and batches are those of one process; only sums are rounded otherwise."""
    precision: str = "32-true"
    """Numerical precision (Lightning Fabric's names, such as bf16-mixed)."""
    tracker: TrackerName = "none"
    """Where the lines of log.jsonl go as well: event files in RUN/tensorboard, or MLflow at
    MLFLOW_TRACKING_URI (a file store in RUN/mlflow if that is not set)."""

    def __post_init__(self) -> None:
        own: dict[str, Any] = (
            {"estimator": "gumbel_softmax", "kl": "paper", "kl_warmup": 0.0}
            if self.objective == "paper"
            else {"estimator": "reinmax", "kl": "exact", "kl_warmup": 0.4}
        )
        for name, value in own.items():
            given = getattr(self, name)
            if given is None:
                object.__setattr__(self, name, value)
            elif self.objective == "paper" and name != "kl_warmup" and given != value:
                raise ConfigError(
                    f"objective = 'paper' fixes {name} = {value!r}, got {given!r}. To combine "
                    "freely, use objective = 'elbo'."
                )
        if self.temperature is None:
            annealed = self.estimator == "slope_annealed_st"
            object.__setattr__(self, "temperature", "annealed" if annealed else "learned")
        _require_positive(
            self,
            "iterations",
            "batch_size",
            "temperature_decay",
            "evaluate_every",
            "checkpoint_every",
            "devices",
        )
        if self.batch_size % self.devices:
            raise ConfigError(
                f"devices = {self.devices} cannot share a batch_size of {self.batch_size} evenly."
            )
        if not 0 <= self.kl_warmup <= 1:  # type: ignore[operator]
            raise ConfigError(f"kl_warmup is a share from 0 to 1, got {self.kl_warmup}.")
        if self.learning_rate is not None:
            _require_positive(self, "learning_rate")
        for name in ("weight_decay", "slot_cost"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{name} must not be negative, got {value}.")
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction is a share from 0 to below 1, got {self.validation_fraction}."
            )
        if self.gradient_clip is not None:
            _require_positive(self, "gradient_clip")
        if self.patience is not None:
            _require_positive(self, "patience")
            if self.validation_fraction == 0:
                raise ConfigError(
                    "patience needs rows to watch: set validation_fraction, for example to 0.1."
                )
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}.")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is learned from."""

    data: str
    """Name of a built-in data set (digits, mnist-5k, mnist, fashion-mnist, nab) or path of a .csv,
    .parquet or .npy file with one sample a row."""
    binarisation: Binarisation | None = None
    """How grey values become bits: drawn anew at each visit (dynamic), drawn once (fixed), cut at
    one half (threshold), or not (none). Default: dynamic for images under a Bernoulli likelihood,
    else none."""
    test_fraction: float = 0.1
    """Share of the rows of a file of yours that is held out as its test split."""
    split_seed: int = 0
    """Seed of that split and of fixed binarisation; the training seed does not move them."""

    def __post_init__(self) -> None:
        if not 0 < self.test_fraction < 1:
            raise ConfigError(
                f"test_fraction is a share between 0 and 1, got {self.test_fraction}."
            )


def _networks(likelihood: str) -> dict[str, Any]:
    """Return the recommended networks and prior for a likelihood (docs/research/discrete-bound)."""
    if likelihood == "bernoulli":
        return {
            "encoder_hidden": (512, 512, 512),
            "residual": True,
            "shared_trunk": True,
            "joint_gates": True,
            "prior": "learned_gates",
        }
    return _PLAIN_NETWORKS


_PLAIN_NETWORKS: dict[str, Any] = {
    "encoder_hidden": (512, 384, 256),
    "residual": False,
    "shared_trunk": False,
    "joint_gates": False,
    "prior": "learned",
}
_PLAIN: dict[str, Any] = {**_PLAIN_NETWORKS, "learning_rate": 1e-3, "weight_decay": 0.0}
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "best": {"weight_decay": 0.1, "slot_cost": 0.03, "iterations": 30_000},
    "plain": _PLAIN,
    "paper": {
        **_PLAIN,
        "groups": 1,
        "activation": "relu",
        "normalisation": "none",
        "objective": "paper",
    },
    "quick": {
        "features": 64,
        "budget": 8,
        "likelihood": "gaussian",
        **_PLAIN,
        "encoder_hidden": (128, 64),
        "sparsity_hidden": (64,),
        "iterations": 500,
        "learning_rate": 3e-3,
    },
}
"""The settings of each preset that differ from ``ModelConfig()`` and ``TrainingConfig()``.

``default``: the recommended settings. ``best``: the lowest discrete bound of bits, in a longer
training. ``plain``: networks without residual layers or a shared trunk. ``paper``: the objective
and networks of Xu et al. 2021. ``quick``: small networks for small tables of real numbers, fitted
in seconds; the defaults of :class:`~sdlgm.estimators.SDLGMTransformer`.
"""


def resolve_training(training: TrainingConfig, likelihood: LikelihoodName) -> TrainingConfig:
    """Replace what depends on the likelihood and is still ``None`` by the recommended values."""
    rate, decay = (2e-3, 0.3) if likelihood == "bernoulli" else (1e-3, 0.0)
    return dataclasses.replace(
        training,
        learning_rate=rate if training.learning_rate is None else training.learning_rate,
        weight_decay=decay if training.weight_decay is None else training.weight_decay,
    )


def iterations_of(epochs: int, rows: int, batch_size: int) -> int:
    """Return the number of steps in ``epochs`` passes over the rows; a last batch may be smaller.

    Examples
    --------
    >>> iterations_of(epochs=10, rows=250, batch_size=100)
    30
    """
    return epochs * math.ceil(rows / batch_size)


def preset(name: str = "default", **changes: Any) -> tuple[ModelConfig, TrainingConfig]:
    """Return the settings of a preset, with changes.

    ``sdlgm.fit("mnist", *preset("best", seed=1), out="runs/best")`` equals
    ``sdlgm fit mnist --preset best --seed 1 --out runs/best``.

    Parameters
    ----------
    name
        A key of ``PRESETS``.
    **changes
        Fields of :class:`ModelConfig` or :class:`TrainingConfig`.

    Raises
    ------
    ConfigError
        If the preset or a field is unknown, or a value does not fit.

    Examples
    --------
    >>> model, training = preset("best", seed=1)
    >>> model == ModelConfig(), training.iterations, training.seed
    (True, 30000, 1)
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" Presets: {', '.join(PRESETS)}."
        raise ConfigError(f"There is no preset {name!r}.{hint}")
    values = {**PRESETS[name], **changes}
    of_model = {field.name for field in dataclasses.fields(ModelConfig)}
    model = {key: value for key, value in values.items() if key in of_model}
    training = {key: value for key, value in values.items() if key not in of_model}
    config = from_dict(ModelConfig, model)
    return config, resolve_training(from_dict(TrainingConfig, training), config.likelihood)


Config = TypeVar("Config", ModelConfig, TrainingConfig, DataConfig)


def to_dict(*configs: ModelConfig | TrainingConfig | DataConfig) -> dict[str, Any]:
    """Merge configurations into one flat dictionary of plain values (tuples become lists)."""
    merged: dict[str, Any] = {}
    for config in configs:
        for name, value in dataclasses.asdict(config).items():
            merged[name] = list(value) if isinstance(value, tuple) else value
    return merged


def from_dict(config: type[Config], values: Mapping[str, Any]) -> Config:
    """Make a configuration of a dictionary, strictly.

    Raises
    ------
    ConfigError
        For a key that is no field (with the nearest field's name), or a value of a wrong type.
    """
    hints = typing.get_type_hints(config)
    for name, value in values.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Keys: {', '.join(hints)}."
            raise ConfigError(f"{config.__name__} has no key {name!r}.{hint}")
        if not _fits(value, hints[name]):
            raise ConfigError(f"{name} = {value!r} does not fit {_spell(hints[name])}.")
    return config(**values)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(v, arguments[0]) for v in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _spell(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    return getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)  # type: ignore[return-value]


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is None or not value > 0 or value == math.inf:
            raise ConfigError(f"{name} must be positive, got {value}.")
