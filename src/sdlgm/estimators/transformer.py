"""Sparse counts as features: the unsupervised model as a scikit-learn transformer."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from torch import Tensor

from sdlgm.config import CodeMethod, LikelihoodName, ModelConfig, TrainingConfig, from_dict
from sdlgm.data import Samples
from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators.model_folder import SavedModelFolder
from sdlgm.estimators.validation import (
    EstimatorNotFittedError,
    validate_rows,
    validate_seed,
    validate_weights,
)
from sdlgm.estimators.weighted_rows import (
    BLOCK,
    WeightedRows,
    elbo,
    fit_model,
    in_blocks,
    make_rows,
    new_model,
    update_model,
)
from sdlgm.inference.codes import check_code, choose_codes
from sdlgm.models import SDLGM
from sdlgm.progress import progress_bar
from sdlgm.random import generator

__all__ = ["SDLGMTransformer"]


class SDLGMTransformer(
    SavedModelFolder,
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn has no types
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    r"""Turn rows into sparse counts: at most ``budget`` of ``features`` features a row.

    Learns a :class:`~sdlgm.models.SDLGM` (Xu et al. 2021) by its discrete bound: an encoder
    :math:`q(z \mid x)` and a decoder :math:`p(x \mid z)` whose code :math:`z` is a vector of counts
    with :math:`\sum_k z_k \le L_0`. How many features a row takes is learned, row by row.

    Rows are arrays, scipy sparse matrices or arrays (made dense a batch at a time), pandas or
    polars frames, or torch tensors. They need no scaling: the encoder's input is centred, and under
    all likelihoods but ``"bernoulli"`` scaled, by the training rows' means and deviations.

    Parameters
    ----------
    features
        Number K of features: columns of the codes.
    budget
        Hard budget :math:`L_0`: the largest sum of a code.
    groups
        Groups G that split features and budget evenly (G divides both). ``None``: the budget, so
        that each slot has K / L0 features of its own, of which it takes one or none.
    likelihood
        What a row is, given its code: ``"gaussian"`` (real numbers), ``"bernoulli"`` (see the
        notes), ``"poisson"`` (counts) or ``"categorical"`` (levels 0, 1, 2, ...).
    encoder_hidden, sparsity_hidden
        Widths of the hidden layers of the encoder, which the decoder mirrors, and of the network
        that opens slots.
    iterations
        Number of gradient steps of ``fit``.
    batch_size
        Rows a step. They are drawn by weight, each from its share of all rows, so that a batch may
        be larger than X.
    learning_rate
        Rate of Adam; in ``fit`` it falls to zero along a half cosine.
    kl_warmup
        Share of the iterations over which the weight of the KL rises from 0 to 1.
    gradient_clip
        Largest norm of the gradient; larger ones are scaled down to it. ``None``: no limit.
    code
        How ``transform`` chooses a code from the posterior (:func:`~sdlgm.inference.choose_codes`):
        ``"mode"`` (the most probable) and ``"mean"`` (expected counts, rounded) depend on the row
        alone; ``"sample"`` (a draw) and ``"best"`` (the best of 16 by the decoder, 16 times the
        work) also on the row's place in X, by a fixed seed.
    max_active
        Largest number of features present in a code of ``transform``: those that are most probably
        present stay. May be changed after ``fit``. ``None``: the budget alone.
    sparse_output
        Whether ``transform`` returns a CSR array, or a dense one.
    random_state
        Source of all randomness: an integer, a ``RandomState`` or ``None``. Two fits with one
        integer are equal in every bit (on one machine's CPU, with as many threads). No global
        state is read or changed.
    accelerator
        Device to train on (Lightning Fabric's names); codes are computed on the CPU.
    progress
        Whether to show a bar on standard error.

    Attributes
    ----------
    model_
        The trained :class:`~sdlgm.models.SDLGM`.
    feature_usage_
        Share of the training rows (by weight) in whose code, as chosen by ``transform``, each
        feature is present, shape ``(K,)``. After ``partial_fit``: of the rows of its last call.
    history_
        A dictionary each 100 steps, and one a call of ``partial_fit``: means of the objective and
        its terms (nats a row) since the one before.
    n_iter_
        Number of gradient steps taken.
    seed_
        The integer that came of ``random_state``.
    n_features_in_, feature_names_in_
        Number and, if they have any, names of the columns of X.

    Notes
    -----
    *Bits.* Under ``likelihood="bernoulli"`` values must lie in [0, 1]. A value between is the
    probability of a bit: training draws bits anew at each visit, ``score`` draws them once, and
    ``transform`` reads the probabilities themselves, so that it draws nothing.

    *Weights.* A row of weight 2 is the same as two rows, and one of weight 0 as none: rows are
    drawn by weight rather than their losses multiplied, so that no work is spent on rows of little
    weight. The rows are drawn in an order of their content, which makes this true bit by bit (but
    for rounding in means and deviations), and the fit the same in whatever order the rows come.

    *Interruption.* Ctrl-C in ``fit`` leaves the estimator unfitted; in ``partial_fit`` it leaves it
    as it was before the call.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris(as_frame=True).data
    >>> model = SDLGMTransformer(features=12, budget=4, random_state=0).fit(X)
    >>> codes = model.transform(X)
    >>> codes.shape, bool(codes.sum(1).max() <= 4)
    ((150, 12), True)
    >>> residual = X - model.inverse_transform(codes)
    >>> bool(residual.var().sum() < 0.5 * X.var().sum())
    True
    """

    def __init__(
        self,
        features: int = 64,
        budget: int = 8,
        *,
        groups: int | None = None,
        likelihood: LikelihoodName = "gaussian",
        encoder_hidden: tuple[int, ...] = (128, 64),
        sparsity_hidden: tuple[int, ...] = (64,),
        iterations: int = 500,
        batch_size: int = 100,
        learning_rate: float = 3e-3,
        kl_warmup: float = 0.4,
        gradient_clip: float | None = None,
        code: CodeMethod = "mode",
        max_active: int | None = None,
        sparse_output: bool = False,
        random_state: int | np.random.RandomState | None = None,
        accelerator: Literal["cpu", "gpu", "mps", "auto"] = "cpu",
        progress: bool = False,
    ) -> None:
        self.features = features
        self.budget = budget
        self.groups = groups
        self.likelihood = likelihood
        self.encoder_hidden = encoder_hidden
        self.sparsity_hidden = sparsity_hidden
        self.iterations = iterations
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.kl_warmup = kl_warmup
        self.gradient_clip = gradient_clip
        self.code = code
        self.max_active = max_active
        self.sparse_output = sparse_output
        self.random_state = random_state
        self.accelerator = accelerator
        self.progress = progress

    # --- fitting ------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Learn a model of the rows.

        Parameters
        ----------
        X
            Rows ``(n, D)`` of finite numbers that suit the likelihood.
        y
            Not used.
        sample_weight
            Weight of each row, ``(n,)``; only their ratios count.

        Raises
        ------
        DataError
            If X or the weights are not as said.
        ConfigError
            If a parameter is out of range or does not fit another.
        TrainingError
            If the objective is not finite.
        """
        for name in ("model_", "_adam"):
            self.__dict__.pop(name, None)  # an interrupted fit must not leave an old model
        seed = validate_seed(self.random_state)
        shape, training = self._model_config(), self._training_config(seed)
        data = self._weighted(X, sample_weight, reset=True)
        model = new_model(shape, data, seed)
        check_code(model, self.code, max_active=self.max_active)
        with progress_bar("fitting", self.iterations, self.progress) as update:
            history = fit_model(model, data, training, update)
        return self._keep(model, data, seed, history, training.iterations)

    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Go on learning with more rows: one pass over them, in batches of ``batch_size``.

        The first call defines the model: its shape, the columns, and the means and deviations that
        inputs are centred and scaled by (and the levels of categorical rows), so that its rows
        should be like those to come. Later calls go on from there, or from ``fit``. As no end is
        known, the learning rate stays constant; the weight of the KL rises over the first
        ``kl_warmup * iterations`` steps of all calls. Weights count within a call.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Raises
        ------
        DataError, ConfigError, TrainingError
            As :meth:`fit`; the estimator is then as it was before.
        """
        first = not self.__sklearn_is_fitted__()
        seed = validate_seed(self.random_state) if first else self.seed_
        training = dataclasses.replace(self._training_config(seed), schedule="constant")
        shape = self._model_config() if first else self.model_.config
        data = self._weighted(X, sample_weight, reset=first)
        model = new_model(shape, data, seed) if first else copy.deepcopy(self.model_)
        model.check_rows(data.rows)
        check_code(model, self.code, max_active=self.max_active)
        steps = -(-len(data.rows) // training.batch_size)
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
        return self._keep(model, data, seed, [*([] if first else self.history_), line], step)

    # --- codes --------------------------------------------------------------------------------

    def transform(self, X: Any) -> NDArray[np.int32] | sp.csr_array:  # noqa: N803
        """Return the code of each row: counts ``(n, K)``, int32, dense or CSR.

        Raises
        ------
        DataError
            If X is not like the training rows.
        """
        self._check_fitted()
        return self._table(self._codes(self.model_, self._rows(X)))

    def inverse_transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        r"""Return the mean of :math:`p(x \mid z)` for each code, shape ``(n, D)``.

        Parameters
        ----------
        X
            Codes ``(n, K)``, dense, sparse or a frame. Averages of codes, such as the centres of
            clusters, are decoded too.

        Raises
        ------
        DataError
            If they are no table of finite numbers with a column a feature.
        """
        self._check_fitted()
        try:
            codes = check_array(X, accept_sparse="csr", dtype=np.float32)
        except ValueError as error:
            raise DataError(f"The codes are no table of numbers: {error}") from error
        features = self.model_.config.features
        if codes.shape[1] != features:
            raise DataError(f"The codes have {codes.shape[1]} columns, but the model {features}.")
        with torch.no_grad():
            return torch.cat(
                [self.model_.data_distribution(z).mean for z in in_blocks(codes)]
            ).numpy()

    def sample(self, n_samples: int = 1, random_state: Any = None) -> NDArray[np.float32]:
        r"""Draw rows from the model: codes from the prior, and :math:`x \sim p(x \mid z)`.

        Parameters
        ----------
        n_samples
            Number of rows.
        random_state
            Source of the draws, as of the estimator. ``None``: that of ``fit``, so that each call
            returns the same rows.

        Returns
        -------
        ndarray
            Shape ``(n_samples, D)``; under ``"bernoulli"`` bits.
        """
        self._check_fitted()
        if isinstance(n_samples, bool) or not isinstance(n_samples, int | np.integer):
            raise ConfigError(f"n_samples must be a positive integer, got {n_samples!r}.")
        if n_samples < 1:
            raise ConfigError(f"n_samples must be a positive integer, got {n_samples!r}.")
        seed = self.seed_ if random_state is None else validate_seed(random_state)
        source = generator(seed, "samples")
        sizes = (min(BLOCK, n_samples - start) for start in range(0, n_samples, BLOCK))
        return torch.cat([self.model_.sample(size, source)[1] for size in sizes]).numpy()

    def score(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> float:  # noqa: N803
        """Return the evidence lower bound, nats a row: higher is better.

        Minus the ``negative_elbo`` of :func:`sdlgm.evaluate`: one hard code a row, drawn
        from the posterior with a fixed seed (whatever ``code`` and ``max_active`` are), and the
        exact KL. Scores of one likelihood on the same rows can be compared.

        Parameters
        ----------
        X
            Rows like those of ``fit``.
        y
            Not used.
        sample_weight
            Weight of each row in the mean.
        """
        self._check_fitted()
        rows = self._rows(X)
        weights = validate_weights(sample_weight, len(rows))
        return float(np.average(elbo(self.model_, rows, self.seed_), weights=weights))

    # --- grammar ------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = self.likelihood != "gaussian"
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.model_.config.features

    def _model_config(self) -> ModelConfig:
        return from_dict(ModelConfig, self._settings(ModelConfig))

    def _training_config(self, seed: int) -> TrainingConfig:
        return from_dict(TrainingConfig, {**self._settings(TrainingConfig), "seed": seed})

    def _settings(self, config: type) -> dict[str, Any]:
        """Return those parameters that are fields of a configuration; a search may set numpy's."""
        names = {field.name for field in dataclasses.fields(config)} & self.get_params().keys()
        given = {name: getattr(self, name) for name in sorted(names)}
        return {n: v.item() if isinstance(v, np.generic) else v for n, v in given.items()}

    def _weighted(self, X: Any, sample_weight: Any, *, reset: bool) -> WeightedRows:  # noqa: N803
        rows = make_rows(validate_rows(self, X, reset=reset), self.likelihood)
        return WeightedRows(rows, validate_weights(sample_weight, len(rows)))

    def _rows(self, X: Any) -> Samples:  # noqa: N803
        table = validate_rows(self, X, reset=False)
        rows = make_rows(table, self.model_.config.likelihood)
        self.model_.check_rows(rows)
        return rows

    def _codes(self, model: SDLGM, rows: Samples) -> Iterator[Tensor]:
        draws = self.code in ("sample", "best")
        noise = generator(self.seed_, "evaluation codes") if draws else None
        for x in rows.grey().split(BLOCK):
            yield choose_codes(
                model, x, self.code, generator=noise, max_active=self.max_active
            ).int()

    def _table(self, blocks: Iterator[Tensor]) -> NDArray[np.int32] | sp.csr_array:
        if self.sparse_output:
            return sp.vstack([sp.csr_array(codes.numpy()) for codes in blocks], format="csr")
        return torch.cat(list(blocks)).numpy()

    def _keep(
        self,
        model: SDLGM,
        data: WeightedRows,
        seed: int,
        history: list[dict[str, Any]],
        steps: int,
    ) -> Self:
        """Set the fitted attributes, all at the end."""
        self.seed_ = seed
        weights = torch.from_numpy(data.weights).split(BLOCK)
        present = sum(
            weight @ (codes > 0).double()
            for weight, codes in zip(weights, self._codes(model, data.rows), strict=True)
        )
        self.feature_usage_ = (present / data.weights.sum()).numpy()
        self.history_, self.n_iter_ = history, steps
        self.model_ = model
        return self

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            name = type(self).__name__
            raise EstimatorNotFittedError(f"This {name} is not fitted yet: call fit(X) first.")
