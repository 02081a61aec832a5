"""The unsupervised model as a transformer of scikit-learn: rows to sparse counts and back."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import fields
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike

from sdlgm.config import (
    PRESETS,
    Accelerator,
    Activation,
    CodeMethod,
    LikelihoodName,
    ModelConfig,
    ObjectiveName,
    PriorName,
    Scaling,
    TrainingConfig,
    iterations_of,
    preset,
)
from sdlgm.environment import neutral
from sdlgm.errors import warn
from sdlgm.estimators.coding import BaseCoding
from sdlgm.estimators.drift import warn_of_drift
from sdlgm.estimators.parameters import check_flag, check_integer, plain
from sdlgm.estimators.saving import SavedModelFolder
from sdlgm.estimators.validation import (
    validate_rows,
    validate_seed,
    validate_weights,
)
from sdlgm.estimators.weighted_rows import (
    BLOCK,
    WeightedRows,
    fit_model,
    new_model,
    update_model,
)
from sdlgm.inference.codes import check_code
from sdlgm.inference.usage import warn_of_unused
from sdlgm.models import SDLGM
from sdlgm.progress import progress_bar

__all__ = ["SDLGMTransformer"]

_QUICK = PRESETS["quick"]


class SDLGMTransformer(SavedModelFolder, BaseCoding):
    r"""Encode rows as sparse counts of features, with a sum of at most ``budget``.

    Fits a :class:`~sdlgm.models.SDLGM` (Xu et al. 2021): an encoder :math:`q(z \mid x)` and a
    decoder :math:`p(x \mid z)` whose code :math:`z` is a vector of counts with
    :math:`\sum_k z_k \le L_0`. The model learns how many features each row needs.

    Rows of real numbers get a linear decoder by default: a row is a sum of at most one feature of
    each group. ``fit`` then searches for codes and refits the decoder in turns, so that codes use
    the budget, or meet a target ``rate`` or ``distortion``. Other likelihoods are trained by
    gradient steps on the discrete bound.

    Rows are arrays, scipy sparse matrices or arrays (made dense one batch at a time), pandas or
    polars frames, or torch tensors. They need no scaling: the encoder centres its inputs by the
    means of the training rows and, except for the ``"bernoulli"`` likelihood, scales them by their
    standard deviations.

    The defaults are the preset ``quick`` (:data:`sdlgm.config.PRESETS`), which also gives the value
    of every parameter that is ``None``. Another preset is expressed by its settings.

    Parameters
    ----------
    n_components
        Number K of features: the columns of the codes.
    budget
        Budget :math:`L_0`: the largest sum of a code.
    groups
        Number of groups G that split features and budget evenly (G divides both). ``None``: the
        budget, so that each slot has K / L0 features of its own and selects at most one of them;
        if the budget does not divide K, the largest G that divides both, with a warning.
    gates, joint_gates, prior, prior_gate, gate_temperature, feature_temperature
        Gates and prior of the code, see :class:`~sdlgm.config.ModelConfig`.
    prior_hidden, mixture_components, levels, level_hidden
        Structured priors and levels, see :class:`~sdlgm.config.ModelConfig`. With these, codes are
        not searched for and the training is that of ``objective="elbo"``.
    prefixes
        Numbers of groups, ascending, below the budget: the first so many groups of a code then
        serve as a code by themselves, see :meth:`prefix_codes`. ``None``: none.
    likelihood
        Distribution of a row given its code: ``"gaussian"`` (real numbers), ``"bernoulli"`` (see
        the notes), ``"poisson"`` (counts) or ``"categorical"`` (levels 0, 1, 2, ...).
    scaling
        Units of real numbers: ``"columns"``, each by its own deviation (tables), or ``"common"``,
        one deviation for all columns (embeddings, images, series).
    encoder_hidden, decoder_hidden, sparsity_hidden
        Widths of the hidden layers of the encoder, of the decoder (``None``: a linear decoder for
        real numbers with one slot per group, else the encoder's in reverse), and of the sparsity
        net, which sets the gates.
    shared_trunk, residual, activation, normalisation
        Other settings of the networks, see :class:`~sdlgm.config.ModelConfig`.
    epochs
        Passes over the rows in ``fit``. ``None``: as many as make 500 gradient steps.
    batch_size
        Rows in a batch. They are drawn by weight, each from its share of all rows, so that a batch
        may be larger than X.
    learning_rate, weight_decay
        Of Adam, with decoupled weight decay.
    schedule
        Course of the learning rate in ``fit``: ``"cosine"`` (it falls to 0 along a half cosine, the
        default) or ``"constant"``.
    objective
        ``"rate_distortion"`` (search and refit; needs a linear decoder), ``"elbo"`` (gradient steps
        on the discrete bound) or ``"paper"``. ``None``: ``"rate_distortion"`` where it is possible.
    rate, distortion
        Targets of ``"rate_distortion"``, at most one of them: mean bits of a code, or mean squared
        error as a share of the variance in units of ``scaling``. ``None``: use the full budget.
    turns
        Turns of search and refitting under ``"rate_distortion"``. ``None``: 40.
    estimator, draws, kl, temperature, temperature_decay, slot_cost
        The gradient of the discrete bound, see :class:`~sdlgm.config.TrainingConfig`.
    kl_warmup
        Share of the steps over which the weight of the KL rises from 0 to 1. ``None``: 0.4, or 0
        for ``objective="paper"``.
    gradient_clip
        Largest norm of the gradient; larger ones are scaled down to it. ``None``: no limit.
    code
        How ``transform`` chooses a code (:func:`~sdlgm.inference.choose_codes`): ``"search"`` (the
        best code that a search finds), ``"mode"`` (the most probable one) and ``"mean"`` (expected
        counts, rounded) depend on the row alone; ``"sample"`` (a sample) and ``"best"`` (the best
        of 16 samples by the decoder, at 16 times the cost) use a fixed seed, and also depend on the
        row's position in X. ``None``: ``"search"`` where it is fast, which is for linear decoders
        of real numbers, else ``"mode"``.
    max_active
        Largest number of features present in a code of ``transform``; the features with the highest
        probability of presence are kept. May be changed after ``fit``. ``None``: no limit besides
        the budget.
    sparse_output
        Whether ``transform`` returns a CSR array rather than a dense one.
    random_state
        Source of all randomness: an integer, a ``RandomState`` or ``None`` for a fresh seed. Two
        fits with the same integer are bit-identical (on one machine's CPU, with the same number of
        threads). No global state is used.
    accelerator
        Device to fit and to compute codes on: ``"auto"`` (the GPU if there is one, else the CPU),
        ``"cpu"``, ``"gpu"`` or ``"mps"`` (Apple; to fit alone). Arrays stay on the CPU, and so does
        ``model_``, so that it can be saved and pickled.
    progress
        Whether ``fit`` and ``transform`` show progress on standard error.

    Attributes
    ----------
    model_
        The fitted :class:`~sdlgm.models.SDLGM`.
    feature_usage_
        Share of the training rows (by weight) whose code from ``transform`` contains each feature,
        shape ``(K,)``. After ``partial_fit``: of the rows of its last call.
    history_
        A dictionary for every 100 steps, and one for each call of ``partial_fit``: means of the
        objective and its terms (nats per row) since the previous one. Before them, one for each
        turn of search and refitting (``"event": "turn"``): its error, bits and rows.
    n_iter_
        Number of gradient steps.
    seed_
        The integer that seeded the fit.
    n_features_in_, feature_names_in_
        Number of columns of X, and their names if X was a frame.

    Notes
    -----
    *Bits.* Under ``likelihood="bernoulli"``, values must lie in [0, 1]. A value between 0 and 1 is
    the probability of a bit: training samples new bits at each visit, ``score`` samples them
    once, and ``transform`` encodes the probabilities without sampling.

    *Weights.* A weight of 2 equals duplicating the row, and a weight of 0 leaving it out, as long
    as the number of steps is the same: rows are drawn by weight instead of weighting their losses,
    so that rows of little weight cost little. Rows are drawn in an order that depends on their
    content. This makes the equality exact (except for rounding in means and deviations), and the
    fit independent of the order of the rows.

    *Interruption.* Ctrl-C in ``fit`` leaves the estimator unfitted; in ``partial_fit`` it leaves
    the estimator as it was before the call.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris(as_frame=True).data
    >>> model = SDLGMTransformer(n_components=12, budget=4, random_state=0).fit(X)
    >>> codes = model.transform(X)
    >>> codes.shape, bool(codes.sum(1).max() <= 4)
    ((150, 12), True)
    >>> residual = X - model.inverse_transform(codes)
    >>> bool(residual.var().sum() < 0.5 * X.var().sum())
    True
    """

    def __init__(
        self,
        n_components: int = _QUICK["features"],
        budget: int = _QUICK["budget"],
        *,
        groups: int | None = None,
        gates: Literal["learned", "open"] | None = None,
        prefixes: tuple[int, ...] | None = None,
        joint_gates: bool | None = None,
        likelihood: LikelihoodName = _QUICK["likelihood"],
        scaling: Scaling | None = None,
        encoder_hidden: tuple[int, ...] = _QUICK["encoder_hidden"],
        decoder_hidden: tuple[int, ...] | None = None,
        sparsity_hidden: tuple[int, ...] = _QUICK["sparsity_hidden"],
        shared_trunk: bool | None = None,
        residual: bool | None = None,
        activation: Activation | None = None,
        normalisation: Literal["layer", "none"] | None = None,
        prior: PriorName | None = None,
        prior_hidden: tuple[int, ...] | None = None,
        mixture_components: int | None = None,
        levels: int = 1,
        level_hidden: tuple[int, ...] | None = None,
        prior_gate: float | None = None,
        gate_temperature: float | None = None,
        feature_temperature: float | None = None,
        epochs: int | None = None,
        batch_size: int = 100,
        learning_rate: float = _QUICK["learning_rate"],
        weight_decay: float | None = None,
        schedule: Literal["constant", "cosine"] | None = None,
        objective: ObjectiveName | None = None,
        rate: float | None = None,
        distortion: float | None = None,
        turns: int | None = None,
        estimator: str | None = None,
        draws: int | None = None,
        kl: Literal["exact", "paper"] | None = None,
        kl_warmup: float | None = None,
        temperature: Literal["learned", "annealed", "fixed"] | None = None,
        temperature_decay: float | None = None,
        slot_cost: float | None = None,
        gradient_clip: float | None = None,
        code: CodeMethod | None = None,
        max_active: int | None = None,
        sparse_output: bool = False,
        random_state: int | np.random.RandomState | None = None,
        accelerator: Accelerator = "auto",
        progress: bool = False,
    ) -> None:
        self.n_components = n_components
        self.budget = budget
        self.groups = groups
        self.gates = gates
        self.prefixes = prefixes
        self.joint_gates = joint_gates
        self.likelihood = likelihood
        self.scaling = scaling
        self.encoder_hidden = encoder_hidden
        self.decoder_hidden = decoder_hidden
        self.sparsity_hidden = sparsity_hidden
        self.shared_trunk = shared_trunk
        self.residual = residual
        self.activation = activation
        self.normalisation = normalisation
        self.prior = prior
        self.prior_hidden = prior_hidden
        self.mixture_components = mixture_components
        self.levels = levels
        self.level_hidden = level_hidden
        self.prior_gate = prior_gate
        self.gate_temperature = gate_temperature
        self.feature_temperature = feature_temperature
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.objective = objective
        self.rate = rate
        self.distortion = distortion
        self.turns = turns
        self.estimator = estimator
        self.draws = draws
        self.kl = kl
        self.kl_warmup = kl_warmup
        self.temperature = temperature
        self.temperature_decay = temperature_decay
        self.slot_cost = slot_cost
        self.gradient_clip = gradient_clip
        self.code = code
        self.max_active = max_active
        self.sparse_output = sparse_output
        self.random_state = random_state
        self.accelerator = accelerator
        self.progress = progress

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = self.likelihood != "gaussian"
        tags.transformer_tags.preserves_dtype = []
        return tags

    # --- fitting ------------------------------------------------------------------------------

    @neutral()
    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit a model of the rows.

        Parameters
        ----------
        X
            Rows ``(n, D)`` of finite numbers that suit the likelihood.
        y
            Ignored.
        sample_weight
            Weight of each row, ``(n,)``; only their ratios matter.

        Raises
        ------
        DataError
            If X or the weights are not as described.
        ConfigError
            If a parameter is out of range or does not fit another.
        TrainingError
            If the objective is not finite.
        """
        for name in ("model_", "_adam", "_limits"):
            self.__dict__.pop(name, None)  # an interrupted fit must not leave an old model
        seed = validate_seed(self.random_state)
        table = validate_rows(self, X, reset=True)
        weights = validate_weights(sample_weight, table.shape[0])
        config, training = self._configs(int(np.count_nonzero(weights)), seed)
        data = WeightedRows(self._make_rows(table, config.likelihood), weights)
        model, limits = new_model(config, data, seed)
        check_code(model, self.code, max_active=self.max_active)
        with progress_bar("fitting", training.iterations, self.progress) as update:
            history = fit_model(model, data, training, update)
        self._limits = limits
        self._keep(model, data, seed, history, training.iterations)
        possible = config.budget * int(np.count_nonzero(weights))
        used = int(np.count_nonzero(self.feature_usage_))
        warn_of_unused(
            used, config.features, possible,
            objective=training.objective, length="epochs", number="n_components",
        )  # fmt: skip
        return self

    @neutral()
    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Continue training with one pass over more rows, in batches of ``batch_size``.

        The first call defines the model: its shape, the columns, the means and deviations that
        scale inputs, and the levels of categorical rows. Its rows should therefore be typical of
        later ones: a :class:`~sdlgm.errors.SDLGMWarning` counts values that lie more than ten times
        the first rows' range outside of it, and names their columns. Later calls continue from
        there, or from ``fit``: under ``"rate_distortion"`` the first call takes all turns, and
        later ones take gradient steps at searched codes. Since the number of steps is unknown, the
        learning rate is constant.
        The weight of the KL rises over the first steps of all calls: a share ``kl_warmup`` of the
        steps that ``fit`` would take. Weights are relative
        within a call.

        Parameters
        ----------
        X, y, sample_weight
            See :meth:`fit`.

        Raises
        ------
        DataError, ConfigError, TrainingError
            See :meth:`fit`; the estimator is then unchanged.
        """
        first = not self.__sklearn_is_fitted__()
        seed = validate_seed(self.random_state) if first else self.seed_
        table = validate_rows(self, X, reset=first)
        weights = validate_weights(sample_weight, table.shape[0])
        config, training = self._configs(int(np.count_nonzero(weights)), seed)
        training = dataclasses.replace(training, schedule="constant")
        data = WeightedRows(self._make_rows(table, config.likelihood), weights)
        limits = getattr(self, "_limits", None)
        if first:
            model, limits = new_model(config, data, seed)
        else:
            model = copy.deepcopy(self.model_)
        model.check_rows(data.rows)
        if config.likelihood == "gaussian" and not first:
            warn_of_drift(self, data.rows.grey())
        check_code(model, self.code, max_active=self.max_active)
        steps = iterations_of(1, len(data.rows), training.batch_size)
        with progress_bar("fitting", steps, self.progress) as update:
            step, adam, line = update_model(
                model,
                data,
                training,
                0 if first else self.n_iter_,
                getattr(self, "_adam", None),
                update,
            )
        self._adam = adam
        if limits is not None:
            self._limits = limits
        return self._keep(model, data, seed, [*([] if first else self.history_), line], step)

    def _configs(self, rows: int, seed: int = 0) -> tuple[ModelConfig, TrainingConfig]:
        """Return the settings of a fit to a number of rows: the preset ``quick`` with changes."""
        for name in ("sparse_output", "progress"):
            check_flag(name, getattr(self, name))
        check_integer("n_components", self.n_components)
        check_integer("batch_size", self.batch_size)
        check_integer("epochs", self.epochs, optional=True)
        check_integer("max_active", self.max_active, low=0, optional=True)
        names = {field.name for kind in (ModelConfig, TrainingConfig) for field in fields(kind)}
        given = {name: plain(value) for name, value in self.get_params(deep=False).items()}
        changes = {name: given[name] for name in sorted(names & given.keys())}
        changes = {name: value for name, value in changes.items() if value is not None}
        if self.epochs is not None:
            changes["iterations"] = iterations_of(given["epochs"], rows, given["batch_size"])
        features, budget = given["n_components"], given["budget"]
        if self.groups is None and type(budget) is int and budget > 0 and features % budget:
            changes["groups"] = math.gcd(features, budget)
            warn(
                f"n_components = {features} is not a multiple of budget = {budget}, so the code "
                f"has {changes['groups']} groups instead of {budget}, which usually fits worse. "
                "Use a multiple, or set groups."
            )
        return preset("quick", features=given["n_components"], seed=seed, **changes)

    def _keep(
        self,
        model: SDLGM,
        data: WeightedRows,
        seed: int,
        history: list[dict[str, Any]],
        steps: int,
    ) -> Self:
        """Set the fitted attributes, once nothing can fail any more."""
        self.seed_ = seed
        weights = torch.from_numpy(data.weights).split(BLOCK)
        present = sum(
            weight @ (codes > 0).double()
            for weight, codes in zip(
                weights, self._codes(self._on_device(model), data.rows), strict=True
            )
        )
        self.feature_usage_ = (present / data.weights.sum()).numpy()
        self.history_, self.n_iter_ = history, steps
        self.model_ = model
        return self
