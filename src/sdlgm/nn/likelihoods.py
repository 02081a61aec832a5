"""Likelihoods map the decoder's raw outputs to a distribution of the data."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.nn import functional as F

from sdlgm.errors import ConfigError
from sdlgm.nn.statistics import (
    DataStatistics,
    double_kept,
    from_standard,
    needs_double,
    standardise,
)

if TYPE_CHECKING:
    from sdlgm.data import Samples, Summary

__all__ = [
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "Likelihood",
    "Poisson",
    "check_data",
    "likelihood",
]

LARGEST_COUNT = 2**24
"""Largest count up to which single precision represents every integer."""


class Likelihood(nn.Module, abc.ABC):
    """Maps a decoder's raw outputs to a distribution of samples ``x`` of shape ``(*, D)``.

    Parameters
    ----------
    statistics
        Statistics of the training data.
    """

    def __init__(self, statistics: DataStatistics) -> None:
        super().__init__()
        self.n_inputs = len(statistics.mean)

    @property
    def n_outputs(self) -> int:
        """Number of raw outputs of the decoder."""
        return self.n_inputs

    @abc.abstractmethod
    def initial_bias(self, statistics: DataStatistics) -> Tensor:
        """Return the raw outputs, shape ``(n_outputs,)``, that give the mean of the data."""

    @abc.abstractmethod
    def forward(self, raw: Tensor) -> td.Distribution:
        """Return the distribution of ``x``, event shape ``(D,)``, from raw ``(*, n_outputs)``."""

    @abc.abstractmethod
    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Draw ``x``, shape ``(*, D)``. Unlike torch's distributions, this takes a generator."""

    @staticmethod
    @abc.abstractmethod
    def check(values: Summary) -> str | None:
        """Return why this likelihood cannot explain such values, or ``None`` if it can."""


class Bernoulli(Likelihood):
    r"""Bits: :math:`x_d \sim \mathrm{Bernoulli}(\mathrm{sigmoid}(r_d))` (paper, eq. 3)."""

    def initial_bias(self, statistics: DataStatistics) -> Tensor:
        """Log-odds of the mean, which is clamped to 0.001 to 0.999."""
        return torch.logit(statistics.mean.float().clamp(1e-3, 1 - 1e-3))

    def forward(self, raw: Tensor) -> td.Distribution:
        """See the class."""
        return _Bits(td.Bernoulli(logits=raw, validate_args=False), 1, validate_args=False)

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Draw bits."""
        return torch.bernoulli(raw.sigmoid(), generator=generator)

    @staticmethod
    def check(values: Summary) -> str | None:
        """Accept 0 and 1."""
        if values.whole and values.low >= 0 and values.high <= 1:
            return None
        return (
            "a Bernoulli likelihood needs data of 0 and 1; for grey values in [0, 1] choose a "
            "binarisation, for real numbers the gaussian likelihood"
        )


class Gaussian(Likelihood):
    r"""Real numbers: :math:`x_d \sim \mathcal{N}(m_d + s_d r_d,\ (s_d \sigma_d)^2)`.

    ``m`` and ``s`` are the means and standard deviations of the training data, so that rescaled
    data give the same model with a rescaled density. The relative scale
    :math:`\sigma = \mathrm{softplus}(\rho) + 10^{-3}` of each dimension is learned.

    Densities are computed in standard units, :math:`(x - m) / s`, which are found in double
    precision; minus the logs of ``s``, they are densities in the units of the data. Means and
    samples are in single precision, or in double precision if single would blur a column
    (:func:`~sdlgm.nn.statistics.needs_double`).
    """

    shift: Tensor
    unit: Tensor

    def __init__(self, statistics: DataStatistics) -> None:
        super().__init__(statistics)
        self.register_buffer("shift", statistics.shift.double().clone())
        self.register_buffer("unit", statistics.scale.double().clone())
        self.rho = nn.Parameter(torch.full((self.n_inputs,), math.log(math.e - 1)))

    def initial_bias(self, statistics: DataStatistics) -> Tensor:
        """Zeros, which give the mean of the data."""
        return torch.zeros(self.n_outputs)

    def forward(self, raw: Tensor) -> td.Distribution:
        """See the class."""
        return _Reals(_ScaledNormal(raw, self._spread(), self.shift, self.unit))

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Draw real numbers."""
        drawn = torch.normal(raw, self._spread().expand_as(raw), generator=generator)
        return from_standard(drawn, self.shift, self.unit)

    @staticmethod
    def check(values: Summary) -> str | None:
        """Accept any finite number."""
        return None

    @torch.no_grad()
    def set_spread(self, value: float) -> None:
        """Set the relative scale of all dimensions; it is above 0.001."""
        above = torch.tensor(max(value - 1e-3, 1e-6), dtype=torch.float64)
        self.rho.fill_(float(above + torch.log(-torch.expm1(-above))))

    def _spread(self) -> Tensor:
        return F.softplus(self.rho) + 1e-3

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        with double_kept(self, fn):
            return super()._apply(fn, recurse)


class Poisson(Likelihood):
    r"""Counts: :math:`x_d \sim \mathrm{Poisson}(\mathrm{softplus}(r_d))`."""

    def initial_bias(self, statistics: DataStatistics) -> Tensor:
        """Inverse softplus of the mean."""
        mean = statistics.mean.float().clamp_min(1e-3)
        return mean + torch.log(-torch.expm1(-mean))

    def forward(self, raw: Tensor) -> td.Distribution:
        """See the class."""
        return td.Independent(
            td.Poisson(self._rate(raw), validate_args=False), 1, validate_args=False
        )

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Draw counts."""
        return torch.poisson(self._rate(raw), generator=generator)

    @staticmethod
    def check(values: Summary) -> str | None:
        """Accept 0, 1, 2, ..."""
        if not values.whole or values.low < 0:
            return "a Poisson likelihood needs non-negative integers"
        if values.high > LARGEST_COUNT:
            return (
                f"a Poisson likelihood computes in single precision, for counts up to "
                f"{LARGEST_COUNT:,}; for larger ones choose the gaussian likelihood"
            )
        return None

    @staticmethod
    def _rate(raw: Tensor) -> Tensor:
        return F.softplus(raw).clamp_min(1e-6)


class Categorical(Likelihood):
    r"""Levels ``0..C-1``: :math:`x_d \sim \mathrm{Categorical}(\mathrm{softmax}(r_{d,:}))`.

    ``C`` is one more than the largest level in the training data. The encoder takes levels as
    numbers, which suits ordered levels such as pixel intensities.
    """

    def __init__(self, statistics: DataStatistics) -> None:
        super().__init__(statistics)
        self.levels = statistics.levels

    @property
    def n_outputs(self) -> int:
        """``D * C``."""
        return self.n_inputs * self.levels

    def initial_bias(self, statistics: DataStatistics) -> Tensor:
        """Log of a discretised normal distribution with the data's mean and deviation."""
        level = torch.arange(self.levels)
        mean, scale = statistics.mean.float(), statistics.scale.float()
        distance = (level - mean.unsqueeze(-1)) / scale.unsqueeze(-1)
        return F.log_softmax(-0.5 * distance**2, dim=-1).clamp_min(-8.0).flatten()

    def forward(self, raw: Tensor) -> td.Distribution:
        """See the class."""
        logits = raw.unflatten(-1, (self.n_inputs, self.levels))
        return td.Independent(_Levels(logits=logits, validate_args=False), 1, validate_args=False)

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Draw levels."""
        probs = raw.unflatten(-1, (self.n_inputs, self.levels)).softmax(-1)
        drawn = torch.multinomial(probs.flatten(0, -2), 1, generator=generator)
        return drawn.view(probs.shape[:-1]).to(raw.dtype)

    @staticmethod
    def check(values: Summary) -> str | None:
        """Accept 0, 1, 2, ..., 65,535."""
        if values.whole and values.low >= 0 and values.high <= 65_535:
            return None
        return "a categorical likelihood needs integers from 0 to 65,535"


class _Bits(td.Independent):  # type: ignore[type-arg]
    """Independent bits, with the result of torch's.

    ``log_prob`` negates once, after summation, and ``negative_log_prob`` never.
    """

    base_dist: td.Bernoulli

    def log_prob(self, value: Tensor) -> Tensor:
        return -self.negative_log_prob(value)

    def negative_log_prob(self, value: Tensor) -> Tensor:
        """Return minus ``log_prob``, the loss of a training."""
        logits, value = torch.broadcast_tensors(self.base_dist.logits, value)
        return F.binary_cross_entropy_with_logits(logits, value, reduction="none").sum(-1)


class _ScaledNormal(td.Distribution):
    """Independent normal variables, given in standard units: ``shift + unit * N(raw, spread)``."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's)
    support = td.constraints.real
    has_rsample = True

    def __init__(self, raw: Tensor, spread: Tensor, shift: Tensor, unit: Tensor) -> None:
        self.standard = td.Normal(raw, spread, validate_args=False)
        self.shift, self.unit = shift, unit
        super().__init__(self.standard.batch_shape, validate_args=False)

    @property
    def loc(self) -> Tensor:
        """Mean of each dimension in the units of the data."""
        return from_standard(self.standard.loc, self.shift, self.unit)

    @property
    def scale(self) -> Tensor:
        """Standard deviation of each dimension in the units of the data."""
        scale = self.unit * self.standard.scale
        return scale if needs_double(self.shift, self.unit) else scale.to(self.standard.loc.dtype)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return from_standard(self.standard.rsample(torch.Size(sample_shape)), self.shift, self.unit)

    def standard_units(self, value: Tensor) -> Tensor:
        """Return values in standard units and in the precision of the networks."""
        return standardise(value, self.shift, self.unit).to(self.standard.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        found = self.standard.log_prob(self.standard_units(value))
        return found - self.unit.log().to(found.dtype)

    def entropy(self) -> Tensor:
        found = self.standard.entropy()
        return found + self.unit.log().to(found.dtype)


class _Reals(td.Independent):  # type: ignore[type-arg]
    """Independent normal variables; ``log_prob`` subtracts the logs of the units after the sum."""

    base_dist: _ScaledNormal

    def __init__(self, base: _ScaledNormal) -> None:
        super().__init__(base, 1, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        base = self.base_dist
        found = base.standard.log_prob(base.standard_units(value)).sum(-1)
        return found - base.unit.log().sum().to(found.dtype)


class _Levels(td.Categorical):
    """A categorical distribution over ordered levels, which has a mean."""

    @property
    def mean(self) -> Tensor:
        level = torch.arange(self._num_events, dtype=self.probs.dtype, device=self.probs.device)
        return self.probs @ level


_LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "poisson": Poisson,
    "categorical": Categorical,
}


def likelihood(name: str, statistics: DataStatistics) -> Likelihood:
    """Make the likelihood of this name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in _LIKELIHOODS:
        raise ConfigError(f"No likelihood is named {name!r}; there are: {', '.join(_LIKELIHOODS)}.")
    return _LIKELIHOODS[name](statistics)


def check_data(name: str, rows: Samples, what: str | None = None) -> None:
    """Check that rows suit a likelihood, from the summary of their values.

    Dynamic rows hand out bits, which suit every likelihood.

    Raises
    ------
    DataError
        If they do not, with the range of their values.
    """
    if not rows.dynamic:
        rows.require(_LIKELIHOODS[name].check, what)
