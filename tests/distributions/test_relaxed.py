"""The relaxation: eqs. 8, 10, 12, their limit, and why draws are not codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from helpers import random_code
from sdlgm.distributions import GatedMultinomial, RelaxedGatedMultinomial
from sdlgm.distributions._gumbel import gumbel


def reference_draw(
    total_count: int,
    gate: Tensor,
    logits: Tensor,
    gate_temperature: Tensor,
    feature_temperature: Tensor,
    noise: torch.Generator,
    sample: tuple[int, ...] = (),
) -> Tensor:
    """Eqs. 8, 10 and 12 slot by slot, differentiated by autograd."""
    slots = (*sample, *gate.shape, total_count)
    first, second = gumbel(slots, gate, noise), gumbel(slots, gate, noise)
    third = gumbel((*slots, logits.shape[-1]), gate, noise)
    lam, pi = torch.sigmoid(gate), torch.softmax(logits, -1)
    code = torch.zeros(*sample, *logits.shape, dtype=logits.dtype)
    for slot in range(total_count):
        opened = torch.exp((lam.log() + first[..., slot]) / gate_temperature)
        closed = torch.exp(((1 - lam).log() + second[..., slot]) / gate_temperature)
        feature = torch.exp((pi.log() + third[..., slot, :]) / feature_temperature.unsqueeze(-1))
        weight = opened / (opened + closed)
        code = code + weight.unsqueeze(-1) * feature / feature.sum(-1, keepdim=True)
    return code


@pytest.mark.parametrize("sample", [(), (5,)])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_draws_and_gradients_equal_equations_8_10_12(
    batch: tuple[int, ...], sample: tuple[int, ...], generator: torch.Generator
) -> None:
    """Two implementations, given the same noise."""
    q = random_code(generator, features=3, budget=4, groups=1, batch=batch).base
    temperatures = [torch.rand((), generator=generator).double() + 0.5 for _ in range(2)]
    temperatures[1] = temperatures[1] * torch.ones(q.batch_shape)  # one per batch element
    leaves = [q.gate_logits, q.feature_logits, *(t.requires_grad_() for t in temperatures)]
    relaxed = RelaxedGatedMultinomial(4, *leaves)
    z = relaxed.rsample(sample, generator=torch.Generator().manual_seed(1))
    expected = reference_draw(4, *leaves, torch.Generator().manual_seed(1), sample)
    torch.testing.assert_close(z, expected)
    weights = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    for got, wanted in zip(
        torch.autograd.grad(z, leaves, weights),
        torch.autograd.grad(expected, leaves, weights),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_noise_follows_a_gumbel_distribution(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    noise = gumbel((200_001,), torch.zeros((), dtype=dtype), generator)
    assert noise.dtype == dtype
    assert stats.kstest(noise.numpy(), stats.gumbel_r.cdf).pvalue > 1e-3
    # Neighbours come from the same integer.
    assert np.corrcoef(noise[:-1:2], noise[1::2])[0, 1] == pytest.approx(0, abs=0.015)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("integer", [0, 2**63 - 1])
def test_the_noise_is_finite_at_both_ends(
    dtype: torch.dtype, integer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "random_", lambda self, generator: self.fill_(integer))
    noise = gumbel((3,), torch.zeros((), dtype=dtype), None)
    assert noise.dtype == dtype
    assert noise.isfinite().all()
    assert (noise[0] > 20) == (integer == 0)


def test_a_seed_gives_the_same_draws() -> None:
    q = RelaxedGatedMultinomial(3, torch.zeros(2), torch.zeros(2, 5), 1.0, 2.0)
    first, second = (q.sample(generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)


def test_cold_draws_are_distributed_as_codes(generator: torch.Generator) -> None:
    q = random_code(generator, batch=(3,), groups=1)
    cold = q.relax(1e-3, 1e-3).sample((20_000,), generator=generator)
    assert (cold - cold.round()).abs().mean() < 0.01
    error = (cold.mean(0) - q.mean) / (q.variance / 20_000).sqrt()
    assert error.abs().max() < 5
    torch.testing.assert_close(cold.var(0), q.variance, rtol=0.06, atol=0.01)


def test_draws_keep_the_budget_but_are_not_codes(generator: torch.Generator) -> None:
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
    temperatures = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.8, 1.5)]

    def draw(gate, logits, gate_temperature, feature_temperature):
        q = RelaxedGatedMultinomial(2, gate, logits, gate_temperature, feature_temperature)
        return q.rsample((2,), generator=torch.Generator().manual_seed(0))

    assert torch.autograd.gradcheck(draw, (*leaves, *temperatures))


def test_shapes_and_invalid_arguments(generator: torch.Generator) -> None:
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


def test_always_open_gates_give_full_codes_and_finite_gradients(generator: torch.Generator) -> None:
    temperature = torch.tensor(1.5, requires_grad=True)
    q = RelaxedGatedMultinomial(
        3, torch.full((2,), torch.inf), torch.zeros(2, 5), temperature, temperature
    )
    z = q.rsample(generator=generator)
    torch.testing.assert_close(z.sum(-1), torch.full((2,), 3.0))
    assert torch.autograd.grad(z.square().sum(), temperature)[0].isfinite()
