"""Relaxed slots in chunks: neither their size nor what is saved for backward changes a number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sdlgm.distributions import RelaxedGatedMultinomial, _relaxed_slots
from sdlgm.distributions._gumbel import MinusGumbel

LIMITS = [(size, saved) for size in (1, 6, 35, 10**6) for saved in (0, 10**6)]


def leaves(generator: torch.Generator, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Gates, features and both temperatures of 7 codes of 3 slots and 5 features."""
    options: Any = {"generator": generator, "dtype": dtype}
    gates, logits = torch.randn(7, **options), torch.randn(7, 5, **options)
    temperatures = [torch.rand(7, **options) + 0.5 for _ in range(2)]
    return [t.requires_grad_() for t in (gates, logits, *temperatures)]


def draw(of: list[Tensor], what: str = "rsample") -> Tensor:
    """Draw a relaxed code, or its log-probabilities of absence."""
    q = RelaxedGatedMultinomial(3, *of, validate_args=False)
    drawn: Tensor = getattr(q, what)(generator=torch.Generator().manual_seed(3))
    return drawn


both = pytest.mark.parametrize("what", ["rsample", "rsample_absence"])


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("size", "saved"), LIMITS)
def test_limits_change_no_number(
    what: str,
    size: int,
    saved: int,
    dtype: torch.dtype,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = leaves(generator, dtype)
    weights = torch.randn(7, 5, generator=generator, dtype=dtype)
    whole = draw(of, what)
    expected = torch.autograd.grad(whole, of, weights)
    monkeypatch.setattr(_relaxed_slots, "CHUNK_SIZE", size)
    monkeypatch.setattr(_relaxed_slots, "MAX_SAVED", saved)
    code = draw(of, what)
    torch.testing.assert_close(code, whole)
    found = torch.autograd.grad(code, of, weights, retain_graph=True)
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted)
    for got, again in zip(found, torch.autograd.grad(code, of, weights), strict=True):
        assert torch.equal(got, again)  # a second backward repeats the first


@both
@pytest.mark.parametrize(("size", "saved"), LIMITS)
def test_gradients_are_those_of_the_draw(
    what: str, size: int, saved: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_relaxed_slots, "CHUNK_SIZE", size)
    monkeypatch.setattr(_relaxed_slots, "MAX_SAVED", saved)
    of = [leaf[:2].detach().requires_grad_() for leaf in leaves(generator)]
    assert torch.autograd.gradcheck(lambda *given: draw(list(given), what), of)


def reference_absence(q: RelaxedGatedMultinomial, noise: torch.Generator) -> Tensor:
    """The formula of the docstring, differentiated by autograd."""
    gates, slots = q.rsample_slots(generator=noise)
    present = (gates.unsqueeze(-1) * slots).clamp(max=1 - torch.finfo(slots.dtype).eps)
    return torch.log1p(-present).sum(-2)


@pytest.mark.parametrize("cold", [1.0, 1e-3])
def test_absence_follows_from_the_slots(cold: float, generator: torch.Generator) -> None:
    """For hard draws the factors are clamped at epsilon, and their gradients are zero."""
    of = [leaf.detach().mul(scale).requires_grad_() for leaf, scale in
          zip(leaves(generator), (1, 1, cold, cold), strict=True)]  # fmt: skip
    weights = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    q = RelaxedGatedMultinomial(3, *of)
    expected = reference_absence(q, torch.Generator().manual_seed(3))
    found = draw(of, "rsample_absence")
    torch.testing.assert_close(found, expected)
    for got, wanted in zip(
        torch.autograd.grad(found, of, weights),
        torch.autograd.grad(expected, of, weights),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def test_the_generator_advances_equally_with_and_without_saving(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, states = leaves(generator), []
    for saved in (0, 10**6):
        monkeypatch.setattr(_relaxed_slots, "MAX_SAVED", saved)
        source = torch.Generator().manual_seed(5)
        code = RelaxedGatedMultinomial(3, *of).rsample(generator=source)
        before = source.get_state()
        code.sum().backward()
        assert torch.equal(before, source.get_state())  # backward uses its own generator
        states.append(before)
    assert torch.equal(*states)


def test_without_a_generator_torchs_global_one_is_used(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_relaxed_slots, "MAX_SAVED", 0)
    of, drawn = leaves(generator), []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            drawn.append(RelaxedGatedMultinomial(3, *of).rsample())
        grads = torch.autograd.grad(drawn[0].square().sum(), of)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert all(grad.isfinite().all() for grad in grads)


def saved_bytes(of: list[Tensor], count: int, what: str) -> int:
    """Bytes that a draw saves for backward."""
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        q = RelaxedGatedMultinomial(count, *of, validate_args=False)
        getattr(q, what)(generator=torch.Generator().manual_seed(0))
    return sum(found.values())


@both
@pytest.mark.parametrize("keep", [False, True])
def test_backward_saves_all_slots_or_none(
    what: str, keep: bool, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One array of L0 x K numbers per row, or only a few of K and of L0."""
    rows, slots, features = 10, 60, 80
    monkeypatch.setattr(_relaxed_slots, "MAX_SAVED", rows * slots * features - (not keep))
    gates, logits = torch.randn(rows), torch.randn(rows, features)
    of = [t.requires_grad_() for t in (gates, logits, torch.tensor(1.0), torch.tensor(1.0))]
    small = 4 * rows * 5 * (slots + features)
    large = 4 * rows * slots * features
    assert (large if keep else 0) <= saved_bytes(of, slots, what) <= small + (large if keep else 0)


def test_sampling_without_gradients_saves_nothing(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A draw without gradients allocates no array of all slots."""
    monkeypatch.setattr(_relaxed_slots, "CHUNK_SIZE", 100)
    made: list[int] = []
    softmax = torch.softmax

    def recording(*args: Any, out: Tensor, **more: Any) -> Tensor:
        made.append(out.untyped_storage().nbytes())
        return softmax(*args, out=out, **more)

    monkeypatch.setattr(torch, "softmax", recording)
    q = RelaxedGatedMultinomial(30, torch.zeros(4), torch.zeros(4, 25))
    assert q.sample(generator=generator).shape == (4, 25)
    assert max(made) <= 4 * 100


def test_autocast_changes_nothing(generator: torch.Generator) -> None:
    of = leaves(generator, torch.float32)
    plain = draw(of)
    with torch.autocast("cpu", torch.bfloat16):
        inside = draw(of)
    assert torch.equal(plain, inside)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_does_not_depend_on_the_sizes_of_draws(dtype: torch.dtype) -> None:
    """Odd sizes leave half an integer unused, which the next draw takes."""

    def noise(*pieces: int) -> Tensor:
        source = MinusGumbel(torch.zeros((), dtype=dtype), torch.Generator().manual_seed(1))
        return torch.cat([source.draw((piece,)).clone() for piece in pieces])

    whole = noise(40)
    assert whole.dtype == dtype
    for pieces in ((3, 1, 1, 7, 28), (40,), (39, 1), (1,) * 40):
        assert torch.equal(noise(*pieces), whole)
