"""The loss of a step of the networks of labels: with its gradients, or by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdlgm.estimators.label_inputs import ActiveLabels, Read
from sdlgm.models import SupervisedSDLGM
from sdlgm.models.label_gradients import LabelGradients, written_out
from sdlgm.objectives.labels import (
    LabelLikelihood,
    absence,
    label_nll,
    negative_labelled_elbo,
)

if TYPE_CHECKING:
    from sdlgm.estimators.label_network import LabelTraining

__all__ = ["Loss", "loss_by_autograd", "loss_with_gradients"]

Loss = Callable[[int], Tensor]
"""Maps a step to the mean loss of its batch."""

MOST_LABELS = 256
"""Number of labels up to which a step reads them from a table, not from lists of present ones."""
MOST_ENTRIES = 10_000_000
"""Most entries of such a table."""


def loss_with_gradients(
    model: SupervisedSDLGM,
    training: LabelTraining,
    inputs: Read,
    likelihood: LabelLikelihood,
    dropout: torch.Generator,
    device: torch.device,
) -> Loss | None:
    """Return a loss that sets the gradients itself, or ``None`` if autograd must."""
    number, members = training.labels.shape[1], training.members
    if (
        not written_out(model.config)
        or likelihood != "presence"
        or training.settings.by_unit
        or number > MOST_LABELS
        or training.labels.shape[0] * number > MOST_ENTRIES
    ):
        return None
    gradients = LabelGradients(model)
    table = torch.from_numpy(training.labels.toarray() > 0).to(device, torch.float32)
    weight = None if training.label_weight is None else training.label_weight.to(device)
    rows = training.sample_weight
    of_rows = None if bool((rows == 1).all()) else rows.to(device).unsqueeze(-1)

    def loss(step: int) -> Tensor:
        index = members.batch(step)
        x, _ = inputs(index)
        flat = index.flatten().to(device)

        def of_batch(values: Tensor) -> Tensor:
            return values.index_select(0, flat).view(*index.shape, -1)

        weights = of_batch(weight) if weight is not None and weight.dim() == 2 else weight
        if of_rows is not None:
            weights = of_batch(of_rows) * (1 if weights is None else weights)
        return gradients(x, of_batch(table), weights, dropout)

    return loss


def loss_by_autograd(
    model: SupervisedSDLGM,
    training: LabelTraining,
    inputs: Read,
    likelihood: LabelLikelihood,
    temperature: float,
    dropout: torch.Generator,
    draws: torch.Generator,
    device: torch.device,
) -> Loss:
    """Return the loss as a graph, for all models and numbers of labels."""
    members, weight, active = (
        training.members,
        training.sample_weight,
        ActiveLabels(training.labels),
    )
    label_weight = None if training.label_weight is None else training.label_weight.to(device)

    def weights(index: Tensor) -> Tensor | None:
        """Return the weights of the labels: of all rows, or of each."""
        if label_weight is None or label_weight.dim() == 1:
            return label_weight
        return label_weight[index.to(device)]

    def loss(step: int) -> Tensor:
        index = members.batch(step)
        x, target = inputs(index)
        posterior = model(x, dropout)
        absent = absence(posterior, model.config.labels, likelihood, temperature, draws)
        rows, columns = active(index)
        each = label_nll(absent, rows.to(device), columns.to(device), weights(index))
        if model.config.decoder:
            each = each + training.elbo_weight * negative_labelled_elbo(
                model, posterior, target, likelihood, temperature, draws
            )
        return (each * weight[index].to(device)).mean()

    return loss
