"""Predict sets of labels with a minimum and a maximum size, and a probability for each label."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags
from torch import Tensor, nn

from sdlgm.config import Activation, NetworkAccelerator
from sdlgm.environment import device_of, neutral
from sdlgm.errors import ConfigError, ModelFileError
from sdlgm.estimators.drift import check_range, training_range, warn_of_drift, widened_range
from sdlgm.estimators.entry_weights import split_weights
from sdlgm.estimators.fitted_rows import FittedRows
from sdlgm.estimators.frames import shown, warn_of_other_order
from sdlgm.estimators.interruption import unchanged_unless_done, unfitted_unless_done
from sdlgm.estimators.label_decisions import (
    Threshold,
    is_split,
    leaves_out,
    refuse_guarantee_of_classes,
)
from sdlgm.estimators.label_fitting import (
    fit_network,
    label_training,
    member_rows,
    new_network,
)
from sdlgm.estimators.label_network import LabelNetwork, LabelTraining
from sdlgm.estimators.label_parameters import Variant, check_parameters
from sdlgm.estimators.label_saving import check_label_attributes
from sdlgm.estimators.mixed_columns import Mixed
from sdlgm.estimators.mixed_inputs import MixedInputs
from sdlgm.estimators.saving import Saved
from sdlgm.estimators.scaling import InputScaling, dense_if_small
from sdlgm.estimators.set_prediction import BudgetedPrediction
from sdlgm.estimators.targets import check_targets, targets_of
from sdlgm.estimators.validation import validate_seed
from sdlgm.objectives.labels import LabelLikelihood

__all__ = ["SMALL_TABLES", "SDLGMClassifier"]

SMALL_TABLES: dict[str, Any] = {"inputs": "bins", "threshold": "smoothed", "input_dropout": 0.7}
"""Settings for a few hundred dense rows: ``SDLGMClassifier(**SMALL_TABLES)``.

With ``calibrated=False`` and ``members=20`` they give the results of docs/results/table2.md, with
``epochs`` of 40 or 80 chosen by cross-validation.
"""


class SDLGMClassifier(Saved, MixedInputs, BudgetedPrediction):
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
        - ``"counts"``: the most probable labels, in their median number
          (:meth:`predict_counts`); ``"f1"``: in the number with the highest expected F1
          (:func:`~sdlgm.estimators.likely_sets.expected_f1`).
    class_weight
        Weight of each label in the likelihood: ``None``, ``"balanced"`` (by the inverse of its
        frequency), one number for each label, or a dictionary (or column of pandas). Its keys are
        labels as in ``classes_``, or their places if labels are text; labels without a key weigh
        1. If y holds one class for each sample: weight of the samples of each class.
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
        for all columns, for sparse rows), ``"counts"`` (logarithms, with a little more weight for
        rare columns, for words of texts), ``"none"``, or ``"auto"``: for an X, sparse or
        dense, of at most a tenth of values that are not 0, ``"counts"`` if these are whole
        numbers and ``"common"`` if not (``"standard"`` if a column is 100 times larger than most);
        else ``"bins"`` (``"quantile"`` for 1,000 columns or more), or ``"standard"`` if
        most columns have two values.
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
        ``"common"`` and ``"counts"``, 0.5 for ``"bins"``, else 0.3; but at most 0.25 for six
        columns or fewer, and 0 for two or one.
    calibrated
        Whether to correct probabilities by an offset and a slope of the members' log-odds, and the
        distribution of the number of labels, learned on the rows that members leave out, if they
        leave out any for the threshold or for ``"counts"``
        (:mod:`~sdlgm.estimators.member_recalibration`, :mod:`~sdlgm.estimators.set_sizes`). Rows
        that a guarantee has for itself (``held_out="split"``) are not used for it, nor are those of
        one class for each sample.
    members, folds
        Number of networks; member ``m`` holds out fold ``m % folds`` of the rows. ``folds=0`` holds
        out nothing, and needs a ``threshold`` that is not chosen on held-out rows.
    epochs, batch_size, learning_rate, weight_decay
        Settings of AdamW. Rows with at most a tenth of non-zeros take 30 epochs at a rate of 1e-2,
        in batches of 32 to 256 rows, a power of 2 that is at most a fifteenth of the rows; there
        the weights of the first layer share one mean square a unit
        (:mod:`~sdlgm.estimators.unit_adam`). Other rows take 60 epochs at 3.5e-3 in batches of 32
        that grow: in the second third of the epochs they have about twice as many rows, and in the
        last third four times as many, but about 128 at most; the rate is then multiplied by the
        root of the factor. With a decoder, ``label_likelihood="relaxed"`` or another scaling of
        inputs than ``"auto"`` and ``"bins"``, they stay, and the rate is 3e-3. The rate rises over
        the first 5 % of the epochs, then falls to 0 along a half cosine.
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
    _fitted_rows: FittedRows | None
    """Which rows the latest fit took; ``None`` in older files."""

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
        batch_size: int | None = None,
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
            training = self._start(X, y, sample_weight)
        with unfitted_unless_done(self):
            self.history_ = fit_network(self, training)
            self.n_iter_ = len(self.history_)
            self._choose_sets(training)
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
            training = changed._continue(X, y, sample_weight)
        else:
            training = changed._start(X, y, sample_weight, classes, one_pass=True)
            changed.history_, changed.n_iter_ = [], 0
        changed._pass_over(training)
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

    def _start(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        classes: Any = None,
        *,
        one_pass: bool = False,
    ) -> LabelTraining:
        """Set the fitted attributes of rows and labels, and make the networks.

        Return what they are fitted to.
        """
        self.seed_ = validate_seed(self.random_state)
        rows = self._first_rows(X)
        samples = rows.shape[0]
        targets = (
            check_targets(y, samples)
            if classes is None
            else targets_of(y, samples, np.asarray(classes))
        )
        weighted = split_weights(sample_weight, targets)
        refuse_guarantee_of_classes(self.threshold, targets.multilabel)
        self._set_targets(weighted.targets, y)
        members = member_rows(self, weighted.size[0])
        fitted = members.fitted_of(weighted.kept)  # rows of a promise do not shape what it is about
        self._bound_sets(weighted.targets, weighted.kept, fitted)
        rows = self._encode(rows, fitted)
        zero = self._mostly_zero(rows, fitted)
        if self.inputs == "auto" and not zero:
            rows = dense_if_small(rows)
        self._choose_inputs(rows, fitted, zero)
        training = label_training(
            self, rows, weighted, members, mostly_zero=zero, one_pass=one_pass
        )
        self._limits = training_range(training.rows)
        self._fitted_rows = FittedRows.of(training)
        self.network_ = new_network(self, training, self._names())
        return training

    def _continue(self, X: Any, y: Any, sample_weight: Any) -> LabelTraining:  # noqa: N803
        """Return what the networks, which are copied, are fitted to next."""
        if self.members != self.network_.model.config.members:
            raise ConfigError(
                f"members = {self.members}, but the classifier was fitted with "
                f"{self.network_.model.config.members}."
            )
        rows = self._read_rows(X)
        warn_of_drift(self, rows, self._names())
        names = getattr(self, "target_names_in_", None)
        targets = targets_of(y, rows.shape[0], self.classes_, names, self.multilabel_)
        weighted = split_weights(sample_weight, targets)
        members = member_rows(self, weighted.size[0], first_epoch=self.n_iter_)
        fitted = members.fitted_of(weighted.kept)
        self._widen_sets(weighted.targets, weighted.kept, fitted)
        training = label_training(
            self,
            rows,
            weighted,
            members,
            mostly_zero=self._mostly_zero(rows, fitted),
            one_pass=True,
            by_unit=self.network_.by_unit if self.network_.optimiser_state else None,
        )
        # Files of 0.1 have no range.
        self._limits = widened_range(getattr(self, "_limits", None), training.rows)
        self._fitted_rows = FittedRows.of(training)
        self.network_ = copy.deepcopy(self.network_)
        self.history_ = list(self.history_)
        return training

    def _pass_over(self, training: LabelTraining) -> None:
        """Fit the networks to rows once, and choose the threshold by those left out."""
        self.network_.recalibration = None  # relates to the weights before
        self.history_ += fit_network(self, training)
        self.n_iter_ += 1
        self._choose_sets(training)

    def _choose_sets(self, training: LabelTraining) -> None:
        """Recalibrate, and choose the threshold, on the rows that members leave out."""
        device = device_of(self.accelerator)
        corrects = self.calibrated and self.multilabel_ and not is_split(self.threshold)
        self.size_correction_ = None
        if corrects and leaves_out(self.threshold, True) and training.members.held.any():
            bounds = self.min_labels_, self.max_labels_
            self.size_correction_ = self.network_.correct(training, *bounds, device)
        held = (
            (proba, training.truth(index))
            for index, proba in self.network_.on(device).held_out(training.rows, training.members)
        )
        threshold = self.threshold if self.multilabel_ else 0.0
        self._decide_by(threshold, held, int(training.members.held.any(0).sum()))

    # --- predicting ---------------------------------------------------------------------------

    def predict_left_out(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the training rows by the members that were not fitted on them, ``(n, K)``.

        For what is chosen on these rows beside the threshold, such as weights of several
        classifiers. Rows that all members were fitted on are NaN.

        Parameters
        ----------
        X
            The rows of the latest ``fit`` or ``partial_fit``, in the same order, without those of
            weight 0.

        Raises
        ------
        DataError
            If X is other rows. :meth:`predict_proba` predicts these.
        ModelFileError
            If the classifier was saved by an older version, which did not keep what tells its rows.
        """
        self._check_fitted()
        known = getattr(self, "_fitted_rows", None)
        if known is None:
            raise ModelFileError(
                "This classifier was saved by an older version of sdlgm, which did not keep what "
                "tells the rows of its fit from others. Fit it again for predict_left_out; "
                "predict_proba predicts any rows."
            )
        rows = self._read_rows(X)
        known.check(rows)
        found = np.full((rows.shape[0], self.n_labels_), np.nan)
        members = known.members(self.network_.model.config.members, self.seed_)
        network = self.network_.on(device_of(self.accelerator))
        for index, proba in network.held_out(rows, members):
            found[index] = proba
        return found

    def get_feature_names(self) -> NDArray[Any]:
        """Return the names of what the networks read, an array of text.

        They are the names of the columns of X, ``x0``, ``x1`` and so on if it has none. Of mixed
        columns they are those of the encoded ones: ``age``, ``age=missing``, ``colour=red``,
        ``colour=rare``.
        """
        self._check_fitted()
        names = self._names()
        return np.array([f"x{k}" for k in range(self.n_features_in_)] if names is None else names)

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
        self._fitted_rows = FittedRows.restore(getattr(self, "_fitted_rows", None), where)
        check_label_attributes(self, where)

    def _restore_network(self, values: dict[str, Any]) -> nn.Module:
        self.network_ = LabelNetwork.restore(values, self._width)
        return self.network_.model
