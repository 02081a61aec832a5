"""The registry, the options of the estimators, and their errors."""

from __future__ import annotations

import pytest
import torch

from helpers import random_code
from sdlgm.gradients import (
    Estimate,
    estimators,
    get_estimator,
    multi_sample,
    options,
    register,
    straight_through,
)
from sdlgm.gradients.registry import _BOUNDS, _REGISTRY

OPTIONS = {
    "score_function": {"control_variate"},
    "darn": {"control_variate"},
    "muprop": {"control_variate"},
    "straight_through": set(),
    "slope_annealed_st": {"slope"},
    "gumbel_softmax": {"gate_temperature", "feature_temperature"},
    "st_gumbel_softmax": {"gate_temperature", "feature_temperature"},
    "reinmax": set(),
    "reinforce_loo": {"samples"},
    "vimco": {"samples"},
}


def test_options_are_read_from_the_signatures() -> None:
    assert {name: set(options(name)) for name in estimators()} == OPTIONS


def test_only_vimco_estimates_the_importance_weighted_bound() -> None:
    assert [name for name in estimators() if multi_sample(name)] == ["vimco"]
    assert multi_sample(get_estimator("vimco", samples=3))
    assert not multi_sample(get_estimator("reinforce_loo"))
    assert not multi_sample(straight_through)
    assert not multi_sample(lambda *_, **__: None)  # type: ignore[arg-type, return-value]


def test_unknown_names_and_options_raise() -> None:
    with pytest.raises(ValueError, match="'reinmx'. Estimators: darn, gumbel_softmax, muprop"):
        get_estimator("reinmx")
    with pytest.raises(ValueError, match="no option 'sample'; it takes samples"):
        get_estimator("vimco", sample=3)
    with pytest.raises(ValueError, match="no option 'slope'; it takes none"):
        get_estimator("reinmax", slope=3)
    with pytest.raises(ValueError, match="There is no estimator 'x'"):
        multi_sample("x")


def test_a_name_can_be_registered_only_once() -> None:
    def reinmax() -> Estimate:
        raise NotImplementedError

    with pytest.raises(ValueError, match="already registered"):
        register(reinmax)


def test_a_users_estimator_can_declare_its_bound() -> None:
    try:

        @register(bound="importance")
        def mine(posterior, loss, *, generator=None, samples=2):
            raise NotImplementedError

        assert multi_sample("mine")
        assert multi_sample(mine)
        assert options("mine") == {"samples"}
    finally:
        del _REGISTRY["mine"], _BOUNDS["mine"]


@pytest.mark.parametrize("name", ["reinforce_loo", "vimco"])
@pytest.mark.parametrize("samples", [1, 0, 2.5, True])
def test_fewer_than_two_samples_raise(
    name: str, samples: object, generator: torch.Generator
) -> None:
    estimator = get_estimator(name, samples=samples)
    with pytest.raises(ValueError, match="an integer of at least 2, got"):
        estimator(random_code(generator), lambda z: z.sum(-1), generator=generator)


@pytest.mark.parametrize("slope", [0.0, -1.0, float("nan")])
def test_slopes_must_be_positive(slope: float, generator: torch.Generator) -> None:
    estimator = get_estimator("slope_annealed_st", slope=slope)
    with pytest.raises(ValueError, match="slope must be positive"):
        estimator(random_code(generator), lambda z: z.sum(-1), generator=generator)


@pytest.mark.parametrize("name", ["darn", "muprop"])
def test_a_loss_without_derivative_raises(name: str, generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=f"{name} needs a loss that is differentiable"):
        get_estimator(name)(random_code(generator), lambda z: (z > 0).sum(-1).double())


@pytest.mark.parametrize("name", estimators())
def test_a_loss_must_return_one_number_per_code(name: str, generator: torch.Generator) -> None:
    q = random_code(generator, batch=(4,))
    with pytest.raises(ValueError, match=r"one number per code.*got \(\)"):
        get_estimator(name)(q, lambda z: z.square().sum(), generator=generator)
