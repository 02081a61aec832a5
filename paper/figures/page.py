"""The paper's figures 3 and 4, and the page that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdlgm.report.drawing import ACCENT, CLASSES, INK, SOFT, WARM, data_uri, new_figure, png, tidy
from sdlgm.report.rendering import render_page

__all__ = ["Column", "Picture", "Strip", "draw_codes", "draw_strips", "write_figures_page"]

Array = NDArray[np.float64]
GREY = "#51677a"
IMAGE_WIDTH, TEXT_WIDTH = 0.8, 2.9
"""Widths in inches of an image of a strip, and of the text beside it."""


@dataclass(frozen=True)
class Strip:
    """One row of images."""

    title: str
    note: str
    """One or two lines below the title."""
    images: Array
    """Values from 0 to 1, shape ``(n, h, w)``."""
    is_code: bool = False
    """Whether the images were decoded from discrete codes."""


@dataclass(frozen=True)
class Column:
    """The plots of one model: a map, and the numbers of slots that its codes open."""

    title: str
    plane: Array
    """Coordinates in the plane, shape ``(n, 2)``."""
    map_note: str
    drawn: Array
    """Fraction of the samples that open 0, 1, ..., L0 slots."""
    exact: Array
    """Exact distribution of the number of open slots."""
    binomial: Array
    """The Binomial distribution of the same mean."""
    prior: Array
    """The Binomial distribution of the paper's prior."""
    slots_note: str
    rounded: Array
    """Fraction of the samples whose expected number of open slots rounds to each number."""
    logits_note: str


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    title: str
    png: bytes
    alt: str
    caption: str


def draw_strips(strips: Sequence[Strip]) -> bytes:
    """Draw rows of images with their titles (figure 3); return a PNG."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = [LinearSegmentedColormap.from_list("", ["white", colour]) for colour in (INK, ACCENT)]
    number, height = len(strips[0].images), len(strips)
    figure = new_figure(TEXT_WIDTH + IMAGE_WIDTH * number, IMAGE_WIDTH * height)
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    widths = [TEXT_WIDTH / IMAGE_WIDTH, *[1.0] * number]
    axes = figure.subplots(height, number + 1, squeeze=False, gridspec_kw={"width_ratios": widths})
    for axis in axes.flat:
        axis.axis("off")
    for row, strip in zip(axes, strips, strict=True):
        style = {"x": 0.0, "transform": row[0].transAxes}
        row[0].text(
            y=0.54, s=strip.title, color=INK, fontsize=10, weight="bold", va="bottom", **style
        )
        row[0].text(y=0.46, s=strip.note, color=GREY, fontsize=8, va="top", **style)
        for axis, image in zip(row[1:], strip.images, strict=True):
            axis.imshow(image, cmap=colours[strip.is_code], vmin=0, vmax=1, interpolation="nearest")
    return png(figure, 130, colours=128)


def draw_codes(
    columns: Sequence[Column],
    labels: NDArray[np.int64],
    baseline: tuple[str, Array, str],
    gate_logits: tuple[str, Array],
    accuracies: Mapping[str, float],
) -> bytes:
    """Draw maps of codes and histograms of their open slots (figure 4); return a PNG.

    Parameters
    ----------
    columns
        The models.
    labels
        Classes of the samples, shape ``(n,)``.
    baseline
        Title, coordinates and note of a map of the data.
    gate_logits
        Title and values of the sparsity logits of all gates of the first model.
    accuracies
        Accuracy of a nearest-neighbour classifier, by the features it uses.
    """
    width = len(columns) + 1
    figure = new_figure(4.3 * width, 11.6)
    axes = figure.subplots(3, width, squeeze=False, gridspec_kw={"height_ratios": [1.35, 1, 1]})
    for row, column in zip(axes.T, columns, strict=False):
        _map(row[0], column.plane, labels, f"Codes: {column.title}", column.map_note)
        _slots(row[1], column)
        _expected(row[2], column)
    title, plane, note = baseline
    _map(axes[0, -1], plane, labels, title, note)
    _bars(axes[1, -1], accuracies)
    _gates(axes[2, -1], *gate_logits)
    return png(figure, 100, colours=128)


def _map(axis: Any, plane: Array, labels: NDArray[np.int64], title: str, note: str) -> None:
    from matplotlib import patheffects

    colours = np.array(CLASSES)[labels % len(CLASSES)]
    axis.scatter(plane[:, 0], plane[:, 1], s=6, c=colours, linewidths=0, alpha=0.8)
    halo = [patheffects.withStroke(linewidth=3, foreground="white")]
    for label in np.unique(labels):
        place = _densest(plane[labels == label])
        axis.annotate(
            str(label), place, ha="center", va="center", fontsize=15, weight="bold", color=INK,
            path_effects=halo,
        )  # fmt: skip
    axis.set_aspect("equal", adjustable="datalim")
    axis.axis("off")
    _head(axis, title, note)


def _densest(points: Array) -> Array:
    """Return the point with the smallest distance to the nearest third of the others."""
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return points[np.quantile(apart, 1 / 3, axis=1).argmin()]


def _slots(axis: Any, column: Column) -> None:
    slots = np.arange(len(column.exact))
    axis.bar(slots, column.drawn, width=0.9, color=SOFT, label="drawn codes")
    axis.plot(slots, column.exact, color=ACCENT, linewidth=1.8, label="exact distribution")
    axis.plot(
        slots, column.binomial, color=WARM, linewidth=1.6, linestyle="--",
        label="Binomial, same mean",
    )  # fmt: skip
    axis.plot(
        slots, column.prior, color=GREY, linewidth=1.2, linestyle=":",
        label="Binomial, paper's prior",
    )  # fmt: skip
    _finish(axis, "open slots L of a digit", "fraction of digits")
    _head(axis, f"Open slots: {column.title}", column.slots_note)


def _expected(axis: Any, column: Column) -> None:
    """Draw a histogram of the sparsity logits with bins one slot wide."""
    budget = len(column.exact) - 1
    slots = np.arange(budget + 1)
    axis.bar(slots, column.rounded, width=0.9, color=SOFT, label="digits")
    axis.plot(
        slots, column.binomial, color=WARM, linewidth=1.6, linestyle="--",
        label="Binomial, same mean",
    )  # fmt: skip
    shown = [-4, -2, -1, 0, 1, 2, 4]
    axis.set_xticks([budget / (1 + np.exp(-logit)) for logit in shown], [f"{x:g}" for x in shown])
    _finish(axis, "sparsity logit (on the scale of expected open slots)", "fraction of digits")
    _head(axis, f"Sparsity logits: {column.title}", column.logits_note)


def _gates(axis: Any, title: str, logits: Array) -> None:
    low, high = np.quantile(logits, (0.002, 0.998))
    bins = np.linspace(low, high, 61)
    axis.hist(logits, bins=bins, weights=np.full(len(logits), 1 / len(logits)), color=SOFT)
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.text(
        0.02, 0.95, "gate more often closed", transform=axis.transAxes, color=GREY, fontsize=8
    )
    axis.text(
        0.98, 0.95, "more often open", transform=axis.transAxes, color=GREY, fontsize=8, ha="right"
    )
    _finish(axis, "sparsity logit of a gate", "fraction of gates", legend=False)
    _head(axis, title, f"{(logits > 0).mean():.0%} are more often open than closed")


def _bars(axis: Any, accuracies: Mapping[str, float]) -> None:
    """Draw dots on a common scale, the best on top."""
    ordered = sorted(accuracies.items(), key=lambda item: item[1])
    for place, (name, value) in enumerate(ordered):
        axis.plot([0, value], [place, place], color=SOFT, linewidth=1)
        axis.plot(value, place, "o", color=ACCENT, markersize=6)
        style = {"textcoords": "offset points", "fontsize": 8}
        axis.annotate(name, (0, place), xytext=(1, 4), color=GREY, va="bottom", **style)
        axis.annotate(
            f"{value:.1%}", (value, place), xytext=(7, -1), color=INK, va="center", **style
        )
    axis.set_ylim(-0.6, len(ordered))
    axis.set_yticks([])
    axis.set_xlim(0, 1.15)
    axis.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    _finish(axis, "accuracy of the 10 nearest neighbours", "", legend=False)
    _head(axis, "Do neighbours share a class?", "leave-one-out classification")


def _head(axis: Any, title: str, note: str) -> None:
    axis.set_title(title, loc="left", fontsize=11, weight="bold", color=INK, pad=22)
    axis.text(0, 1.02, note, transform=axis.transAxes, fontsize=8, color=GREY, va="bottom")


def _finish(axis: Any, below: str, beside: str, *, legend: bool = True) -> None:
    axis.set_xlabel(below, fontsize=9, color=INK)
    axis.set_ylabel(beside, fontsize=9, color=INK)
    tidy(axis)
    if legend:  # leave room above the curves
        axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=2, columnspacing=1.2)
        axis.set_ylim(0, 1.22 * axis.get_ylim()[1])


def write_figures_page(
    path: Path | str,
    pictures: Sequence[Picture],
    tables: Sequence[Sequence[Sequence[str]]],
    description: str,
    command: str,
) -> Path:
    """Write one self-contained HTML page, atomically; return its path.

    Parameters
    ----------
    path
        File to write.
    pictures
        Figures of the page.
    tables
        Tables of the page: rows of values, the head first.
    description
        Data, training and units.
    command
        The command that made the page.
    """
    shown = [
        {"title": p.title, "alt": p.alt, "caption": p.caption, "source": data_uri(p.png)}
        for p in pictures
    ]
    return render_page(
        path,
        Path(__file__).with_name("page.html.jinja"),
        pictures=shown,
        tables=tables,
        description=description,
        command=command,
    )
