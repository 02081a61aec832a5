"""The figure and the page of the multi-label experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sdlgm.report.drawing import SOFT, new_figure, png, svg, tidy
from sdlgm.report.rendering import render_page, require_report
from sdlgm.storage import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_labels_page", "write_sparsity_figure"]

Histograms = Mapping[str, NDArray[np.int64]]


def write_sparsity_figure(path: Path | str, numbers: Histograms) -> Path:
    """Draw figure 5 of the paper as PNG: histograms of the number of labels of a row.

    Parameters
    ----------
    path
        File to write, atomically.
    numbers
        The number of labels of each row, by data set.

    Raises
    ------
    SDLGMError
        If the extra ``report`` (matplotlib, jinja2) is not installed.
    """
    require_report("The figure")
    path = Path(path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(png(_draw(numbers)))
    return path


def write_labels_page(
    path: Path | str,
    numbers: Histograms,
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
    command: str,
) -> Path:
    """Write a self-contained HTML page with the figure and the tables, atomically.

    Parameters
    ----------
    path
        File to write.
    numbers
        The number of labels of each row, by data set. If empty, there is no figure.
    tables
        Title, header and rows of each table.
    command
        The command that made the page.

    Raises
    ------
    SDLGMError
        If the extra ``report`` (matplotlib, jinja2) is not installed.
    """
    require_report("The page")
    figure = svg(_draw(numbers)) if numbers else ""
    return render_page(
        path,
        Path(__file__).with_name("page.html.jinja"),
        figure=figure,
        tables=tables,
        command=command,
    )


def _draw(numbers: Histograms) -> Figure:
    figure = new_figure(3.2 * len(numbers), 2.6)
    axes = figure.subplots(1, len(numbers), squeeze=False)[0]
    for axis, (name, labels) in zip(axes, numbers.items(), strict=True):
        rows = np.bincount(labels)
        axis.bar(np.arange(len(rows)), rows, color=SOFT, width=0.9)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("number of labels of a row")
        tidy(axis)
    axes[0].set_ylabel("training rows")
    return figure
