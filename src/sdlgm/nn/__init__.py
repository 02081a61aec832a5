"""Building blocks of the models: networks, likelihoods and statistics of the data."""

from sdlgm.nn.ensemble import EnsembleLinear, EnsembleMLP, drop
from sdlgm.nn.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    Poisson,
    check_data,
    likelihood,
)
from sdlgm.nn.mlp import Residual, linear, mlp
from sdlgm.nn.statistics import (
    DataStatistics,
    data_statistics,
    from_standard,
    rows_at_once,
    standardise,
    warn_of_constant_columns,
)

__all__ = [
    "Bernoulli",
    "Categorical",
    "DataStatistics",
    "EnsembleLinear",
    "EnsembleMLP",
    "Gaussian",
    "Likelihood",
    "Poisson",
    "Residual",
    "check_data",
    "data_statistics",
    "drop",
    "from_standard",
    "likelihood",
    "linear",
    "mlp",
    "rows_at_once",
    "standardise",
    "warn_of_constant_columns",
]
