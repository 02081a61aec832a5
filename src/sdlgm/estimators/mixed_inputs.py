"""What the networks of a classifier read: rows of numbers, or a table of mixed columns encoded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdlgm.errors import ModelFileError, warn
from sdlgm.estimators.mixed_columns import Mixed, MixedColumns, MixedTable, read_mixed
from sdlgm.estimators.scaling import InputScaling, chosen_dropout, chosen_inputs, mostly_zero
from sdlgm.estimators.validation import Table, validate_rows

__all__ = ["MixedInputs"]


class MixedInputs:
    """Read the rows of a classifier, whose first rows define the columns."""

    mixed: Mixed
    inputs: InputScaling
    input_dropout: float | None

    n_features_in_: int
    columns_: MixedColumns | None
    """How mixed columns become numbers; ``None`` if the first rows held numbers."""
    inputs_: InputScaling
    """The scaling of the inputs."""
    input_dropout_: float
    """Their dropout."""

    def _first_rows(self, X: Any) -> Table | MixedTable:  # noqa: N803
        """Read the rows that define the columns: numbers, or a table of mixed columns."""
        rows = read_mixed(self, X, self.mixed)
        return validate_rows(self, X, reset=True) if rows is None else rows

    def _encode(self, rows: Table | MixedTable, fitted: NDArray[np.bool_]) -> Table:
        """Return numbers for a table of mixed columns, which are learned from the fitted rows.

        Rows of numbers are returned unchanged.
        """
        self.columns_ = None
        if not isinstance(rows, MixedTable):
            return rows
        self.columns_ = MixedColumns.learn(rows, fitted)
        if self.mixed == "auto":
            warn(
                f"X is encoded: {self.columns_.describe()} mixed=True does so without this "
                "warning, mixed=False refuses such columns."
            )
        return self.columns_(rows, warns=False)  # rows without weight, and those of a promise

    def _read_rows(self, X: Any) -> Table:  # noqa: N803
        """Return rows as numbers, as the networks were fitted on."""
        if self.columns_ is None:
            return validate_rows(self, X, reset=False)
        return self.columns_.read(self, X)

    def _names(self) -> Any:
        """Return the names of what the networks read, or ``None``."""
        if self.columns_ is None:
            return getattr(self, "feature_names_in_", None)
        return self.columns_.encoded_names()

    def _mostly_zero(self, rows: Table, fitted: NDArray[np.bool_]) -> bool:
        """Return whether the fitted rows are mostly 0; mixed columns never are."""
        return self.columns_ is None and mostly_zero(_part(rows, fitted))

    def _choose_inputs(self, rows: Table, fitted: NDArray[np.bool_], zero: bool) -> None:
        """Set the scaling and the dropout of inputs: the parameters, or what suits the rows.

        ``zero`` is whether the fitted rows are mostly 0.
        """
        automatic = self.inputs == "auto"
        self.inputs_ = self.inputs
        if automatic:
            self.inputs_ = self._suited_scaling(_part(rows, fitted), zero)
        if self.input_dropout is None:
            scaling = self.inputs_ if automatic else "standard"
            self.input_dropout_ = chosen_dropout(scaling, rows.shape[1])
        else:
            self.input_dropout_ = float(self.input_dropout)

    def _suited_scaling(self, rows: Table, zero: bool) -> InputScaling:
        """Return the scaling that suits rows; of mixed columns, the one that suits the numbers."""
        if self.columns_ is None:
            return chosen_inputs(rows, zero)
        numbers = rows[:, self.columns_.numbers]
        # Numbers of mixed columns have units of their own, however many of them are 0.
        if not numbers.shape[1] or mostly_zero(numbers):
            return "standard"
        return chosen_inputs(numbers, False)

    @property
    def _width(self) -> int:
        """Number of columns that the networks read, before they are scaled."""
        columns = self.columns_
        return self.n_features_in_ if columns is None else len(columns.encoded_names())

    def _check_columns(self, where: str) -> None:
        """Check the mixed columns of a file; older files have none.

        Raises
        ------
        ModelFileError
            If they do not fit the number of features.
        """
        self.columns_ = getattr(self, "columns_", None)
        good = self.columns_ is None or (
            isinstance(self.columns_, MixedColumns)
            and len(self.columns_.medians) == self.n_features_in_
        )
        if not good:
            raise ModelFileError(
                f"{where} is damaged: its mixed columns are not {self.n_features_in_}."
            )


def _part(rows: Table, chosen: NDArray[np.bool_]) -> Table:
    """Return the chosen rows; no copy if they are all."""
    return rows if chosen.all() else rows[chosen]
