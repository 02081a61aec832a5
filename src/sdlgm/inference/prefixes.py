"""Cut codes to their first groups, for a smaller budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import Tensor

from sdlgm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sdlgm.config import ModelConfig
    from sdlgm.models import SDLGM

__all__ = ["features_of_prefix", "prefix_codes"]

Codes = TypeVar("Codes")


def prefix_codes(model: SDLGM, codes: Codes, prefix: int | None) -> Codes:
    """Return codes with the first groups alone: the slots of all other groups are closed.

    The result has all K columns, so that everything that takes codes of the model takes it: it is
    decoded, searched in and written to files like any other code. A file of codes (``.sdz``) spends
    nothing on groups that are always closed.

    Parameters
    ----------
    model
        A model with ``prefixes``.
    codes
        Codes, shape ``(n, K)``: an array, a tensor, or a sparse table of scipy.
    prefix
        Number of groups to keep, one of the model's ``prefixes``. ``None``: all of them, and
        the codes are returned as they are.

    Returns
    -------
    array, tensor or csr_array
        Codes of the same kind and shape, at most ``prefix`` in sum. The given codes do not change.

    Raises
    ------
    ConfigError
        If the model was not trained for this prefix.
    DataError
        If the codes do not have a column for each feature.

    Examples
    --------
    >>> import torch
    >>> from sdlgm import SDLGM, ModelConfig
    >>> from sdlgm.nn import data_statistics
    >>> config = ModelConfig(6, 3, likelihood="gaussian", prefixes=(1, 2))
    >>> model = SDLGM(config, data_statistics(torch.randn(9, 4)))
    >>> prefix_codes(model, torch.tensor([[0, 1, 1, 0, 1, 0]]), 2)
    tensor([[0, 1, 1, 0, 0, 0]])
    """
    from scipy.sparse import csr_array, issparse

    if prefix is None:
        return codes
    kept, features = features_of_prefix(model.config, prefix), model.config.features
    given: Any = codes if issparse(codes) or isinstance(codes, Tensor) else np.asarray(codes)
    if given.ndim != 2 or given.shape[1] != features:
        raise DataError(
            f"The codes have shape {tuple(given.shape)}, but must have one column for each of the "
            f"model's {features} features."
        )
    if issparse(given):
        table = csr_array(given)[:, :kept]
        table.resize((given.shape[0], features))
        return table
    given = given.clone() if isinstance(given, Tensor) else given.copy()
    given[:, kept:] = 0
    return given


def features_of_prefix(config: ModelConfig, prefix: int | None) -> int:
    """Return how many leading features belong to a prefix; all of them for ``None``.

    Raises
    ------
    ConfigError
        If the model was not trained for this prefix.
    """
    if prefix is None:
        return config.features
    if prefix not in config.prefixes:
        trained = f"prefixes = {list(config.prefixes)}" if config.prefixes else "no prefixes"
        raise ConfigError(
            f"prefix = {prefix}, but the model was trained with {trained}: its first groups serve "
            "alone only if the training aims at it. Train a model with prefixes."
        )
    return config.features // (config.groups or config.budget) * prefix
