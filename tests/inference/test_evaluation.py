"""Evaluation: reproducible, complete, and refused for unsuitable rows."""

from __future__ import annotations

import math

import pytest
import torch

from helpers import linear_model, tiny_model
from sdlgm.data import Rows
from sdlgm.errors import DataError, TrainingError
from sdlgm.inference.evaluation import evaluate
from sdlgm.objectives.bounds import negative_elbo
from sdlgm.training import Run


def test_terms_add_up_and_the_budget_is_kept(run: Run) -> None:
    seen: list[int] = []
    found = evaluate(run.model, run.dataset.test, importance_samples=20, progress=seen.append)
    assert found.negative_elbo == pytest.approx(
        found.reconstruction + found.kl_gates + found.kl_features
    )
    assert found.nll_bound < found.negative_elbo
    assert found.importance_samples == 20
    assert 0 < found.active_features_mean <= found.active_features_max <= found.budget == 4
    assert seen[-1] == found.n_samples == len(run.dataset.test)


def test_searched_codes_are_measured_where_they_are_the_default(run: Run) -> None:
    assert evaluate(run.model, run.dataset.test, importance_samples=1).code_bits is None
    model = linear_model()
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    found = evaluate(model, Rows(x), importance_samples=1)
    codes = model.encode(x)
    with torch.no_grad():
        bits = -model.prior().log_prob(codes).mean() / math.log(2)
    error = (model.standard_units(x) - model.standard_units(model.decode(codes))).square().mean()
    assert found.code_bits == pytest.approx(float(bits), rel=1e-5)
    assert found.distortion == pytest.approx(float(error), rel=1e-5)
    assert "code_bits" in found.to_dict()


def test_one_seed_gives_the_same_numbers(run: Run) -> None:
    model, rows = run.model, run.dataset.test
    one, again = (evaluate(model, rows, importance_samples=3, seed=1) for _ in range(2))
    assert one == again
    assert one != evaluate(model, rows, importance_samples=3, seed=2)


def test_metrics_are_those_of_the_saved_model(run: Run) -> None:
    found = evaluate(run.model, run.dataset.test, importance_samples=10)
    assert run.metrics["negative_elbo"] == found.negative_elbo
    assert run.metrics["nll_bound"] == found.nll_bound
    assert run.metrics["relaxed_objective"] == found.relaxed_objective


def test_the_mode_of_the_module_is_restored() -> None:
    model = tiny_model().train()
    evaluate(model, Rows(torch.ones(4, 5)), importance_samples=1)
    assert model.training


def test_unsuitable_rows_are_refused() -> None:
    model = tiny_model()
    with pytest.raises(DataError, match="has 4 columns, but the model was trained on 5"):
        evaluate(model, Rows(torch.ones(3, 4)))
    with pytest.raises(DataError, match="row 1, column 2"):
        rows = torch.ones(3, 5)
        rows[1, 2] = float("nan")
        evaluate(model, Rows(rows))
    with pytest.raises(DataError, match="binarisation"):
        evaluate(model, Rows(torch.full((3, 5), 0.3)))
    levels = tiny_model(likelihood="categorical")
    with pytest.raises(DataError, match="level 3, but the model knows 0 to 2"):
        evaluate(levels, Rows(torch.full((3, 5), 3.0)))


def test_bounds_that_are_not_finite_are_an_error() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.output_head.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        evaluate(model, Rows(torch.ones(3, 5)), importance_samples=1)
    assert negative_elbo(model, torch.ones(3, 5)).total.isnan().all()
