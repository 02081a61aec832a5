"""Predict sets of labels with a minimum and a maximum size, and a probability for each label."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal, Self, get_args

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags
from torch import Tensor, nn

from sdlgm.config import Activation, NetworkAccelerator
from sdlgm.environment import device_of, neutral
from sdlgm.errors import ConfigError, ModelFileError, warn
from sdlgm.estimators.drift import check_range, training_range, warn_of_drift
from sdlgm.estimators.entry_weights import entry_weights, split_weights
from sdlgm.estimators.frames import shown, warn_of_other_order
from sdlgm.estimators.interruption import unchanged_unless_done, unfitted_unless_done
from sdlgm.estimators.label_decisions import (
    Decision,
    Threshold,
    holds_out,
    is_split,
    refuse_guarantee_of_classes,
)
from sdlgm.estimators.label_network import (
    LabelNetwork,
    LabelTraining,
    MemberRows,
    input_statistics,
)
from sdlgm.estimators.label_parameters import Effort, Variant, check_parameters, chosen_effort
from sdlgm.estimators.mixed_columns import Mixed, MixedColumns, MixedTable, read_mixed
from sdlgm.estimators.network_training import TrainingSettings
from sdlgm.estimators.parameters import (
    class_sample_weight,
    label_weights,
    plain,
    positive_weights,
)
from sdlgm.estimators.saving import Saved, require_integer
from sdlgm.estimators.scaling import (
    Inputs,
    InputScaling,
    chosen_dropout,
    chosen_inputs,
    mostly_zero,
)
from sdlgm.estimators.set_prediction import BudgetedPrediction
from sdlgm.estimators.targets import Targets, check_targets, targets_of, with_unknown
from sdlgm.estimators.validation import (
    Table,
    validate_rows,
    validate_seed,
)
from sdlgm.models import LabelModelConfig, SupervisedSDLGM
from sdlgm.objectives.labels import LabelLikelihood
from sdlgm.progress import announced_duration, progress_bar
from sdlgm.random import generator

__all__ = ["SMALL_TABLES", "SDLGMClassifier"]

SMALL_TABLES: dict[str, Any] = {"inputs": "bins", "threshold": "smoothed", "input_dropout": 0.7}
"""Settings for a few hundred dense rows: ``SDLGMClassifier(**SMALL_TABLES)``.

With ``calibrated=False`` and ``members=20`` they give the results of docs/results/table2.md, with
``epochs`` of 40 or 80 chosen by cross-validation.
"""


class SDLGMClassifier(Saved, BudgetedPrediction):
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
        How probabilities become sets:

        - a number: labels of a higher probability are predicted;
        - ``"micro"``, ``"macro"``, ``"per_label"`` or ``"smoothed"``: thresholds with the best F1
          on held-out rows (:func:`~sdlgm.estimators.thresholds.choose_threshold`);
        - a guarantee, such as ``RecallAtLeast(0.9)``: the threshold that keeps a promise
          (:mod:`~sdlgm.estimators.guarantees`). By default all members then leave out the same
          fold, so that the promise holds exactly;
        - ``"counts"``: the most probable labels, in their most probable number
          (:meth:`predict_counts`); ``"f1"``: in the number with the highest expected F1
          (:func:`~sdlgm.estimators.likely_sets.expected_f1`).
    class_weight
        Weight of each label in the likelihood: ``None``, ``"balanced"`` (by the inverse of its
        frequency), one number for each label, or a dictionary (or column of pandas). Its keys are
        labels as in ``classes_``, or their places if labels are text; labels without a key weigh
        1. If y holds
        one class for each sample: weight of the samples of each class.
    positive_weight
        Factor of the likelihood of labels that are present, against missing them: a number, one
        for each label, or a dictionary as of ``class_weight``. Probabilities then are too high,
        except as far as they are corrected (``calibrated``).
    mixed
        Whether X may hold categories (text, types of categories) and missing values
        (:class:`~sdlgm.estimators.mixed_columns.MixedColumns`): ``"auto"``, if it is a frame that
        does, which ``fit`` says in a warning; ``True``, any table, without the warning; or
        ``False``, which refuses such a table.
    inputs, bins
        Scaling of the inputs: ``"standard"`` (z-scores; a sparse X is not centred), ``"quantile"``
        (normal quantiles of ranks, for heavy-tailed features), ``"bins"`` (``bins`` piecewise
        linear features for each feature, for nonlinear feature effects), ``"common"`` (one scale
        for all columns, for words of texts and other sparse rows), ``"none"``, or ``"auto"``:
        ``"common"`` for a sparse X, and for a dense one of at most a tenth of values that are not
        0 (``"standard"`` if a column is 100 times larger than most); else ``"bins"``
        (``"quantile"`` for 1,000 columns or more), or ``"standard"`` if most columns have two
        values.
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
        added to the scaled inputs. ``input_dropout=None``: with ``inputs="auto"`` 0 for
        ``"common"`` and 0.5 for ``"bins"``, else 0.3.
    calibrated
        Whether to correct probabilities by an offset and a slope of the members' log-odds, learned
        on the rows that members leave out, if they leave out any for the threshold
        (:mod:`~sdlgm.estimators.member_recalibration`). Rows that a guarantee has for itself
        (``held_out="split"``) are not used for it, nor are those of one class for each sample.
    members, folds
        Number of networks; member ``m`` holds out fold ``m % folds`` of the rows. ``folds=0`` holds
        out nothing, and needs a ``threshold`` that is not chosen on held-out rows.
    epochs, batch_size, learning_rate, weight_decay
        Settings of AdamW; by default 60 epochs at a rate of 3e-3, and 30 at 1e-2 for rows with at
        most a tenth of non-zeros, where the weights of the first layer share one mean square a unit
        (:mod:`~sdlgm.estimators.unit_adam`). The rate rises over the first 5 % of the steps, then
        falls to 0 along a half cosine.
    l2
        L2 penalty of each network: l2 / 2 times the sum of its squared parameters, which Adam then
        minimises with the loss, instead of the weight decay. By default 0, and 2e-3 for rows with
        at most a tenth of non-zeros; their first layer keeps the weight decay.
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
        Whether to show a progress bar on standard error. Without one there is a line about the time
        if ``fit`` will take minutes (none inside :func:`~sdlgm.progress.silenced`).

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
    inputs_, input_dropout_
        The scaling of the inputs and their dropout, chosen or given.
    decision_
        ``"threshold"``, ``"counts"`` or ``"f1"``: how probabilities become sets.
    threshold_
        A number, or one for each label; 0 where there is none.
    n_labels_, n_features_in_, feature_names_in_
        K and D; the features' names if X was a frame.
    columns_
        How mixed columns become numbers; ``None`` if X held numbers.
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

    _limits: NDArray[np.float64]
    """The range of the training rows."""

    def __init__(
        self,
        variant: Variant = "discriminative",
        *,
        label_likelihood: LabelLikelihood = "presence",
        temperature: float = 3.0,
        budget: int | None = None,
        max_labels: int | None = None,
        min_labels: int | None = None,
        threshold: Threshold = "micro",
        class_weight: Literal["balanced"] | ArrayLike | None = None,
        positive_weight: ArrayLike | None = None,
        mixed: Mixed = "auto",
        inputs: InputScaling = "auto",
        bins: int = 4,
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
        latent_features: int = 20,
        latent_budget: int = 10,
        elbo_weight: float = 0.03,
        hidden: tuple[int, ...] = (128,),
        activation: Activation = "relu",
        normalisation: Literal["layer", "none"] = "none",
        dropout: float = 0.5,
        input_dropout: float | None = None,
        input_noise: float = 0.0,
        calibrated: bool = True,
        members: int = 10,
        folds: int = 5,
        epochs: int | None = None,
        batch_size: int = 32,
        learning_rate: float | None = None,
        weight_decay: float = 1e-2,
        l2: float | None = None,
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
        self.positive_weight = positive_weight
        self.mixed = mixed
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
        self.calibrated = calibrated
        self.members = members
        self.folds = folds
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.l2 = l2
        self.patience = patience
        self.random_state = random_state
        self.accelerator = accelerator
        self.progress = progress

    def __sklearn_tags__(self) -> Tags:
        """Declare that y may also hold one class for each sample."""
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.classifier_tags.multi_class = True
        tags.input_tags.allow_nan = tags.input_tags.string = self.mixed is True
        return tags

    # --- fitting ------------------------------------------------------------------------------

    @neutral()
    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit the networks, and choose the threshold on the rows that they hold out.

        Parameters
        ----------
        X
            Rows ``(n, D)``, dense or sparse (made dense one batch at a time); a frame may hold
            categories and missing values (``mixed``).
        y
            Labels ``(n, K)`` of 0 and 1, dense, sparse (made dense one batch at a time) or a
            frame; a list or set of names for each sample, such as ``[["a", "b"], [], ["b"]]``; or
            one class for each sample: numbers or strings ``(n,)``.
            A table may hold NaN where a label is unknown. The likelihood and all that is chosen on
            held-out rows are then those of the known labels. By default ``max_labels`` is the most
            labels that are known of a row, and ``min_labels`` the fewest of rows without unknown
            labels.
        sample_weight
            Weight of each row in the loss, ``(n,)``, or of each label of each row, ``(n, K)``. Only
            their ratios matter; a weight of 0 equals leaving the row out, or a label that is
            unknown.

        Raises
        ------
        DataError
            If X, y or the weights are not as described; the message names the first fault.
        ConfigError
            If a parameter is out of range or does not fit the data.
        TrainingError
            If the loss is not finite.
        KeyboardInterrupt
            After Ctrl-C, once the current step is complete.

        If data or parameters are refused, the estimator is as it was before; if training fails or
        is interrupted, or a promise cannot be kept, it is not fitted.
        """
        check_parameters(self.get_params(deep=False))
        warn_of_other_order(X, y=y, sample_weight=sample_weight)
        with unchanged_unless_done(self):
            self.seed_ = validate_seed(self.random_state)
            rows = self._first_rows(X)
            targets = check_targets(y, rows.shape[0])
            training, unknown = self._first_training(rows, targets, y, sample_weight)
            self.network_ = self._make_network(training, unknown)
            device = device_of(self.accelerator)
        with unfitted_unless_done(self):
            self.history_ = self._train(training, device)
            self.n_iter_ = len(self.history_)
            self._choose_sets(training, unknown, device)
        return self

    @neutral()
    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Continue training with one pass over more rows, in batches of ``batch_size``.

        The first call defines the classifier: its labels, and by its rows the scaling of inputs and
        the levels of categories. These rows should therefore be typical of later ones. Later calls
        continue from there, or from ``fit``. The learning rate is constant, since the number of
        steps is unknown. Each member leaves out a fold of the rows of each call. Correction and
        threshold are chosen on those of the last one, and are honest as long as rows are new, or
        come again in the same parts of the same order.

        Parameters
        ----------
        X, y, sample_weight
            See :meth:`fit`. Later rows may have more labels, or fewer, than ``max_labels_`` and
            ``min_labels_``, which then follow, unless they are parameters.
        classes
            For the first call: all labels, if its rows do not have all of them. For a table without
            names, ``range(K)``. Later calls may repeat them.

        Raises
        ------
        DataError, ConfigError, TrainingError
            See :meth:`fit`; the estimator is then unchanged.
        """
        check_parameters(self.get_params(deep=False))
        warn_of_other_order(X, y=y, sample_weight=sample_weight)
        if isinstance(self.class_weight, str):
            raise ConfigError(
                "class_weight='balanced' needs all rows, which partial_fit does not have: give the "
                "weights as a dictionary."
            )
        if classes is not None and hasattr(self, "network_"):
            self._check_classes(classes)
        changed = copy.copy(self)  # what fails leaves the estimator as it was
        if hasattr(self, "network_"):
            changed._continue(X, y, sample_weight)
        else:
            changed._begin(X, y, classes, sample_weight)
        self.__dict__.update(vars(changed))
        return self

    def _check_classes(self, classes: ArrayLike) -> None:
        """Raise :class:`ConfigError` for labels of a later call that are not those of the first."""
        given = np.asarray(classes).tolist()
        if sorted(given, key=str) != sorted(self.classes_.tolist(), key=str):
            raise ConfigError(
                f"classes are {shown(given)}, but the classifier was fitted on "
                f"{shown(self.classes_)}. Leave classes out after the first call, or fit anew."
            )

    def _begin(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:  # noqa: N803
        """Make the networks by the first rows of several calls, and fit them to these rows."""
        self.seed_ = validate_seed(self.random_state)
        rows = self._first_rows(X)
        samples = rows.shape[0]
        targets = (
            check_targets(y, samples)
            if classes is None
            else targets_of(y, samples, np.asarray(classes))
        )
        training, unknown = self._first_training(rows, targets, y, sample_weight, one_pass=True)
        self.network_ = self._make_network(training, unknown)
        self.history_, self.n_iter_ = [], 0
        self._pass_over(training, unknown)

    def _continue(self, X: Any, y: Any, sample_weight: Any) -> None:  # noqa: N803
        """Fit the networks to further rows."""
        if self.members != self.network_.model.config.members:
            raise ConfigError(
                f"members = {self.members}, but the classifier was fitted with "
                f"{self.network_.model.config.members}."
            )
        rows = self._read_rows(X)
        warn_of_drift(self, rows, self._names())
        names = getattr(self, "target_names_in_", None)
        targets = targets_of(y, rows.shape[0], self.classes_, names, self.multilabel_)
        weight, entries, targets = split_weights(sample_weight, targets)
        kept = weight > 0
        effort = self._fitted_effort(rows)
        members = self._make_members(int(kept.sum()), self.n_iter_)
        self._widen_sets(targets, kept, members.fitted_of(kept))
        limits = getattr(self, "_limits", None)  # files of 0.1 have none
        settings = self._settings(effort, members, one_pass=True)
        training, unknown = self._training(rows, targets, weight, entries, members, settings)
        if limits is not None:
            ends = np.stack([limits, training_range(training.rows)])
            self._limits = np.stack([ends[:, 0].min(0), ends[:, 1].max(0)])
        self.network_ = copy.deepcopy(self.network_)
        self.history_ = list(self.history_)
        self._pass_over(training, unknown)

    def _pass_over(self, training: LabelTraining, unknown: sp.csr_array | None) -> None:
        """Fit the networks to rows once, and choose the threshold by those left out."""
        device = device_of(self.accelerator)
        self.network_.recalibration = None  # relates to the weights before
        self.history_ += self._train(training, device)
        self.n_iter_ += 1
        self._choose_sets(training, unknown, device)

    def _first_rows(self, X: Any) -> Any:  # noqa: N803
        """Read the rows that define the columns: numbers, or a table of mixed columns."""
        rows = read_mixed(self, X, self.mixed)
        return validate_rows(self, X, reset=True) if rows is None else rows

    def _first_training(
        self, rows: Any, targets: Targets, y: Any, sample_weight: Any, *, one_pass: bool = False
    ) -> tuple[LabelTraining, sp.csr_array | None]:
        """Set the fitted attributes of rows and labels; return what the networks are fitted to."""
        weight, entries, targets = split_weights(sample_weight, targets)
        refuse_guarantee_of_classes(self.threshold, targets.multilabel)
        kept = weight > 0
        self._set_targets(targets, y, kept)
        effort = self._effort(rows, one_pass=one_pass)
        members = self._make_members(int(kept.sum()))
        fitted = members.fitted_of(kept)
        if is_split(self.threshold):  # rows of a promise do not shape what it is about
            self._set_targets(targets, y, fitted)
        rows = self._encode(rows, fitted)
        settings = self._settings(effort, members, one_pass=one_pass)
        return self._training(rows, targets, weight, entries, members, settings)

    def _effort(self, rows: Any, *, one_pass: bool) -> Effort:
        """Return how many networks to train, and for how long."""
        zero = not isinstance(rows, MixedTable) and mostly_zero(rows)
        return chosen_effort(self.get_params(deep=False), zero, one_pass)

    def _fitted_effort(self, rows: Table) -> Effort:
        """Return the effort of a pass over more rows: the optimiser stays."""
        effort, network = self._effort(rows, one_pass=True), self.network_
        by_unit = network.by_unit if network.optimiser_state else effort.by_unit
        return effort._replace(by_unit=by_unit)

    def _settings(self, effort: Effort, members: MemberRows, *, one_pass: bool) -> TrainingSettings:
        return TrainingSettings(
            1 if one_pass else effort.epochs,
            members.batch_size,
            effort.learning_rate,
            self.weight_decay,
            None if one_pass else self.patience,
            self.seed_,
            "constant" if one_pass else "cosine",
            effort.l2 / len(members.held),  # the loss is the mean over the members
            effort.by_unit,
        )

    def _training(
        self,
        rows: Table,
        targets: Targets,
        weight: NDArray[np.float64],
        entries: Any,
        members: MemberRows,
        settings: TrainingSettings,
    ) -> tuple[LabelTraining, sp.csr_array | None]:
        """Return rows with their labels and weights, and which labels are unknown.

        Rows without weight are left out. Sets the range of the rows.
        """
        labels, unknown, kept = targets.table, targets.unknown, weight > 0
        if not kept.all():
            rows, labels, weight = rows[kept], labels[kept], weight[kept]
            unknown = None if unknown is None else unknown[kept]
            entries = None if entries is None else entries[kept]
        self._limits = training_range(rows)
        weight_of_labels = None
        if self.multilabel_:
            weight_of_labels = entry_weights(
                labels,
                unknown,
                label_weights(self.class_weight, labels[members.fitted], self.classes_),
                positive_weights(self.positive_weight, self.classes_),
                entries,
            )
        elif self.class_weight is not None:
            weight = weight * class_sample_weight(
                self.class_weight, self.classes_, self.classes_[labels.indices]
            )
        training = LabelTraining(
            rows,
            labels,
            torch.from_numpy(weight / weight.mean()).float(),
            weight_of_labels,
            members,
            settings,
            self.elbo_weight,
        )
        return training, unknown

    def _train(self, training: LabelTraining, device: torch.device) -> list[dict[str, float]]:
        """Fit the networks, with progress on standard error; return the loss of each epoch."""
        says = announced_duration(
            "fitting",
            training.settings.epochs * training.members.batches_per_epoch,
            f" for {len(training.members.held)} members (progress=True shows how far it is)",
            not self.progress,
        )
        with progress_bar("fitting", training.settings.epochs, self.progress) as update:
            return self.network_.fit(
                training, lambda epoch, loss: update(epoch, {"loss": loss}), device, says
            )

    def _choose_sets(
        self, training: LabelTraining, unknown: sp.csr_array | None, device: torch.device
    ) -> None:
        """Recalibrate, and choose the threshold, on the rows that members leave out."""
        chosen = self.multilabel_ and holds_out(self.threshold)
        if self.calibrated and chosen and not is_split(self.threshold):
            self.network_.recalibrate(training, unknown, device)
        held = (
            (proba, with_unknown(training.labels[index].toarray(), unknown, index))
            for index, proba in self.network_.on(device).held_out(training.rows, training.members)
        )
        threshold = self.threshold if self.multilabel_ else 0.0
        self._decide_by(threshold, held, int(training.members.held.any(0).sum()))

    def predict_left_out(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the training rows by the members that were not fitted on them, ``(n, K)``.

        For what is chosen on these rows beside the threshold, such as weights of several
        classifiers. Rows that all members were fitted on, or that were not given to ``fit``, are
        NaN.

        Parameters
        ----------
        X
            The rows of ``fit``, in the same order, none of which had a weight of 0.
        """
        self._check_fitted()
        rows = self._read_rows(X)
        found = np.full((rows.shape[0], self.n_labels_), np.nan)
        fitted = self.network_.model.config.members
        members = self._make_members(rows.shape[0], members=fitted)
        network = self.network_.on(device_of(self.accelerator))
        for index, proba in network.held_out(rows, members):
            found[index] = proba
        return found

    def _make_members(
        self, rows: int, first_epoch: int = 0, members: int | None = None
    ) -> MemberRows:
        """Return the folds and the order of rows."""
        chosen = (self.multilabel_ and holds_out(self.threshold)) or self.patience is not None
        folds = self.folds if chosen else 0
        if folds > rows:
            raise ConfigError(f"folds = {folds} for {rows} rows: use fewer folds, or more rows.")
        return MemberRows(
            rows, int(members or self.members), int(folds), int(self.batch_size), self.seed_,
            same=is_split(self.threshold), first_epoch=first_epoch,
        )  # fmt: skip

    def _encode(self, rows: Any, fitted: NDArray[np.bool_]) -> Table:
        """Return numbers for a table of mixed columns, which are learned; others unchanged."""
        self.columns_ = None
        if not isinstance(rows, MixedTable):
            return rows
        self.columns_ = MixedColumns.learn(rows, fitted)
        if self.mixed == "auto":
            warn(
                f"X is encoded: {self.columns_.describe()} mixed=True does so without this "
                "warning, mixed=False refuses such columns."
            )
        return self.columns_(rows, warns=False)  # rows without weight, and those of a promise

    def _make_network(self, training: LabelTraining, unknown: sp.csr_array | None) -> LabelNetwork:
        # Rows that serve for a promise alone must not shape what it is about.
        fitted = training.members.fitted
        rows, labels = training.rows, training.labels
        if not fitted.all():
            rows, labels = rows[fitted], labels[fitted]
            unknown = None if unknown is None else unknown[fitted]
        automatic = self.inputs == "auto"
        self.inputs_ = self._chosen_inputs(rows) if automatic else self.inputs
        if self.input_dropout is None:
            self.input_dropout_ = chosen_dropout(self.inputs_ if automatic else "standard")
        else:
            self.input_dropout_ = float(self.input_dropout)
        scaling = Inputs(self.inputs_, rows, int(self.bins), self._names())
        conditional = self.variant == "conditional"
        budget = self.budget or 4 * self.max_labels_
        config = LabelModelConfig(
            inputs=scaling.width,
            labels=self.n_labels_,
            budget=int(budget + (self.latent_budget if conditional else 0)),
            latent_features=int(self.latent_features) if conditional else 0,
            decoder=self.variant != "discriminative",
            likelihood=self.likelihood,
            members=len(training.members.held),
            hidden=plain(tuple(self.hidden)),
            activation=self.activation,
            normalisation=self.normalisation,
            dropout=self.dropout,
            input_dropout=self.input_dropout_,
            input_noise=self.input_noise,
            learned_prior=self.label_likelihood == "presence",
        )
        known = np.full(self.n_labels_, labels.shape[0])
        if unknown is not None:
            known = known - np.bincount(unknown.indices, minlength=self.n_labels_)
        presence = np.bincount(labels.indices, minlength=self.n_labels_) / known.clip(1)
        model = SupervisedSDLGM(
            config,
            input_statistics(rows, config),
            torch.from_numpy(presence.astype(np.float32)),
            generator(self.seed_, "initial weights"),
        )
        return LabelNetwork(model, scaling, self.label_likelihood, self.temperature)

    def _chosen_inputs(self, rows: Table) -> InputScaling:
        """Return the scaling that suits rows; of mixed columns, the one that suits the numbers."""
        if self.columns_ is None:
            return chosen_inputs(rows)
        numbers = rows[:, self.columns_.numbers]
        # Numbers of mixed columns have units of their own, however many of them are 0.
        chosen = chosen_inputs(numbers) if numbers.shape[1] else "standard"
        return "standard" if chosen == "common" else chosen

    def _names(self) -> Any:
        """Return the names of what the networks read, or ``None``."""
        if self.columns_ is None:
            return getattr(self, "feature_names_in_", None)
        return self.columns_.encoded_names()

    # --- predicting ---------------------------------------------------------------------------

    def get_feature_names(self) -> NDArray[Any]:
        """Return the names of what the networks read, an array of text.

        They are the names of the columns of X, ``x0``, ``x1`` and so on if it has none. Of mixed
        columns they are those of the encoded ones: ``age``, ``age=missing``, ``colour=red``,
        ``colour=rare``.
        """
        self._check_fitted()
        names = self._names()
        return np.array([f"x{k}" for k in range(self.n_features_in_)] if names is None else names)

    def _read_rows(self, X: Any) -> Table:  # noqa: N803
        """Return rows as numbers, as the networks were fitted on."""
        if self.columns_ is None:
            return validate_rows(self, X, reset=False)
        return self.columns_.read(self, X)

    def _absences(self, X: Any) -> Iterator[Tensor]:  # noqa: N803
        rows = self._read_rows(X)
        warn_of_drift(self, rows, self._names())
        network = self.network_.on(device_of(self.accelerator))
        return (absent for _, absent in network.absences(rows))

    # --- saving -------------------------------------------------------------------------------

    def _describe_network(self) -> tuple[dict[str, Any], nn.Module]:
        return self.network_.describe(), self.network_.model

    def _check_fitted_values(self, where: str) -> None:
        super()._check_fitted_values(where)
        self._check_columns(where)
        check_range(self, self._width, where)
        require_integer(self, "n_labels_", where, low=1)
        require_integer(self, "max_labels_", where)
        self.max_labels_ = min(self.max_labels_, self.n_labels_)
        if not hasattr(self, "decision_"):  # in older files
            self.decision_ = "threshold"
        if not hasattr(self, "min_labels_"):  # in files of 0.1, whose parameter was never None
            self.min_labels_ = int(self.min_labels or 0) if self.multilabel_ else 1
        require_integer(self, "min_labels_", where)
        threshold, classes = np.asarray(self.threshold_), np.asarray(self.classes_)
        single = not isinstance(self.multilabel_, bool) or not isinstance(self.sparse_labels_, bool)
        if (
            single
            or not isinstance(self.decision_, str)
            or self.decision_ not in get_args(Decision)
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

    def _check_columns(self, where: str) -> None:
        """Check the mixed columns of a file; older files have none."""
        self.columns_ = getattr(self, "columns_", None)
        good = self.columns_ is None or (
            isinstance(self.columns_, MixedColumns)
            and len(self.columns_.medians) == self.n_features_in_
        )
        if not good:
            raise ModelFileError(
                f"{where} is damaged: its mixed columns are not {self.n_features_in_}."
            )

    @property
    def _width(self) -> int:
        """Number of inputs before they are scaled."""
        columns = self.columns_
        return self.n_features_in_ if columns is None else len(columns.encoded_names())

    def _restore_network(self, values: dict[str, Any]) -> nn.Module:
        self.network_ = LabelNetwork.restore(values, self._width)
        return self.network_.model
