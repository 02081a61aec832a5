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
CELL, WORDS = 0.8, 2.9
"""Widths in inches of an image of a strip, and of the words beside it."""


@dataclass(frozen=True)
class Strip:
    """One row of images."""

    title: str
    note: str
    """What the row is worth, in a line or two under the title."""
    images: Array
    """Values from 0 to 1, shape ``(n, h, w)``."""
    is_code: bool = False
    """Whether these were decoded from discrete codes."""


@dataclass(frozen=True)
class Column:
    """What is drawn of one model: a map, and how many slots its codes open."""

    title: str
    plane: Array
    """Places in the plane, shape ``(n, 2)``."""
    map_note: str
    drawn: Array
    """Share of the samples that open 0, 1, ..., L0 slots."""
    law: Array
    """Exact law of the open slots."""
    binomial: Array
    """The Binomial of the same mean."""
    prior: Array
    """The Binomial of the paper's prior."""
    slots_note: str
    rounded: Array
    """Share of the samples whose expected number of open slots rounds to each."""
    logits_note: str


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    title: str
    png: bytes
    alt: str
    caption: str


def draw_strips(strips: Sequence[Strip]) -> bytes:
    """Draw rows of images under each other, each with its title (figure 3); return a PNG."""
    from matplotlib.colors import LinearSegmentedColormap

    inks = [LinearSegmentedColormap.from_list("", ["white", ink]) for ink in (INK, ACCENT)]
    number, height = len(strips[0].images), len(strips)
    figure = new_figure(WORDS + CELL * number, CELL * height)
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    widths = [WORDS / CELL, *[1.0] * number]
    axes = figure.subplots(height, number + 1, squeeze=False, gridspec_kw={"width_ratios": widths})
    for axis in axes.flat:
        axis.axis("off")
    for row, strip in zip(axes, strips, strict=True):
        said = {"x": 0.0, "transform": row[0].transAxes}
        row[0].text(
            y=0.54, s=strip.title, color=INK, fontsize=10, weight="bold", va="bottom", **said
        )
        row[0].text(y=0.46, s=strip.note, color=GREY, fontsize=8, va="top", **said)
        for axis, image in zip(row[1:], strip.images, strict=True):
            axis.imshow(image, cmap=inks[strip.is_code], vmin=0, vmax=1, interpolation="nearest")
    return png(figure, 130, colours=128)


def draw_codes(
    columns: Sequence[Column],
    labels: NDArray[np.int64],
    baseline: tuple[str, Array, str],
    gate_logits: tuple[str, Array],
    accuracies: Mapping[str, float],
) -> bytes:
    """Draw maps of codes and the spread of their open slots (figure 4); return a PNG.

    Parameters
    ----------
    columns
        The models.
    labels
        Classes of the samples, shape ``(n,)``.
    baseline
        Title, places and note of a map of the data themselves.
    gate_logits
        Title and values of the sparsity logits of the first model, gate by gate.
    accuracies
        Share of samples that their nearest neighbours classify rightly, by representation.
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


def _densest(places: Array) -> Array:
    """Return the place that is nearest to a third of the others, so that it lies among its own."""
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return places[np.quantile(apart, 1 / 3, axis=1).argmin()]


def _slots(axis: Any, column: Column) -> None:
    slots = np.arange(len(column.law))
    axis.bar(slots, column.drawn, width=0.9, color=SOFT, label="drawn codes")
    axis.plot(slots, column.law, color=ACCENT, linewidth=1.8, label="exact law")
    axis.plot(
        slots, column.binomial, color=WARM, linewidth=1.6, linestyle="--",
        label="Binomial, same mean",
    )  # fmt: skip
    axis.plot(
        slots, column.prior, color=GREY, linewidth=1.2, linestyle=":",
        label="Binomial, paper's prior",
    )  # fmt: skip
    _finish(axis, "open slots L of a digit", "share of digits")
    _head(axis, f"Open slots: {column.title}", column.slots_note)


def _expected(axis: Any, column: Column) -> None:
    """Histogram of the sparsity logits, on bins that are one slot wide."""
    budget = len(column.law) - 1
    slots = np.arange(budget + 1)
    axis.bar(slots, column.rounded, width=0.9, color=SOFT, label="digits")
    axis.plot(
        slots, column.binomial, color=WARM, linewidth=1.6, linestyle="--",
        label="Binomial, same mean",
    )  # fmt: skip
    shown = [-4, -2, -1, 0, 1, 2, 4]
    axis.set_xticks([budget / (1 + np.exp(-logit)) for logit in shown], [f"{x:g}" for x in shown])
    _finish(axis, "sparsity logit (on the scale of expected open slots)", "share of digits")
    _head(axis, f"Sparsity logits: {column.title}", column.logits_note)


def _gates(axis: Any, title: str, logits: Array) -> None:
    low, high = np.quantile(logits, (0.002, 0.998))
    bins = np.linspace(low, high, 61)
    axis.hist(logits, bins=bins, weights=np.full(len(logits), 1 / len(logits)), color=SOFT)
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.text(0.02, 0.95, "gate rather closed", transform=axis.transAxes, color=GREY, fontsize=8)
    axis.text(
        0.98, 0.95, "rather open", transform=axis.transAxes, color=GREY, fontsize=8, ha="right"
    )
    _finish(axis, "sparsity logit of a gate", "share of gates", legend=False)
    _head(axis, title, f"{(logits > 0).mean():.0%} rather open than closed")


def _bars(axis: Any, accuracies: Mapping[str, float]) -> None:
    """Dots on a common scale, the best on top."""
    ordered = sorted(accuracies.items(), key=lambda item: item[1])
    for place, (name, value) in enumerate(ordered):
        axis.plot([0, value], [place, place], color=SOFT, linewidth=1)
        axis.plot(value, place, "o", color=ACCENT, markersize=6)
        said = {"textcoords": "offset points", "fontsize": 8}
        axis.annotate(name, (0, place), xytext=(1, 4), color=GREY, va="bottom", **said)
        axis.annotate(
            f"{value:.1%}", (value, place), xytext=(7, -1), color=INK, va="center", **said
        )
    axis.set_ylim(-0.6, len(ordered))
    axis.set_yticks([])
    axis.set_xlim(0, 1.15)
    axis.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    _finish(axis, "right by the 10 nearest neighbours", "", legend=False)
    _head(axis, "Do neighbours share a class?", "each digit left out of its own neighbours")


def _head(axis: Any, title: str, note: str) -> None:
    axis.set_title(title, loc="left", fontsize=11, weight="bold", color=INK, pad=22)
    axis.text(0, 1.02, note, transform=axis.transAxes, fontsize=8, color=GREY, va="bottom")


def _finish(axis: Any, below: str, beside: str, *, legend: bool = True) -> None:
    axis.set_xlabel(below, fontsize=9, color=INK)
    axis.set_ylabel(beside, fontsize=9, color=INK)
    tidy(axis)
    if legend:  # room above the curves
        axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=2, columnspacing=1.2)
        axis.set_ylim(0, 1.22 * axis.get_ylim()[1])


def write_figures_page(
    path: Path | str,
    pictures: Sequence[Picture],
    tables: Sequence[Sequence[Sequence[str]]],
    about: str,
    command: str,
) -> Path:
    """Write one self-contained HTML page, atomically; return its path.

    Parameters
    ----------
    path
        File to write.
    pictures
        Its figures.
    tables
        Each of rows of numbers, the head first.
    about
        Data, training and units, in a sentence.
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
        about=about,
        command=command,
    )
