"""Pictures of the discrete bound: during training, by budget, and the effects of features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdlgm.report.drawing import ACCENT, INK, SOFT, WARM, new_figure, png, tidy

__all__ = ["draw_activity", "draw_budgets", "draw_curves", "draw_features"]

ACROSS = 16
"""Number of features in a row of the picture."""
STYLES = ((ACCENT, "-"), (ACCENT, "-."), (WARM, "-"), (ACCENT, ":"), (WARM, ":"))
"""Colours and dashes of the curves, in order: three long trainings, then two short ones."""
UNIT = "negative ELBO, nats per sample (lower is better)"


def draw_curves(
    lines: Mapping[str, Sequence[Sequence[tuple[int, float, float]]]],
    reference: tuple[str, float] | None = None,
) -> bytes:
    """Draw the bound against training time, one line per seed; return a PNG.

    Parameters
    ----------
    lines
        By title, for each seed its points (step, minutes, nats). At most five titles are drawn.
    reference
        Name and value of a number that is drawn as a dashed line.
    """
    figure = new_figure(6.4, 3.8)
    axis = figure.subplots()
    lowest = reference[1] if reference else math.inf
    for (title, seeds), (colour, dashes) in zip(lines.items(), STYLES, strict=False):
        for place, points in enumerate(seeds):
            minutes, nats = [point[1] for point in points], [point[2] for point in points]
            label = None if place else title
            axis.plot(minutes, nats, color=colour, linewidth=1.3, linestyle=dashes, label=label)
            lowest = min(lowest, *nats)
    if reference:
        name, value = reference
        axis.axhline(value, color=SOFT, linewidth=1, linestyle="--")
        axis.annotate(
            name, (0, value), (3, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", fontsize=8, color=INK,
        )  # fmt: skip
    axis.set_ylim(math.floor(lowest) - 1, min(axis.get_ylim()[1], lowest + 25))
    axis.set_xlabel("minutes of training on one thread", color=INK, fontsize=9)
    axis.set_ylabel(UNIT, color=INK, fontsize=9)
    axis.legend(frameon=False, fontsize=8)
    tidy(axis)
    return png(figure)


def draw_budgets(points: Sequence[tuple[int, float, float]]) -> bytes:
    """Draw the bound and the number of active features against the budget; return a PNG.

    Parameters
    ----------
    points
        Budget, nats and mean number of active features.
    """
    figure = new_figure(6.4, 3.2)
    bound, active = figure.subplots(1, 2)
    budgets = [point[0] for point in points]
    for axis, place, label in ((bound, 1, UNIT), (active, 2, "active features, mean")):
        axis.plot(budgets, [point[place] for point in points], color=ACCENT, marker="o", ms=4)
        axis.set_xscale("log", base=2)
        axis.set_xticks(budgets, [str(budget) for budget in budgets])
        axis.set_xlabel("budget L0", color=INK, fontsize=9)
        axis.set_ylabel(label, color=INK, fontsize=8)
        tidy(axis)
    active.plot(budgets, budgets, color=SOFT, linewidth=1, linestyle="--", label="the budget")
    active.legend(frameon=False, fontsize=8)
    return png(figure)


def draw_activity(points: Sequence[tuple[float, float]]) -> bytes:
    """Draw the bound against the mean number of active features; return a PNG.

    Parameters
    ----------
    points
        Mean number of active features, and nats.
    """
    figure = new_figure(5.0, 3.2)
    axis = figure.subplots()
    active, nats = zip(*points, strict=True)
    axis.plot(active, nats, color=ACCENT, marker="o", ms=4)
    axis.set_xlabel("active features, mean", color=INK, fontsize=9)
    axis.set_ylabel(UNIT, color=INK, fontsize=8)
    tidy(axis)
    return png(figure)


def draw_features(images: NDArray[np.floating[Any]], names: Sequence[str], title: str) -> bytes:
    """Draw what features add (blue) and remove (red), shape ``(n, h, w)``; return a PNG."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("", [WARM, "white", ACCENT])
    rows = math.ceil(len(images) / ACROSS)
    figure = new_figure(0.66 * ACROSS, 0.85 * rows + 0.5)
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    figure.suptitle(title, fontsize=9, color=INK)
    axes = figure.subplots(rows, ACROSS, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, name in zip(axes.flat, images, names, strict=False):
        most = max(float(np.abs(image).max()), 1e-6)
        axis.imshow(image, cmap=colours, vmin=-most, vmax=most, interpolation="nearest")
        axis.set_title(name, fontsize=6, color=INK, pad=1.5)
    return png(figure, 130, colours=128)
