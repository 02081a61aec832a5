"""Settings: three frozen dataclasses drive Python, YAML, the command line and saved files.

The defaults are the recommended settings. Fields that are ``None`` are resolved when the object is
created, except ``learning_rate`` and ``weight_decay``: they depend on the likelihood of the model
and are resolved when training starts. A saved configuration always holds the values that were used.
:func:`preset` returns other named settings. This module imports nothing heavy, so that
``sdlgm --help`` stays fast.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import os
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from sdlgm.errors import ConfigError
from sdlgm.limits import MAX_BUDGET, limit

__all__ = [
    "PRESETS",
    "Activation",
    "Binarisation",
    "CodeMethod",
    "DataConfig",
    "LikelihoodName",
    "Metric",
    "ModelConfig",
    "ObjectiveName",
    "PriorName",
    "Scaling",
    "SearchEngine",
    "TrackerName",
    "TrainingConfig",
    "VectorFormat",
    "WeightMetric",
    "from_dict",
    "iterations_of",
    "masked",
    "preset",
    "preset_values",
    "quadratic",
    "resolve_training",
    "structured",
    "to_dict",
]

LikelihoodName = Literal["bernoulli", "gaussian", "poisson", "categorical"]
Activation = Literal["gelu", "relu", "silu", "tanh"]
Binarisation = Literal["dynamic", "fixed", "threshold", "none"]
TrackerName = Literal["none", "tensorboard", "mlflow"]
CodeMethod = Literal["mode", "mean", "sample", "best", "search"]
"""How to choose one code for a sample: :func:`sdlgm.inference.choose_codes`."""
PriorName = Literal["learned", "learned_gates", "fixed", "mixture", "autoregressive", "masked"]
ObjectiveName = Literal["elbo", "paper", "rate_distortion"]
Scaling = Literal["columns", "common"]
Accelerator = Literal["auto", "cpu", "gpu", "mps"]
NetworkAccelerator = Literal["auto", "cpu", "gpu"]
"""Devices of networks that read double precision, which Apple's GPUs lack."""
Metric = Literal["l2", "cosine", "inner_product"]
"""What compares a query with a decoded row: :func:`sdlgm.inference.scores`."""
WeightMetric = Literal["plain", "l2", "cosine", "inner_product", "posterior"]
"""What weights for an inverted index rank by: :func:`sdlgm.inference.query_weights`."""
SearchEngine = Literal["qdrant", "pinecone", "pgvector", "milvus", "seismic", "elasticsearch"]
"""Search engines with sparse vectors; OpenSearch takes what Elasticsearch takes."""
VectorFormat = Literal[
    "qdrant", "pinecone", "pgvector", "milvus", "seismic", "elasticsearch", "npz", "faiss"
]
"""What codes can be exported for: :func:`sdlgm.export.export_codes`."""


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
            _require_few_layers(name, getattr(self, name))
        _convert_types(self)
        _require_positive(self, "features", "budget", "gate_temperature", "feature_temperature")
        _require_positive(self, "levels", "mixture_components")
        _require_at_most(self, "features", limit("features"))
        _require_at_most(self, "budget", MAX_BUDGET)
        _require_at_most(self, "levels", MAX_LEVELS)
        self._resolve_groups()
        _fill_in(self, {"prior": _default_prior(self)})
        _fill_in(self, _networks(self.likelihood))
        self._resolve_structure()
        linear = self.likelihood == "gaussian" and self.groups == self.budget
        mirrored = tuple(self.encoder_hidden or ())[::-1]
        _fill_in(self, {"decoder_hidden": () if linear else mirrored})
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
        _fill_in(self, {"groups": self.budget})
        _require_positive(self, "groups")
        groups = self.groups or self.budget
        if self.features % groups or self.budget % groups:
            fitting = _divisors(math.gcd(self.features, self.budget))
            raise ConfigError(
                f"groups = {groups} does not divide both features = {self.features} and "
                f"budget = {self.budget}. Groups that do: {', '.join(map(str, fitting))}."
            )

    def _resolve_structure(self) -> None:
        """Fill in and check the settings of levels and of a structured prior."""
        groups = self.groups or self.budget
        if groups % self.levels:
            fitting = ", ".join(map(str, _divisors(groups)))
            raise ConfigError(
                f"levels = {self.levels} does not divide groups = {groups}. Levels that do: "
                f"{fitting}."
            )
        self._resolve_prior(groups)
        if self.levels > 1:
            _fill_in(self, {"level_hidden": (512, 512)})
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
            _fill_in(self, {"mixture_components": 64})
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
        _fill_in(self, {"prior_hidden": (512,)})
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
        _convert_types(self)
        self._resolve_objective()
        _require_positive(
            self,
            "iterations",
            "batch_size",
            "turns",
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
        _require_at_least_zero(self, "weight_decay", "slot_cost", "seed")
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
            _fill_in(self, {**fixed, "kl_warmup": 0.0})
        else:
            _fill_in(self, {"estimator": "reinmax", "kl": "exact", "kl_warmup": 0.4})
        annealed = self.estimator == "slope_annealed_st"
        _fill_in(self, {"temperature": "annealed" if annealed else "learned"})

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


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The data to learn from.

    Raises
    ------
    ConfigError
        If a value has a wrong type or is out of range.
    """

    data: str
    """Name of a built-in data set (digits, mnist-5k, mnist, mnist-static, fashion-mnist, nab), or
    path of a .csv, .parquet or .npy file with one sample per row, or a folder or pattern of such
    files."""
    binarisation: Binarisation | None = None
    """How grey values become bits: sampled at each visit (dynamic), sampled once (fixed),
    thresholded at one half (threshold), or not at all (none). Default: dynamic for images under a
    Bernoulli likelihood, else none."""
    test_fraction: float = 0.1
    """Share of the rows of a file that is held out as the test split."""
    split_seed: int = 0
    """Seed of the test split and of fixed binarisation; independent of the training seed."""
    columns: tuple[str, ...] | None = None
    """Columns of a file to learn from, in this order: numbers, or one column of lists. Default: all
    except those of keep."""
    keep: tuple[str, ...] = ()
    """Columns of a file that are not learned from, and are passed through to files of codes and to
    decoded tables."""
    header: bool | None = None
    """Whether the first line of a CSV file holds the names of its columns. Default: it does, and a
    line of numbers alone is an error."""
    data_sha256: str | None = None
    """SHA-256 of the file or folder, recorded by fit. A run refuses data that have changed."""
    max_rows: int | None = None
    """Largest number of rows of a folder that are read; of more, a random sample is taken. Default:
    as many as hold 2^26 values. Single files are always read as a whole."""

    def __post_init__(self) -> None:
        _convert_types(self)
        if not 0 < self.test_fraction < 1:
            raise ConfigError(
                f"test_fraction is a share between 0 and 1, got {self.test_fraction}."
            )
        if self.max_rows is not None and self.max_rows < 2:
            raise ConfigError(f"max_rows must be at least 2, got {self.max_rows}.")


_WIDTHS = ("encoder_hidden", "decoder_hidden", "sparsity_hidden", "prior_hidden", "level_hidden")
"""Fields that hold the widths of hidden layers."""


def _networks(likelihood: str) -> dict[str, Any]:
    """Return the recommended networks of a likelihood (docs/research/discrete-bound)."""
    if likelihood == "bernoulli":
        return {
            "encoder_hidden": (512, 512, 512),
            "residual": True,
            "shared_trunk": True,
            "joint_gates": True,
        }
    return _PLAIN_NETWORKS


def _default_prior(model: ModelConfig) -> PriorName:
    """Return the recommended prior (docs/research/discrete-bound)."""
    few = model.features <= FEW_MASKED
    if model.levels > 1:
        return "masked" if few else "autoregressive"
    if model.likelihood != "bernoulli":
        return "learned"
    return "masked" if few and model.groups != 1 else "learned_gates"


_PLAIN_NETWORKS: dict[str, Any] = {
    "encoder_hidden": (512, 384, 256),
    "residual": False,
    "shared_trunk": False,
    "joint_gates": False,
}
_PLAIN: dict[str, Any] = {
    **_PLAIN_NETWORKS,
    "prior": "learned",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
}
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "best": {"weight_decay": 0.06, "iterations": 50_000},
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
    "vectors": {
        "features": 2040,
        "budget": 8,
        "likelihood": "gaussian",
        "scaling": "common",
        **_PLAIN,
        "encoder_hidden": (256,),
        "sparsity_hidden": (64,),
        "iterations": 500,
        "learning_rate": 3e-3,
    },
}
"""The settings of each preset that differ from ``ModelConfig()`` and ``TrainingConfig()``.

- ``default``: the recommended settings.
- ``best``: the lowest discrete bound for bits, with a longer training.
- ``plain``: networks without residual layers and without a shared trunk.
- ``paper``: the objective and the networks of Xu et al. 2021.
- ``quick``: small networks that train on small tables of real numbers in seconds; the defaults of
  :class:`~sdlgm.estimators.SDLGMTransformer`.
- ``vectors``: embeddings and other vectors in one unit; 8 groups of 255 features, or closed, so
  that a code takes 8 bytes.
"""


MAX_LEVELS = 64
"""Most levels, each of which has networks of its own."""

FEW_MASKED = 1_024
"""Most features with which a masked prior is the default: its weights grow with their square."""

MAX_MASKED = 8_192
"""Most features of an autoregressive prior over groups: its direct weights then take 256 MiB."""

MAX_SEARCHED = 16_384
"""Most features that search and refitting takes: its normal equations then hold 2 GiB."""


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
    _check_rate(training.rate, model)
    if (searched or targeted) and model.features > MAX_SEARCHED:
        raise ConfigError(
            f"objective = 'rate_distortion' solves for all features at once and takes up to "
            f"{MAX_SEARCHED:,}, got {model.features:,}. Use fewer, or objective = 'elbo'."
        )
    few = model.features <= MAX_SEARCHED
    default: ObjectiveName = "rate_distortion" if quadratic(model) and few else "elbo"
    return dataclasses.replace(
        training,
        objective=default if training.objective is None else training.objective,
        learning_rate=rate if training.learning_rate is None else training.learning_rate,
        weight_decay=decay if training.weight_decay is None else training.weight_decay,
    )


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


def iterations_of(epochs: int, rows: int, batch_size: int) -> int:
    """Return the number of steps in ``epochs`` passes over the rows; a last batch may be smaller.

    Examples
    --------
    >>> iterations_of(epochs=10, rows=250, batch_size=100)
    30
    """
    return epochs * math.ceil(rows / batch_size)


def preset(name: str = "default", **changes: Any) -> tuple[ModelConfig, TrainingConfig]:
    """Return the settings of a preset, with optional changes.

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
        If the preset or a field is unknown, or a value is invalid.

    Examples
    --------
    >>> model, training = preset("best", seed=1)
    >>> model == ModelConfig(), training.iterations, training.seed
    (True, 50000, 1)
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" Presets: {', '.join(PRESETS)}."
        raise ConfigError(f"There is no preset {name!r}.{hint}")
    values = {**preset_values(name, changes), **changes}
    of_model = {field.name for field in dataclasses.fields(ModelConfig)}
    model = {key: value for key, value in values.items() if key in of_model}
    training = {key: value for key, value in values.items() if key not in of_model}
    config = from_dict(ModelConfig, model)
    return config, resolve_training(from_dict(TrainingConfig, training), config)


def preset_values(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a preset that go with given ones: a preset's prior is for one level.

    Examples
    --------
    >>> preset_values("plain", {})["prior"], "prior" in preset_values("plain", {"levels": 2})
    ('learned', False)
    """
    several = str(given.get("levels", 1)) != "1"
    return {k: v for k, v in PRESETS[name].items() if not (several and k == "prior")}


Config = TypeVar("Config", ModelConfig, TrainingConfig, DataConfig)


def to_dict(*configs: ModelConfig | TrainingConfig | DataConfig) -> dict[str, Any]:
    """Merge configurations into one flat dictionary of plain values; tuples become lists.

    Examples
    --------
    >>> to_dict(DataConfig("digits"))["test_fraction"]
    0.1
    """
    merged: dict[str, Any] = {}
    for config in configs:
        for name, value in dataclasses.asdict(config).items():
            if name in _STRUCTURE and value == _STRUCTURE[name]:
                continue
            merged[name] = list(value) if isinstance(value, tuple) else value
    return merged


_STRUCTURE = {
    "levels": 1,
    "level_hidden": None,
    "prior_hidden": None,
    "mixture_components": None,
    "prefixes": (),
}
"""Settings of structured codes and of prefixes where there are none. They are left out of files, so
that those of other models, and their hashes, are what they were before these settings existed."""


def from_dict(config: type[Config], values: Mapping[str, Any]) -> Config:
    """Create a configuration from a dictionary; unknown keys are errors.

    Raises
    ------
    ConfigError
        If a key is not a field (the message suggests the nearest one), or a value has a wrong type.

    Examples
    --------
    >>> from_dict(ModelConfig, {"encoder_hidden": [64]}).encoder_hidden
    (64,)
    >>> from_dict(ModelConfig, {"budgets": 3})
    Traceback (most recent call last):
    sdlgm.errors.ConfigError: ModelConfig has no key 'budgets'. Did you mean 'budget'?
    """
    hints = typing.get_type_hints(config)
    for name in values:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Keys: {', '.join(hints)}."
            raise ConfigError(f"{config.__name__} has no key {name!r}.{hint}")
    return config(**values)


# --- types of values ------------------------------------------------------------------------


def _convert_types(config: object) -> None:
    """Convert each value to the plain Python type of its field, or raise ``ConfigError``."""
    for name, hint in typing.get_type_hints(type(config)).items():
        given = getattr(config, name)
        value = _convert(given, hint)
        if value is _UNFIT:
            raise ConfigError(f"{name} = {given!r} does not fit {_describe(hint)}.")
        object.__setattr__(config, name, value)


_UNFIT = object()
"""Returned by :func:`_convert` for a value of a wrong type."""


def _convert(value: Any, hint: Any) -> Any:
    """Return a value as the plain Python type of a field, or ``_UNFIT``."""
    if getattr(value, "ndim", None) == 0:  # a number of NumPy or torch
        value = value.item()
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value if value in arguments else _UNFIT
    if origin in (typing.Union, types.UnionType):
        options = (_convert(value, option) for option in arguments)
        return next((option for option in options if option is not _UNFIT), _UNFIT)
    if origin is tuple:
        return _convert_tuple(value, arguments[0])
    return _convert_plain(value, hint)


def _convert_tuple(value: Any, hint: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return _UNFIT
    items = tuple(_convert(item, hint) for item in value)
    return _UNFIT if any(item is _UNFIT for item in items) else items


def _convert_plain(value: Any, hint: type) -> Any:
    if isinstance(value, bool) and hint is not bool:
        return _UNFIT
    if hint is float and isinstance(value, int):
        return float(value)
    if hint is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    return value if isinstance(value, hint) else _UNFIT


def _describe(hint: Any) -> str:
    """Describe the type of a field in an error message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(option) for option in arguments)
    if origin is tuple:
        return f"tuple of {_describe(arguments[0])}"
    return "None" if hint is type(None) else hint.__name__


# --- ranges of values -----------------------------------------------------------------------


def _divisors(number: int) -> list[int]:
    """Return all divisors in ascending order, in time proportional to the square root."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def _fill_in(config: object, defaults: Mapping[str, Any]) -> None:
    """Replace fields that are ``None`` by their defaults."""
    for name, value in defaults.items():
        if getattr(config, name) is None:
            object.__setattr__(config, name, value)


def _require_positive(config: object, *names: str) -> None:
    """Raise ``ConfigError`` unless each field is positive and finite, or ``None``."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{name} must be positive and finite, got {value}.")


def _require_few_layers(name: str, widths: object) -> None:
    """Raise ``ConfigError`` if a list of widths is longer than any network is deep."""
    if isinstance(widths, list | tuple) and len(widths) > limit("layers"):
        raise ConfigError(f"{name} may have up to {limit('layers'):,} layers, got {len(widths):,}.")


def _require_at_most(config: object, name: str, most: int) -> None:
    """Raise ``ConfigError`` if a field exceeds the most that is possible."""
    value = getattr(config, name)
    if value > most:
        raise ConfigError(f"{name} may be up to {most:,}, got {value:,}.")


def _require_at_least_zero(config: object, *names: str) -> None:
    """Raise ``ConfigError`` unless each field is at least 0 and finite, or ``None``."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value < math.inf:
            raise ConfigError(f"{name} must be finite and at least 0, got {value}.")
