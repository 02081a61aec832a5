"""Networks of structured priors: one group after the other gives what all at once gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from helpers import tiny_model
from sdlgm.nn.priors import MaskedNetwork, Mixture

GROUPS, FEATURES = 6, 18


def shaken(network: nn.Module) -> nn.Module:
    """Give every weight of a network in double precision a value of its own."""
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.double().parameters():
            parameter += torch.randn(parameter.shape, generator=source, dtype=torch.float64)
    return network


def masked_network(hidden: tuple[int, ...], joint_gates: bool) -> MaskedNetwork:
    source = torch.Generator().manual_seed(1)
    network = MaskedNetwork(
        GROUPS, FEATURES, hidden, activation="gelu", joint_gates=joint_gates, generator=source
    )
    return shaken(network)  # type: ignore[return-value]


def mixture(open_gates: bool) -> Mixture:
    source = torch.Generator().manual_seed(1)
    network = Mixture(4, GROUPS, FEATURES, open_gates=open_gates, start=0.4, generator=source)
    return shaken(network)  # type: ignore[return-value]


def one_feature_or_none(rows: int, always: bool) -> Tensor:
    """Codes with at most one feature in each group; exactly one if ``always``."""
    source = torch.Generator().manual_seed(2)
    size = FEATURES // GROUPS
    chosen = torch.randint(size + (not always), (rows, GROUPS), generator=source)
    return nn.functional.one_hot(chosen, size + 1)[..., :size].flatten(-2).double()


@pytest.mark.parametrize(
    "network",
    [
        *(masked_network(hidden, True) for hidden in [(), (3,), (20,), (20, 20), (20, 7, 7)]),
        masked_network((20, 20), False),
        mixture(False),
        mixture(True),
    ],
    ids=lambda network: type(network).__name__,
)
@pytest.mark.parametrize("starts", [range(GROUPS), range(2, GROUPS), [1, 4, 5]])
@torch.no_grad()
def test_groups_in_order_have_the_logits_of_all_groups_at_once(
    network: MaskedNetwork | Mixture, starts: list[int]
) -> None:
    codes = one_feature_or_none(9, always=getattr(network, "open_gates", False))
    gates, features = network(codes)
    in_order = network.in_order()
    size = FEATURES // GROUPS
    for group in starts:
        found = in_order(codes[:, : group * size], slice(group, group + 1))
        torch.testing.assert_close(found.gates, gates[:, group : group + 1])
        place = slice(group * size, (group + 1) * size)
        torch.testing.assert_close(found.features, features[:, place])


@pytest.mark.parametrize("prior", ["masked", "mixture"])
def test_a_prior_draws_the_same_codes_in_order_and_part_by_part(prior: str) -> None:
    model = tiny_model(features=12, budget=4, groups=4, prior=prior)
    shaken(model)
    code = model.prior().expand((50,))
    drawn = code.sample(generator=torch.Generator().manual_seed(3))
    source, codes = torch.Generator().manual_seed(3), torch.zeros(50, 0, dtype=torch.float64)
    for number in range(4):
        found = code.part(number, codes).sample(generator=source)
        codes = torch.cat([codes, found], -1)
    assert torch.equal(drawn, codes)
    assert len(drawn.unique(dim=0)) > 4
