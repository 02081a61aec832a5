"""The registry, the options of its estimators, and the errors of all."""

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
    "score_function": {"baseline"},
    "darn": {"baseline"},
    "muprop": {"baseline"},
    "straight_through": set(),
    "slope_annealed_st": {"slope"},
    "gumbel_softmax": {"gate_temperature", "feature_temperature"},
    "st_gumbel_softmax": {"gate_temperature", "feature_temperature"},
    "reinmax": set(),
    "reinforce_loo": {"samples"},
    "vimco": {"samples"},
}


def test_options_are_those_of_the_signatures() -> None:
    assert {name: set(options(name)) for name in estimators()} == OPTIONS


def test_vimco_is_of_another_bound() -> None:
    assert [name for name in estimators() if multi_sample(name)] == ["vimco"]
    assert multi_sample(get_estimator("vimco", samples=3))
    assert not multi_sample(get_estimator("reinforce_loo"))
    assert not multi_sample(straight_through)
    assert not multi_sample(lambda *_, **__: None)  # type: ignore[arg-type, return-value]


def test_names_and_options_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="'reinmx'; there are: darn, gumbel_softmax, muprop"):
        get_estimator("reinmx")
    with pytest.raises(ValueError, match="no option 'sample'; it takes samples"):
        get_estimator("vimco", sample=3)
    with pytest.raises(ValueError, match="no option 'slope'; it takes none"):
        get_estimator("reinmax", slope=3)
    with pytest.raises(ValueError, match="No estimator is named 'x'"):
        multi_sample("x")


def test_a_name_is_registered_once() -> None:
    def reinmax() -> Estimate:
        raise NotImplementedError

    with pytest.raises(ValueError, match="registered already"):
        register(reinmax)


def test_marking_an_estimator_of_ones_own() -> None:
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
def test_several_samples_are_needed(name: str, samples: object, generator: torch.Generator) -> None:
    estimator = get_estimator(name, samples=samples)
    with pytest.raises(ValueError, match="an integer of at least 2, got"):
        estimator(random_code(generator), lambda z: z.sum(-1), generator=generator)


@pytest.mark.parametrize("slope", [0.0, -1.0, float("nan")])
def test_slopes_are_positive(slope: float, generator: torch.Generator) -> None:
    estimator = get_estimator("slope_annealed_st", slope=slope)
    with pytest.raises(ValueError, match="slope must be positive"):
        estimator(random_code(generator), lambda z: z.sum(-1), generator=generator)


@pytest.mark.parametrize("name", ["darn", "muprop"])
def test_tangents_need_a_differentiable_loss(name: str, generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=f"{name} needs a loss that is differentiable"):
        get_estimator(name)(random_code(generator), lambda z: (z > 0).sum(-1).double())


@pytest.mark.parametrize("name", estimators())
def test_a_loss_gives_a_number_a_code(name: str, generator: torch.Generator) -> None:
    q = random_code(generator, batch=(4,))
    with pytest.raises(ValueError, match=r"one number a code.*got \(\)"):
        get_estimator(name)(q, lambda z: z.square().sum(), generator=generator)
