"""Count the objects of each class in a sample, under a budget, by exact likelihood."""

from __future__ import annotations

import math
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sdlgm.config import NetworkAccelerator
from sdlgm.distributions.poisson_multinomial import MAX_SLOTS
from sdlgm.environment import device_of, neutral, placed
from sdlgm.errors import ConfigError, ModelFileError
from sdlgm.estimators.augmentation import Augmentation, augmented_copies
from sdlgm.estimators.counting import TOTALS_AT_ONCE, BaseCounter, check_totals
from sdlgm.estimators.drift import check_range, training_range, warn_of_drift
from sdlgm.estimators.interruption import unchanged_unless_done, unfitted_unless_done
from sdlgm.estimators.network_training import TrainingSettings, apply, train_counter
from sdlgm.estimators.parameters import (
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_widths,
    plain,
)
from sdlgm.estimators.saving import Saved, require_integer
from sdlgm.estimators.scaling import Standardised
from sdlgm.estimators.validation import (
    pad_rows,
    validate_seed,
)
from sdlgm.limits import MAX_BUDGET, is_integer
from sdlgm.nn import data_statistics, linear, mlp, warn_of_constant_columns
from sdlgm.nn.convolutional import ColumnEncoder, convolutions
from sdlgm.objectives.counts import CountDistribution, TiedSlots, UntiedSlots
from sdlgm.progress import progress_bar
from sdlgm.random import generator

__all__ = ["SDLGMCounter"]

Encoder = Literal["mlp", "conv", "columns"]
HELD_OUT, LEAST_ROWS = 0.1, 50
"""Share of the rows of a table that is held out by default, and the fewest rows that it takes."""

_OF_WHOLE_SAMPLES: dict[str, Any] = {
    "tied": True,
    "epochs": 30,
    "batch_size": 100,
    "learning_rate": 2e-3,
    "shift": 0.0,
    "rotation": 0.0,
    "test_shift": 0,
}
ENCODER_DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp": _OF_WHOLE_SAMPLES,
    "conv": _OF_WHOLE_SAMPLES,
    "columns": {
        "tied": False,
        "epochs": 22,
        "batch_size": 50,
        "learning_rate": 3e-3,
        "shift": 2.0,
        "rotation": 10.0,
        "test_shift": 1,
    },
}
"""For each encoder the value of every parameter that is ``None`` by default and depends on it.

Those of ``columns`` give its result in docs/results/counts.md.
"""


Part: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Inputs, counts and weights of some rows."""


class SDLGMCounter(Saved, BaseCounter):
    r"""Count how many objects of each class a sample holds, at most a budget in all.

    A network predicts a distribution over count vectors and is fitted by its exact likelihood. It
    learns from counts alone, without positions of the objects.

    - Tied slots: all :math:`L_0` slots share one gate and one distribution over classes, as in Xu
      et al. 2021 (section IV.C). The likelihood is a multinomial
      (:class:`~sdlgm.distributions.GatedMultinomial`).
    - Untied slots: each slot has its own distribution. The likelihood is a permanent
      (:class:`~sdlgm.distributions.PoissonMultinomial`), for at most 16 slots.

    Parameters
    ----------
    encoder
        ``"mlp"`` (the paper's; for rows or images), ``"conv"`` (a small convolutional network of
        the whole image), or ``"columns"``: the image is cut into ``image_columns`` equal parts, the
        same network reads each part, and each part is a slot. The column encoder predicts for
        images with any number of such parts.
    tied
        Whether the slots are tied. ``None``: ``False`` for the column encoder, which has untied
        slots only, otherwise ``True``.
    image_columns
        Number of columns of a training image, for ``encoder="columns"`` and ``shuffle_columns``.
    budget
        The budget :math:`L_0`: the largest sum of a sample's counts. ``None``: ``image_columns``
        for the column encoder, otherwise the largest sum in the training data.
    hidden
        Widths of the hidden layers of the MLP (linear, LayerNorm, GELU).
    channels
        Channels of the convolutions, which a dense layer of 128 units follows.
    epochs, batch_size
        Passes over the training data, and samples in a batch. ``None``: 22 and 50 for the column
        encoder, otherwise 30 and 100.
    learning_rate, weight_decay
        Of AdamW. The rate rises over the first 5 % of the steps, then falls to 0 along a half
        cosine. ``learning_rate=None``: 3e-3 for the column encoder, otherwise 2e-3.
    shift, rotation
        At each visit, training images are shifted by up to ``shift`` pixels and rotated by up to
        ``rotation`` degrees; column by column for the column encoder or with ``shuffle_columns``.
        ``None``: 2 and 10 for the column encoder, otherwise 0.
    shuffle_columns
        Shuffle the columns of each training image at each visit, which leaves the counts unchanged:
        augmentation for encoders that are not permutation-invariant.
    test_orders
        Number of random column permutations averaged at prediction, the same for all images; for
        tied slots.
    test_shift
        Average predictions over copies of the images shifted by whole numbers of pixels, at most
        this many in both directions: ``(2 test_shift + 1)^2`` copies, shifted column by column as
        for ``shift``. Averaged are the probabilities of each slot's ``K + 1`` outcomes, so that
        expected counts are the mean of those of the copies. ``None``: 1 for the column encoder,
        otherwise 0.
    validation_fraction, patience
        Hold out this share of the data, keep the weights of the epoch with the best likelihood on
        it, and stop after ``patience`` epochs without improvement. ``validation_fraction=None``:
        0.1 for tables of 50 rows or more, which the network would learn by heart, and 0 for images
        and for fewer rows.
    random_state
        Source of initial weights, order and augmentation: an integer, a ``RandomState`` or
        ``None`` for a fresh seed. Two fits with the same integer are bit-identical (on one
        machine's CPU, with the same number of threads). No global state is used.
    accelerator
        Device to fit and predict on: ``"auto"`` (the GPU if there is one, else the CPU), ``"cpu"``
        or ``"gpu"``. Arrays stay on the CPU, and so does ``network_``.
    progress
        Whether to show a progress bar on standard error.

    Attributes
    ----------
    budget_
        The budget :math:`L_0`.
    n_classes_
        Number K of classes.
    n_features_in_, feature_names_in_
        Number of features, or of pixels of an image; the features' names if X was a frame.
    seed_
        The integer that seeded the fit.
    n_iter_
        Number of epochs.
    history_
        Mean loss (nats) of each epoch, and of the held-out samples.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.random.default_rng(0).multinomial(3, [0.2, 0.3, 0.5], size=200)[:, :2]
    >>> X = y @ [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    >>> counter = SDLGMCounter(hidden=(32,), epochs=60, batch_size=20, random_state=0).fit(X, y)
    >>> bool(counter.predict(X).sum(1).max() <= counter.budget_ == 3)
    True
    >>> counter.score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        encoder: Encoder = "mlp",
        *,
        tied: bool | None = None,
        image_columns: int = 5,
        budget: int | None = None,
        hidden: tuple[int, ...] = (512, 384, 256),
        channels: tuple[int, ...] = (16, 32, 64),
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float = 1e-2,
        shift: float | None = None,
        rotation: float | None = None,
        shuffle_columns: bool = False,
        test_orders: int = 1,
        test_shift: int | None = None,
        validation_fraction: float | None = None,
        patience: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        accelerator: NetworkAccelerator = "auto",
        progress: bool = False,
    ) -> None:
        self.encoder = encoder
        self.tied = tied
        self.image_columns = image_columns
        self.budget = budget
        self.hidden = hidden
        self.channels = channels
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.shift = shift
        self.rotation = rotation
        self.shuffle_columns = shuffle_columns
        self.test_orders = test_orders
        self.test_shift = test_shift
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.accelerator = accelerator
        self.progress = progress

    # --- fitting ------------------------------------------------------------------------------

    @neutral()
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Fit by maximum likelihood of the counts.

        Parameters
        ----------
        X
            Rows ``(n, features)``, dense, sparse (made dense) or a frame, or images
            ``(n, height, width)``, of any scale.
        y
            Counts ``(n, K)``, whole numbers with row sums of at most ``budget``.
        sample_weight
            Weight of each sample's log-likelihood. Only their ratios matter; a weight of 0 equals
            leaving the sample out.

        Raises
        ------
        DataError
            If X or y are not as described; the message names the first fault.
        ConfigError
            If a parameter is out of range or does not fit the data.
        TrainingError
            If the loss is not finite.
        KeyboardInterrupt
            After Ctrl-C, once the current step is complete.

        If data or parameters are refused, the estimator is as it was before; if training fails or
        is interrupted, it is not fitted.
        """
        self._check_parameters()
        with unchanged_unless_done(self):
            parts, held, distribution, network = self._prepared(X, y, sample_weight)
        epochs = self._setting("epochs")
        settings = TrainingSettings(
            epochs,
            self._setting("batch_size"),
            self._setting("learning_rate"),
            self.weight_decay,
            self.patience,
            self.seed_,
        )
        with unfitted_unless_done(self), progress_bar("fitting", epochs, self.progress) as update:
            self.history_ = train_counter(
                network,
                distribution,
                *parts,
                settings,
                augmentation=self._make_augmentation(),
                validation=held,
                on_epoch=lambda epoch, loss: update(epoch, {"loss": loss}),
            )
        self.distribution_, self.network_ = distribution, network.cpu()
        self.n_iter_ = len(self.history_)
        return self

    def _prepared(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
    ) -> tuple[Part, Part | None, CountDistribution, nn.Module]:
        """Return rows to fit to and to follow, and an unfitted network with its distribution."""
        self.seed_ = validate_seed(self.random_state)
        budget = self.image_columns if self.encoder == "columns" else self.budget
        inputs, counts, weights = self._fit_checked(X, y, sample_weight, budget)
        self._check_images()
        if inputs.dim() == 2:
            names = getattr(self, "feature_names_in_", None)
            warn_of_constant_columns(data_statistics(inputs), "X", names)
        self._limits = training_range(inputs)
        distribution = self._make_distribution(self.n_classes_, self.budget_)
        network = self._make_network(inputs, distribution).to(device_of(self.accelerator))
        fraction = self._held_out_fraction(inputs)
        if not fraction:
            return (inputs, counts, weights), None, distribution, network
        share = max(1, round(fraction * len(inputs)))
        order = torch.randperm(len(inputs), generator=generator(self.seed_, "held out"))
        held, rest = (
            (inputs[part], counts[part], weights[part]) for part in (order[:share], order[share:])
        )
        return rest, held, distribution, network

    def _held_out_fraction(self, inputs: Tensor) -> float:
        """Return the share of the samples that is held out.

        Raises
        ------
        ConfigError
            If it is 0, and ``patience`` needs some.
        """
        fraction = self.validation_fraction
        if fraction is None:
            tall = inputs.dim() == 2 and len(inputs) >= LEAST_ROWS
            fraction = HELD_OUT if tall else 0.0
        if self.patience is not None and not fraction:
            raise ConfigError("patience needs held-out samples: set validation_fraction above 0.")
        return fraction

    def _setting(self, name: str) -> Any:
        """Return a parameter's value, or the encoder's default if it is ``None``."""
        value = getattr(self, name)
        return ENCODER_DEFAULTS[self.encoder][name] if value is None else plain(value)

    def _check_parameters(self) -> None:
        check_choice("encoder", self.encoder, tuple(ENCODER_DEFAULTS))
        check_choice("accelerator", self.accelerator, get_args(NetworkAccelerator))
        if not (self.tied is None or isinstance(self.tied, bool | np.bool_)):
            raise ConfigError(f"tied must be True, False or None, got {self.tied!r}.")
        for name in ("shuffle_columns", "progress"):
            check_flag(name, getattr(self, name))
        check_widths("hidden", self.hidden)
        check_widths("channels", self.channels)
        check_integer("budget", self.budget, optional=True)
        check_integer("patience", self.patience, optional=True)
        for name in ("epochs", "batch_size"):
            check_integer(name, self._setting(name))
        for name in ("image_columns", "test_orders"):
            check_integer(name, getattr(self, name))
        check_integer("test_shift", self._setting("test_shift"), low=0)
        for name in ("shift", "rotation"):
            check_number(name, self._setting(name))
        check_number("weight_decay", self.weight_decay)
        check_number("learning_rate", self._setting("learning_rate"), "positive")
        if self.validation_fraction is not None:
            check_number("validation_fraction", self.validation_fraction, "a share")
        if self.encoder == "columns":
            self._check_column_parameters()
        if self.test_orders > 1 and not self._setting("tied"):
            raise ConfigError(
                f"test_orders = {self.test_orders} averages over orders of the columns, but an "
                "untied slot may belong to one place. Use tied=True or test_orders=1."
            )

    def _check_column_parameters(self) -> None:
        if self._setting("tied"):
            raise ConfigError(
                "encoder='columns' has untied slots, one for each column: tied=True needs "
                "encoder='mlp' or 'conv'."
            )
        if self.budget not in (None, self.image_columns):
            raise ConfigError(
                "The budget of encoder='columns' is image_columns = "
                f"{self.image_columns}, got budget = {self.budget}. Leave budget out."
            )

    @property
    def _by_column(self) -> bool:
        """Whether the encoder or the augmentation treats the columns of an image one by one."""
        return self.encoder == "columns" or self.shuffle_columns

    def _check_images(self) -> None:
        """Raise :class:`ConfigError` if a parameter needs images, or columns, and X has none."""
        needing = [
            name
            for name, needs in (
                (f"encoder={self.encoder!r}", self.encoder != "mlp"),
                ("shift", self._setting("shift")),
                ("rotation", self._setting("rotation")),
                ("shuffle_columns", self.shuffle_columns),
                ("test_orders", self.test_orders > 1),
                ("test_shift", self._setting("test_shift")),
            )
            if needs
        ]
        if needing and len(self.sample_shape_) == 1:
            raise ConfigError(
                f"{needing[0]} needs images X of shape (n, height, width), got rows of "
                f"{self.n_features_in_} features. Reshape X, or use encoder='mlp' without it."
            )
        by_column = self._by_column or self.test_orders > 1
        if by_column and self.sample_shape_[1] % self.image_columns:
            raise ConfigError(
                f"image_columns = {self.image_columns} does not divide the width of the images, "
                f"{self.sample_shape_[1]}."
            )

    def _make_distribution(self, features: int, budget: int) -> CountDistribution:
        """Return the family of distributions over counts."""
        if self._setting("tied"):
            return TiedSlots(features, budget)
        if budget > MAX_SLOTS:
            raise ConfigError(
                f"The likelihood of untied slots sums over their subsets, for at most {MAX_SLOTS} "
                f"slots, but the budget is {budget}. Use tied=True with encoder='mlp' or 'conv'."
            )
        return UntiedSlots(features, budget)

    def _make_augmentation(self) -> Augmentation | None:
        shift, rotation = self._setting("shift"), self._setting("rotation")
        if not (shift or rotation or self.shuffle_columns):
            return None
        columns = self.image_columns if self._by_column else 1
        return Augmentation(columns, shift, rotation, self.shuffle_columns)

    def _make_network(self, inputs: Tensor, distribution: CountDistribution) -> nn.Module:
        """Return a network that scales inputs and predicts the distribution's parameters."""
        source = generator(self.seed_, "initial weights")
        scaling = Standardised(inputs)
        hidden, channels = plain(tuple(self.hidden)), plain(tuple(self.channels))
        if self.encoder == "mlp":
            trunk: nn.Module = nn.Sequential(
                nn.Flatten(),
                mlp(
                    self.n_features_in_, hidden, activation="gelu", normalisation="layer",
                    generator=source,
                ),
            )  # fmt: skip
            width = hidden[-1] if hidden else self.n_features_in_
        else:
            high, wide = self.sample_shape_
            wide = wide // self.image_columns if self.encoder == "columns" else wide
            width = 128
            trunk = convolutions((high, wide), channels, width, source)
        if self.encoder == "columns":
            last = linear(width, distribution.outputs[-1], source)
            return nn.Sequential(scaling, ColumnEncoder(nn.Sequential(trunk, last), wide))
        last = linear(width, int(np.prod(distribution.outputs)), source)
        return nn.Sequential(scaling, trunk, last, nn.Unflatten(1, distribution.outputs))

    # --- predicting ---------------------------------------------------------------------------

    @neutral()
    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Predict the most probable counts, shape ``(n, K)``.

        For untied slots, they are the counts of each slot's most probable outcome.
        """
        outputs = self._outputs(X)
        return self.distribution_.mode(outputs).long().numpy()

    @neutral()
    def predict_mean(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict expected counts, shape ``(n, K)``, which minimise the expected squared error."""
        outputs = self._outputs(X)
        return self.distribution_.mean(outputs).double().numpy()

    @neutral()
    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the probability of *at least one* object of each class, shape ``(n, K)``."""
        outputs = self._outputs(X)
        return self.distribution_.presence(outputs).double().numpy()

    @neutral()
    def predict_total(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the probabilities of the sums ``0..L0`` of the counts, shape ``(n, L0 + 1)``.

        For the column encoder, ``L0`` is the number of columns of X.

        Raises
        ------
        ConfigError
            If they take more than 1 GiB; the message says how many rows do not.
        """
        outputs, distribution = self._outputs(X), self.distribution_
        sums = distribution.largest_sum(outputs) + 1
        check_totals(len(outputs), sums)
        total = np.empty((len(outputs), sums))
        size = max(1, TOTALS_AT_ONCE // sums)
        for start in range(0, len(outputs), size):
            part = outputs[start : start + size].double()  # millions of slots need its precision
            total[start : start + size] = distribution.total(part)
        return total

    def _outputs(self, X: Any) -> Tensor:  # noqa: N803
        fitted_columns = self.encoder == "columns" and hasattr(self, "sample_shape_")
        width = self.sample_shape_[1] // self.image_columns if fitted_columns else None
        inputs = self._inputs(X, width)
        warn_of_drift(self, inputs)
        number, inputs = len(inputs), pad_rows(inputs)
        network = placed(self.network_, device_of(self.accelerator))
        shift = self._setting("test_shift")
        if self.test_orders == 1 and not shift:
            return apply(network, inputs)[:number].cpu()
        columns = inputs.shape[2] // width if width else self.image_columns
        copies = augmented_copies(
            inputs,
            columns if self._by_column or self.test_orders > 1 else 1,
            orders=self.test_orders,
            shift=shift,
            seed=self.seed_,
        )
        outputs = torch.stack([apply(network, copy) for copy in copies])
        return self.distribution_.average(outputs)[:number].cpu()

    # --- saving -------------------------------------------------------------------------------

    _network_attributes = ("network_", "distribution_")

    def _describe_network(self) -> tuple[dict[str, Any], nn.Module]:
        distribution = self.distribution_
        return {
            "distribution": type(distribution).__name__,
            "features": distribution.features,
            "budget": distribution.budget,
        }, self.network_

    def _check_fitted_values(self, where: str) -> None:
        super()._check_fitted_values(where)
        require_integer(self, "budget_", where, low=1, high=MAX_BUDGET)
        require_integer(self, "n_classes_", where, low=1)
        shape = self.sample_shape_
        if not (
            isinstance(shape, tuple)
            and len(shape) in (1, 2)
            and all(is_integer(size, 1) for size in shape)
            and math.prod(shape) == self.n_features_in_
        ):
            raise ModelFileError(f"{where} is damaged: sample_shape_ is {str(shape)[:80]}.")
        check_range(self, 1 if len(shape) == 2 else shape[0], where)

    def _restore_network(self, values: dict[str, Any]) -> nn.Module:
        if (values["features"], values["budget"]) != (self.n_classes_, self.budget_):
            raise ValueError("the counts are of other classes, or of another budget")
        self.distribution_ = self._make_distribution(values["features"], values["budget"])
        if type(self.distribution_).__name__ != values["distribution"]:
            raise ValueError(
                f"the counts are of {values['distribution']}, but the parameters make "
                f"{type(self.distribution_).__name__}"
            )
        # The weights that the caller loads include the scaling.
        self.network_ = self._make_network(torch.zeros(2, *self.sample_shape_), self.distribution_)
        return self.network_
