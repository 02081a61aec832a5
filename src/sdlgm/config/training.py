"""Settings of a training, and what a model recommends for them."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from sdlgm.config.checks import convert_types, fill_in, require_at_least_zero, require_positive
from sdlgm.config.model import ModelConfig, quadratic, structured
from sdlgm.config.names import Accelerator, ObjectiveName, TrackerName
from sdlgm.errors import ConfigError

__all__ = ["MAX_SEARCHED", "TrainingConfig", "iterations_of", "resolve_training"]

MAX_SEARCHED = 16_384
"""Most features that search and refitting takes: its normal equations then hold 2 GiB."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training.

    Raises
    ------
    ConfigError
        If a value has a wrong type, is out of range, or does not fit another.

    Examples
    --------
    >>> TrainingConfig().estimator, TrainingConfig(objective="paper").estimator
    ('reinmax', 'gumbel_softmax')
    """

    iterations: int = 10_000
    """Number of gradient steps."""
    batch_size: int = 100
    """Samples per step, over all devices."""
    objective: ObjectiveName | None = None
    """"elbo" minimises the negative ELBO of discrete codes. "paper" minimises the relaxed
    objective of the paper (Gumbel-Softmax samples, KL of eqs. 13 and 14), which is not a bound.
    "rate_distortion" fits a linear decoder and the prior to codes that are searched for, and then
    trains the encoder to propose these codes. Default: "rate_distortion" for real numbers with a
    linear decoder and one slot per group, else "elbo"."""
    turns: int = 40
    """Turns of search and refitting under "rate_distortion"."""
    rate: float | None = None
    """Under "rate_distortion": the mean length of a code to aim at, in bits. Default: no limit
    besides the budget."""
    distortion: float | None = None
    """Under "rate_distortion": the mean squared error to aim at, as a share of the variance of the
    data in units of ``scaling``; codes are then as short as this allows."""
    estimator: str | None = None
    """Gradient estimator. Default: reinmax for "elbo"; "paper" always uses gumbel_softmax."""
    draws: int | None = None
    """Codes drawn for each sample in a step. The gradient is the mean over them; vimco and
    reinforce_loo compare them. Default: 1; 5 for vimco, 4 for reinforce_loo."""
    kl: Literal["exact", "paper"] | None = None
    """Form of the KL divergence. Default: exact for "elbo"; "paper" always uses paper."""
    kl_warmup: float | None = None
    """Share of the iterations during which the weight of the KL rises from 0 to 1. Default: 0.4
    for "elbo", 0 for "paper"."""
    learning_rate: float | None = None
    """Initial learning rate of Adam. Default: 2e-3 for bits, 1e-3 for other likelihoods."""
    temperature: Literal["learned", "annealed", "fixed"] | None = None
    """Temperatures of relaxed samples: learned, fixed, or annealed from their initial value by
    exp(-temperature_decay * step) down to 0.5. The slope of slope_annealed_st is the inverse.
    Default: annealed for slope_annealed_st, else learned."""
    temperature_decay: float = 1e-4
    """Rate at which temperatures are annealed, per step."""
    weight_decay: float | None = None
    """Decoupled weight decay (AdamW) of the weight matrices; biases, normalisations and the prior
    do not decay. Default: 0.3 for bits, 0 for other likelihoods."""
    slot_cost: float = 0.0
    """Penalty in nats per expected open slot, added to the objective in training. It makes codes
    sparser; reported bounds do not include it."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Schedule of the learning rate: constant, or decay to 0 along half a cosine."""
    gradient_clip: float | None = None
    """Largest gradient norm; larger gradients are scaled down to it. Default: no clipping."""
    validation_fraction: float = 0.0
    """Share of the training rows held out to evaluate the discrete bound during training. A data
    set with validation rows of its own (mnist-static) uses those, whatever the share."""
    patience: int | None = None
    """Stop after this many evaluations without a better validation bound and restore the best
    weights. Needs validation_fraction. Default: no early stopping."""
    evaluate_every: int = 500
    """Iterations between evaluations on the validation rows."""
    checkpoint_every: int = 1000
    """Iterations between checkpoints."""
    seed: int = 0
    """Seed of all randomness: weights, order of rows, binarisation, codes."""
    accelerator: Accelerator = "auto"
    """Device to train and evaluate on. auto: the GPU if there is one, else the CPU. A run records
    what was used."""
    devices: int = 1
    """Number of devices on this machine that share every batch, with one process each (DDP).
    Results differ from those of one device only by rounding."""
    precision: str = "32-true"
    """Numerical precision (Lightning Fabric's names, for example bf16-mixed)."""
    tracker: TrackerName = "none"
    """Also log to TensorBoard (RUN/tensorboard) or MLflow (at MLFLOW_TRACKING_URI, or in RUN/mlflow
    if that is not set)."""

    def __post_init__(self) -> None:
        convert_types(self)
        self._resolve_objective()
        require_positive(
            self,
            "iterations",
            "batch_size",
            "turns",
            "draws",
            "rate",
            "distortion",
            "temperature_decay",
            "evaluate_every",
            "checkpoint_every",
            "devices",
            "learning_rate",
            "gradient_clip",
            "patience",
        )
        require_at_least_zero(self, "weight_decay", "slot_cost", "seed")
        if self.kl_warmup is not None and not 0 <= self.kl_warmup <= 1:
            raise ConfigError(f"kl_warmup is a share from 0 to 1, got {self.kl_warmup}.")
        self._check_targets()
        self._check_devices()
        self._check_validation()

    def _resolve_objective(self) -> None:
        """Fill in what the objective recommends; the paper's objective fixes some of it."""
        paper = self.objective == "paper"
        if paper:
            fixed = {"estimator": "gumbel_softmax", "kl": "paper"}
            for name, value in fixed.items():
                if getattr(self, name) not in (None, value):
                    raise ConfigError(
                        f"objective = 'paper' fixes {name} = {value!r}, got "
                        f"{getattr(self, name)!r}. To combine freely, use objective = 'elbo'."
                    )
            fill_in(self, {**fixed, "kl_warmup": 0.0})
        else:
            fill_in(self, {"estimator": "reinmax", "kl": "exact", "kl_warmup": 0.4})
        annealed = self.estimator == "slope_annealed_st"
        fill_in(self, {"temperature": "annealed" if annealed else "learned"})

    def _check_targets(self) -> None:
        """Check what only search and refitting can aim at."""
        given = [name for name in ("rate", "distortion") if getattr(self, name) is not None]
        if not given:
            return
        if len(given) > 1:
            raise ConfigError(
                "rate and distortion are two targets of one training: give one of them, got "
                f"rate = {self.rate} and distortion = {self.distortion}."
            )
        if self.objective not in (None, "rate_distortion"):
            raise ConfigError(
                f"{given[0]} = {getattr(self, given[0])} is a target of objective = "
                f"'rate_distortion', got objective = {self.objective!r}."
            )
        if self.distortion is not None and self.distortion >= 1:
            raise ConfigError(
                f"distortion is a share of the variance between 0 and 1, got {self.distortion}."
            )

    def _check_devices(self) -> None:
        if self.draws is not None and self.draws > 1 and self.devices > 1:
            raise ConfigError(
                f"draws = {self.draws} needs devices = 1, got {self.devices}: processes share the "
                "random numbers of one code for each sample. Use a larger batch_size instead."
            )
        if self.batch_size % self.devices:
            raise ConfigError(
                f"batch_size = {self.batch_size} must be a multiple of devices = {self.devices}."
            )

    def _check_validation(self) -> None:
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction is a share from 0 to below 1, got {self.validation_fraction}."
            )
        if self.patience is not None and self.validation_fraction == 0:
            raise ConfigError(
                "patience needs validation rows: set validation_fraction, for example to 0.1."
            )


def resolve_training(training: TrainingConfig, model: ModelConfig) -> TrainingConfig:
    """Fill in what the model recommends, where it is ``None``: objective, rate and weight decay.

    Raises
    ------
    ConfigError
        If the objective is ``"rate_distortion"`` and the model is not quadratic, or if codes cannot
        be as long as ``rate``.

    Examples
    --------
    >>> resolve_training(TrainingConfig(), ModelConfig(likelihood="gaussian")).objective
    'rate_distortion'
    """
    rate, decay = (2e-3, 0.3) if model.likelihood == "bernoulli" else (1e-3, 0.0)
    searched = training.objective == "rate_distortion"
    given = (training.rate, training.distortion, model.prefixes or None)
    targeted = any(value is not None for value in given)
    if (searched or targeted) and not quadratic(model):
        raise ConfigError(
            "objective = 'rate_distortion' needs likelihood = 'gaussian', decoder_hidden = () and "
            f"groups = budget, got {model.likelihood!r}, {model.decoder_hidden} and {model.groups} "
            f"groups with a budget of {model.budget}."
            + (" It also needs levels = 1 and a factorised prior." if structured(model) else "")
        )
    if model.levels > 1 and training.estimator in ("darn", "muprop"):
        raise ConfigError(
            f"estimator = {training.estimator!r} needs a posterior that is a single product, got "
            f"levels = {model.levels}. Use estimator = 'reinmax', or levels = 1."
        )
    if model.prefixes and training.objective not in (None, "rate_distortion"):
        raise ConfigError(
            "prefixes are trained by objective = 'rate_distortion' alone, got objective = "
            f"{training.objective!r}."
        )
    if training.draws is not None and _objective(training, model) == "rate_distortion":
        raise ConfigError(
            f"draws = {training.draws} is the number of codes drawn in a step, but objective = "
            "'rate_distortion' searches for codes. Leave draws out, or use objective = 'elbo'."
        )
    _check_rate(training.rate, model)
    if (searched or targeted) and model.features > MAX_SEARCHED:
        raise ConfigError(
            f"objective = 'rate_distortion' solves for all features at once and takes up to "
            f"{MAX_SEARCHED:,}, got {model.features:,}. Use fewer, or objective = 'elbo'."
        )
    return dataclasses.replace(
        training,
        objective=_objective(training, model),
        learning_rate=rate if training.learning_rate is None else training.learning_rate,
        weight_decay=decay if training.weight_decay is None else training.weight_decay,
    )


def _objective(training: TrainingConfig, model: ModelConfig) -> ObjectiveName:
    """Return the objective of a training, or else what the model recommends."""
    if training.objective is not None:
        return training.objective
    few = model.features <= MAX_SEARCHED
    return "rate_distortion" if quadratic(model) and few else "elbo"


def _check_rate(rate: float | None, model: ModelConfig) -> None:
    """Raise ``ConfigError`` if codes with one slot a group cannot be as long as a target rate."""
    size = model.features // model.budget
    states = size + (model.gates == "learned")
    most = model.budget * math.log2(states)
    if rate is not None and rate >= most:
        raise ConfigError(
            f"rate = {rate:g} bits, but a code has less than {most:.1f}: {model.budget} slots with "
            f"{states} states each. Raise features or budget, or leave rate out to use them fully."
        )


def iterations_of(epochs: int, rows: int, batch_size: int) -> int:
    """Return the number of steps in ``epochs`` passes over the rows; a last batch may be smaller.

    Examples
    --------
    >>> iterations_of(epochs=10, rows=250, batch_size=100)
    30
    """
    return epochs * math.ceil(rows / batch_size)
