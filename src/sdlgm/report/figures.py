"""Figures of a run, each a self-contained string of SVG or PNG for an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdlgm.distributions import Chain, Grouped
from sdlgm.random import generator
from sdlgm.report.drawing import (
    ACCENT,
    INK,
    SOFT,
    WARM,
    data_uri,
    new_figure,
    png,
    svg,
    tidy,
)

__all__ = ["budget_use", "curve", "reconstructions", "usage"]

DRAWS = 10_000
"""Codes drawn from a structured prior, for the distribution of their open slots."""


def reconstructions(original: Tensor, decoded: Tensor, shape: tuple[int, int] | None) -> str:
    """Draw rows of data beside their reconstructions, as images or curves.

    Parameters
    ----------
    original, decoded
        Shape ``(n, D)``.
    shape
        Height and width of an image, or ``None`` for curves.
    """
    if shape is None:
        return _curves(original, decoded)
    number = len(original)
    columns = min(10, number)
    figure = new_figure(columns * 1.5, 0.82 * -(-number // columns))
    axes = np.atleast_2d(
        figure.subplots(
            -(-number // columns),
            2 * columns,
            squeeze=False,
            gridspec_kw={"wspace": 0.06, "hspace": 0.1},
        )
    )
    high = float(original.max())
    for axis in axes.flat:
        axis.axis("off")
    for index in range(number):
        row, column = divmod(index, columns)
        for side, values in enumerate((original, decoded)):
            image = values[index].view(shape).numpy()
            style = {"cmap": "gray_r" if side == 0 else "Blues", "vmin": 0, "vmax": high}
            axes[row, 2 * column + side].imshow(image, interpolation="nearest", **style)
    return f'<img alt="originals beside reconstructions" src="{data_uri(png(figure))}">'


def _curves(original: Tensor, decoded: Tensor) -> str:
    number = min(6, len(original))
    figure = new_figure(9, 1.2 * number)
    axes = figure.subplots(number, 1, sharex=True, squeeze=False)[:, 0]
    for axis, before, after in zip(axes, original, decoded, strict=False):
        axis.plot(before.numpy(), color=INK, linewidth=1.2, label="original")
        axis.plot(after.numpy(), color=WARM, linewidth=1.2, label="decoded")
        tidy(axis)
    axes[0].legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    axes[-1].set_xlabel("column")
    return svg(figure)


def _totals(prior: Grouped | Chain, totals: Tensor) -> Tensor:
    """Return the probability of each number of open slots; of a structured prior by draws."""
    if not isinstance(prior, Chain):
        return prior.total_log_prob(totals).exp()
    drawn = prior.sample((DRAWS,), generator=generator(0, "open slots of the prior"))
    return torch.bincount(drawn.sum(-1).long(), minlength=len(totals)).double() / DRAWS


def budget_use(codes: Tensor, prior: Grouped | Chain, start: Grouped) -> str:
    """Draw the distribution of the number ``L`` of open slots, in codes and under the prior.

    Parameters
    ----------
    codes
        Shape ``(n, K)``.
    prior
        The learned prior.
    start
        The prior before training: ``L ~ Binomial(L0, lambda0)`` (eq. 1).
    """
    totals = torch.arange(prior.total_count + 1)
    share = torch.bincount(codes.sum(-1).long(), minlength=len(totals)).double() / len(codes)
    figure = new_figure(7.5, 3)
    axis = figure.subplots()
    axis.bar(totals.numpy(), share.numpy(), color=SOFT, width=0.9, label="codes of the test rows")
    initial = start.total_log_prob(totals).exp()
    axis.plot(
        totals, initial, color=INK, linewidth=1, linestyle="--", label="Binomial prior (start)"
    )
    learned = _totals(prior, totals).to(initial)
    if not torch.allclose(learned, initial, atol=1e-4):
        axis.plot(totals, learned, color=WARM, linewidth=1.4, label="learned prior")
    axis.axvline(prior.total_count + 0.5, color=ACCENT, linewidth=2)
    axis.annotate(
        "budget", (prior.total_count + 0.4, 0.98), xycoords=("data", "axes fraction"),
        ha="right", va="top", color=ACCENT,
    )  # fmt: skip
    axis.set_xlabel("open slots L")
    axis.set_ylabel("share of samples")
    axis.legend(frameon=False, loc="upper left")
    tidy(axis)
    return svg(figure)


def usage(present: Tensor, groups: int) -> str:
    """Draw the share of samples with each feature, shape ``(K,)``; dead features in red."""
    features = np.arange(len(present))
    figure = new_figure(9, 2.6)
    axis = figure.subplots()
    axis.vlines(
        features, 0, present.numpy(), color=ACCENT, linewidth=max(0.4, 500 / len(present) / 2)
    )
    dead = features[present.numpy() == 0]
    axis.plot(dead, np.zeros(len(dead)), "x", color=WARM, markersize=4, clip_on=False)
    if 1 < groups <= 60:
        for edge in range(0, len(present) + 1, len(present) // groups):
            axis.axvline(edge - 0.5, color=SOFT, linewidth=0.4, zorder=0)
    axis.set_xlim(-1, len(present))
    axis.set_ylim(0, max(float(present.max()) * 1.05, 1e-3))
    axis.set_xlabel(f"feature (thin lines separate {groups} groups)" if groups > 1 else "feature")
    axis.set_ylabel("share of samples")
    tidy(axis)
    return svg(figure)


OBJECTIVES: dict[str | None, str] = {
    "elbo": "negative ELBO",
    "paper": "relaxed objective (not a bound)",
    "rate_distortion": "at searched codes (not a bound)",
}
"""What to call what a training minimises."""


def curve(log: Sequence[dict[str, Any]], objective: str | None) -> str:
    """Draw the training objective and, if there is one, the validation bound."""
    figure = new_figure(7.5, 3)
    axis = figure.subplots()
    lines = [line for line in log if line["event"] == "train"]
    held = [line for line in log if line["event"] == "validation"]
    name = OBJECTIVES.get(objective, str(objective))
    values = [line["objective"] for line in lines]
    axis.plot(
        [line["step"] for line in lines], values, color=ACCENT, linewidth=1.3,
        label=f"training: {name}",
    )  # fmt: skip
    if held:
        axis.plot(
            [line["step"] for line in held], [line["negative_elbo"] for line in held],
            color=WARM, linewidth=1.3, marker="o", markersize=3, label="validation: negative ELBO",
        )  # fmt: skip
    warming = [line["step"] for line in lines if line["kl_weight"] < 1]
    if warming:
        axis.axvspan(0, warming[-1], color=SOFT, alpha=0.2, linewidth=0, label="KL warm-up")
    if values:
        shown = values + [line["negative_elbo"] for line in held]
        top = float(np.quantile(shown, 0.95))
        if top > min(shown):
            axis.set_ylim(min(shown) - 0.03 * (top - min(shown)), top + 0.1 * abs(top - min(shown)))
    axis.set_xlabel("iteration")
    axis.set_ylabel("nats per sample")
    axis.legend(frameon=False)
    tidy(axis)
    return svg(figure)
