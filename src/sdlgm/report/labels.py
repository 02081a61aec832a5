"""Write one self-contained HTML page about a classifier of label sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sdlgm.config import NetworkAccelerator
from sdlgm.data.tables import read_table
from sdlgm.environment import neutral
from sdlgm.errors import DataError, ModelFileError
from sdlgm.estimators import BudgetedClassifier, SDLGMClassifier
from sdlgm.estimators.frames import shown
from sdlgm.estimators.metrics import micro_f1
from sdlgm.outputs import check_output
from sdlgm.report.rendering import render_page, require_report

__all__ = ["write_label_report", "write_saved_label_report"]

SHOWN = 1000
"""Most labels that are listed: those with the most rows."""


class _Cell(NamedTuple):
    """A share as text and as the length of its bar, in per cent."""

    text: str
    bar: float


@neutral()
def write_label_report(
    classifier: SDLGMClassifier | BudgetedClassifier,
    X: Any,  # noqa: N803
    y: Any,
    out: Path | str,
) -> Path:
    """Write a page with what a fitted classifier gets right of each label; return its path.

    It shows ``classifier.label_report(X, y)`` with bars for precision, recall and F1, the labels
    with the most rows first, and how many labels rows have and get.

    Parameters
    ----------
    classifier
        A fitted classifier.
    X, y
        Rows that it was not fitted on, and their labels; NaN where unknown.
    out
        File to write, atomically.

    Raises
    ------
    SDLGMError
        If the extra ``report`` or pandas is not installed.
    OutputError
        If ``out`` cannot be written.
    DataError
        If X or y do not fit the classifier.
    """
    require_report("The report")
    out = check_output(out, [])
    table = classifier.label_report(X, y).sort_values("support", ascending=False, kind="stable")
    truth, said = classifier.read_table(y, _rows(X)), classifier.predict_table(X)
    known = ~np.isnan(truth)
    return render_page(
        out,
        Path(__file__).with_name("labels.html.jinja"),
        rows=len(truth),
        labels=len(table),
        shown=min(len(table), SHOWN),
        micro=_number(100 * micro_f1(truth, said)),
        true_size=_number(np.nansum(truth) / max(1, len(truth))),
        said_size=_number((said * known).sum() / max(1, len(truth))),
        unknown=int((~known).sum()),
        sizes=(classifier.min_labels_, classifier.max_labels_),
        decision=classifier.decision_,
        lines=[_line(name, row) for name, row in table.head(SHOWN).iterrows()],
        missing=[str(name) for name in table.index[table.support == 0]][:SHOWN],
    )


def write_saved_label_report(
    folder: Path | str,
    data: Path | str,
    out: Path | str | None = None,
    *,
    accelerator: NetworkAccelerator = "auto",
) -> Path:
    """Write the page about a saved classifier, by a table of rows with labels; return its path.

    Parameters
    ----------
    folder
        Folder of an :class:`~sdlgm.estimators.SDLGMClassifier` that was fitted on frames, or on a
        frame of inputs and sets of names.
    data
        A ``.csv`` or ``.parquet`` file of rows that it was not fitted on. It has a column for each
        input, and one of 0 and 1 (or nothing, where it is unknown) for each label, with the names
        that they had in ``fit``. Other columns do not count.
    out
        File to write, atomically. Default: ``report.html`` in the folder.
    accelerator
        Device to predict on.

    Raises
    ------
    SDLGMError
        If the extra ``report`` or pandas is not installed.
    OutputError
        If ``out`` cannot be written, or is the data.
    ModelFileError
        If the folder holds no classifier, or one without the names of its columns.
    DataError
        If the table cannot be read, or lacks a column.
    """
    require_report("The report")
    folder = Path(folder)
    out = check_output(folder / "report.html" if out is None else out, [Path(data)])
    classifier = SDLGMClassifier.load(folder).set_params(accelerator=accelerator)
    inputs = getattr(classifier, "feature_names_in_", None)
    labels = getattr(classifier, "target_names_in_", None)
    if inputs is None or labels is None:
        raise ModelFileError(
            f"{folder} holds a classifier that was fitted without names of inputs or of labels, by "
            "which their columns could be found. Use write_label_report(model, X, y, out) of "
            "sdlgm.report in Python."
        )
    both = sorted(set(inputs.tolist()) & set(map(str, labels.tolist())))
    if both:
        raise ModelFileError(
            f"{folder} holds a classifier with inputs and labels of the same names "
            f"({shown(both)}), which one table cannot tell apart. Rename the labels and fit it "
            "again, or use write_label_report(model, X, y, out) of sdlgm.report in Python."
        )
    table = read_table(data)
    wanted = [str(name) for name in (*inputs, *labels)]
    missing = [name for name in wanted if name not in (table.names or ())]
    if missing:
        raise DataError(f"{table.name} lacks the columns {shown(missing)} of {folder}.")
    frame = table.data.to_pandas()  # type: ignore[union-attr]  # it has names
    X, y = frame[wanted[: len(inputs)]], frame[wanted[len(inputs) :]]  # noqa: N806
    return write_label_report(classifier, X, y.set_axis(labels, axis=1), out)


def _rows(X: Any) -> int:  # noqa: N803
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def _line(name: Any, row: Any) -> dict[str, Any]:
    """Return the cells of a label."""
    count: Callable[[str], str] = lambda column: f"{int(row[column]):,}"  # noqa: E731
    return {
        "name": str(name),
        "shares": [_share(row[column]) for column in ("precision", "recall", "f1")],
        "support": count("support"),
        "predicted": count("predicted"),
        "expected": _number(row["expected"]),
        "threshold": "" if math.isnan(row["threshold"]) else f"{row['threshold']:.3f}",
    }


def _share(value: float) -> _Cell:
    return _Cell("", 0.0) if math.isnan(value) else _Cell(_number(100 * value), 100 * value)


def _number(value: float) -> str:
    return f"{value:,.1f}"
