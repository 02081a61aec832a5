"""The digits that figures 3 and 4 show, and what models and baselines make of them."""

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

__all__ = ["Digits", "Look", "look_at", "measure_baselines", "take_digits"]


@dataclass(frozen=True)
class Digits:
    """The test digits that are looked at."""

    grey: Tensor
    """Grey values from 0 to 1, shape ``(n, D)``."""
    bits: Tensor
    """Bits drawn with these probabilities, which the models see and are scored on."""
    labels: Tensor
    shown: Tensor
    """Places of those of figure 3."""
    shape: tuple[int, int]


@dataclass(frozen=True)
class Look:
    """What one model makes of the digits."""

    run: Run
    decoded: Decoded
    slots: OpenSlots
    numbers: Numbers


def take_digits(dataset: Dataset, digits: int, shown: int) -> Digits:
    """Take digits evenly spaced over the test split, and of these the shown ones likewise."""
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


def look_at(run: Run, digits: Digits) -> Look:
    """Encode the digits by a finished run and measure all that the figures speak of."""
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
        "tv_law": total_variation(slots.law, slots.binomial),
        "tv_drawn": total_variation(slots.drawn, slots.binomial),
        "tv_by_chance": slots.draw_noise,
        "tv_prior": total_variation(slots.law, slots.prior),
        "tv_logits": total_variation(slots.rounded, slots.binomial),
        "minutes": metrics["training_seconds"] / 60,
    }
    return Look(run, decoded, slots, numbers)


def _pixel_error(means: Tensor, bits: Tensor) -> float:
    """Share of the bits that lie on the other side of one half than their decoded means."""
    return float(((means > 0.5) != (bits > 0.5)).double().mean())


def measure_baselines(dataset: Dataset, digits: Digits) -> dict[str, Numbers]:
    """Measure what can be had without a code: the mean digit, pixels, principal components."""
    from sklearn.decomposition import PCA

    mean = dataset.train.grey().mean(0)
    likelihood = torch.distributions.Bernoulli(mean.clamp(1e-3, 1 - 1e-3))
    loss = -likelihood.log_prob(digits.bits).double().sum(-1).mean()
    majority = digits.labels.bincount().max() / len(digits.labels)
    components = min(ModelConfig().features, len(dataset.train), *dataset.train.values.shape[1:])
    # On grey values, of which the training rows have many more than any draw of bits.
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
