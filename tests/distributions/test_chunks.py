"""Chunks cover all rows, and results do not depend on their size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdlgm.distributions import GatedMultinomial, _chunks
from sdlgm.gradients import reinmax


@given(rows=st.integers(0, 50), width=st.integers(0, 400_000))
def test_chunks_cover_every_row_once_in_order(rows: int, width: int) -> None:
    seen = [row for chunk in _chunks.chunks(rows, width) for row in range(rows)[chunk]]
    assert seen == list(range(rows))


@pytest.mark.parametrize("size", [1, 30, 10_000])
def test_the_size_of_a_chunk_changes_no_draw_and_no_gradient(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = torch.Generator().manual_seed(0)
    gates = torch.randn(7, generator=source, requires_grad=True)
    features = torch.randn(7, 10, generator=source, requires_grad=True)
    weights = torch.randn(10, generator=source)

    def outcome() -> tuple[torch.Tensor, ...]:
        q = GatedMultinomial(6, gates, features)
        noise = torch.Generator().manual_seed(1)
        drawn = q.sample((3,), generator=noise)
        estimate = reinmax(q, lambda z: (z @ weights).square(), generator=noise)
        gradients = torch.autograd.grad(estimate.surrogate.sum(), [gates, features])
        return drawn, estimate.codes, *gradients

    whole = outcome()
    monkeypatch.setattr(_chunks, "CHUNK_SIZE", size)
    for a, b in zip(outcome(), whole, strict=True):
        torch.testing.assert_close(a, b)


def test_the_gradient_of_reinmax_equals_its_formula() -> None:
    source = torch.Generator().manual_seed(0)
    gates = torch.randn(5, generator=source, dtype=torch.float64, requires_grad=True)
    features = torch.randn(5, 8, generator=source, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(8, generator=source, dtype=torch.float64)
    q = GatedMultinomial(4, gates, features)
    estimate = reinmax(q, lambda z: (z @ weights).square(), generator=source)
    found = torch.autograd.grad(estimate.surrogate.sum(), [gates, features])
    # The formula of the docstring for K + 1 outcomes; autograd leads from there to the logits.
    p, n = q.slot_log_probs.exp().detach(), estimate.codes
    slope = 2 * (n @ weights).unsqueeze(-1) * weights
    n = torch.cat([n, 4 - n.sum(-1, True)], -1)
    g = torch.cat([slope, torch.zeros_like(n[:, :1])], -1)
    slope_of_logits = 0.5 * (
        (4 * p + n) * g - n * (p * g).sum(-1, True) - p * (n * g).sum(-1, True)
    )
    wanted = torch.autograd.grad(
        (q.slot_log_probs * slope_of_logits.detach()).sum(), [gates, features]
    )
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)
