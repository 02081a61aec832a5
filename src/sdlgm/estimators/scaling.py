"""Scaling of the classifier's inputs, which may be sparse."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from sdlgm.errors import ConfigError, ModelFileError
from sdlgm.estimators.validation import Table
from sdlgm.limits import is_integer

__all__ = ["InputScaling", "Inputs", "take_rows"]

InputScaling = Literal["standard", "quantile", "bins", "none"]


def take_rows(rows: Table, index: NDArray[np.int64]) -> NDArray[np.float32]:
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
    - ``"none"``: unchanged.
    """

    def __init__(self, kind: InputScaling, rows: Table, bins: int = 4) -> None:
        if kind in ("quantile", "bins") and sp.issparse(rows):
            raise ConfigError(
                f"inputs={kind!r} ranks all values, which would make X dense. For a sparse X use "
                "'standard' or 'none'."
            )
        self.bins = bins if kind == "bins" else 0
        ranked = kind in ("quantile", "bins")
        self.sorted = np.sort(rows, axis=0) if ranked else None
        placed = self._normal(self._ranks(rows)) if ranked else rows
        self.shift: NDArray[np.float32] | float = 0.0
        self.scale: NDArray[np.float32] | float = 1.0
        if kind != "none":
            self.shift, self.scale = _moments(placed)
        self.width = rows.shape[1]
        if self.bins:
            self.width *= self.bins
            self.bin_shift, self.bin_scale = _moments(self._binned(self._ranks(rows)))

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
        if not is_integer(bins) or any(
            isinstance(value, np.ndarray) and not np.isfinite(value).all()
            for value in values.values()
        ):
            raise ModelFileError("The scaling of inputs has values that are not finite.")
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
            and values[name].dtype == np.float32
            for name, shape in shapes.items()
            if name in names
        )
        if not fitting or values["width"] != width[0]:
            raise ModelFileError(f"The scaling of inputs does not fit {features} features.")
        vars(scaling).update(values)
        return scaling

    def __call__(self, rows: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Return the encoder's inputs ``(b, width)`` and the scaled rows ``(b, D)`` of dense rows.

        They differ only for ``"bins"``, whose scaled rows are those of ``"quantile"``.
        """
        ranks = self._ranks(rows) if self.sorted is not None else None
        placed = rows if ranks is None else self._normal(ranks)
        scaled = torch.from_numpy(np.asarray((placed - self.shift) / self.scale, np.float32))
        if not self.bins or ranks is None:
            return scaled, scaled
        binned = (self._binned(ranks) - self.bin_shift) / self.bin_scale
        return torch.from_numpy(binned), scaled

    def _ranks(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return mean ranks among the training values, from 0 to 1."""
        ranks = np.empty(rows.shape)
        for feature, values in enumerate(self.sorted.T):  # type: ignore[union-attr]
            below = np.searchsorted(values, rows[:, feature], side="left")
            up_to = np.searchsorted(values, rows[:, feature], side="right")
            ranks[:, feature] = (below + up_to) / (2 * len(values))
        return ranks

    def _normal(self, ranks: NDArray[np.float64]) -> NDArray[np.float32]:
        end = 0.5 / len(self.sorted)  # type: ignore[arg-type]
        return ndtri(np.clip(ranks, end, 1 - end)).astype(np.float32)

    def _binned(self, ranks: NDArray[np.float64]) -> NDArray[np.float32]:
        parts = [np.clip(ranks * self.bins - part, 0, 1) for part in range(self.bins)]
        return np.concatenate(parts, axis=1).astype(np.float32)


def _moments(rows: Table) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return means (0 for sparse rows) and deviations (1 for constant features)."""
    if sp.issparse(rows):
        mean = np.asarray(rows.mean(axis=0, dtype=np.float64)).ravel()
        square = np.asarray(rows.multiply(rows).mean(axis=0, dtype=np.float64)).ravel()
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        shift = np.zeros_like(mean)
    else:
        mean, deviation = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
        shift = mean
    varies = deviation > 1e-6 * (1 + np.abs(mean))
    return shift.astype(np.float32), np.where(varies, deviation, 1).astype(np.float32)
