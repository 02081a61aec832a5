"""Figures and page of the multi-label experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sdlgm.errors import SDLGMError
from sdlgm.report.figures import SOFT, figure_of, spell_svg, tidy
from sdlgm.storage import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_labels_page", "write_sparsity_figure"]

Histograms = Mapping[str, NDArray[np.int64]]
"""By the name of a set the number of labels of each training row."""


def write_sparsity_figure(path: Path | str, histograms: Histograms) -> Path:
    """Draw figure 5 of the paper as PNG: how many rows have how many labels.

    Raises
    ------
    SDLGMError
        If the extra ``report`` (matplotlib) is not installed.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        _draw(histograms).savefig(temporary, format="png", dpi=160)
    return path


def write_labels_page(
    path: Path | str,
    histograms: Histograms,
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
    command: str,
) -> Path:
    """Write one self-contained HTML page of the figure and the tables, atomically.

    Parameters
    ----------
    path
        File to write.
    histograms
        Numbers of labels of the training rows, by set.
    tables
        Title, header and rows of each.
    command
        The command that made the page.

    Raises
    ------
    SDLGMError
        If the extra ``report`` (matplotlib, jinja2) is not installed.
    """
    figure = spell_svg(_draw(histograms))
    try:
        import jinja2
    except ImportError as error:
        raise SDLGMError(f"The page needs {error.name}: pip install 'sdlgm[report]'.") from None
    template = (Path(__file__).parent / "multilabel.html.jinja").read_text(encoding="utf-8")
    page = (
        jinja2.Environment(autoescape=True)
        .from_string(template)
        .render(figure=figure, tables=tables, command=command)
    )
    path = Path(path)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _draw(histograms: Histograms) -> Figure:
    try:
        figure = figure_of(3.2 * max(len(histograms), 1), 2.6)
    except ImportError as error:
        raise SDLGMError(f"The figure needs {error.name}: pip install 'sdlgm[report]'.") from None
    axes = figure.subplots(1, max(len(histograms), 1), squeeze=False)[0]
    for axis, (name, numbers) in zip(axes, histograms.items(), strict=False):
        counts = np.bincount(numbers)
        axis.bar(np.arange(len(counts)), counts, color=SOFT, width=0.9)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("labels of a training row")
        tidy(axis)
    axes[0].set_ylabel("rows")
    return figure
