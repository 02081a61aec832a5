"""Generators depend on seed, purpose and step alone."""

from __future__ import annotations

import torch

from sdlgm.random import generator


def first(*arguments: object) -> list[float]:
    return torch.rand(3, generator=generator(*arguments)).tolist()  # type: ignore[arg-type]


def test_equal_arguments_give_equal_streams() -> None:
    assert first(0, "noise", 7) == first(0, "noise", 7)


def test_different_arguments_give_different_streams() -> None:
    streams = [first(s, p, t) for s in (0, 1) for p in ("noise", "bits") for t in (0, 1, 2**20)]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_the_global_state_does_not_change() -> None:
    before = torch.get_rng_state()
    first(3, "noise", 1)
    assert torch.equal(torch.get_rng_state(), before)
