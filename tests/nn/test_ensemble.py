"""Ensemble layers equal a loop over members; dropout keeps the mean and is independent."""

from __future__ import annotations

import pytest
import torch

from sdlgm.nn import EnsembleLinear, drop


@pytest.mark.parametrize("outputs", [1, 3, 15, 16, 20])
def test_a_layer_is_one_product_per_member(outputs: int) -> None:
    source = torch.Generator().manual_seed(0)
    layer = EnsembleLinear(2, 4, outputs, source).double()
    x = torch.randn(2, 5, 4, generator=source, dtype=torch.float64, requires_grad=True)
    each = [x[m] @ layer.weight[m] + layer.bias[m] for m in range(2)]
    torch.testing.assert_close(layer(x), torch.stack(each))

    def product(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip(("weight", "bias"), parameters, strict=True))
        return torch.func.functional_call(layer, named, (x,))

    assert torch.autograd.gradcheck(product, (x, layer.weight, layer.bias))


def test_a_narrow_layer_accepts_an_input_that_members_share() -> None:
    layer = EnsembleLinear(3, 4, 2, torch.Generator().manual_seed(0))
    x = torch.ones(5, 4).expand(3, 5, 4)
    torch.testing.assert_close(layer(x), torch.baddbmm(layer.bias, x, layer.weight))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_its_share(share: float) -> None:
    x = torch.full((3, 33_333), 2.0)
    dropped = drop(x, share, torch.Generator().manual_seed(0))
    out = (dropped == 0).double().mean().item()
    assert out == pytest.approx(share, abs=4.5 * (share * (1 - share) / x.numel()) ** 0.5)
    assert dropped.unique().tolist() == pytest.approx([0, 2 / (1 - share)], rel=2e-4)
    again = drop(x, share, torch.Generator().manual_seed(0))
    assert torch.equal(again, dropped)


def test_dropout_of_neighbours_is_independent() -> None:
    kept = drop(torch.ones(400_000), 0.5, torch.Generator().manual_seed(1)) > 0
    for shift in (1, 2, 3, 4):
        both = (kept[shift:] & kept[:-shift]).double().mean().item()
        assert both == pytest.approx(0.25, abs=4.5 * (0.1875 / len(kept)) ** 0.5)


def test_nothing_is_dropped_without_a_generator() -> None:
    x = torch.ones(4)
    assert drop(x, 0.5, None) is x
    assert drop(x, 0.0, torch.Generator()) is x


def test_the_gradient_of_dropout_passes_kept_values() -> None:
    x = torch.ones(1000, requires_grad=True)
    dropped = drop(x, 0.25, torch.Generator().manual_seed(0))
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())
