"""The digits of figures 3 and 4, their codes and reconstructions, and the baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from paper.figures.data import (
    Decoded,
    OpenSlots,
    decode_both,
    neighbour_accuracy,
    open_slots,
    total_variation,
)
from paper.figures.tables import Numbers
from sdlgm.config import ModelConfig
from sdlgm.data import Dataset
from sdlgm.random import generator
from sdlgm.training import Run

__all__ = ["Digits", "ModelView", "measure_baselines", "take_digits", "view_model"]


@dataclass(frozen=True)
class Digits:
    """The test digits of the figures."""

    grey: Tensor
    """Grey values from 0 to 1, shape ``(n, D)``."""
    bits: Tensor
    """Bits drawn with these probabilities, which the models encode and are evaluated on."""
    labels: Tensor
    shown: Tensor
    """Indices of the digits of figure 3."""
    shape: tuple[int, int]


@dataclass(frozen=True)
class ModelView:
    """The codes, reconstructions and numbers of one model."""

    run: Run
    decoded: Decoded
    slots: OpenSlots
    numbers: Numbers


def take_digits(dataset: Dataset, digits: int, shown: int) -> Digits:
    """Select digits evenly spaced over the test split and, among them, the ones that are shown."""
    number = min(digits, len(dataset.test))
    rows = dataset.test.subset(_evenly(len(dataset.test), number))
    return Digits(
        rows.grey(),
        rows.batch(slice(None), generator(0, "evaluation bits")),
        cast(Tensor, rows.labels),
        _evenly(number, min(shown, number)),
        cast(tuple[int, int], dataset.image_shape),
    )


def _evenly(total: int, number: int) -> Tensor:
    return torch.linspace(0, total - 1, number).long()


def view_model(run: Run, digits: Digits) -> ModelView:
    """Encode the digits with the model of a run and compute the numbers of the figures."""
    decoded = decode_both(run.model, digits.bits)
    slots = open_slots(decoded, ModelConfig().prior_gate)
    metrics = run.metrics
    kept = ("negative_elbo", "nll_bound", "relaxed_objective", "active_features_mean")
    numbers: Numbers = {name: float(metrics[name]) for name in kept}
    numbers |= {
        "gate_temperature": metrics["gate_temperature"],
        "feature_temperature": metrics["feature_temperature"],
        "reconstruction_codes": float(decoded.hard_loss.double().mean()),
        "reconstruction_relaxed": float(decoded.relaxed_loss.double().mean()),
        "pixel_error_codes": _pixel_error(decoded.hard, digits.bits),
        "pixel_error_relaxed": _pixel_error(decoded.relaxed, digits.bits),
        "neighbours_codes": neighbour_accuracy(decoded.codes, digits.labels),
        "neighbours_expected": neighbour_accuracy(decoded.expected, digits.labels),
        "open_slots_mean": float(slots.expected.mean()),
        "variance_ratio": slots.variance_ratio,
        "variance_within": slots.within,
        "variance_between": slots.between,
        "tv_exact": total_variation(slots.exact, slots.binomial),
        "tv_drawn": total_variation(slots.drawn, slots.binomial),
        "tv_by_chance": slots.draw_noise,
        "tv_prior": total_variation(slots.exact, slots.prior),
        "tv_logits": total_variation(slots.rounded, slots.binomial),
        "minutes": metrics["training_seconds"] / 60,
    }
    return ModelView(run, decoded, slots, numbers)


def _pixel_error(means: Tensor, bits: Tensor) -> float:
    """Return the fraction of bits that differ from their decoded means, rounded."""
    return float(((means > 0.5) != (bits > 0.5)).double().mean())


def measure_baselines(dataset: Dataset, digits: Digits) -> dict[str, Numbers]:
    """Measure baselines without a code: the mean digit, pixels, principal components."""
    from sklearn.decomposition import PCA

    mean = dataset.train.grey().mean(0)
    likelihood = torch.distributions.Bernoulli(mean.clamp(1e-3, 1 - 1e-3))
    loss = -likelihood.log_prob(digits.bits).double().sum(-1).mean()
    majority = digits.labels.bincount().max() / len(digits.labels)
    components = min(ModelConfig().features, len(dataset.train), *dataset.train.values.shape[1:])
    # Fitted to grey values, which carry more information than one draw of bits.
    pca = PCA(components, random_state=0).fit(dataset.train.grey().numpy())

    def near(features: Tensor) -> Numbers:
        return {"neighbours": neighbour_accuracy(features, digits.labels)}

    def reduced(values: Tensor) -> Tensor:
        return torch.from_numpy(pca.transform(values.numpy()))

    return {
        "mean digit": {
            "nll": float(loss),
            "pixel_error": _pixel_error(mean, digits.bits),
        },
        "largest class": {"neighbours": float(majority)},
        "bits": near(digits.bits),
        "grey values": near(digits.grey),
        f"PCA of bits, {components}": near(reduced(digits.bits)),
        f"PCA of grey values, {components}": near(reduced(digits.grey)),
    }
