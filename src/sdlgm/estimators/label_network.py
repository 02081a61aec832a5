"""The ensemble behind the classifier: fitting its members, and their predictions."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, get_args

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.distributions import GatedMultinomial
from sdlgm.environment import placed
from sdlgm.errors import DataError, ModelFileError
from sdlgm.estimators.label_inputs import (
    ActiveLabels,
    Read,
    block_inputs,
    dense_inputs,
    first_weights,
    sparse_inputs,
)
from sdlgm.estimators.label_losses import loss_by_autograd, loss_with_gradients
from sdlgm.estimators.member_recalibration import (
    MemberRecalibration,
    absence_log_odds,
    fit_member_recalibration,
)
from sdlgm.estimators.network_training import TrainingSettings, optimise
from sdlgm.estimators.scaling import Inputs
from sdlgm.estimators.set_sizes import LEAST_ROWS, SizeCorrection, fit_size_correction
from sdlgm.estimators.targets import with_unknown
from sdlgm.estimators.thresholds import count_probabilities
from sdlgm.estimators.unit_adam import UnitAdam
from sdlgm.estimators.validation import Table
from sdlgm.limits import MAX_BUDGET, is_integer
from sdlgm.models import LabelModelConfig, SupervisedSDLGM
from sdlgm.nn import DataStatistics
from sdlgm.objectives.labels import (
    LabelLikelihood,
    label_nll,
)
from sdlgm.random import generator

__all__ = ["LabelNetwork", "LabelTraining", "MemberRows", "input_statistics"]

BLOCK_PROBABILITIES = 4_000_000
"""Number of probabilities (members x rows x labels) that are computed at a time."""
MOST_GROWN = 128
"""Rows up to which batches grow."""
MOST_LOG_ODDS = 4_000_000
"""Most log-odds (members x rows x labels) that a recalibration is learned from."""


class MemberRows:
    """The rows that each member is fitted on, and their order.

    They are one batch until they are :meth:`cut`. Member ``m`` holds out fold ``m % folds`` of a
    random partition, with a new partition for every ``folds`` members. With ``folds = 0`` no rows
    are held out; with ``same``, all members hold out the same fold. Folds depend on the seed and
    the number of rows; the order of the rows, also on the number of epochs before
    (``first_epoch``).
    """

    def __init__(
        self,
        rows: int,
        members: int,
        folds: int,
        seed: int,
        *,
        same: bool = False,
        first_epoch: int = 0,
    ) -> None:
        self.seed, self.first_epoch = seed, first_epoch
        self.folds, self.same = folds, same
        self.held = torch.zeros(members, rows, dtype=torch.bool)
        fold = torch.arange(rows)
        for member in range(members if folds else 0):
            if member % folds == 0:
                source = generator(seed, "folds", member)
                fold = torch.randperm(rows, generator=source) % folds
            self.held[member] = self.held[0] if same and member else fold == member % folds
        self.kept = [torch.nonzero(~held).squeeze(1) for held in self.held]
        # Folds may differ by one row, which is skipped in this epoch.
        self.number = min(map(len, self.kept))
        self.cut(self.number)

    def cut(self, batch_size: int, epochs: int = 1, growth: Sequence[int] = (1,)) -> None:
        """Cut the rows of each of some epochs into batches.

        Parameters
        ----------
        batch_size
            Rows of a batch: at most those that a member is fitted on.
        epochs, growth
            Batches may grow: of the epochs, the last part has about ``growth[-1]`` times as many
            rows in a batch as the first, up to about ``MOST_GROWN``, and so on for parts of equal
            length. Grown batches have one size, so that they take nearly all rows.
        """
        self.batch_size = min(batch_size, self.number)
        most = self.number // self.batch_size
        parts = [max(1, min(part, MOST_GROWN // self.batch_size)) for part in growth]
        self.steps = [-(-most // parts[each * len(parts) // epochs]) for each in range(epochs)]
        """Number of steps of each epoch."""
        self._ends = list(itertools.accumulate(self.steps))
        self._epoch, self._order = -1, torch.empty(0)

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """Which rows a member is fitted on: all but those of a fold that all members hold out."""
        return ~self.held.all(0).numpy()

    def fitted_of(self, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of more rows a member is fitted on, given which of them the rows here are.

        Parameters
        ----------
        kept
            Shape ``(n,)``, with as many ``True`` as there are rows here.
        """
        fitted = kept.copy()
        fitted[kept] = self.fitted
        return fitted

    def batch(self, step: int) -> Tensor:
        """Return the rows of each member at step ``0, 1, ...``: shape ``(members, b)``."""
        epoch = bisect.bisect(self._ends, step)
        steps = self.steps[epoch]
        if epoch != self._epoch:
            source = generator(self.seed, "order", self.first_epoch + epoch)
            orders = [k[torch.randperm(len(k), generator=source)[: self.number]] for k in self.kept]
            self._epoch, self._order = epoch, torch.stack(orders)
        size = self.batch_size if steps == self.steps[0] else self.number // steps
        start = (step + steps - self._ends[epoch]) * size
        return self._order[:, start : start + size]


@dataclass(frozen=True)
class LabelTraining:
    """Training data and settings of the members."""

    rows: Table
    """Inputs ``(n, D)``."""
    labels: sp.csr_array
    """Labels ``(n, K)``."""
    sample_weight: Tensor
    """Weight of each row, with a mean of 1, shape ``(n,)``."""
    label_weight: Tensor | None
    """Weight of each label, ``(K,)``, or of each label of each row, ``(n, K)``; 0 if unknown."""
    members: MemberRows
    """The rows that each member is fitted on."""
    settings: TrainingSettings
    """Length and rate of the training."""
    elbo_weight: float
    """Weight of the negative ELBO relative to the label loss, for a model with a decoder."""
    unknown: sp.csr_array | None = None
    """Ones where a label is unknown, ``(n, K)``; ``None`` if all are known."""

    def truth(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Return the labels of some rows as a dense table; NaN where unknown."""
        return with_unknown(self.labels[index].toarray(), self.unknown, index)

    def known(self, index: Tensor) -> Tensor | None:
        """Return 1 for the known labels of some rows, 0 for others; ``None`` if all are."""
        weight = self.label_weight
        return None if weight is None or weight.dim() == 1 else (weight[index] > 0).float()


class LabelNetwork:
    """A model of labels with the scaling of its inputs and its label likelihood."""

    def __init__(
        self,
        model: SupervisedSDLGM,
        scaling: Inputs,
        likelihood: LabelLikelihood,
        temperature: float,
    ) -> None:
        self.model, self.scaling = model, scaling
        self.likelihood, self.temperature = likelihood, temperature
        self.recalibration: MemberRecalibration | None = None
        self.optimiser_state: dict[str, Any] = {}
        """That of the optimiser after a training at a constant rate, to continue it; not saved."""
        self.by_unit = False
        """Whether the latest training, if it was not of a loaded network, was ``by_unit``."""

    def describe(self) -> dict[str, Any]:
        """Return the values that :meth:`restore` needs besides the weights."""
        return {
            "config": asdict(self.model.config),
            "scaling": vars(self.scaling),
            "likelihood": self.likelihood,
            "temperature": self.temperature,
            "recalibration": None if self.recalibration is None else tuple(self.recalibration),
        }

    @classmethod
    def restore(cls, values: dict[str, Any], features: int) -> Self:
        """Rebuild a network with ``features`` inputs; the caller loads its weights.

        Raises
        ------
        ModelFileError
            If the scaling has another number of features, or a setting is out of range.
        """
        config = LabelModelConfig(**values["config"])
        scaling = Inputs.restore(values["scaling"], features)
        _check_restored(config, scaling.width, values["likelihood"], values["temperature"])
        blank = DataStatistics(torch.zeros(features), torch.ones(features), 2)
        model = SupervisedSDLGM(config, blank, torch.zeros(config.labels), torch.Generator())
        network = cls(model, scaling, values["likelihood"], values["temperature"])
        network.recalibration = _restored_recalibration(values.get("recalibration"))
        return network

    def on(self, device: torch.device) -> Self:
        """Return the network on a device, see :func:`~sdlgm.environment.placed`."""
        model = placed(self.model, device)
        network = type(self)(model, self.scaling, self.likelihood, self.temperature)
        network.recalibration = self.recalibration
        return network

    def fit(
        self,
        training: LabelTraining,
        on_epoch: Callable[[int, float], None],
        device: torch.device,
        on_step: Callable[[int], None] = lambda step: None,
    ) -> list[dict[str, float]]:
        """Fit all members together on a device; return the mean loss (nats) of each epoch.

        With patience, the weights of the epoch with the best held-out label loss are kept.
        """
        members, seed = training.members, training.settings.seed
        dropout, draws = (
            generator(seed, what, members.first_epoch, device) for what in ("dropout", "draws")
        )
        self.model.to(device)
        self.by_unit = training.settings.by_unit
        inputs, first = self._inputs(training, device)
        loss = loss_with_gradients(
            self.model, training, inputs, self.likelihood, dropout, device
        ) or loss_by_autograd(
            self.model, training, inputs, self.likelihood, self.temperature, dropout, draws, device
        )
        active = ActiveLabels(training.labels)

        def validate() -> float:
            total, number = 0.0, 0.0
            for index, absent in self.absences(training.rows):
                held = members.held[:, index].float() * training.sample_weight[index]
                every = index.expand(len(held), -1)
                each = label_nll(absent, *active(every), training.known(every))
                total, number = total + float((each * held).sum()), number + float(held.sum())
            return total / number

        patient = training.settings.patience is not None
        history = optimise(
            self.model,
            loss,
            members.steps,
            training.settings,
            validate=validate if patient else None,
            on_epoch=on_epoch,
            on_step=on_step,
            optimiser_state=self.optimiser_state,
            first=first,
        )
        self.model.cpu()
        return history

    def _inputs(
        self, training: LabelTraining, device: torch.device
    ) -> tuple[Read, UnitAdam | None]:
        """Return what a step reads, and what trains the first layer if it is not AdamW."""
        config, first = self.model.config, None
        if training.settings.by_unit and config.hidden:
            size = training.members.batch_size
            sparse = sparse_inputs(training.rows, self.scaling, self.model, device, size)
            if sparse is not None:
                return sparse, sparse.weights
            first = UnitAdam(first_weights(self.model))
        return dense_inputs(training.rows, self.scaling, config, device, first), first

    @property
    def labels(self) -> int:
        """Number K of labels."""
        return self.model.config.labels

    @torch.no_grad()
    def absences(self, rows: Table) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield row indices ``(b,)`` and log-absences ``(members, b, K)``, block by block.

        Both are on the CPU, wherever the model is.

        For the relaxed likelihood, the probabilities are those of the code at its temperature,
        without noise, so that the prediction for a row depends on this row alone.
        """
        config, device = self.model.config, next(self.model.parameters()).device
        block = max(
            1, BLOCK_PROBABILITIES // (config.members * (config.labels + config.latent_features))
        )
        self.model.eval()
        for start in range(0, rows.shape[0], block):
            index = np.arange(start, min(start + block, rows.shape[0]))
            code = self.model(block_inputs(rows, index, self.scaling, config.members, device))
            if self.likelihood == "relaxed":
                logits = code.gate_logits / self.temperature
                features = code.feature_logits / self.temperature
                code = GatedMultinomial(config.budget, logits, features, validate_args=False)
            absent = code.absence_log_probs[:, : len(index), : config.labels].cpu()
            if self.recalibration is not None:
                absent = self.recalibration(absent)
            yield torch.from_numpy(index), absent

    def correct(
        self, training: LabelTraining, min_labels: int, max_labels: int, device: torch.device
    ) -> SizeCorrection | None:
        """Learn to correct probabilities on rows, by the members that were not fitted on them.

        Return what corrects the distribution of the number of labels, learned on those of these
        rows that have no unknown labels. Of many rows and labels, a random part is used.
        """
        rows = self._some_held_out(training)
        held, truth = training.members.held[:, rows], training.truth(rows.numpy())
        parts = [part for _, part in self.on(device).absences(training.rows[rows.numpy()])]
        odds = torch.cat([absence_log_odds(part) for part in parts], 1)
        labels = torch.from_numpy(truth.astype(np.float64))
        self.recalibration = fit_member_recalibration(odds, held, labels)
        numbers = truth.sum(1)
        known = numbers == numbers
        if known.sum() < LEAST_ROWS:
            return None
        weights = (held.double() / held.sum(0)).split([part.shape[1] for part in parts], 1)
        sizes = [
            torch.einsum(
                "mb,mbl->bl",
                weight,
                count_probabilities(self.recalibration(part), min_labels, max_labels),
            )
            for weight, part in zip(weights, parts, strict=True)
        ]
        return fit_size_correction(torch.cat(sizes).numpy()[known], numbers[known], min_labels)

    def _some_held_out(self, training: LabelTraining) -> Tensor:
        """Return rows that some members were not fitted on: a random part if there are many."""
        held, seed = training.members.held, training.settings.seed
        rows = torch.nonzero(held.any(0)).squeeze(1)
        most = max(1, MOST_LOG_ODDS // (len(held) * self.labels))
        if len(rows) <= most:
            return rows
        order = torch.randperm(len(rows), generator=generator(seed, "recalibration"))
        return rows[order[:most]].sort().values

    def held_out(
        self, rows: Table, members: MemberRows
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Yield rows and their label probabilities by the members not fitted on them.

        Rows that all members were fitted on are left out.
        """
        chosen = np.flatnonzero(members.held.any(0).numpy())
        for place, absent in self.absences(rows[chosen]):
            index = chosen[place.numpy()]
            held = members.held[:, index].double()
            weight = held / held.sum(0)
            present = torch.expm1(absent.double()).neg_()
            yield index, torch.einsum("mb,mbk->bk", weight, present).numpy()


def _restored_recalibration(values: object) -> MemberRecalibration | None:
    """Return offset and slope from a file; there are none in older files."""
    if values is None:
        return None
    if not (
        isinstance(values, tuple)
        and len(values) == 2
        and all(isinstance(value, float) and math.isfinite(value) for value in values)
        and values[1] > 0
    ):
        raise ModelFileError(f"The recalibration is damaged: {str(values)[:80]}.")
    return MemberRecalibration(*values)


def _check_restored(
    config: LabelModelConfig, width: int, likelihood: object, temperature: object
) -> None:
    """Check settings from a file that the shapes of its tensors do not show."""
    good = (
        config.inputs == width
        and is_integer(config.members, 1)
        and is_integer(config.labels, 1)
        and is_integer(config.latent_features)
        and is_integer(config.budget, 1, MAX_BUDGET)
        and isinstance(config.decoder, bool)
        and isinstance(config.hidden, tuple)
        and all(is_integer(each, 1) for each in config.hidden)
        and config.normalisation in ("layer", "none")
        and isinstance(likelihood, str)
        and likelihood in get_args(LabelLikelihood)
        and isinstance(temperature, int | float)
        and 0 < temperature < math.inf
    )
    if not good:
        raise ModelFileError(f"The settings of the network are damaged: {str(config)[:400]}.")


def input_statistics(rows: Table, config: LabelModelConfig) -> DataStatistics:
    """Return statistics of the decoder's targets: scaled inputs, or unscaled bits.

    Raises
    ------
    DataError
        If rows hold other values than 0 and 1 under a Bernoulli likelihood.
    """
    features = rows.shape[1]
    mean, scale = torch.zeros(features), torch.ones(features)
    if config.decoder and config.likelihood == "bernoulli":
        values = rows.data if sp.issparse(rows) else rows
        if not np.isin(values, (0, 1)).all():
            raise DataError(
                "likelihood='bernoulli' needs X of 0 and 1; for real numbers use 'gaussian'."
            )
        mean = torch.from_numpy(np.asarray(rows.mean(axis=0), np.float32).ravel())
    return DataStatistics(mean, scale, 2)
