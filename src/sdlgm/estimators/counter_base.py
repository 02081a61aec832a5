"""The grammar that all counters share, and the network that most of them are."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, TargetTags
from torch import Tensor, nn

from sdlgm.errors import ConfigError
from sdlgm.estimators.count_checks import check_counts, check_like_training
from sdlgm.estimators.image_copies import views
from sdlgm.estimators.interruption import unfitted_unless_done
from sdlgm.estimators.network_training import (
    Augmentation,
    TrainingSettings,
    apply,
    train_counter,
)
from sdlgm.estimators.validation import (
    EstimatorNotFittedError,
    pad_rows,
    validate_samples,
    validate_seed,
    validate_weights,
)
from sdlgm.nn import data_statistics, linear, mlp
from sdlgm.nn.convolutional import ColumnEncoder, convolutions
from sdlgm.objectives.counts import Head
from sdlgm.progress import progress_bar
from sdlgm.random import generator

__all__ = ["Counter", "Encoder", "NetworkCounter"]

Encoder = Literal["mlp", "conv", "columns"]


class Counter(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What every counter can do: fit counts, predict them, and be scored."""

    def __sklearn_tags__(self) -> Tags:
        """Say that y is a table of counts, and that X may be rows, sparse too, or images.

        A counter is neither scikit-learn's classifier, of one class a column, nor its regressor,
        of real numbers: it has no ``estimator_type``.
        """
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        tags.target_tags = TargetTags(
            required=True, two_d_labels=True, multi_output=True, single_output=False
        )
        return tags

    @abstractmethod
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803 (scikit-learn's)
        """Learn from samples, their counts and weights."""

    @abstractmethod
    def predict_mean(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict expected counts, real numbers of shape ``(n, K)``: the least squared error."""

    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Predict integers of shape ``(n, K)``: here the expected counts, rounded."""
        return np.rint(self.predict_mean(X)).astype(np.int64)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Share of the samples all of whose K counts :meth:`predict` gets right, from 0 to 1."""
        predicted = self.predict(X)
        counts, _ = check_counts(y, len(predicted), None)
        weights = validate_weights(sample_weight, len(predicted))
        return float(np.average((predicted == counts.numpy()).all(1), weights=weights))

    def _fit_checked(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        max_count: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Check the training data and keep what predictions need to know of them.

        Samples of weight 0 are dropped; the weights returned have a mean of 1.
        """
        if max_count is not None and (not isinstance(max_count, int) or max_count < 1):
            raise ConfigError(f"max_count must be a positive integer or None, got {max_count!r}.")
        inputs = validate_samples(self, X, reset=True)
        weights = validate_weights(sample_weight, len(inputs))
        counts, _ = check_counts(y, len(inputs), max_count)
        kept = torch.from_numpy(weights > 0)
        inputs, counts = inputs[kept], counts[kept]
        weights = weights[weights > 0]
        self.max_count_ = max_count or max(1, int(counts.sum(1).max()))
        self.sample_shape_ = tuple(inputs.shape[1:])
        self.n_classes_ = counts.shape[1]
        return inputs, counts, torch.from_numpy(weights / weights.mean()).float()

    def _inputs(self, X: Any, column_width: int | None = None) -> Tensor:  # noqa: N803
        """Check samples to predict for."""
        if not hasattr(self, "sample_shape_"):
            name = type(self).__name__
            raise EstimatorNotFittedError(f"This {name} is not fitted yet: call fit(X, y) first.")
        inputs = validate_samples(self, X, reset=False)
        check_like_training(inputs, self.sample_shape_, column_width)
        return inputs


class NetworkCounter(Counter):
    """A counter that is a network under one of the heads; see ``SDLGMCounter`` for parameters."""

    def __init__(
        self,
        encoder: Encoder = "mlp",
        *,
        columns: int = 5,
        max_count: int | None = None,
        hidden: tuple[int, ...] = (512, 384, 256),
        channels: tuple[int, ...] = (16, 32, 64),
        epochs: int = 30,
        batch_size: int = 100,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        shift: float = 0.0,
        rotation: float = 0.0,
        shuffle_columns: bool = False,
        orders: int = 1,
        test_shift: int = 0,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
        progress: bool = True,
    ) -> None:
        self.encoder = encoder
        self.columns = columns
        self.max_count = max_count
        self.hidden = hidden
        self.channels = channels
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.shift = shift
        self.rotation = rotation
        self.shuffle_columns = shuffle_columns
        self.orders = orders
        self.test_shift = test_shift
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.progress = progress

    def _budget(self) -> int | None:
        """Return the budget to hold the counts to, or ``None`` for the largest sum in the data."""
        return self.max_count

    @abstractmethod
    def _make_head(self, features: int, budget: int) -> Head:
        """Return the likelihood of counts."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Fit by maximum likelihood of the counts.

        Parameters
        ----------
        X
            Rows ``(n, features)``, dense, sparse (made dense) or of a frame, or images
            ``(n, height, width)``, of any scale.
        y
            Counts ``(n, K)``, whole numbers with row sums of at most ``max_count``.
        sample_weight
            Weight of each sample's log-likelihood; only their ratios count, and a sample of weight
            0 is as good as none.

        Raises
        ------
        DataError
            If X or y are not as said, with the place of the first fault.
        ConfigError
            If a parameter is out of range or does not fit the data.
        TrainingError
            If the loss is not finite.
        KeyboardInterrupt
            After Ctrl-C, once the current step is complete; the estimator is then not fitted.
        """
        self._check_parameters()
        self.seed_ = validate_seed(self.random_state)
        inputs, counts, weights = self._fit_checked(X, y, sample_weight, self._budget())
        self._check_images()
        head = self._make_head(self.n_classes_, self.max_count_)
        network = self._make_network(inputs, head)
        held = None
        if self.validation_fraction:
            share = max(1, round(self.validation_fraction * len(inputs)))
            order = torch.randperm(len(inputs), generator=generator(self.seed_, "held out"))
            first, rest = order[:share], order[share:]
            held = (inputs[first], counts[first], weights[first])
            inputs, counts, weights = inputs[rest], counts[rest], weights[rest]
        settings = TrainingSettings(
            self.epochs, self.batch_size, self.learning_rate, self.weight_decay, self.patience,
            self.seed_,
        )  # fmt: skip
        with (
            unfitted_unless_done(self),
            progress_bar("fitting", self.epochs, self.progress) as update,
        ):
            self.history_ = train_counter(
                network,
                head,
                inputs,
                counts,
                weights,
                settings,
                augmentation=self._make_augmentation(),
                validation=held,
                on_epoch=lambda epoch, loss: update(epoch, {"loss": loss}),
            )
        self.head_, self.network_ = head, network
        self.n_iter_ = len(self.history_)
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Predict the most probable counts, integers of shape ``(n, K)``."""
        outputs = self._outputs(X)
        return self.head_.mode(outputs).long().numpy()

    def predict_mean(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict expected counts, real numbers of shape ``(n, K)``: the least squared error."""
        outputs = self._outputs(X)
        return self.head_.mean(outputs).double().numpy()

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the probability of *at least one* of each class, shape ``(n, K)``."""
        outputs = self._outputs(X)
        return self.head_.presence(outputs).double().numpy()

    def predict_total(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the law of the sum of the counts: probabilities of ``0..L0``, ``(n, L0 + 1)``.

        Of the column encoder ``L0`` is the number of columns of X.
        """
        outputs = self._outputs(X)
        return self.head_.total(outputs).double().numpy()

    def _outputs(self, X: Any) -> Tensor:  # noqa: N803
        fitted_columns = self.encoder == "columns" and hasattr(self, "sample_shape_")
        width = self.sample_shape_[1] // self.columns if fitted_columns else None
        inputs = self._inputs(X, width)
        number, inputs = len(inputs), pad_rows(inputs)
        if self.orders == 1 and not self.test_shift:
            return apply(self.network_, inputs)[:number]
        columns = inputs.shape[2] // width if width else self.columns
        copies = views(
            inputs,
            columns if self._parted or self.orders > 1 else 1,
            orders=self.orders,
            shift=self.test_shift,
            seed=self.seed_,
        )
        outputs = torch.stack([apply(self.network_, copy) for copy in copies])
        return self.head_.average(outputs)[:number]

    def _check_parameters(self) -> None:
        if self.encoder not in ("mlp", "conv", "columns"):
            raise ConfigError(f"encoder must be 'mlp', 'conv' or 'columns', got {self.encoder!r}.")
        for name in ("columns", "epochs", "batch_size", "orders"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} must be a positive integer, got {value!r}.")
        shift = self.test_shift
        if isinstance(shift, bool) or not isinstance(shift, int) or shift < 0:
            raise ConfigError(f"test_shift must be an integer of 0 or more, got {shift!r}.")
        for name in ("shift", "rotation", "weight_decay"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)!r}.")
        if not 0 < self.learning_rate < np.inf:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate!r}.")
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction must lie in [0, 1), got {self.validation_fraction!r}."
            )
        if self.patience is not None and not self.validation_fraction:
            raise ConfigError("patience needs validation_fraction > 0: samples to be followed on.")

    @property
    def _parted(self) -> bool:
        """Whether images are looked at, or changed, column by column."""
        return self.encoder == "columns" or self.shuffle_columns

    def _check_images(self) -> None:
        """Raise :class:`ConfigError` if a parameter needs images, or columns, that X has not."""
        needing = [
            name
            for name, needs in (
                (f"encoder={self.encoder!r}", self.encoder != "mlp"),
                ("shift", self.shift),
                ("rotation", self.rotation),
                ("shuffle_columns", self.shuffle_columns),
                ("orders", self.orders > 1),
                ("test_shift", self.test_shift),
            )
            if needs
        ]
        if needing and len(self.sample_shape_) == 1:
            raise ConfigError(
                f"{needing[0]} needs images X of shape (n, height, width), got rows of "
                f"{self.n_features_in_} features. Reshape X, or use encoder='mlp' without it."
            )
        if (self._parted or self.orders > 1) and self.sample_shape_[1] % self.columns:
            raise ConfigError(
                f"columns = {self.columns} does not divide the width of the images, "
                f"{self.sample_shape_[1]}."
            )

    def _make_augmentation(self) -> Augmentation | None:
        if not (self.shift or self.rotation or self.shuffle_columns):
            return None
        parts = self.columns if self._parted else 1
        return Augmentation(parts, self.shift, self.rotation, self.shuffle_columns)

    def _make_network(self, inputs: Tensor, head: Head) -> nn.Module:
        """Return a network of centred and scaled inputs to the head's outputs."""
        source = generator(self.seed_, "initial weights")
        scaling = _Scaling(inputs)
        if self.encoder == "mlp":
            trunk: nn.Module = nn.Sequential(
                nn.Flatten(),
                mlp(
                    self.n_features_in_, self.hidden, activation="gelu", normalisation="layer",
                    generator=source,
                ),
            )  # fmt: skip
            width = self.hidden[-1] if self.hidden else self.n_features_in_
        else:
            high, wide = self.sample_shape_
            wide = wide // self.columns if self.encoder == "columns" else wide
            width = 128
            trunk = convolutions((high, wide), self.channels, width, source)
        if self.encoder == "columns":
            last = linear(width, head.outputs[-1], source)
            return nn.Sequential(scaling, ColumnEncoder(nn.Sequential(trunk, last), wide))
        last = linear(width, int(np.prod(head.outputs)), source)
        return nn.Sequential(scaling, trunk, last, nn.Unflatten(1, head.outputs))


class _Scaling(nn.Module):
    """Centre and scale inputs as the training data ask: columns one by one, images as a whole."""

    mean: Tensor
    scale: Tensor

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        if inputs.dim() == 3:  # one scale for all pixels: that of a border pixel is next to nothing
            inputs = inputs.reshape(-1, 1)
        statistics = data_statistics(inputs)
        mean, scale = statistics.mean.squeeze(), statistics.scale.squeeze()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Scale a batch."""
        return (x - self.mean) / self.scale
