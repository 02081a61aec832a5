"""Labels under a budget: at least one, at most so many, with a probability each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags
from torch import Tensor, nn

from sdlgm.config import Activation
from sdlgm.errors import ConfigError
from sdlgm.estimators.classifier_parameters import (
    check_parameters,
    class_sample_weight,
    label_weights,
)
from sdlgm.estimators.interruption import unfitted_unless_done
from sdlgm.estimators.label_checks import check_targets
from sdlgm.estimators.label_network import (
    LabelNetwork,
    LabelTraining,
    MemberRows,
    input_statistics,
)
from sdlgm.estimators.label_sets import (
    choose_held_out,
    class_proba,
    count_law,
    decide,
    mean_presence,
)
from sdlgm.estimators.multilabel import MultilabelClassifier
from sdlgm.estimators.network_training import TrainingSettings
from sdlgm.estimators.saving import Saved
from sdlgm.estimators.scaling import Inputs, InputScaling
from sdlgm.estimators.thresholds import ThresholdRule
from sdlgm.estimators.validation import Table, validate_rows, validate_seed, validate_weights
from sdlgm.models import LabelModelConfig, SupervisedSDLGM
from sdlgm.objectives.labels import LabelLikelihood
from sdlgm.progress import progress_bar
from sdlgm.random import generator

__all__ = ["SDLGMClassifier"]


class SDLGMClassifier(Saved, MultilabelClassifier):
    r"""Predict sets of labels of at least ``min_labels`` and at most ``max_labels``.

    Labels are a code (Xu et al. 2021, section III.C): each of ``slots`` slots is closed or holds a
    label, and a sample has the labels that at least one slot holds,

    .. math:: p_k = P(y_k = 1 \mid x) = 1 - (1 - \lambda(x)\, \pi_k(x))^{L_0}.

    What is minimised, in nats a sample, is minus the Bernoulli log-likelihood of the labels
    (:func:`~sdlgm.objectives.labels.label_nll`) plus, but for the first variant, ``elbo_weight``
    times minus the evidence lower bound of the inputs (eq. 6):

    - ``variant="discriminative"``: the posterior network alone, :math:`q(y \mid x)`.
    - ``variant="generative"``: labels are the code; a decoder explains x from labels that are drawn
      from :math:`q(y \mid x)` (eqs. 3, 11 - 14), and the labels' likelihood is the extra loss.
    - ``variant="conditional"``: the code has labels and ``latent_features`` that nobody observes;
      the encoder is :math:`q(y, z \mid x)` and the decoder explains x from both.

    Where y is one class a sample, ``(n,)``, the set has one label, and the probabilities of the
    labels are divided by their sum; ``threshold``, ``min_labels`` and ``max_labels`` have no say.

    All predict by the encoder. Several members, networks of one shape fitted side by side, are one
    classifier: its probabilities are their mean. Each leaves out a fold of the rows, on which the
    threshold is chosen and training can be stopped, so that no second fit is needed.

    Parameters
    ----------
    variant
        See above.
    label_likelihood
        ``"presence"`` (the formula above) or ``"relaxed"``: of relaxed draws
        (:func:`~sdlgm.objectives.labels.absence`), as the paper; then also the ELBO is the paper's,
        and its prior fixed. Relaxed draws need ``slots x K`` numbers a sample.
    temperature
        Of relaxed gates and features.
    slots
        :math:`L_0` of the code. A label may take several slots, and with as many slots as labels no
        set of labels could be near certain: three labels that share three slots are there with a
        probability of 0.70 each, with twelve slots of 0.99. ``None``: four times the budget.
    max_labels, min_labels
        The cap and the floor of predicted sets. ``None``: the most labels of a training sample.
    threshold
        Probability above which a label is predicted: a number, or chosen on held-out rows:
        ``"micro"``, ``"macro"``, ``"per_label"`` or ``"smoothed"``, see
        :func:`~sdlgm.estimators.thresholds.choose_threshold`.
    class_weight
        Weight of each label's part of the likelihood: ``None``, ``"balanced"`` (by the inverse of
        its frequency), one number a label or a dictionary by ``classes_``. Where y is one class a
        sample: weight of the samples of each class.
    inputs, bins
        ``"standard"`` (z-scores; of sparse X no centring), ``"quantile"`` (normal quantiles of
        ranks, for heavy-tailed features), ``"bins"`` (each feature as ``bins`` piecewise linear
        ones, for few rows and features of any course) or ``"none"``.
    likelihood
        Of x given the code: ``"gaussian"`` (of scaled inputs) or ``"bernoulli"`` (X of 0 and 1).
    latent_features, latent_slots
        Of ``"conditional"``: features besides the labels, and slots added for them.
    elbo_weight
        Weight of the bound of the inputs (nats of all D of them) beside the labels' likelihood; the
        paper's sum is 1, which labels of many inputs do not survive.
    hidden, activation, normalise
        Hidden layers of the encoder, which the decoder mirrors.
    dropout, input_dropout, input_noise
        Share of hidden units and of inputs that a training pass leaves out, and deviation of the
        noise that it adds to the scaled inputs.
    members, folds
        Number of networks; member ``m`` leaves out fold ``m % folds`` of the rows. ``folds=0``
        leaves out nothing, for a ``threshold`` that is a number.
    epochs, batch_size, learning_rate, weight_decay
        Of AdamW; the rate rises over the first 5 % of the steps, then falls as a cosine to 0.
    patience
        End after so many epochs without a better likelihood of held-out rows, and keep the best.
    random_state
        Source of all randomness: two fits with one integer are equal in every bit (on one machine's
        CPU, with as many threads). From a ``RandomState`` a seed is drawn; ``None`` takes a fresh
        one. No global state is touched.
    progress
        Show a bar on standard error.

    Attributes
    ----------
    max_labels_
        The budget.
    classes_
        Names of the labels: the classes, the columns of a frame y, or ``0 .. K - 1``.
    multilabel_
        Whether y was a table of labels, not one class a sample.
    seed_
        The integer that ``random_state`` came to.
    n_iter_
        Number of epochs.
    threshold_
        A number, or one a label; 0 where y is one class a sample.
    n_labels_, n_features_in_, feature_names_in_
        K and D; names of the features, if X was a frame that has some.
    history_
        Mean loss (nats) of each epoch, and that of held-out rows if they are followed.
    network_
        The fitted networks.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> Y = (X > [0.0, 0.5, -0.5]).astype(int)
    >>> model = SDLGMClassifier(members=5, epochs=20, progress=False).fit(X, Y)
    >>> sums = model.predict(X).sum(1)
    >>> bool(sums.min() >= 1 and sums.max() <= model.max_labels_ == 3)
    True
    >>> model.score(X, Y) > 0.7  # a tenth of the rows has no label, which cannot be met
    True
    """

    def __init__(
        self,
        variant: Literal["discriminative", "generative", "conditional"] = "discriminative",
        *,
        label_likelihood: LabelLikelihood = "presence",
        temperature: float = 3.0,
        slots: int | None = None,
        max_labels: int | None = None,
        min_labels: int = 1,
        threshold: float | ThresholdRule = "micro",
        class_weight: Literal["balanced"] | ArrayLike | None = None,
        inputs: InputScaling = "standard",
        bins: int = 4,
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
        latent_features: int = 20,
        latent_slots: int = 10,
        elbo_weight: float = 0.03,
        hidden: tuple[int, ...] = (128,),
        activation: Activation = "relu",
        normalise: bool = False,
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
        random_state: int | np.random.RandomState | None = 0,
        progress: bool = True,
    ) -> None:
        self.variant = variant
        self.label_likelihood = label_likelihood
        self.temperature = temperature
        self.slots = slots
        self.max_labels = max_labels
        self.min_labels = min_labels
        self.threshold = threshold
        self.class_weight = class_weight
        self.inputs = inputs
        self.bins = bins
        self.likelihood = likelihood
        self.latent_features = latent_features
        self.latent_slots = latent_slots
        self.elbo_weight = elbo_weight
        self.hidden = hidden
        self.activation = activation
        self.normalise = normalise
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
        self.progress = progress

    def __sklearn_tags__(self) -> Tags:
        """Say that y may be one class a sample, too."""
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.classifier_tags.multi_class = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit the networks, and choose the threshold on the rows that they left out.

        Parameters
        ----------
        X
            Rows ``(n, D)``, dense or sparse (never made dense as a whole).
        y
            Labels ``(n, K)`` of 0 and 1, dense or sparse (never made dense as a whole), or one
            class a sample: numbers or texts ``(n,)``.
        sample_weight
            Weight of each row in what is minimised; only their ratios count, and a row of weight 0
            is as good as none.

        Raises
        ------
        DataError
            If X, y or the weights are not as said, with the place of the first fault.
        ConfigError
            If a parameter is out of range or does not fit the data.
        TrainingError
            If the loss is not finite.
        KeyboardInterrupt
            After Ctrl-C, once the current step is complete; the estimator is then not fitted.
        """
        check_parameters(self)
        self.seed_ = validate_seed(self.random_state)
        rows = validate_rows(self, X, reset=True)
        weight = validate_weights(sample_weight, rows.shape[0])
        targets = check_targets(y, rows.shape[0])
        self.classes_, self.multilabel_ = targets.classes, targets.multilabel
        kept = weight > 0
        self.max_labels_ = targets.budget(self.max_labels, kept)
        labels = targets.table
        if not kept.all():
            rows, labels, weight = rows[kept], labels[kept], weight[kept]
        self._remember(labels, y)
        if not self._floor <= min(self.max_labels_, self.n_labels_):
            raise ConfigError(
                f"min_labels = {self.min_labels} is more than a sample may have: max_labels = "
                f"{self.max_labels_} of {self.n_labels_} labels."
            )
        weight_of_labels = None
        if self.multilabel_:
            weight_of_labels = label_weights(self.class_weight, labels, self.classes_)
        elif self.class_weight is not None:
            weight = weight * class_sample_weight(self.class_weight, self.classes_[labels.indices])
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
        with (
            unfitted_unless_done(self),
            progress_bar("fitting", self.epochs, self.progress) as update,
        ):
            self.history_ = self.network_.fit(
                training, lambda epoch, loss: update(epoch, {"loss": loss})
            )
        self.n_iter_ = len(self.history_)
        if not self.multilabel_:
            self.threshold_: float | NDArray[np.float64] = 0.0
        elif isinstance(self.threshold, str):
            self.threshold_ = choose_held_out(
                self.network_, training, self.threshold, self.min_labels, self.max_labels_
            )
        else:
            self.threshold_ = float(self.threshold)
        return self

    def predict(self, X: Any) -> NDArray[Any] | sp.csr_array:  # noqa: N803
        """Predict sets of labels, 0 and 1 of shape ``(n, K)``: CSR if fitted on sparse labels.

        Where y was one class a sample: classes, shape ``(n,)``.
        """
        parts = [
            decide(proba, self.threshold_, self._floor, self.max_labels_)
            for proba in self._proba_blocks(X)
        ]
        table = sp.csr_array(sp.vstack(parts))
        return self._as_fitted(table) if self.multilabel_ else self.classes_[table.indices]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the probability of each label, one array of shape ``(n, K)``.

        Where y was one class a sample, rows sum to 1.
        """
        return np.concatenate([proba.numpy() for proba in self._proba_blocks(X)])

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Log-odds of :meth:`predict_proba`, kept within those of 1e-12.

        Where y was one class a sample, of two: those of the second, shape ``(n,)``.
        """
        proba = np.clip(self.predict_proba(X), 1e-12, 1 - 1e-12)
        odds = np.log(proba) - np.log1p(-proba)
        return odds[:, 1] if not self.multilabel_ and self.n_labels_ == 2 else odds

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:  # noqa: N803
        """Share of the rows whose labels are all right and complete (subset accuracy)."""
        self._check_fitted()
        if self.multilabel_:
            return super().score(X, y, sample_weight)
        from sklearn.metrics import accuracy_score

        return float(accuracy_score(y, self.predict(X), sample_weight=sample_weight))

    def predict_count_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the law of the number of labels: probabilities of ``0..max_labels_``.

        Poisson-binomial of each member's probabilities, given that floor and cap hold; the mean
        over the members.
        """
        self._check_fitted()
        low, high = self._floor, min(self.max_labels_, self.n_labels_)
        laws = [count_law(absent, low, high).mean(0) for _, absent in self._absences(X)]
        law = torch.cat(laws).numpy()
        return np.pad(law, ((0, 0), (0, self.max_labels_ - high)))

    def predict_counts(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Predict the most probable number of labels, shape ``(n,)``."""
        return self.predict_count_proba(X).argmax(1)

    def top_k(self, X: Any, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:  # noqa: N803
        """Return the k most probable labels, best first, and their probabilities: ``(n, k)`` each.

        Nothing of shape ``(n, K)`` is made.
        """
        self._check_fitted()
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= self.n_labels_:
            raise ConfigError(f"k must be an integer from 1 to {self.n_labels_}, got {k!r}.")
        found = [proba.topk(k) for proba in self._proba_blocks(X)]
        return (
            torch.cat([top.indices for top in found]).numpy(),
            torch.cat([top.values for top in found]).numpy(),
        )

    # --- fitting ------------------------------------------------------------------------------

    def _make_members(self, rows: int) -> MemberRows:
        chosen = (self.multilabel_ and isinstance(self.threshold, str)) or (
            self.patience is not None
        )
        folds = self.folds if chosen else 0
        if folds > rows:
            raise ConfigError(f"folds = {folds} of {rows} rows: use fewer folds, or more rows.")
        return MemberRows(rows, self.members, folds, self.batch_size, self.seed_)

    def _make_network(self, rows: Table, labels: sp.csr_array) -> LabelNetwork:
        scaling = Inputs(self.inputs, rows, self.bins)
        conditional = self.variant == "conditional"
        config = LabelModelConfig(
            inputs=scaling.width,
            labels=self.n_labels_,
            slots=(self.slots or 4 * self.max_labels_) + (self.latent_slots if conditional else 0),
            latents=self.latent_features if conditional else 0,
            decoder=self.variant != "discriminative",
            likelihood=self.likelihood,
            members=self.members,
            hidden=tuple(self.hidden),
            activation=self.activation,
            normalise=self.normalise,
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

    def _absences(self, X: Any) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: N803
        self._check_fitted()
        return self.network_.absences(validate_rows(self, X, reset=False))

    def _proba_blocks(self, X: Any) -> Iterator[Tensor]:  # noqa: N803
        """Yield probabilities of labels ``(b, K)``, block by block."""
        for _, absent in self._absences(X):
            yield mean_presence(absent) if self.multilabel_ else class_proba(absent)

    @property
    def _floor(self) -> int:
        return self.min_labels if self.multilabel_ else 1

    # --- saving -------------------------------------------------------------------------------

    def _describe_network(self) -> tuple[dict[str, Any], nn.Module]:
        return self.network_.describe(), self.network_.model

    def _restore_network(self, values: dict[str, Any]) -> nn.Module:
        self.network_ = LabelNetwork.restore(values, self.n_features_in_)
        return self.network_.model
