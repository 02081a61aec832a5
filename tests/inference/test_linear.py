"""Linear decoders: the fast search, compared with the general one."""

from __future__ import annotations

import pytest
import torch

from helpers import linear_model, tiny_model
from sdlgm.inference import linear, search, search_codes


@pytest.mark.parametrize("gates", ["learned", "open"])
def test_the_fast_search_finds_the_codes_of_the_general_one(gates, generator, monkeypatch) -> None:
    model = linear_model(gates=gates)
    with torch.no_grad():
        model.output_head.weight.mul_(4)
        model.likelihood.rho.normal_(generator=generator)
        model.prior_feature_logits.normal_(generator=generator)
        if gates == "learned":
            model.prior_gate_logits.normal_(generator=generator)
    x = 2 * torch.randn(200, 5, generator=generator)
    weight = torch.rand(200, generator=generator) + 0.2
    start = model.posterior(x).sample(generator=generator)
    assert linear.is_quadratic(model)
    quick = search_codes(model, x, start, weight=weight, sweeps=3)
    monkeypatch.setattr(search, "is_quadratic", lambda model: False)
    plain = search_codes(model, x, start, weight=weight, sweeps=3)
    assert (quick != start).any()
    assert torch.equal(quick, plain)


@pytest.mark.parametrize(
    "settings", [{"groups": 2}, {"encoder_hidden": (4,)}, {"likelihood": "bernoulli"}]
)
def test_other_models_take_the_general_search(settings) -> None:
    known = {"features": 12, "budget": 4, "groups": 4, "encoder_hidden": ()}
    settings = known | {"likelihood": "gaussian"} | settings
    assert not linear.is_quadratic(tiny_model(**settings))
