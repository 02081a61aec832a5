"""Networks: shapes, and weights that depend on the generator alone."""

from __future__ import annotations

import pytest
import torch

from sdlgm.nn import linear, mlp


def build(seed: int, normalisation: str = "layer") -> torch.nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    return mlp(5, (7, 3), activation="gelu", normalisation=normalisation, generator=generator)  # type: ignore[arg-type]


def test_weights_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = build(1), build(1), build(2)
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.ones(2, 5)
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))


def test_layers_and_output_shapes() -> None:
    assert build(0)(torch.ones(4, 2, 5)).shape == (4, 2, 3)
    assert len(build(0)) == 6
    assert len(build(0, "none")) == 4
    empty = mlp(5, (), activation="relu", normalisation="none", generator=torch.Generator())
    assert empty(torch.ones(5)).shape == (5,)


def test_residual_layers_add_their_input_if_widths_match() -> None:
    def build_both(residual: bool) -> torch.nn.Sequential:
        generator = torch.Generator().manual_seed(0)
        return mlp(
            4, (6, 6), activation="relu", normalisation="layer", generator=generator,
            residual=residual,
        )  # fmt: skip

    plain, residual = build_both(False), build_both(True)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    first = plain[:3](x)
    torch.testing.assert_close(residual(x), first + plain[3:](first))
    assert len(residual) == 4


def test_the_initial_distribution_equals_torchs() -> None:
    ours = linear(400, 300, torch.Generator().manual_seed(0)).weight
    theirs = torch.nn.Linear(400, 300).weight
    assert ours.abs().max() <= 400**-0.5
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.02)
