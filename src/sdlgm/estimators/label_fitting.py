"""From the parameters of a classifier and its rows to networks, and their fit to these rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sdlgm.environment import device_of
from sdlgm.errors import ConfigError
from sdlgm.estimators.entry_weights import WeightedTargets, entry_weights
from sdlgm.estimators.label_decisions import is_split, leaves_out
from sdlgm.estimators.label_network import (
    LabelNetwork,
    LabelTraining,
    MemberRows,
    input_statistics,
)
from sdlgm.estimators.label_parameters import Effort, chosen_effort
from sdlgm.estimators.network_training import TrainingSettings
from sdlgm.estimators.parameters import (
    class_sample_weight,
    label_weights,
    plain,
    positive_weights,
)
from sdlgm.estimators.scaling import Inputs
from sdlgm.estimators.validation import Table
from sdlgm.models import LabelModelConfig, SupervisedSDLGM
from sdlgm.progress import announced_duration, progress_bar
from sdlgm.random import generator

if TYPE_CHECKING:
    from sdlgm.estimators.classifier import SDLGMClassifier

__all__ = ["fit_network", "label_training", "member_rows", "new_network"]


def member_rows(classifier: SDLGMClassifier, rows: int, *, first_epoch: int = 0) -> MemberRows:
    """Return the folds that members leave out of some rows, and the order of the others.

    Raises
    ------
    ConfigError
        If there are more folds than rows.
    """
    threshold, calibrated = classifier.threshold, classifier.calibrated
    decides = classifier.multilabel_ and leaves_out(threshold, calibrated)
    folds = classifier.folds if decides or classifier.patience is not None else 0
    if folds > rows:
        raise ConfigError(f"folds = {folds} for {rows} rows: use fewer folds, or more rows.")
    return MemberRows(
        rows,
        int(classifier.members),
        int(folds),
        classifier.seed_,
        same=is_split(classifier.threshold),
        first_epoch=first_epoch,
    )


def label_training(
    classifier: SDLGMClassifier,
    rows: Table,
    weighted: WeightedTargets,
    members: MemberRows,
    *,
    mostly_zero: bool,
    one_pass: bool,
    by_unit: bool | None = None,
) -> LabelTraining:
    """Return what networks are fitted to: rows, labels and weights, without those of weight 0.

    Parameters
    ----------
    classifier
        The classifier, whose labels are known.
    rows, weighted
        All rows ``(n, D)``, and their targets.
    members
        Which of the rows that have a weight each member is fitted on. They are cut into batches.
    mostly_zero
        Whether the rows are mostly 0, which changes the default length and rate of the training.
    one_pass
        Whether there is one pass over the rows at a constant rate.
    by_unit
        How the first layer is trained, if an optimiser continues.
    """
    effort = chosen_effort(classifier.get_params(deep=False), weighted.size, mostly_zero, one_pass)
    if by_unit is not None:
        effort = effort._replace(by_unit=by_unit)
    members.cut(effort.batch_size, 1 if one_pass else effort.epochs, effort.growth)
    if not weighted.kept.all():
        rows, weighted = rows[weighted.kept], weighted.take(weighted.kept)
    targets, weight, entries = weighted
    label_weight = None
    if classifier.multilabel_:
        label_weight = entry_weights(
            targets.table,
            targets.unknown,
            label_weights(
                classifier.class_weight, targets.table[members.fitted], classifier.classes_
            ),
            positive_weights(classifier.positive_weight, classifier.classes_),
            entries,
        )
    elif classifier.class_weight is not None:
        weight = weight * class_sample_weight(
            classifier.class_weight,
            classifier.classes_,
            classifier.classes_[targets.table.indices],
        )
    return LabelTraining(
        rows,
        targets.table,
        torch.from_numpy(weight / weight.mean()).float(),
        label_weight,
        members,
        _settings(classifier, effort, members, one_pass=one_pass),
        classifier.elbo_weight,
        targets.unknown,
    )


def _settings(
    classifier: SDLGMClassifier, effort: Effort, members: MemberRows, *, one_pass: bool
) -> TrainingSettings:
    """Return the settings of a fit, or of one pass over rows at a constant rate."""
    return TrainingSettings(
        1 if one_pass else effort.epochs,
        members.batch_size,
        effort.learning_rate,
        classifier.weight_decay,
        None if one_pass else classifier.patience,
        classifier.seed_,
        "constant" if one_pass else "cosine",
        effort.l2 / len(members.held),  # the loss is the mean over the members
        effort.by_unit,
    )


def new_network(
    classifier: SDLGMClassifier, training: LabelTraining, names: Sequence[str] | None
) -> LabelNetwork:
    """Return networks with random weights, scaled to the rows that members are fitted on.

    Rows that serve for a promise alone must not shape what it is about.

    Parameters
    ----------
    classifier
        The classifier, whose labels and scaling are known.
    training
        What the networks will be fitted to.
    names
        Names of the columns, for warnings.
    """
    fitted = training.members.fitted
    rows, labels, unknown = training.rows, training.labels, training.unknown
    if not fitted.all():
        rows, labels = rows[fitted], labels[fitted]
        unknown = None if unknown is None else unknown[fitted]
    scaling = Inputs(classifier.inputs_, rows, int(classifier.bins), names)
    config = _model_config(classifier, scaling.width, len(training.members.held))
    known = np.full(classifier.n_labels_, labels.shape[0])
    if unknown is not None:
        known = known - np.bincount(unknown.indices, minlength=classifier.n_labels_)
    presence = np.bincount(labels.indices, minlength=classifier.n_labels_) / known.clip(1)
    model = SupervisedSDLGM(
        config,
        input_statistics(rows, config),
        torch.from_numpy(presence.astype(np.float32)),
        generator(classifier.seed_, "initial weights"),
    )
    return LabelNetwork(model, scaling, classifier.label_likelihood, classifier.temperature)


def _model_config(classifier: SDLGMClassifier, inputs: int, members: int) -> LabelModelConfig:
    """Return the settings of the model behind a classifier."""
    conditional = classifier.variant == "conditional"
    budget = classifier.budget or 4 * classifier.max_labels_
    return LabelModelConfig(
        inputs=inputs,
        labels=classifier.n_labels_,
        budget=int(budget + (classifier.latent_budget if conditional else 0)),
        latent_features=int(classifier.latent_features) if conditional else 0,
        decoder=classifier.variant != "discriminative",
        likelihood=classifier.likelihood,
        members=members,
        hidden=plain(tuple(classifier.hidden)),
        activation=classifier.activation,
        normalisation=classifier.normalisation,
        dropout=classifier.dropout,
        input_dropout=classifier.input_dropout_,
        input_noise=classifier.input_noise,
        learned_prior=classifier.label_likelihood == "presence",
    )


def fit_network(classifier: SDLGMClassifier, training: LabelTraining) -> list[dict[str, float]]:
    """Fit the networks of a classifier, with progress on standard error.

    Return the loss of each epoch.
    """
    epochs, members = training.settings.epochs, training.members
    says = announced_duration(
        "fitting",
        sum(members.steps),
        f" for {len(members.held)} members (progress=True shows how far it is)",
        not classifier.progress,
    )
    device = device_of(classifier.accelerator)
    with progress_bar("fitting", epochs, classifier.progress) as update:
        return classifier.network_.fit(
            training, lambda epoch, loss: update(epoch, {"loss": loss}), device, says
        )
