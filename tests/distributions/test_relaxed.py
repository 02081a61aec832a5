"""The relaxation: eqs. 8, 10, 12, their limit, and why it is not a code."""

from __future__ import annotations

import pytest
import torch

from helpers import random_code
from sdlgm.distributions import GatedMultinomial, RelaxedGatedMultinomial


def test_draws_follow_equations_8_10_12() -> None:
    """An independent computation, slot by slot, from the same noise."""
    gate, logits = torch.tensor(0.3), torch.tensor([0.5, -1.0, 0.2])
    q = RelaxedGatedMultinomial(4, gate, logits, 0.7, 1.3)
    z = q.rsample(generator=torch.Generator().manual_seed(1))

    noise = torch.Generator().manual_seed(1)
    first, second, third = (
        -torch.empty(shape).exponential_(generator=noise).log() for shape in ((4,), (4,), (4, 3))
    )
    lam, pi = torch.sigmoid(gate), torch.softmax(logits, -1)
    expected = torch.zeros(3)
    for slot in range(4):
        opened = torch.exp((lam.log() + first[slot]) / 0.7)
        closed = torch.exp(((1 - lam).log() + second[slot]) / 0.7)
        feature = torch.exp((pi.log() + third[slot]) / 1.3)
        expected += opened / (opened + closed) * feature / feature.sum()
    torch.testing.assert_close(z, expected)


def test_cold_draws_have_the_law_of_codes(generator: torch.Generator) -> None:
    q = random_code(generator, batch=(3,), groups=1)
    cold = q.relax(1e-3, 1e-3).sample((20_000,), generator=generator)
    assert (cold - cold.round()).abs().mean() < 0.01
    error = (cold.mean(0) - q.mean) / (q.variance / 20_000).sqrt()
    assert error.abs().max() < 5
    torch.testing.assert_close(cold.var(0), q.variance, rtol=0.06, atol=0.01)


def test_draws_keep_the_budget_but_are_no_codes(generator: torch.Generator) -> None:
    q = random_code(generator, batch=(8,))
    z = q.relax(2.0, 5.0).sample((100,), generator=generator)
    assert (z >= 0).all()
    assert (z.sum(-1) <= 4 + 1e-9).all()
    assert ((z - z.round()).abs() > 1e-3).double().mean() > 0.9


def test_gradients_reach_logits_and_temperatures(generator: torch.Generator) -> None:
    leaves = [
        torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_()
        for s in ((), (3,))
    ]
    heat = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.8, 1.5)]

    def draw(gate, logits, gate_temperature, feature_temperature):
        q = RelaxedGatedMultinomial(2, gate, logits, gate_temperature, feature_temperature)
        return q.rsample((2,), generator=torch.Generator().manual_seed(0))

    assert torch.autograd.gradcheck(draw, (*leaves, *heat))


def test_shapes_and_errors(generator: torch.Generator) -> None:
    q = RelaxedGatedMultinomial(3, torch.zeros(2), torch.zeros(2, 5), 1.0, 2.0, validate_args=True)
    assert q.sample((4,), generator=generator).shape == (4, 2, 5)
    wide = q.expand((6, 2))
    assert wide.rsample(generator=generator).shape == (6, 2, 5)
    assert isinstance(GatedMultinomial(3, torch.zeros(2), torch.zeros(2, 5)).relax(1, 1), type(q))
    with pytest.raises(ValueError, match="gate_temperature"):
        RelaxedGatedMultinomial(3, torch.zeros(2), torch.zeros(2, 5), 0.0, 1.0, validate_args=True)
    with pytest.raises(NotImplementedError):
        q.log_prob(torch.zeros(2, 5))


def test_a_draw_is_the_sum_of_its_gated_slots(generator: torch.Generator) -> None:
    q = RelaxedGatedMultinomial(3, torch.zeros(2), torch.zeros(2, 5), 1.0, 2.0)
    state = generator.get_state()
    gates, slots = q.rsample_slots((4,), generator=generator)
    assert gates.shape == (4, 2, 3)
    assert slots.shape == (4, 2, 3, 5)
    generator.set_state(state)
    whole = q.rsample((4,), generator=generator)
    torch.testing.assert_close(whole, (gates.unsqueeze(-1) * slots).sum(-2))


def test_gates_that_are_always_open(generator: torch.Generator) -> None:
    heat = torch.tensor(1.5, requires_grad=True)
    q = RelaxedGatedMultinomial(3, torch.full((2,), torch.inf), torch.zeros(2, 5), heat, heat)
    z = q.rsample(generator=generator)
    torch.testing.assert_close(z.sum(-1), torch.full((2,), 3.0))
    assert torch.autograd.grad(z.square().sum(), heat)[0].isfinite()
