"""Codes of rows, and what they are good for: decoded rows, scores, weights for an index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from torch import Tensor

from sdlgm.config import Accelerator, CodeMethod, LikelihoodName, Metric, WeightMetric
from sdlgm.data import Samples
from sdlgm.environment import device_of, neutral, placed
from sdlgm.errors import warn
from sdlgm.estimators.drift import warn_of_drift
from sdlgm.estimators.parameters import check_integer
from sdlgm.estimators.validation import (
    EstimatorNotFittedError,
    validate_codes,
    validate_rows,
    validate_seed,
    validate_weights,
)
from sdlgm.estimators.weighted_rows import BLOCK, elbo, in_blocks, make_rows
from sdlgm.inference.codes import choose_codes
from sdlgm.inference.neighbours import nearest
from sdlgm.inference.prefixes import prefix_codes
from sdlgm.inference.scores import document_weights, query_weights, scores
from sdlgm.models import SDLGM
from sdlgm.progress import progress_bar
from sdlgm.random import generator

__all__ = ["BaseCoding"]

MUCH = 2**31
"""Bytes of dense codes from which on a warning names sparse ones."""


class BaseCoding(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn has no types
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """The methods of a fitted transformer of rows to codes.

    A class fits, and sets the fitted attributes below.
    """

    code: CodeMethod | None
    max_active: int | None
    sparse_output: bool
    accelerator: Accelerator
    progress: bool

    model_: SDLGM
    """The fitted model."""
    seed_: int
    """The integer that seeded the fit."""

    @neutral()
    def transform(self, X: Any) -> NDArray[np.int32] | sp.csr_array:  # noqa: N803
        """Return the code of each row: counts ``(n, K)``, int32, dense or CSR.

        Raises
        ------
        DataError
            If X has other columns than the training rows, or values that do not suit the model.
        """
        self._check_fitted()
        rows = self._rows(X)
        return self._table(self._codes(self._model(), rows), len(rows))

    @neutral()
    def inverse_transform(self, X: Any) -> NDArray[np.floating[Any]]:  # noqa: N803
        r"""Return the mean of :math:`p(x \mid z)` for each code, shape ``(n, D)``.

        It is float32, or float64 if float32 would blur a column, such as Unix seconds.

        Parameters
        ----------
        X
            Codes ``(n, K)``, dense, sparse or a frame. Averages of codes, such as cluster centres,
            can be decoded as well.

        Raises
        ------
        DataError
            If they are not a table of finite numbers with one column for each feature.
        """
        self._check_fitted()
        codes = validate_codes(X, self.model_.config.features)
        model = self._model()
        return torch.cat([model.decode(z) for z in in_blocks(codes)]).numpy()

    @neutral()
    def prefix_codes(self, X: Any, prefix: int) -> NDArray[np.int32] | sp.csr_array:  # noqa: N803
        """Return codes with their first groups alone, for a smaller budget.

        They decode and search like any other codes. The model must have been fitted with
        ``prefixes``.

        Parameters
        ----------
        X
            Codes ``(n, K)`` of ``transform``, dense or sparse.
        prefix
            Number of groups to keep, one of ``prefixes``.

        Raises
        ------
        ConfigError
            If the model was not trained for this prefix.
        DataError
            If the codes do not have a column for each feature.
        """
        self._check_fitted()
        return prefix_codes(self.model_, X, prefix)

    @neutral()
    def scores(self, X: Any, codes: Any, metric: Metric = "l2") -> NDArray[np.floating[Any]]:  # noqa: N803
        """Return the score of each row of X with each decoded code, ``(q, n)``: higher is nearer.

        The rows of X keep their real numbers. A linear decoder decodes nothing.

        Parameters
        ----------
        X
            Queries: rows like those of ``fit``.
        codes
            Codes ``(n, K)`` of ``transform``.
        metric
            ``"l2"`` (minus the squared distance), ``"cosine"`` (better for rows of unit length) or
            ``"inner_product"``: see :func:`sdlgm.inference.scores`.

        Raises
        ------
        ConfigError, DataError
            If the metric is unknown, or X or the codes do not suit the model.
        """
        self._check_fitted()
        codes = validate_codes(codes, self.model_.config.features)
        return scores(self._model(), self._queries(X), codes, metric).numpy()

    @neutral()
    def nearest(
        self,
        X: Any,  # noqa: N803
        codes: Any,
        number: int = 10,
        metric: Metric = "l2",
    ) -> tuple[NDArray[np.int64], NDArray[np.floating[Any]]]:
        """Return the codes that are nearest to each row of X, decoded: rows and scores.

        Parameters
        ----------
        X
            Queries: rows like those of ``fit``.
        codes
            Codes ``(n, K)`` of ``transform``, of which one part at a time is compared.
        number
            Number of codes to return for each query.
        metric
            See :meth:`scores`.

        Returns
        -------
        rows, scores
            Numbers of the rows of ``codes``, the nearest first, and their scores, ``(q, number)``.

        Raises
        ------
        ConfigError, DataError
            If an option is out of range, or X or the codes do not suit the model.
        """
        self._check_fitted()
        codes = validate_codes(codes, self.model_.config.features)
        rows, found = nearest(self._model(), self._queries(X), codes, number, metric)
        return rows.numpy(), found.numpy()

    @neutral()
    def query_weights(
        self,
        X: Any,  # noqa: N803
        metric: WeightMetric | None = None,
        *,
        top: int | None = None,
        positive: bool = False,
        prefix: int | None = None,
    ) -> sp.csr_array:
        """Return real weights of the features for each row of X, to search an inverted index.

        Their sparse inner products with ``document_weights`` of the same options rank the
        documents. At the defaults these are the codes themselves.

        Parameters
        ----------
        X
            Queries: rows like those of ``fit``.
        metric, top, positive, prefix
            See :func:`sdlgm.inference.query_weights`.

        Raises
        ------
        ConfigError, DataError
            If an option does not suit the model, or X does not.
        """
        rows = self._queries(X)
        return query_weights(self._model(), rows, metric, top=top, positive=positive, prefix=prefix)

    @neutral()
    def document_weights(
        self, codes: Any, metric: WeightMetric | None = None, *, positive: bool = False
    ) -> sp.csr_array:
        """Return the weights of codes, to be stored in an inverted index.

        Parameters
        ----------
        codes
            Codes ``(n, K)`` of ``transform``.
        metric, positive
            See :func:`sdlgm.inference.document_weights`.

        Raises
        ------
        ConfigError, DataError
            If an option or the codes do not suit the model.
        """
        self._check_fitted()
        codes = validate_codes(codes, self.model_.config.features)
        return document_weights(self.model_, codes, metric, positive=positive)

    @neutral()
    def sample(self, n_samples: int = 1, random_state: Any = None) -> NDArray[np.floating[Any]]:
        r"""Sample rows from the model: codes from the prior, and :math:`x \sim p(x \mid z)`.

        Parameters
        ----------
        n_samples
            Number of rows.
        random_state
            Source of the samples. ``None``: the seed of ``fit``, so that each call returns the same
            rows.

        Returns
        -------
        ndarray
            Shape ``(n_samples, D)``; bits under ``"bernoulli"``.
        """
        self._check_fitted()
        check_integer("n_samples", n_samples)
        seed = self.seed_ if random_state is None else validate_seed(random_state)
        source = generator(seed, "samples")
        sizes = (min(BLOCK, n_samples - start) for start in range(0, n_samples, BLOCK))
        return torch.cat([self.model_.sample(size, source)[1] for size in sizes]).numpy()

    @neutral()
    def score(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> float:  # noqa: N803
        """Return the evidence lower bound, in nats per row: higher is better.

        It is minus the ``negative_elbo`` of :func:`sdlgm.evaluate`, with one code per row, sampled
        from the posterior with a fixed seed (regardless of ``code`` and ``max_active``), and the
        exact KL. Compare scores only for one likelihood and the same rows.

        Parameters
        ----------
        X
            Rows like those of ``fit``.
        y
            Ignored.
        sample_weight
            Weight of each row in the mean.
        """
        self._check_fitted()
        rows = self._rows(X)
        weights = validate_weights(sample_weight, len(rows))
        return float(np.average(elbo(self._model(), rows, self.seed_), weights=weights))

    # --- rows and the model -------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            name = type(self).__name__
            raise EstimatorNotFittedError(f"This {name} is not fitted yet: call fit(X) first.")

    @property
    def _n_features_out(self) -> int:
        return self.model_.config.features

    def _model(self) -> SDLGM:
        """Return the fitted model on the device to compute codes on."""
        return self._on_device(self.model_)

    def _on_device(self, model: SDLGM) -> SDLGM:
        device = device_of(self.accelerator)
        # Apple's GPUs have no double precision, which scaling and search take.
        return model if device.type == "mps" else placed(model, device)

    def _rows(self, X: Any) -> Samples:  # noqa: N803
        table = validate_rows(self, X, reset=False)
        rows = self._make_rows(table, self.model_.config.likelihood)
        self.model_.check_rows(rows)
        if self.model_.config.likelihood == "gaussian":
            warn_of_drift(self, rows.grey())
        return rows

    def _queries(self, X: Any) -> Tensor:  # noqa: N803
        """Return rows of X as one checked tensor."""
        self._check_fitted()
        return torch.cat(list(self._rows(X).grey().split(BLOCK)))

    def _make_rows(self, table: Any, likelihood: LikelihoodName) -> Samples:
        return make_rows(table, likelihood, getattr(self, "feature_names_in_", None))

    def _codes(self, model: SDLGM, rows: Samples) -> Iterator[Tensor]:
        draws = self.code in ("sample", "best")
        noise = generator(self.seed_, "evaluation codes") if draws else None
        with progress_bar("encoding", len(rows), self.progress, after=1.0) as update:
            for number, x in enumerate(rows.grey().split(BLOCK), 1):
                yield choose_codes(
                    model, x, self.code, generator=noise, max_active=self.max_active
                ).int()
                update(min(number * BLOCK, len(rows)), {})

    def _table(self, blocks: Iterator[Tensor], rows: int) -> NDArray[np.int32] | sp.csr_array:
        if self.sparse_output:
            return sp.vstack([sp.csr_array(codes.numpy()) for codes in blocks], format="csr")
        table = np.empty((rows, self.model_.config.features), np.int32)
        if table.nbytes > MUCH:
            warn(
                f"The codes take {table.nbytes / 2**30:.1f} GiB as a dense array. With "
                "sparse_output=True they take a few bytes for each active feature."
            )
        for number, codes in enumerate(blocks):
            table[number * BLOCK :][: len(codes)] = codes.numpy()
        return table
