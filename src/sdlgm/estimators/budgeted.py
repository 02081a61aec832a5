"""Sets of labels with a minimum and a maximum size, and promises, from any classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.utils import Tags, _safe_indexing, get_tags
from sklearn.utils.validation import _num_samples
from torch import Tensor

from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, DataError, SDLGMError
from sdlgm.estimators.classifier import SDLGMClassifier
from sdlgm.estimators.frames import check_in_memory, is_frame, warn_of_other_order
from sdlgm.estimators.interruption import unchanged_unless_done, unfitted_unless_done
from sdlgm.estimators.label_decisions import (
    Threshold,
    check_threshold,
    holds_out,
    is_split,
    refuse_guarantee_of_classes,
)
from sdlgm.estimators.likely_sets import size_probabilities
from sdlgm.estimators.one_per_label import (
    OnePerLabel,
    explain_constant,
    has_probabilities,
    probabilities,
    refuse_tables_only,
    refuse_without_weights,
)
from sdlgm.estimators.parameters import check_choice, check_flag, check_integer
from sdlgm.estimators.recalibration import (
    Recalibration,
    clipped_probabilities,
    fit_recalibration,
)
from sdlgm.estimators.set_prediction import BudgetedPrediction
from sdlgm.estimators.set_sizes import SizeCorrection, fit_size_correction
from sdlgm.estimators.targets import Targets, check_targets, with_unknown
from sdlgm.estimators.validation import (
    as_array,
    validate_columns,
    validate_seed,
    validate_weights,
)
from sdlgm.random import generator

__all__ = ["BudgetedClassifier"]

Combination = Literal["mean", "stack"]
LeftOut: TypeAlias = tuple[list[NDArray[np.float64]], NDArray[Any]]
"""Probabilities of each classifier, and labels, of rows that they were not fitted on."""


class BudgetedClassifier(BudgetedPrediction):
    r"""Give any classifier with probabilities a minimum, a maximum, thresholds and promises.

    The probabilities of a forest, gradient boosting, a logistic regression, a pipeline, or of
    several of them become sets with between ``min_labels`` and ``max_labels`` labels. What is
    chosen from data (threshold, calibration, weights of the classifiers) is chosen on rows that the
    classifiers were not fitted on: each of ``folds`` folds is predicted by clones that are fitted
    to the others. Other clones are fitted to all rows, and predict. A
    :class:`~sdlgm.estimators.classifier.SDLGMClassifier` is fitted once: its members leave out
    folds of their own.

    Parameters
    ----------
    estimator
        A classifier with ``predict_proba``, or a list of them. One that takes only one class for
        each sample is fitted once for each label.
    combine
        What a list becomes: ``"mean"`` of the probabilities, or ``"stack"``: a logistic regression
        on their log-odds with one weight a classifier
        (:func:`~sdlgm.estimators.recalibration.fit_recalibration`).
    calibrated
        Whether to correct probabilities by an offset and a slope of their log-odds, which do not
        change the order of labels, and the distribution of the number of labels. With ``"stack"``
        probabilities always are. Those of one class for each sample are not corrected.
    threshold
        As in :class:`~sdlgm.estimators.classifier.SDLGMClassifier`: a number, a rule, a guarantee,
        ``"counts"`` or ``"f1"``. A guarantee with ``held_out="split"`` leaves one fold out of all
        fits, with no second fit; the promise, and the calibration, then come from this fold.
    max_labels, min_labels
        Largest and smallest size of predicted sets. ``None``: the most and the fewest labels of a
        training sample.
    folds
        Number of folds of a random partition of the rows.
    random_state
        Source of all randomness: an integer, a ``RandomState`` or ``None`` for a fresh seed. Unless
        it is ``None``, classifiers without a ``random_state`` of their own get one.

    Attributes
    ----------
    estimators_
        The classifiers that predict, one for each of ``estimator``.
    recalibration_
        Offset and slopes of the log-odds; ``None`` if probabilities are not corrected.
    size_correction_
        The correction of the distribution of the number of labels
        (:mod:`~sdlgm.estimators.set_sizes`); ``None`` without ``calibrated``.
    decision_, threshold_
        How probabilities become sets, and the threshold.
    max_labels_, min_labels_
        Largest and smallest size of predicted sets.
    classes_
        Names of the labels: the classes, the columns of a frame y, or ``0 .. K - 1``.
    multilabel_
        Whether y was a table of labels rather than one class for each sample.
    n_labels_, n_features_in_, feature_names_in_
        K and D; the features' names if X was a frame.
    seed_
        The integer that seeded the fit.

    Examples
    --------
    An average of the library's classifier and of extra trees:

    >>> from sklearn.datasets import make_multilabel_classification
    >>> from sklearn.ensemble import ExtraTreesClassifier
    >>> from sdlgm.estimators import SDLGMClassifier
    >>> X, Y = make_multilabel_classification(300, n_classes=6, random_state=0)
    >>> both = [SDLGMClassifier(members=4, epochs=10), ExtraTreesClassifier(50)]
    >>> model = BudgetedClassifier(both, max_labels=6, folds=3, random_state=0).fit(X, Y)
    >>> bool(model.predict(X).sum(1).max() <= 6)
    True
    >>> model.predict_count_proba(X).shape
    (300, 7)
    """

    def __init__(
        self,
        estimator: Any,
        *,
        combine: Combination = "mean",
        calibrated: bool = True,
        threshold: Threshold = "micro",
        max_labels: int | None = None,
        min_labels: int | None = None,
        folds: int = 5,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.combine = combine
        self.calibrated = calibrated
        self.threshold = threshold
        self.max_labels = max_labels
        self.min_labels = min_labels
        self.folds = folds
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        """Declare the inputs of the classifiers, and that y may hold one class a sample."""
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.classifier_tags.multi_class = True
        inner = [get_tags(each).input_tags for each in self._given()]
        for name in ("allow_nan", "sparse", "string", "categorical"):
            setattr(tags.input_tags, name, all(getattr(each, name) for each in inner))
        return tags

    # --- fitting ------------------------------------------------------------------------------

    @neutral()
    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit the classifiers, and choose calibration and threshold on rows they leave out.

        Parameters
        ----------
        X
            Rows, in any form that the classifiers take.
        y
            As in :meth:`SDLGMClassifier.fit() <sdlgm.estimators.classifier.SDLGMClassifier.fit>`.
            With unknown labels, each label is fitted on the rows where it is known.
        sample_weight
            Weight of each row, passed to the classifiers, which must all take weights. Threshold
            and calibration weigh all rows equally, but for those of weight 0, which do not count.

        Raises
        ------
        DataError
            If y or the weights are not as described.
        ConfigError
            If a parameter is out of range or does not fit the data, or a classifier has no
            probabilities.

        If data or parameters are refused, the estimator is as it was before; if a classifier cannot
        be fitted, a promise cannot be kept or the fit is interrupted, it is not fitted.
        """
        self._check_parameters()
        warn_of_other_order(X, y=y, sample_weight=sample_weight)
        with unchanged_unless_done(self):
            self.seed_ = validate_seed(self.random_state)
            rows = _as_rows(self, X, reset=True)
            number = _num_samples(rows)
            weight = None if sample_weight is None else validate_weights(sample_weight, number)
            targets = check_targets(y, number)
            refuse_guarantee_of_classes(self.threshold, targets.multilabel)
            kept = np.ones(number, bool) if weight is None else weight > 0
            self._set_targets(targets, y)
            held = [mask & kept for mask in self._held_out(number) if (mask & kept).any()]
            split = is_split(self.threshold)
            if split:
                held = held[:1]
            self._bound_sets(targets, kept, kept & ~held[0] if split else kept)
            models = self._prepared(targets, bool(held) and not split, weight is not None)
        with unfitted_unless_done(self):
            fit = partial(self._fit_all, rows=rows, targets=targets, weight=weight)
            blocks = self._fit_and_score(models, rows, targets, weight, held, fit)
            self._choose_sets(blocks, targets.multilabel, split)
        return self

    def _fit_and_score(
        self,
        models: Sequence[Any],
        rows: Any,
        targets: Targets,
        weight: NDArray[np.float64] | None,
        held: list[NDArray[np.bool_]],
        fit: Callable[..., list[Any]],
    ) -> list[LeftOut]:
        """Fit the classifiers that predict; return what is chosen from."""
        if is_split(self.threshold):  # what predicts is what the rows left out are scored by
            self.estimators_ = fit(models, index=np.flatnonzero(~held[0]))
            scores = [self._scores(self.estimators_, rows, held[0])]
        else:
            self.estimators_ = fit(models, index=np.arange(_num_samples(rows)))
            scores = self._scores_of_folds(models, rows, weight, held, fit)
        return [
            (proba, with_unknown(targets.table[mask].toarray(), targets.unknown, mask))
            for proba, mask in zip(scores, held, strict=True)
        ]

    def _scores(
        self, models: Sequence[Any], rows: Any, mask: NDArray[np.bool_]
    ) -> list[NDArray[np.float64]]:
        """Return the probabilities of some rows by each of some fitted classifiers."""
        return self._probabilities(models, _safe_indexing(rows, np.flatnonzero(mask)))

    def _probabilities(self, models: Sequence[Any], rows: Any) -> list[NDArray[np.float64]]:
        """Return the probabilities of rows by each of some fitted classifiers."""
        classes = None if self.multilabel_ else self.classes_
        return [probabilities(model, rows, self.n_labels_, classes) for model in models]

    def _scores_of_folds(
        self,
        models: Sequence[Any],
        rows: Any,
        weight: NDArray[np.float64] | None,
        held: list[NDArray[np.bool_]],
        fit: Callable[..., list[Any]],
    ) -> list[list[NDArray[np.float64]]]:
        """Return the probabilities of each fold by each classifier, fitted without the fold."""
        if not held:
            return []
        known = [_left_out(model, rows, weight) for model in self.estimators_]
        again = [model for model, own in zip(models, known, strict=True) if own is None]
        found = []
        for mask in held:
            fitted = iter(self._scores(fit(again, index=np.flatnonzero(~mask)), rows, mask))
            found.append([next(fitted) if own is None else own[mask] for own in known])
        return found

    def _choose_sets(self, blocks: list[LeftOut], multilabel: bool, split: bool) -> None:
        """Learn weights and calibration, and choose the threshold, on rows left out of fits."""
        self.recalibration_ = None if split else self._recalibration(blocks)
        if split and self.calibrated:  # what correction makes equal is equal before
            blocks = [
                ([clipped_probabilities(self._combined(proba))], truth) for proba, truth in blocks
            ]
        held_out = ((self._combined(proba), truth) for proba, truth in blocks)
        rows = sum(len(truth) for _, truth in blocks)
        self._decide_by(self.threshold if multilabel else 0.0, held_out, rows)
        if split:
            # The promise is about scores that do not depend on these rows; the correction, which
            # does, keeps their order.
            self.recalibration_ = self._recalibration(blocks)
            self._recalibrate_threshold()
        self.size_correction_ = self._size_correction(blocks) if multilabel else None

    def _size_correction(self, blocks: list[LeftOut]) -> SizeCorrection | None:
        """Learn to correct the distribution of the number of labels, on rows left out of fits.

        Rows with unknown labels are not used.
        """
        if not self.calibrated or not blocks:
            return None
        numbers = np.concatenate([truth.sum(1) for _, truth in blocks])
        known = numbers == numbers
        bounds = self.min_labels_, self.max_labels_
        sizes = [size_probabilities(self._absent(proba), *bounds, None) for proba, _ in blocks]
        return fit_size_correction(np.concatenate(sizes)[known], numbers[known], self.min_labels_)

    def _recalibrate_threshold(self) -> None:
        """Move the threshold of a guarantee to the scale of corrected probabilities."""
        if self.recalibration_ is None:
            return
        if self.threshold_ <= 0:  # all labels are above
            self.threshold_ = -1.0
            return
        moved = float(self.recalibration_(np.array(self.threshold_)))
        # A score that equals the threshold stays below it, whatever is rounded.
        self.threshold_ = moved + 8 * float(np.spacing(moved))

    def _check_parameters(self) -> None:
        check_choice("combine", self.combine, ("mean", "stack"))
        check_flag("calibrated", self.calibrated)
        check_threshold(self.threshold)
        check_integer("max_labels", self.max_labels, optional=True)
        check_integer("min_labels", self.min_labels, low=0, optional=True)
        check_integer("folds", self.folds)
        given = self._given()
        if not given:
            raise ConfigError("estimator is an empty list: give at least one classifier.")
        for each in given:
            if not hasattr(each, "fit") or not has_probabilities(each):
                raise ConfigError(
                    f"{type(each).__name__} has no fit or no predict_proba, so that it has no "
                    "probabilities to choose sets by. (A support vector classifier has them with "
                    "CalibratedClassifierCV.)"
                )
        if self.combine == "stack" and is_split(self.threshold):
            raise ConfigError(
                "combine='stack' learns its weights on the rows that a guarantee with "
                "held_out='split' needs for itself. Use combine='mean' or held_out='folds'."
            )
        if self.folds == 1:
            raise ConfigError("folds must be at least 2, got 1.")

    def _given(self) -> list[Any]:
        return (
            list(self.estimator) if isinstance(self.estimator, list | tuple) else [self.estimator]
        )

    def _held_out(self, rows: int) -> list[NDArray[np.bool_]]:
        """Return which rows each fold holds out; no folds if nothing is chosen on them."""
        corrects = self.calibrated or (self.combine == "stack" and len(self._given()) > 1)
        if not self.multilabel_ or not (corrects or holds_out(self.threshold)):
            return []
        if self.folds > rows:
            raise ConfigError(
                f"folds = {self.folds} for {rows} rows: use fewer folds, or more rows."
            )
        order = torch.randperm(rows, generator=generator(self.seed_, "folds")).numpy()
        return [order % self.folds == fold for fold in range(self.folds)]

    def _prepared(self, targets: Targets, folds: bool, weighted: bool) -> list[Any]:
        """Return unfitted classifiers that take y as it is, with seeds.

        With ``folds``, what is left out of their fits is needed.
        """
        models = [clone(each) for each in self._given()]
        if targets.multilabel:
            models = [_with_sets(model, targets, folds, weighted) for model in models]
        else:
            refuse_tables_only(models, "y holds one class for each sample")
        if weighted:
            refuse_without_weights(models)
        source = np.random.RandomState(self.seed_ % 2**32)
        for model in models if self.random_state is not None else ():
            own = model.get_params(deep=True)
            names = [name for name in sorted(own) if name.split("__")[-1] == "random_state"]
            model.set_params(
                **{name: source.randint(2**31 - 1) for name in names if own[name] is None}
            )
        return models

    def _fit_all(
        self,
        models: Sequence[Any],
        rows: Any,
        targets: Targets,
        weight: NDArray[np.float64] | None,
        index: NDArray[np.int64],
    ) -> list[Any]:
        """Return clones that are fitted to some rows, without those of a weight of 0."""
        if weight is not None:
            index = index[weight[index] > 0]
        part = _safe_indexing(rows, index)
        table = targets.table[index]
        if targets.multilabel:
            # Of bytes, scikit-learn's LabelBinarizer (1.9) permutes more than 128 columns.
            y = with_unknown(table.toarray().astype(np.int64), targets.unknown, index)
        else:
            y = targets.classes[table.indices]
        fitted = []
        for model in models:
            own = {} if weight is None else {"sample_weight": weight[index]}
            # Dense tables of one column are classes, for ours too.
            sparse = isinstance(model, SDLGMClassifier) and y.shape[1:] == (1,)
            try:
                fitted.append(clone(model).fit(part, sp.csr_array(y) if sparse else y, **own))
            except ValueError as error:
                if targets.multilabel and not isinstance(error, SDLGMError):
                    explain_constant(model, y, targets.classes, error)
                raise
        return fitted

    def _recalibration(self, blocks: list[LeftOut]) -> Recalibration | None:
        stacks = self.combine == "stack" and len(self._given()) > 1
        if not blocks or not (stacks or self.calibrated):
            return None
        truth = np.concatenate([labels for _, labels in blocks])
        proba = [np.concatenate(parts) for parts in zip(*(p for p, _ in blocks), strict=True)]
        return fit_recalibration(proba if stacks else [np.mean(proba, axis=0)], truth)

    def _combined(self, proba: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return one table of probabilities from those of the classifiers."""
        if self.recalibration_ is None:
            return np.asarray(np.mean(proba, axis=0))
        stacks = len(self.recalibration_.slopes) > 1
        return self.recalibration_(*(proba if stacks else [np.mean(proba, axis=0)]))

    # --- predicting ---------------------------------------------------------------------------

    def _absences(self, X: Any) -> Iterator[Tensor]:  # noqa: N803
        rows = _as_rows(self, X, reset=False)
        yield self._absent(self._probabilities(self.estimators_, rows))

    def _absent(self, proba: Sequence[NDArray[np.float64]]) -> Tensor:
        """Return log-probabilities of absence ``(1, b, K)`` from those of the classifiers."""
        return torch.from_numpy(self._combined(proba)).neg().log1p().unsqueeze(0)


# --- the classifiers underneath -----------------------------------------------------------------


def _as_rows(estimator: BudgetedClassifier, X: Any, *, reset: bool) -> Any:  # noqa: N803
    """Return rows as they are, after a check of the number and the names of their columns.

    What they hold is up to the classifiers; pipelines for texts take a list of them.
    """
    check_in_memory(X, "X")
    rows = X if sp.issparse(X) or is_frame(X) else as_array(X)
    if len(rows.shape) == 1 and any(isinstance(row, str) for row in rows):
        _check_texts(rows)
        return X
    if len(rows.shape) != 2:
        raise DataError(
            f"X must be rows (n, features), got shape {tuple(rows.shape)}. Reshape your data: for "
            "a single sample, use X.reshape(1, -1)."
        )
    validate_columns(estimator, rows, reset=reset)
    return _short_indices(sp.csr_array(rows)) if sp.issparse(rows) else rows


def _short_indices(rows: sp.csr_array) -> sp.csr_array:
    """Return sparse rows with indices of 32 bits, which trees need, where these are enough."""
    most = max(rows.nnz, *rows.shape)
    if rows.indices.dtype == np.int32 or most > np.iinfo(np.int32).max:
        return rows
    indices, starts = rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
    return sp.csr_array((rows.data, indices, starts), shape=rows.shape)


def _check_texts(rows: Any) -> None:
    """Raise :class:`DataError` for the first row that is no text, among others that are."""
    for row, text in enumerate(rows):
        if not isinstance(text, str):
            raise DataError(f"X[{row}] is {text!r:.40}, not a text. Use '' for an empty one.")


def _with_sets(model: Any, targets: Targets, folds: bool, weighted: bool) -> Any:
    """Return a classifier that takes these tables of labels, also where some are unknown."""
    unknown = targets.unknown is not None
    if isinstance(model, MultiOutputClassifier) or (
        isinstance(model, OneVsRestClassifier) and (unknown or weighted)
    ):
        # Both fit a clone to each label, but not to gaps; the one not to labels that never vary,
        # the other not with weights.
        return OnePerLabel(model.estimator, model.n_jobs)
    if isinstance(model, SDLGMClassifier):
        # Its own threshold is not used. Its members may see all rows, or leave out folds, so that
        # it need not be fitted again for each fold.
        leaves_out = folds and model.members >= model.folds > 1
        return model.set_params(threshold="micro" if leaves_out else 0.5, calibrated=False)
    tags = get_tags(model)
    takes = tags.target_tags.multi_output or (
        tags.classifier_tags is not None and tags.classifier_tags.multi_label
    )
    if unknown:
        refuse_tables_only([model], "some labels are unknown")
    one = targets.table.shape[1] == 1 and tags.target_tags.single_output  # classes for most
    return OnePerLabel(model) if unknown or one or not takes else model


def _left_out(
    model: Any, rows: Any, weight: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """Return what a fitted classifier of ours says of rows by members that did not see them."""
    if not isinstance(model, SDLGMClassifier) or (weight is not None and not weight.all()):
        return None
    proba = model.predict_left_out(rows)
    return None if np.isnan(proba).any() else proba
