"""Scaling of the inputs of the classifier, which may be sparse, and of the counter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, nn

from sdlgm.errors import ConfigError, ModelFileError
from sdlgm.estimators.validation import Table
from sdlgm.limits import is_integer
from sdlgm.nn import (
    DataStatistics,
    data_statistics,
    rows_at_once,
    standardise,
    warn_of_constant_columns,
)
from sdlgm.nn.statistics import double_kept, needs_double

__all__ = [
    "InputScaling",
    "Inputs",
    "Standardised",
    "chosen_dropout",
    "chosen_inputs",
    "dense_if_small",
    "mostly_zero",
    "table_statistics",
    "take_rows",
]

InputScaling = Literal["auto", "standard", "quantile", "bins", "common", "counts", "none"]

SPARSE = 0.1
"""Share of values that are not 0 up to which rows count as mostly 0."""
MOST_DENSE = 2**28
"""Most values of sparse rows that are made dense because they are not mostly 0."""
UNITS = 100
"""Size of a column, as a multiple of the median, from which columns have units of their own."""
WIDE = 1000
"""Number of dense columns from which each is one input."""
_DROPOUT = {"common": 0.0, "counts": 0.0, "bins": 0.5}
"""Input dropout that suits a scaling that was chosen by the data."""
_DROPOUT_OF_FEW = ((2, 0.0), (6, 0.25))
"""Numbers of columns, and the most input dropout that suits no more columns: each says a lot."""


def chosen_inputs(rows: Table, zero: bool) -> InputScaling:
    """Return the scaling that suits rows: common, counts, bins, quantile or standard.

    ``zero`` is whether they are mostly 0 (:func:`mostly_zero`).

    Sparse rows, such as words of texts, share one scale, since those of single columns blow up the
    rarest words; unless columns have units of their own, such as an income beside words, which one
    scale would make vanish. Whole numbers, such as how often a word occurs, are counts: a few very
    large ones, or an income, would make all others vanish. Bins suit columns of more than two
    values, by few rows, too; columns of two have no shape that bins could show. Very many columns
    take ranks without bins, which predict as well from a fourth of the inputs.
    """
    if sp.issparse(rows) or zero:
        table = sp.csr_array(rows)
        if _whole(table.data):
            return "counts"
        return "standard" if _units_differ(table) else "common"
    low, high = rows.min(0), rows.max(0)
    several = ((rows > low) & (rows < high)).any(0)
    if several.mean() < 0.5:
        return "standard"
    return "bins" if rows.shape[1] < WIDE else "quantile"


def _units_differ(table: sp.csr_array) -> bool:
    """Return whether a column is much larger than most others, where it is not 0.

    The size of a column is the geometric mean of its values, which a few large ones hardly change.
    """
    values, columns = np.abs(table.data.astype(np.float64)), table.indices
    values, columns = values[values > 0], columns[values > 0]
    numbers = np.bincount(columns, minlength=table.shape[1])
    sums = np.bincount(columns, np.log(values), table.shape[1])
    sizes = sums[numbers > 0] / numbers[numbers > 0]
    return len(sizes) > 0 and bool(sizes.max() > np.log(UNITS) + np.median(sizes))


def _whole(values: NDArray[Any]) -> bool:
    """Return whether all values are whole numbers that are not negative, and some are not 0."""
    return bool(values.any() and values.min() >= 0 and (np.floor(values) == values).all())


def mostly_zero(rows: Table) -> bool:
    """Return whether hardly any values are not 0, whether the rows are stored as sparse or not."""
    values = rows.data if sp.issparse(rows) else rows
    return bool(np.count_nonzero(values) <= SPARSE * np.prod(rows.shape, dtype=float))


def dense_if_small(rows: Table) -> Table:
    """Return rows that are not mostly 0 as dense ones, unless these would take over 2 GiB.

    So a table is scaled in the same way in both forms.
    """
    small = np.prod(rows.shape, dtype=float) <= MOST_DENSE
    return rows.toarray() if sp.issparse(rows) and small else rows


def chosen_dropout(kind: InputScaling, columns: int) -> float:
    """Return the input dropout that suits a scaling of so many columns."""
    most = next((share for number, share in _DROPOUT_OF_FEW if columns <= number), 1.0)
    return min(_DROPOUT.get(kind, 0.3), most)


def take_rows(rows: Table, index: NDArray[np.int64]) -> NDArray[Any]:
    """Return the rows at these indices, dense."""
    taken = rows[index]
    return taken.toarray() if sp.issparse(taken) else taken


class Inputs:
    """A scaling of inputs, fitted on the training rows.

    - ``"standard"``: mean 0 and standard deviation 1 for each feature. Sparse rows are not centred,
      so that zeros stay zeros.
    - ``"quantile"``: each value is replaced by the normal quantile of its mean rank among the
      training values, then standardised. Ties share their mean rank, so that the zeros of a mostly
      zero feature do not end up in the tail. Dense rows only.
    - ``"bins"``: each feature becomes ``bins`` features that are piecewise linear in its mean rank:
      the t-th rises from 0 to 1 over the t-th of ``bins`` equal parts of the training values
      (Gorishniy et al., "On Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS
      2022); they are then standardised. A linear layer can represent nonlinear feature effects with
      them, as trees do. Dense rows only.
    - ``"common"``: all values divided by one number, the root mean square of those that are not 0,
      so that zeros stay zeros and columns keep their sizes relative to each other.
    - ``"counts"``: the sign of x times ``log(1 + |x|)``, times ``sqrt(1 + log((1 + n) / (1 + d)))``
      where a column is not 0 in ``d >= 1`` of n training rows, then as ``"common"``. Large counts
      weigh little more than small ones, and rare columns a little more than frequent ones (the
      square root of the usual inverse document frequency).
    - ``"none"``: unchanged.

    Values are compared and scaled in double precision, and rounded to single precision last.
    """

    def __init__(
        self,
        kind: InputScaling,
        rows: Table,
        bins: int = 4,
        columns: Sequence[str] | None = None,
    ) -> None:
        if kind in ("quantile", "bins") and sp.issparse(rows):
            raise ConfigError(
                f"inputs={kind!r} ranks all values, which would make X dense. For a sparse X use "
                "'common', 'standard' or 'none'."
            )
        self.bins = bins if kind == "bins" else 0
        ranked = kind in ("quantile", "bins")
        self.sorted = np.sort(rows, axis=0) if ranked else None
        self.logarithms = kind == "counts"
        self.shift: NDArray[Any] | float = 0.0
        self.scale: NDArray[Any] | float = 1.0
        if kind in ("common", "counts"):
            self.shift, self.scale = np.zeros(rows.shape[1]), _one_scale(rows, self.logarithms)
        elif kind != "none":
            statistics = table_statistics(rows)
            warn_of_constant_columns(statistics, "X", columns)
            self.shift, self.scale = statistics.shift.numpy(), statistics.scale.numpy()
        ranks = self._ranks(rows) if ranked else None
        if ranks is not None:
            self.shift, self.scale = _moments(self._normal(ranks))
        self.width = rows.shape[1]
        if self.bins and ranks is not None:
            self.width *= self.bins
            self.bin_shift, self.bin_scale = _moments(self._binned(ranks))

    @classmethod
    def restore(cls, values: dict[str, Any], features: int) -> Self:
        """Rebuild a scaling of ``features`` inputs from the attributes (``vars``) of a fitted one.

        Raises
        ------
        ModelFileError
            If the attributes do not fit.
        """
        scaling = cls("none", np.zeros((1, features), np.float32))
        bins, ranked = values.get("bins"), values.get("sorted") is not None
        if (
            not is_integer(bins)
            or not isinstance(values.get("logarithms", False), bool)
            or any(
                isinstance(value, np.ndarray) and not np.isfinite(value).all()
                for value in values.values()
            )
        ):
            raise ModelFileError("The scaling of inputs has values that are not finite.")
        values.setdefault("logarithms", False)  # older files have none
        names = {*vars(scaling), *(("bin_shift", "bin_scale") if bins else ())}
        width = (features * (bins or 1),)
        shapes: dict[str, tuple[int, ...]] = {"bin_shift": width, "bin_scale": width}
        if ranked:
            shapes["sorted"] = (len(values["sorted"]), features)
        unscaled = (values.get("shift"), values.get("scale"))
        if not all(isinstance(value, float) and np.isfinite(value) for value in unscaled):
            shapes |= {"shift": (features,), "scale": (features,)}
        fitting = values.keys() == names and all(
            isinstance(values[name], np.ndarray)
            and values[name].shape == shape
            and values[name].dtype in (np.float32, np.float64)  # all float32 in 0.1
            for name, shape in shapes.items()
            if name in names
        )
        if not fitting or values["width"] != width[0]:
            raise ModelFileError(f"The scaling of inputs does not fit {features} features.")
        vars(scaling).update(values)
        return scaling

    def __call__(self, rows: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Return the encoder's inputs ``(b, width)`` and the scaled rows ``(b, D)`` of dense rows.

        They differ only for ``"bins"``, whose scaled rows are those of ``"quantile"``.
        """
        block = rows_at_once(self.width)
        parts = [self._block(rows[start : start + block]) for start in range(0, len(rows), block)]
        if len(parts) == 1:
            return parts[0]
        scaled = torch.cat([part[1] for part in parts])
        return (torch.cat([part[0] for part in parts]) if self.bins else scaled), scaled

    def non_zeros(self, rows: sp.csr_array) -> Tensor:
        """Return the scaled non-zeros of sparse rows, in their order; zeros stay zeros."""
        values = torch.from_numpy(self._logarithms(rows.data.astype(np.float64)))
        if isinstance(self.scale, np.ndarray):
            values /= torch.from_numpy(self.scale)[torch.from_numpy(rows.indices)]
        return values.to(torch.float32)

    @property
    def keeps_zeros(self) -> bool:
        """Whether zeros of dense rows stay zeros, as those of sparse rows always do."""
        return self.sorted is None and not np.any(self.shift)

    def _block(self, rows: NDArray[Any]) -> tuple[Tensor, Tensor]:
        ranks = self._ranks(rows) if self.sorted is not None else None
        placed = self._logarithms(rows) if ranks is None else self._normal(ranks)
        if isinstance(self.shift, np.ndarray) and isinstance(self.scale, np.ndarray):
            scaled = _scaled(placed, self.shift, self.scale)
        else:
            scaled = torch.from_numpy(placed.astype(np.float32))
        if not self.bins or ranks is None:
            return scaled, scaled
        return _scaled(self._binned(ranks), self.bin_shift, self.bin_scale), scaled

    @property
    def needs_double(self) -> bool:
        """Whether single precision would blur the rows that this scaling was fitted on."""
        if self.sorted is not None:
            shift, scale = _moments(self.sorted)
        elif isinstance(self.shift, np.ndarray) and isinstance(self.scale, np.ndarray):
            shift, scale = self.shift, self.scale
        else:
            return False
        return needs_double(torch.from_numpy(shift), torch.from_numpy(scale))

    def _logarithms(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the logarithms of counts; other values as they are."""
        return _logarithms(values) if self.logarithms else values

    def _ranks(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Return mean ranks among the training values, from 0 to 1."""
        ranks = np.empty(rows.shape)
        for feature, values in enumerate(np.ascontiguousarray(self.sorted.T)):  # type: ignore[union-attr]
            # Sorted values are found in a third of the time.
            order = np.argsort(rows[:, feature])
            wanted = rows[order, feature]
            below = np.searchsorted(values, wanted, side="left")
            up_to = np.searchsorted(values, wanted, side="right")
            ranks[order, feature] = (below + up_to) / (2 * len(values))
        return ranks

    def _normal(self, ranks: NDArray[np.float64]) -> NDArray[np.float32]:
        end = 0.5 / len(self.sorted)  # type: ignore[arg-type]
        return ndtri(np.clip(ranks, end, 1 - end)).astype(np.float32)

    def _binned(self, ranks: NDArray[np.float64]) -> NDArray[np.float32]:
        parts = [np.clip(ranks * self.bins - part, 0, 1) for part in range(self.bins)]
        return np.concatenate(parts, axis=1).astype(np.float32)


class Standardised(nn.Module):
    """Centre and scale inputs by the training data: rows by column, images as a whole."""

    mean: Tensor
    scale: Tensor

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        if inputs.dim() == 3:  # one scale for all pixels: that of a border pixel is almost 0
            inputs = inputs.reshape(-1, 1)
        if inputs.is_meta:  # only the shapes are wanted
            width = inputs.shape[1]
            one = torch.ones(width, dtype=torch.float64)
            statistics = DataStatistics(torch.zeros_like(one), one, 2)
        else:
            statistics = data_statistics(inputs)
        self.register_buffer("mean", statistics.shift.squeeze())
        self.register_buffer("scale", statistics.scale.squeeze())

    def forward(self, x: Tensor) -> Tensor:
        """Scale a batch; the result is float32."""
        return standardise(x, self.mean, self.scale).to(torch.float32)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        with double_kept(self, fn):
            return super()._apply(fn, recurse)


def table_statistics(rows: Table) -> DataStatistics:
    """Summarise rows; sparse rows have a shift of 0, so that zeros stay zeros."""
    if not sp.issparse(rows):
        return data_statistics(_writable(rows))
    number, width = rows.shape
    values, columns = rows.data.astype(np.float64), rows.indices
    zeros = number - np.bincount(columns, minlength=width)
    mean = np.bincount(columns, values, width) / number
    square = np.bincount(columns, (values - mean[columns]) ** 2, width) + zeros * mean**2
    low, high = np.where(zeros, 0.0, np.inf), np.where(zeros, 0.0, -np.inf)
    np.minimum.at(low, columns, values)
    np.maximum.at(high, columns, values)
    deviation = np.sqrt(square / number)
    scale = np.where((low < high) & (deviation > 0), deviation, 1.0)
    ends = torch.from_numpy(low), torch.from_numpy(high)
    centre = torch.zeros(width, dtype=torch.float64)
    return DataStatistics(torch.from_numpy(mean), torch.from_numpy(scale), 2, centre, *ends)


def _logarithms(values: NDArray[Any]) -> NDArray[np.float64]:
    values = values.astype(np.float64, copy=False)
    return np.sign(values) * np.log1p(np.abs(values))


def _one_scale(rows: Table, logarithms: bool) -> NDArray[np.float64]:
    """Return what all values are divided by; of counts, rare columns by less than frequent ones."""
    table = sp.csr_array(rows)
    values = table.data.astype(np.float64)
    weights = np.ones(table.shape[1])
    if logarithms:
        rows_with = np.bincount(table.indices[values != 0], minlength=table.shape[1]).clip(1)
        weights = np.sqrt(1 + np.log((1 + table.shape[0]) / (1 + rows_with)))
        values = _logarithms(values) * weights[table.indices]
    values = values[values != 0]
    return (float(np.sqrt(np.mean(values**2))) if len(values) else 1.0) / weights


def _moments(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means and deviations (1 for constant features)."""
    statistics = table_statistics(rows)
    return statistics.shift.numpy(), statistics.scale.numpy()


def _scaled(rows: NDArray[Any], shift: NDArray[Any], scale: NDArray[Any]) -> Tensor:
    shifts, scales = (torch.from_numpy(part) for part in (shift, scale))
    return standardise(_writable(rows), shifts, scales).to(torch.float32)


def _writable(rows: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.require(rows, requirements=["C", "W"]))
