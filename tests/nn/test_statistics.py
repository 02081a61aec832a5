"""Values in standard units depend neither on the unit of a column, nor on its offset."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from helpers import tiny_model
from sdlgm.data import Rows
from sdlgm.errors import DataError, SDLGMWarning
from sdlgm.nn import (
    DataStatistics,
    data_statistics,
    likelihood,
    standardise,
    warn_of_constant_columns,
)
from sdlgm.nn.statistics import from_standard, needs_double, with_common_scale

SECONDS = 1.7e9 + torch.arange(500, dtype=torch.float64).unsqueeze(-1)
"""Unix seconds one apart, of which single precision represents four."""


def standard(x: Tensor) -> Tensor:
    found = data_statistics(x)
    return standardise(x, found.shift, found.scale)


def table(seed: int, rows: int, columns: int = 3) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, dtype=torch.float64, generator=source) * 5 + 2


@given(st.integers(0, 10_000), st.integers(2, 60), st.lists(st.integers(-300, 90), min_size=3,
       max_size=3))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_powers_of_two_change_no_bit(seed: int, rows: int, powers: list[int]) -> None:
    x = table(seed, rows)
    unit = torch.tensor([2.0**power for power in powers], dtype=torch.float64)
    assert torch.equal(standard(x * unit), standard(x))


@given(st.integers(0, 10_000), st.integers(2, 60), st.floats(-250, 30))
@settings(max_examples=60, deadline=None)
def test_other_units_change_nothing_that_single_precision_would_show(
    seed: int, rows: int, power: float
) -> None:
    x = table(seed, rows)
    changed = standard(x * 10.0**power)
    torch.testing.assert_close(changed, standard(x), rtol=1e-12, atol=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 60), st.sampled_from([273.15, -1e6, 1.7e9, -4e12]))
@settings(max_examples=60, deadline=None)
def test_offsets_change_what_double_precision_rounds(seed: int, rows: int, offset: float) -> None:
    x = table(seed, rows)
    found = data_statistics(x)
    rounding = float(torch.finfo(torch.float64).eps * abs(offset) / found.scale.min())
    assume(rounding < 1e-3)
    torch.testing.assert_close(standard(x + offset), standard(x), rtol=1e-9, atol=8 * rounding)


def test_unix_seconds_one_apart_stay_apart() -> None:
    apart = standard(SECONDS).float()
    assert len(apart.unique()) == 500
    whole = standard(SECONDS - 1.7e9)
    torch.testing.assert_close(standard(SECONDS), whole, rtol=0, atol=1e-9)
    assert needs_double(*data_statistics(SECONDS)[3:4], data_statistics(SECONDS).scale)


@given(st.integers(0, 10_000), st.integers(2, 60))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_rows_does_not_matter(seed: int, rows: int) -> None:
    x = table(seed, rows).float()
    found = data_statistics(x)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    other = data_statistics(x[order])
    assert torch.equal(found.shift, other.shift)
    assert torch.equal(found.scale, other.scale)


def test_a_column_is_constant_only_if_all_values_are_equal() -> None:
    tiny = torch.tensor([1.0, 1.0 + 2**-52, 1.0], dtype=torch.float64)
    x = torch.stack([tiny, torch.full((3,), 1.7e9).double(), 1e-200 * tiny.cumsum(0)], 1)
    found = data_statistics(x)
    assert found.constant.tolist() == [False, True, False]
    assert found.scale[1] == 1
    assert found.scale[0] < 1e-15
    assert torch.isfinite(standard(x)).all()
    assert standard(x)[:, 1].tolist() == [0, 0, 0]
    assert not DataStatistics(torch.ones(3), torch.ones(3), 2).constant.any()
    weights = torch.tensor([1.0, 0.0, 1.0])
    assert data_statistics(x, weights=weights).constant.tolist() == [True, True, False]


def test_constant_columns_are_named_in_one_warning() -> None:
    x = torch.tensor([[1.0, 5.0, 3.0], [1.0, 6.0, 3.0]])
    with pytest.warns(SDLGMWarning) as caught:
        warn_of_constant_columns(data_statistics(x), "X", ["a", "b", "c"])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "2 of 3 columns are constant, columns 'a', 'c'." in str(caught[0].message)
    wide = data_statistics(torch.ones(2, 40))
    with pytest.warns(SDLGMWarning, match=r"0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 30 more \(counted"):
        warn_of_constant_columns(wide, "X")


def test_sums_that_overflow_are_refused() -> None:
    with pytest.raises(DataError, match=r"Column 1 .* up to 1\.7e\+308, too large"):
        data_statistics(torch.tensor([[1.0, 1.7e308], [2.0, -1.7e308]], dtype=torch.float64))


def test_means_and_samples_are_double_where_single_precision_would_blur_them() -> None:
    for x, kind in ((SECONDS, torch.float64), (SECONDS - 1.7e9, torch.float32)):
        found = data_statistics(x)
        normal = likelihood("gaussian", found)
        raw = torch.zeros(2, 1)
        assert normal(raw).mean.dtype == normal(raw).variance.dtype == kind
        assert normal.sample(raw, torch.Generator().manual_seed(0)).dtype == kind
        assert normal(raw).mean[0].item() == pytest.approx(x.mean().item(), abs=1e-3)
    restored = from_standard(standard(SECONDS).float(), found.shift + 1.7e9, found.scale)
    torch.testing.assert_close(restored, SECONDS, rtol=0, atol=1e-3)


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e-35, 1e30])
@pytest.mark.parametrize("offset", [0.0, 1.7e9])
def test_densities_are_those_of_a_normal_distribution(unit: float, offset: float) -> None:
    x = (table(0, 20) + offset) * unit
    found = data_statistics(x)
    p = likelihood("gaussian", found)(torch.zeros(20, 3))
    wanted = norm.logpdf((x - x.mean(0)).numpy(), scale=p.base_dist.scale.detach().double()).sum(-1)
    np.testing.assert_allclose(p.log_prob(x).detach(), wanted, rtol=1e-5, atol=1e-4)
    each = p.base_dist.log_prob(x).sum(-1).detach()
    np.testing.assert_allclose(each, wanted, rtol=1e-5, atol=1e-4)
    entropy = p.entropy()[0].item()
    assert entropy == pytest.approx(norm.entropy(scale=p.base_dist.scale[0].detach().double())
                                    .sum(), rel=1e-5, abs=1e-4)  # fmt: skip


def test_statistics_stay_double_when_a_model_changes_its_precision() -> None:
    model = tiny_model(likelihood="gaussian")
    third = 1 / 3
    model.input_shift.fill_(third)
    model.likelihood.unit.fill_(third)
    for changed in (
        copy.deepcopy(model).bfloat16(),
        copy.deepcopy(model).half().float(),
        copy.deepcopy(model).double(),
        copy.deepcopy(model).cpu(),
    ):
        assert changed.input_shift[0].item() == changed.likelihood.unit[0].item() == third
    assert model.bfloat16().output_head.weight.dtype == torch.bfloat16


def test_a_device_without_double_precision_rounds_the_statistics() -> None:
    class Moved(Tensor):
        """A tensor that says it lies on Apple's GPU."""

        @property
        def device(self) -> torch.device:  # type: ignore[override]
            return torch.device("mps")

    def move(values: Tensor) -> Tensor:
        assert values.dtype != torch.float64
        return values.as_subclass(Moved)  # type: ignore[return-value]

    model = tiny_model(likelihood="gaussian")
    model.likelihood._apply(move)
    assert model.likelihood.shift.dtype == torch.float32


@pytest.mark.parametrize("likelihood_of", ["gaussian", "poisson", "categorical"])
def test_models_accept_rows_in_double_precision(likelihood_of: str) -> None:
    model = tiny_model(likelihood=likelihood_of)
    x = torch.randint(0, 3, (6, 5), generator=torch.Generator().manual_seed(0))
    single, double = x.float(), x.double()
    assert torch.equal(model(single).base.gate_logits, model(double).base.gate_logits)
    codes = model.encode(Rows(single))
    for given_rows in (single, double, x, x.numpy(), x.tolist()):
        assert torch.equal(model.encode(given_rows), codes)


def test_large_counts_are_refused_with_a_way_out() -> None:
    rows = Rows(torch.tensor([[0, 2**24 + 1]]))
    with pytest.raises(DataError, match="counts up to 16,777,216; .* choose the gaussian"):
        tiny_model(inputs=2, likelihood="poisson").check_rows(rows)
    assert math.isclose(float(rows.values[0, 1]), 2**24 + 1, abs_tol=0)


@pytest.mark.parametrize("unit", [2.0**-900, 2.0**-40, 2.0**60])
def test_a_common_scale_is_found_in_any_unit(unit) -> None:
    x = torch.tensor([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]], dtype=torch.float64)
    plain, other = (with_common_scale(data_statistics(rows)).scale for rows in (x, unit * x))
    assert torch.equal(other, unit * plain)
    assert plain[0] == plain[1] < 1


def test_a_common_scale_needs_no_values_when_a_model_is_loaded() -> None:
    with torch.device("meta"):
        scale = with_common_scale(DataStatistics(torch.zeros(3), torch.ones(3), 2)).scale
    assert scale.shape == (3,)
