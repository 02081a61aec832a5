"""The numbers of figures 3 and 4 against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from paper.figures import data
from scipy.stats import binom

from helpers import refuse_import, tiny_model
from sdlgm.distributions import grouped_gated_multinomial
from sdlgm.errors import SDLGMError


def decoded(budget: int, gates: torch.Tensor, features: int = 8) -> data.Decoded:
    """Codes of posteriors with given gate logits, shape (n, G); the other fields are blank."""
    number = len(gates)
    code = grouped_gated_multinomial(budget, gates, torch.zeros(number, features))
    codes = code.sample(generator=torch.Generator().manual_seed(0))
    probs = code.total_log_prob(torch.arange(budget + 1).unsqueeze(-1)).exp().T.double()
    blank = torch.zeros(number, 1)
    return data.Decoded(codes, code.mean, blank, blank, blank[:, 0], blank[:, 0], gates, probs)


def test_a_shared_gate_gives_a_binomial() -> None:
    slots = data.open_slots(decoded(6, torch.full((500, 1), 0.4, dtype=torch.float64)))
    share = 1 / (1 + np.exp(-0.4))
    np.testing.assert_allclose(slots.binomial, binom.pmf(np.arange(7), 6, share), atol=1e-12)
    np.testing.assert_allclose(slots.prior, binom.pmf(np.arange(7), 6, 0.5), atol=1e-12)
    assert data.total_variation(slots.exact, slots.binomial) == pytest.approx(0, abs=1e-6)
    assert slots.variance_ratio == pytest.approx(1, abs=1e-5)
    assert slots.between == pytest.approx(0, abs=1e-6)
    assert slots.rounded.argmax() == round(6 * share)


@pytest.mark.parametrize(("budget", "groups"), [(6, 1), (4, 4), (8, 2)])
def test_the_variance_is_the_variance_of_the_mixture(budget: int, groups: int) -> None:
    gates = torch.randn(400, groups, generator=torch.Generator().manual_seed(1)).double() * 2
    slots = data.open_slots(decoded(budget, gates))
    values = np.arange(budget + 1)
    assert slots.exact.sum() == pytest.approx(1, abs=1e-6)

    def variance(probs: np.ndarray) -> float:
        return float(probs @ values**2 - (probs @ values) ** 2)

    ratio = variance(slots.exact) / variance(slots.binomial)
    assert slots.variance_ratio == pytest.approx(ratio, rel=1e-4)
    shares = torch.sigmoid(gates).numpy()
    within = (budget / groups * shares * (1 - shares)).sum(1).mean()
    assert slots.within == pytest.approx(within / variance(slots.binomial), rel=1e-4)
    np.testing.assert_allclose(slots.expected, budget * shares.mean(1), rtol=1e-5)


def test_unequal_gates_reduce_the_variance_and_unequal_samples_increase_it() -> None:
    differing = torch.tensor([[6.0, 6.0, -6.0, -6.0]]).double().expand(50, 4)
    assert data.open_slots(decoded(4, differing)).variance_ratio < 0.1
    samples = torch.tensor([[3.0], [-3.0]]).double().repeat(25, 1)
    assert data.open_slots(decoded(4, samples)).variance_ratio > 2


def test_draw_noise_matches_simulated_draws() -> None:
    slots = data.open_slots(decoded(6, torch.zeros(300, 1, dtype=torch.float64)))
    draws = np.random.default_rng(0).multinomial(300, slots.exact / slots.exact.sum(), 2000) / 300
    shown = 0.5 * np.abs(draws - slots.exact).sum(1).mean()
    assert slots.draw_noise == pytest.approx(shown, rel=0.05)
    assert data.total_variation(slots.drawn, slots.exact) < 3 * slots.draw_noise


def test_total_variation_of_known_distributions() -> None:
    one, other = np.array([1.0, 0.0, 0.0]), np.array([0.25, 0.75, 0.0])
    assert data.total_variation(one, one) == 0
    assert data.total_variation(one, other) == 0.75


def test_a_sample_is_not_its_own_neighbour() -> None:
    places = torch.arange(30).repeat_interleave(2).unsqueeze(-1).float() * 100
    alike = torch.arange(60) // 30
    assert data.neighbour_accuracy(places, alike) > 0.8
    # Twenty classes in turn: the only near sample of the same class is the sample itself.
    assert data.neighbour_accuracy(places, torch.arange(60) % 20) == 0
    clusters = torch.tensor([0.0, 1000.0]).repeat_interleave(15).unsqueeze(-1)
    assert data.neighbour_accuracy(clusters, torch.arange(30) // 15) == 1


def test_decoding_is_deterministic_and_keeps_the_budget() -> None:
    model = tiny_model().eval()
    bits = (torch.rand(40, 5, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    one, two = data.decode_both(model, bits), data.decode_both(model, bits)
    for field in data.Decoded.__dataclass_fields__:
        assert torch.equal(getattr(one, field), getattr(two, field)), field
    other = data.decode_both(model, bits, seed=1)
    assert not torch.equal(one.codes, other.codes)
    assert one.codes.sum(-1).max() <= 3
    loss = torch.nn.functional.binary_cross_entropy(one.hard, bits, reduction="none").sum(-1)
    torch.testing.assert_close(one.hard_loss, loss)
    assert one.open_probs.shape == (40, 4)
    torch.testing.assert_close(
        one.open_probs @ torch.arange(4.0).double(), one.expected.sum(-1).double()
    )


def test_the_map_is_deterministic() -> None:
    pytest.importorskip("openTSNE")
    values = torch.randn(60, 6, generator=torch.Generator().manual_seed(3))
    values[:30] += 8
    plane = data.map_in_the_plane(values)
    assert plane.shape == (60, 2)
    np.testing.assert_array_equal(plane, data.map_in_the_plane(values))
    assert data.neighbour_accuracy(torch.from_numpy(plane), torch.arange(60) // 30) > 0.9


def test_missing_opentsne_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_import(monkeypatch, "openTSNE")
    with pytest.raises(SDLGMError, match=r"needs openTSNE: pip install 'sdlgm\[report\]'"):
        data.map_in_the_plane(torch.zeros(20, 2))
