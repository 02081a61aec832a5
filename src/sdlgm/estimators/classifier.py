"""Predict sets of labels with a minimum and a maximum size, and a probability for each label."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Literal, Self, get_args

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from torch import Tensor, nn

from sdlgm.config import Activation, NetworkAccelerator
from sdlgm.environment import device_of, neutral
from sdlgm.errors import ConfigError, DataError, ModelFileError
from sdlgm.estimators.drift import check_range, training_range, warn_of_drift
from sdlgm.estimators.interruption import unfitted_unless_done
from sdlgm.estimators.label_network import (
    LabelNetwork,
    LabelTraining,
    MemberRows,
    input_statistics,
)
from sdlgm.estimators.network_training import TrainingSettings
from sdlgm.estimators.parameters import (
    check_choice,
    check_integer,
    check_number,
    check_widths,
    class_sample_weight,
    is_integer,
    is_real,
    label_weights,
    plain,
)
from sdlgm.estimators.saving import Saved, require_integer
from sdlgm.estimators.scaling import Inputs, InputScaling
from sdlgm.estimators.targets import check_targets, is_sets, read_labels
from sdlgm.estimators.thresholds import (
    ThresholdRule,
    choose_held_out,
    class_probabilities,
    count_probabilities,
    predict_sets,
    presence_probabilities,
)
from sdlgm.estimators.validation import (
    EstimatorNotFittedError,
    Table,
    validate_rows,
    validate_seed,
    validate_weights,
)
from sdlgm.models import LabelModelConfig, SupervisedSDLGM
from sdlgm.objectives.labels import LabelLikelihood
from sdlgm.progress import progress_bar
from sdlgm.random import generator

__all__ = ["SMALL_TABLES", "BaseLabelClassifier", "SDLGMClassifier"]

Variant = Literal["discriminative", "generative", "conditional"]

SMALL_TABLES: dict[str, Any] = {"inputs": "bins", "threshold": "smoothed", "input_dropout": 0.7}
"""Settings for a few hundred dense rows: ``SDLGMClassifier(**SMALL_TABLES)``.

They give the results of docs/results/table2.md, with ``epochs`` of 40 or 80 chosen by
cross-validation.
"""


class BaseLabelClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """The methods of all classifiers that predict sets of labels."""

    n_features_in_: int
    """Number D of features."""
    n_labels_: int
    """Number K of labels."""
    sparse_labels_: bool
    """Whether the training labels were sparse; predictions are sparse if they were."""
    classes_: NDArray[Any]
    """The labels: their names, or the numbers of their columns."""
    target_names_in_: NDArray[Any]
    """Names of the labels; only there if y was a frame, or sets of names."""
    min_labels_: int
    """Smallest number of labels of a predicted set."""

    def __sklearn_tags__(self) -> Tags:
        """Declare that y is a table of labels, and that X may be sparse."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        return tags

    @abstractmethod
    def predict(self, X: Any) -> Any:  # noqa: N803 (scikit-learn's name)
        """Predict labels: 0 or 1, ``(n, K)``, CSR if the training labels were sparse."""

    def predict_sets(self, X: Any) -> list[set[Any]]:  # noqa: N803
        """Predict the set of labels of each row, by their names (``classes_``)."""
        predicted = self.predict(X)
        names = self.classes_.tolist()
        if predicted.ndim == 1:
            return [{name} for name in predicted.tolist()]
        table = sp.csr_array(predicted)
        parts = np.split(table.indices, table.indptr[1:-1])
        return [{names[place] for place in part.tolist()} for part in parts]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Return the share of rows whose set of labels is exactly right (subset accuracy).

        If ``y`` of ``fit`` had names and this ``y`` is a frame, its columns are found by name, in
        any order.
        """
        predicted = sp.csr_array(self.predict(X))
        labels = self._read_labels(y, predicted.shape[0])
        if predicted.shape != labels.shape:
            raise DataError(
                f"Y has {labels.shape[1]} labels, but the classifier was fitted on "
                f"{self.n_labels_}."
            )
        right = np.asarray((predicted != labels).sum(1)).ravel() == 0
        return float(np.average(right, weights=validate_weights(sample_weight, len(right))))

    def _read_labels(self, y: Any, samples: int) -> sp.csr_array:
        """Return labels like those of ``fit`` as a table, columns in the same order."""
        names = getattr(self, "target_names_in_", None)
        return read_labels(y, samples, self.classes_ if is_sets(y) else names).table

    def _set_labels(self, labels: Any, given: Any, names: NDArray[Any] | None) -> None:
        """Set the fitted attributes of checked labels, and of y as it was given."""
        self.n_labels_ = labels.shape[1]
        self.sparse_labels_ = bool(sp.issparse(given))
        self.classes_ = np.arange(self.n_labels_) if names is None else names
        self.__dict__.pop("target_names_in_", None)
        if names is not None:
            self.target_names_in_ = names

    def _set_min_labels(self, min_labels: int | None, numbers: NDArray[np.int64]) -> None:
        """Set the fitted attribute: by default the fewest labels of a training row."""
        self.min_labels_ = int(numbers.min() if min_labels is None else min_labels)

    def _as_fitted(self, chosen: Any) -> Any:
        """Return a table in the format of the training labels: CSR or dense."""
        if self.sparse_labels_:
            return sp.csr_array(chosen)
        return chosen.toarray() if sp.issparse(chosen) else chosen

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_labels_"):
            name = type(self).__name__
            raise EstimatorNotFittedError(f"This {name} is not fitted yet: call fit(X, y) first.")


class SDLGMClassifier(Saved, BaseLabelClassifier):
    r"""Predict sets of labels with between ``min_labels`` and ``max_labels`` labels.

    The labels are a code (Xu et al. 2021, section III.C): each of :math:`L_0` slots is closed or
    holds a label, and a sample has the labels that at least one slot holds,

    .. math:: p_k = P(y_k = 1 \mid x) = 1 - (1 - \lambda(x)\, \pi_k(x))^{L_0}.

    The loss, in nats per sample, is the negative Bernoulli log-likelihood of the labels
    (:func:`~sdlgm.objectives.labels.label_nll`). Variants with a decoder add ``elbo_weight`` times
    the negative evidence lower bound of the inputs (eq. 6):

    - ``variant="discriminative"``: only the posterior network :math:`q(y \mid x)`.
    - ``variant="generative"``: the labels are the code; a decoder reconstructs x from labels
      sampled from :math:`q(y \mid x)` (eqs. 3, 11 - 14).
    - ``variant="conditional"``: the code has labels and ``latent_features`` latent features; the
      encoder is :math:`q(y, z \mid x)`, and the decoder reconstructs x from both.

    If y holds one class for each sample, shape ``(n,)``, the set has one label, and label
    probabilities are normalised to sum to 1; ``threshold``, ``min_labels`` and ``max_labels`` are
    ignored.

    All variants predict with the encoder. The classifier is an ensemble of ``members`` networks of
    the same shape that are fitted together; its probabilities are their mean. Each member holds out
    a fold of the rows, on which the threshold is chosen and training can be stopped, so that no
    second fit is needed.

    Parameters
    ----------
    variant
        See above.
    label_likelihood
        ``"presence"`` (the formula above) or ``"relaxed"``: that of relaxed samples
        (:func:`~sdlgm.objectives.labels.absence`), as in the paper; then the ELBO is the paper's as
        well, and its prior is fixed. Relaxed samples need ``budget x K`` numbers per sample.
    temperature
        Temperature of relaxed gates and features.
    budget
        The budget :math:`L_0` of the code. A label may take several slots, and too few slots cap
        presence probabilities: for 3 labels in 3 slots they are at most 0.70 each, in 12 slots
        0.99. ``None``: four times ``max_labels``.
    max_labels, min_labels
        Largest and smallest size of predicted sets. ``None``: the most and the fewest labels of a
        training sample, so that every set has a label only if every training sample has one.
    threshold
        Probability above which a label is predicted: a number, or a rule that chooses it on
        held-out rows: ``"micro"``, ``"macro"``, ``"per_label"`` or ``"smoothed"``, see
        :func:`~sdlgm.estimators.thresholds.choose_threshold`.
    class_weight
        Weight of each label in the likelihood: ``None``, ``"balanced"`` (by the inverse of its
        frequency), one number for each label, or a dictionary. Its keys are labels as in
        ``classes_``, or their places if labels are text; labels without a key weigh 1. If y holds
        one class for each sample: weight of the samples of each class.
    inputs, bins
        Scaling of the inputs: ``"standard"`` (z-scores; a sparse X is not centred), ``"quantile"``
        (normal quantiles of ranks, for heavy-tailed features), ``"bins"`` (``bins`` piecewise
        linear features for each feature, for few rows and nonlinear feature effects) or
        ``"none"``.
    likelihood
        Distribution of x given the code: ``"gaussian"`` (scaled inputs) or ``"bernoulli"`` (X of 0
        and 1).
    latent_features, latent_budget
        For ``"conditional"``: number of latent features, and slots added for them.
    elbo_weight
        Weight of the ELBO of the inputs (the sum over all D) relative to the label likelihood. The
        paper uses 1; with many inputs, a weight of 1 drowns the label loss.
    hidden, activation, normalisation
        Hidden layers of the encoder, which the decoder mirrors. ``normalisation`` is ``"layer"`` or
        ``"none"``.
    dropout, input_dropout, input_noise
        Share of hidden units and of inputs dropped in training, and standard deviation of the noise
        added to the scaled inputs.
    members, folds
        Number of networks; member ``m`` holds out fold ``m % folds`` of the rows. ``folds=0`` holds
        out nothing, and needs a number as ``threshold``.
    epochs, batch_size, learning_rate, weight_decay
        Settings of AdamW. The rate rises over the first 5 % of the steps, then falls to 0 along a
        half cosine.
    patience
        Stop after this many epochs without a better held-out likelihood, and keep the best weights.
    random_state
        Source of all randomness: an integer, a ``RandomState`` or ``None`` for a fresh seed. Two
        fits with the same integer are bit-identical (on one machine's CPU, with the same number of
        threads). No global state is used.
    accelerator
        Device to fit and predict on: ``"auto"`` (the GPU if there is one, else the CPU), ``"cpu"``
        or ``"gpu"``. Arrays stay on the CPU, and so does ``network_``.
    progress
        Whether to show a progress bar on standard error.

    Attributes
    ----------
    max_labels_
        Largest size of predicted sets.
    classes_
        Names of the labels: the classes, the columns of a frame y, or ``0 .. K - 1``.
    multilabel_
        Whether y was a table of labels rather than one class for each sample.
    seed_
        The integer that seeded the fit.
    n_iter_
        Number of epochs.
    threshold_
        A number, or one for each label; 0 if y holds one class for each sample.
    n_labels_, n_features_in_, feature_names_in_
        K and D; the features' names if X was a frame.
    history_
        Mean loss (nats) of each epoch, and of the held-out rows with ``patience``.
    network_
        The fitted networks.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> Y = (X > [0.0, 0.5, -0.5]).astype(int)
    >>> model = SDLGMClassifier(members=5, epochs=20, random_state=0).fit(X, Y)
    >>> sums = model.predict(X).sum(1)
    >>> bool(sums.min() >= model.min_labels_ == 0 and sums.max() <= model.max_labels_ == 3)
    True
    >>> model.score(X, Y) > 0.7
    True
    """

    def __init__(
        self,
        variant: Variant = "discriminative",
        *,
        label_likelihood: LabelLikelihood = "presence",
        temperature: float = 3.0,
        budget: int | None = None,
        max_labels: int | None = None,
        min_labels: int | None = None,
        threshold: float | ThresholdRule = "micro",
        class_weight: Literal["balanced"] | ArrayLike | None = None,
        inputs: InputScaling = "standard",
        bins: int = 4,
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
        latent_features: int = 20,
        latent_budget: int = 10,
        elbo_weight: float = 0.03,
        hidden: tuple[int, ...] = (128,),
        activation: Activation = "relu",
        normalisation: Literal["layer", "none"] = "none",
        dropout: float = 0.5,
        input_dropout: float = 0.3,
        input_noise: float = 0.0,
        members: int = 20,
        folds: int = 5,
        epochs: int = 60,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        patience: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        accelerator: NetworkAccelerator = "auto",
        progress: bool = False,
    ) -> None:
        self.variant = variant
        self.label_likelihood = label_likelihood
        self.temperature = temperature
        self.budget = budget
        self.max_labels = max_labels
        self.min_labels = min_labels
        self.threshold = threshold
        self.class_weight = class_weight
        self.inputs = inputs
        self.bins = bins
        self.likelihood = likelihood
        self.latent_features = latent_features
        self.latent_budget = latent_budget
        self.elbo_weight = elbo_weight
        self.hidden = hidden
        self.activation = activation
        self.normalisation = normalisation
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.input_noise = input_noise
        self.members = members
        self.folds = folds
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.random_state = random_state
        self.accelerator = accelerator
        self.progress = progress

    def __sklearn_tags__(self) -> Tags:
        """Declare that y may also hold one class for each sample."""
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.classifier_tags.multi_class = True
        return tags

    # --- fitting ------------------------------------------------------------------------------

    @neutral()
    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit the networks, and choose the threshold on the rows that they hold out.

        Parameters
        ----------
        X
            Rows ``(n, D)``, dense or sparse (made dense one batch at a time).
        y
            Labels ``(n, K)`` of 0 and 1, dense, sparse (made dense one batch at a time) or a
            frame; a list or set of names for each sample, such as ``[["a", "b"], [], ["b"]]``; or
            one class for each sample: numbers or strings ``(n,)``.
        sample_weight
            Weight of each row in the loss. Only their ratios matter; a weight of 0 equals leaving
            the row out.

        Raises
        ------
        DataError
            If X, y or the weights are not as described; the message names the first fault.
        ConfigError
            If a parameter is out of range or does not fit the data.
        TrainingError
            If the loss is not finite.
        KeyboardInterrupt
            After Ctrl-C, once the current step is complete; the estimator is then not fitted.
        """
        _check_parameters(self.get_params(deep=False))
        self.seed_ = validate_seed(self.random_state)
        rows = validate_rows(self, X, reset=True)
        weight = validate_weights(sample_weight, rows.shape[0])
        targets = check_targets(y, rows.shape[0])
        self.multilabel_ = targets.multilabel
        kept = weight > 0
        # No more than there are: tables of numbers of labels have this many columns.
        most = targets.most_labels(self.max_labels, kept)
        self.max_labels_ = min(most, targets.table.shape[1])
        labels = targets.table
        if not kept.all():
            rows, labels, weight = rows[kept], labels[kept], weight[kept]
        self._set_labels(labels, y, targets.names)
        self.classes_ = targets.classes
        fewest = self.min_labels if self.multilabel_ else 1
        self._set_min_labels(fewest, targets.numbers(kept))
        if not self.min_labels_ <= min(self.max_labels_, self.n_labels_):
            raise ConfigError(
                f"min_labels = {self.min_labels} exceeds the most labels a sample may have: "
                f"max_labels = {self.max_labels_} of {self.n_labels_} labels."
            )
        weight_of_labels = None
        if self.multilabel_:
            weight_of_labels = label_weights(self.class_weight, labels, self.classes_)
        elif self.class_weight is not None:
            weight = weight * class_sample_weight(
                self.class_weight, self.classes_, self.classes_[labels.indices]
            )
        members = self._make_members(rows.shape[0])
        training = LabelTraining(
            rows,
            labels,
            torch.from_numpy(weight / weight.mean()).float(),
            weight_of_labels,
            members,
            TrainingSettings(
                self.epochs, members.batch_size, self.learning_rate, self.weight_decay,
                self.patience, self.seed_,
            ),
            self.elbo_weight,
        )  # fmt: skip
        self.network_ = self._make_network(rows, labels)
        device = device_of(self.accelerator)
        self._limits = training_range(rows)
        with (
            unfitted_unless_done(self),
            progress_bar("fitting", self.epochs, self.progress) as update,
        ):
            self.history_ = self.network_.fit(
                training, lambda epoch, loss: update(epoch, {"loss": loss}), device
            )
        self.n_iter_ = len(self.history_)
        if not self.multilabel_:
            self.threshold_: float | NDArray[np.float64] = 0.0
        elif isinstance(self.threshold, str):
            self.threshold_ = choose_held_out(
                self.network_.on(device),
                training,
                self.threshold,
                self.min_labels_,
                self.max_labels_,
            )
        else:
            self.threshold_ = float(self.threshold)
        return self

    def _make_members(self, rows: int) -> MemberRows:
        chosen = (self.multilabel_ and isinstance(self.threshold, str)) or (
            self.patience is not None
        )
        folds = self.folds if chosen else 0
        if folds > rows:
            raise ConfigError(f"folds = {folds} for {rows} rows: use fewer folds, or more rows.")
        return MemberRows(rows, int(self.members), int(folds), int(self.batch_size), self.seed_)

    def _make_network(self, rows: Table, labels: sp.csr_array) -> LabelNetwork:
        scaling = Inputs(
            self.inputs, rows, int(self.bins), getattr(self, "feature_names_in_", None)
        )
        conditional = self.variant == "conditional"
        budget = self.budget or 4 * self.max_labels_
        config = LabelModelConfig(
            inputs=scaling.width,
            labels=self.n_labels_,
            budget=int(budget + (self.latent_budget if conditional else 0)),
            latent_features=int(self.latent_features) if conditional else 0,
            decoder=self.variant != "discriminative",
            likelihood=self.likelihood,
            members=int(self.members),
            hidden=plain(tuple(self.hidden)),
            activation=self.activation,
            normalisation=self.normalisation,
            dropout=self.dropout,
            input_dropout=self.input_dropout,
            input_noise=self.input_noise,
            learned_prior=self.label_likelihood == "presence",
        )
        presence = np.bincount(labels.indices, minlength=self.n_labels_) / labels.shape[0]
        model = SupervisedSDLGM(
            config,
            input_statistics(rows, config),
            torch.from_numpy(presence.astype(np.float32)),
            generator(self.seed_, "initial weights"),
        )
        return LabelNetwork(model, scaling, self.label_likelihood, self.temperature)

    # --- predicting ---------------------------------------------------------------------------

    @neutral()
    def predict(self, X: Any) -> NDArray[Any] | sp.csr_array:  # noqa: N803
        """Predict sets of labels, 0 and 1, shape ``(n, K)``: CSR if fitted on sparse labels.

        If y held one class for each sample: classes, shape ``(n,)``.
        """
        parts = [
            predict_sets(proba, self.threshold_, self.min_labels_, self.max_labels_)
            for proba in self._proba_blocks(X)
        ]
        table = sp.csr_array(sp.vstack(parts))
        return self._as_fitted(table) if self.multilabel_ else self.classes_[table.indices]

    @neutral()
    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the probability of each label, one array of shape ``(n, K)``.

        If y held one class for each sample, rows sum to 1.
        """
        return np.concatenate([proba.numpy() for proba in self._proba_blocks(X)])

    @neutral()
    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the log-odds of :meth:`predict_proba`, clipped to probabilities from 1e-12.

        If y held one of two classes for each sample: those of the second, shape ``(n,)``.
        """
        proba = np.clip(self.predict_proba(X), 1e-12, 1 - 1e-12)
        odds = np.log(proba) - np.log1p(-proba)
        return odds[:, 1] if not self.multilabel_ and self.n_labels_ == 2 else odds

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:  # noqa: N803
        """Return the share of rows whose set of labels is exactly right (subset accuracy)."""
        self._check_fitted()
        if self.multilabel_:
            return super().score(X, y, sample_weight)
        from sklearn.metrics import accuracy_score

        return float(accuracy_score(y, self.predict(X), sample_weight=sample_weight))

    @neutral()
    def predict_count_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the distribution of the number of labels, ``0..max_labels_``.

        It is the Poisson-binomial of each member's probabilities, truncated to ``min_labels`` and
        ``max_labels_`` and averaged over the members.
        """
        self._check_fitted()
        low, high = self.min_labels_, min(self.max_labels_, self.n_labels_)
        parts = [count_probabilities(absent, low, high).mean(0) for _, absent in self._absences(X)]
        return np.pad(torch.cat(parts).numpy(), ((0, 0), (0, self.max_labels_ - high)))

    @neutral()
    def predict_counts(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Predict the most probable number of labels, shape ``(n,)``."""
        return self.predict_count_proba(X).argmax(1)

    @neutral()
    def top_k(self, X: Any, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:  # noqa: N803
        """Return the k most probable labels, best first, and their probabilities: ``(n, k)`` each.

        No array of shape ``(n, K)`` is created.
        """
        self._check_fitted()
        if not is_integer(k) or not 1 <= k <= self.n_labels_:
            raise ConfigError(f"k must be an integer from 1 to {self.n_labels_}, got {k!r}.")
        found = [proba.topk(int(k)) for proba in self._proba_blocks(X)]
        return (
            torch.cat([top.indices for top in found]).numpy(),
            torch.cat([top.values for top in found]).numpy(),
        )

    def _absences(self, X: Any) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: N803
        self._check_fitted()
        rows = validate_rows(self, X, reset=False)
        warn_of_drift(self, rows)
        return self.network_.on(device_of(self.accelerator)).absences(rows)

    def _proba_blocks(self, X: Any) -> Iterator[Tensor]:  # noqa: N803
        """Yield label probabilities ``(b, K)``, block by block."""
        for _, absent in self._absences(X):
            if self.multilabel_:
                yield presence_probabilities(absent)
            else:
                yield class_probabilities(absent)

    # --- saving -------------------------------------------------------------------------------

    def _describe_network(self) -> tuple[dict[str, Any], nn.Module]:
        return self.network_.describe(), self.network_.model

    def _check_fitted_values(self, where: str) -> None:
        super()._check_fitted_values(where)
        check_range(self, self.n_features_in_, where)
        require_integer(self, "n_labels_", where, low=1)
        require_integer(self, "max_labels_", where)
        self.max_labels_ = min(self.max_labels_, self.n_labels_)
        if not hasattr(self, "min_labels_"):  # in files of 0.1, whose parameter was never None
            self.min_labels_ = int(self.min_labels or 0) if self.multilabel_ else 1
        require_integer(self, "min_labels_", where)
        threshold, classes = np.asarray(self.threshold_), np.asarray(self.classes_)
        single = not isinstance(self.multilabel_, bool) or not isinstance(self.sparse_labels_, bool)
        if (
            single
            or threshold.dtype.kind not in "fiu"
            or threshold.shape not in ((), (self.n_labels_,))
            or np.isnan(threshold).any()
            or classes.shape != (self.n_labels_,)
            or self.min_labels_ > self.n_labels_
        ):
            raise ModelFileError(
                f"{where} is damaged: threshold_, classes_ or min_labels do not fit "
                f"{self.n_labels_} labels."
            )

    def _restore_network(self, values: dict[str, Any]) -> nn.Module:
        self.network_ = LabelNetwork.restore(values, self.n_features_in_)
        return self.network_.model


_CHOICES: dict[str, tuple[str, ...]] = {
    "variant": get_args(Variant),
    "label_likelihood": get_args(LabelLikelihood),
    "inputs": get_args(InputScaling),
    "likelihood": ("gaussian", "bernoulli"),
    "activation": get_args(Activation),
    "normalisation": ("layer", "none"),
    "accelerator": get_args(NetworkAccelerator),
}
_NUMBERS = {
    "dropout": "a share",
    "input_dropout": "a share",
    "input_noise": "0 or more",
    "elbo_weight": "0 or more",
    "weight_decay": "0 or more",
    "learning_rate": "positive",
    "temperature": "positive",
}


def _check_parameters(values: dict[str, Any]) -> None:
    """Raise :class:`ConfigError` for the first parameter that is out of range."""
    for name, choices in _CHOICES.items():
        check_choice(name, values[name], choices)
    for name in ("bins", "members", "epochs", "batch_size"):
        check_integer(name, values[name])
    for name in ("budget", "max_labels", "patience"):
        check_integer(name, values[name], optional=True)
    check_integer("min_labels", values["min_labels"], low=0, optional=True)
    for name in ("latent_features", "latent_budget", "folds"):
        check_integer(name, values[name], low=0)
    check_widths("hidden", values["hidden"])
    for name, wanted in _NUMBERS.items():
        check_number(name, values[name], wanted)
    if values["variant"] == "conditional" and not values["latent_features"]:
        raise ConfigError("variant='conditional' needs latent_features of 1 or more.")
    _check_threshold(values["threshold"])
    _check_folds(values["folds"], values["threshold"], values["patience"])


def _check_threshold(threshold: Any) -> None:
    if isinstance(threshold, str):
        rules = get_args(ThresholdRule)
        if threshold not in rules:
            raise ConfigError(
                f"threshold must be a number or one of {', '.join(map(repr, rules))}, got "
                f"{threshold!r}."
            )
    elif not is_real(threshold) or not 0 <= threshold <= 1:
        raise ConfigError(f"threshold must lie from 0 to 1 or name a rule, got {threshold!r}.")


def _check_folds(folds: int, threshold: Any, patience: int | None) -> None:
    if folds == 1:
        raise ConfigError("folds must be 0 (no rows are held out) or at least 2, got 1.")
    if folds:
        return
    if isinstance(threshold, str):
        raise ConfigError(f"threshold={threshold!r} is chosen on held-out rows: set folds=5.")
    if patience is not None:
        raise ConfigError("patience follows the loss on held-out rows: set folds=5.")
