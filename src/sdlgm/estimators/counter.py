"""How many of each: counts under a budget, by their exact likelihood."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from sdlgm.distributions.poisson_multinomial import MAX_SLOTS
from sdlgm.errors import ConfigError
from sdlgm.estimators.counter_base import Encoder, NetworkCounter
from sdlgm.estimators.saving import Saved
from sdlgm.objectives.counts import Head, TiedSlots, UntiedSlots

__all__ = ["SDLGMCounter"]


class SDLGMCounter(Saved, NetworkCounter):
    r"""Count how many of each class a sample holds, never more than a budget in all.

    A network gives the law of the count vector, and is fitted by its exact likelihood; only the
    counts are needed, no positions.

    - ``slots="tied"``: one gate and one choice of classes for all :math:`L_0` slots, the model of
      Xu et al. 2021 (section IV.C), whose likelihood is a multinomial
      (:class:`~sdlgm.distributions.GatedMultinomial`).
    - ``slots="untied"``: a law of its own for each slot, whose likelihood is a permanent
      (:class:`~sdlgm.distributions.PoissonMultinomial`), for at most 16 slots.

    Parameters
    ----------
    encoder
        ``"mlp"`` (the paper's; rows or images), ``"conv"`` (a small convolutional network of the
        whole image), or ``"columns"``: an image is cut into ``columns`` equal parts, one network
        shared by all parts looks at each, and each part is a slot. The column encoder predicts for
        images of any number of such parts.
    slots
        ``None`` is ``"untied"`` for the column encoder (which has no other), else ``"tied"``.
    columns
        Number of columns of a training image, for ``encoder="columns"`` and ``shuffle_columns``.
    max_count
        The budget :math:`L_0`: the largest sum of a sample's counts. ``None`` takes the largest of
        the training data; of the column encoder it is ``columns``.
    hidden
        Widths of the hidden layers of the mlp (linear, LayerNorm, GELU).
    channels
        Channels of the convolutions; one dense layer of 128 follows.
    epochs, batch_size
        Passes over the training data, and samples a step.
    learning_rate, weight_decay
        Of AdamW. The rate rises over the first 5 % of the steps, then falls as a cosine to 0.
    shift, rotation
        Training images are shifted by up to so many pixels and turned by up to so many degrees,
        anew at each visit; column by column where these are the encoder's parts or shuffled.
    shuffle_columns
        Put the ``columns`` of each training image into a random order at each visit: a change that
        leaves the counts as they are, for an encoder that does not know it.
    orders
        Predict with the average over so many random orders of the columns, the same for all images;
        for tied slots and the baselines' heads, whose outputs do not belong to places.
    test_shift
        Predict with the average over copies of the images that are shifted by a whole number of
        pixels, at most so many in both directions: ``(2 test_shift + 1)^2`` copies, column by
        column as ``shift``. What is averaged is each slot's probabilities of its ``K + 1``
        outcomes, so that the expected counts are the mean of those of the copies.
    validation_fraction, patience
        Hold out a share of the data, keep the weights of the epoch with the best likelihood on it,
        and end after ``patience`` epochs without a better one.
    random_state
        Source of initial weights, order and changes of the images: two fits with one integer are
        equal in every bit (on one machine's CPU, with as many threads). From a ``RandomState`` a
        seed is drawn; ``None`` takes a fresh one. No global state is touched.
    progress
        Show a bar on standard error.

    Attributes
    ----------
    max_count_
        The budget :math:`L_0`.
    n_classes_
        Number K of classes.
    n_features_in_, feature_names_in_
        Number of features, or of pixels of an image; their names, if X was a frame that has some.
    seed_
        The integer that ``random_state`` came to.
    n_iter_
        Number of epochs.
    history_
        Mean loss (nats) of each epoch, and that of the held-out samples.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.random.default_rng(0).multinomial(3, [0.2, 0.3, 0.5], size=200)[:, :2]
    >>> X = y @ [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    >>> counter = SDLGMCounter(hidden=(32,), epochs=60, batch_size=20, progress=False).fit(X, y)
    >>> bool(counter.predict(X).sum(1).max() <= counter.max_count_ == 3)
    True
    >>> counter.score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        encoder: Encoder = "mlp",
        *,
        slots: Literal["tied", "untied"] | None = None,
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
        super().__init__(
            encoder,
            columns=columns,
            max_count=max_count,
            hidden=hidden,
            channels=channels,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            shift=shift,
            rotation=rotation,
            shuffle_columns=shuffle_columns,
            orders=orders,
            test_shift=test_shift,
            validation_fraction=validation_fraction,
            patience=patience,
            random_state=random_state,
            progress=progress,
        )
        self.slots = slots

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.slots not in (None, "tied", "untied"):
            raise ConfigError(f"slots must be 'tied', 'untied' or None, got {self.slots!r}.")
        if self.encoder == "columns" and self.slots == "tied":
            raise ConfigError(
                "encoder='columns' has a slot of its own a column: slots='tied' goes with 'mlp' or "
                "'conv'."
            )
        if self.orders > 1 and (self.slots == "untied" or self.encoder == "columns"):
            raise ConfigError(
                f"orders = {self.orders} averages slots that are alike; slots='untied' may each "
                "belong to a place. Use slots='tied' or orders=1."
            )
        if self.encoder == "columns" and self.max_count not in (None, self.columns):
            raise ConfigError(
                f"encoder='columns' has a budget of its columns = {self.columns}, got max_count = "
                f"{self.max_count}. Leave max_count out."
            )

    def _budget(self) -> int | None:
        return self.columns if self.encoder == "columns" else self.max_count

    def _make_head(self, features: int, budget: int) -> Head:
        if self.encoder != "columns" and self.slots != "untied":
            return TiedSlots(features, budget)
        if budget > MAX_SLOTS:
            raise ConfigError(
                f"Untied slots are fitted by a sum over all their subsets, for at most {MAX_SLOTS} "
                f"of them; here there are {budget}. Use slots='tied' with 'mlp' or 'conv'."
            )
        return UntiedSlots(features, budget)

    # --- saving -------------------------------------------------------------------------------

    _network_attributes = ("network_", "head_")

    def _describe_network(self) -> tuple[dict[str, Any], nn.Module]:
        head = self.head_
        return {
            "head": type(head).__name__, "features": head.features, "budget": head.budget
        }, self.network_  # fmt: skip

    def _restore_network(self, values: dict[str, Any]) -> nn.Module:
        kinds = {kind.__name__: kind for kind in (TiedSlots, UntiedSlots)}
        self.head_ = kinds[values["head"]](values["features"], values["budget"])
        # The scaling's numbers, which are the data's, come with the weights.
        self.network_ = self._make_network(torch.zeros(2, *self.sample_shape_), self.head_)
        return self.network_
