"""The kernels for a GPU compute what torch's operations do.

On a GPU they run as they are. Elsewhere Triton interprets them, where it is installed.
"""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
pytest.importorskip("triton")

from sdlgm.distributions import GatedMultinomial, Grouped, kl_terms
from sdlgm.distributions.relaxed import _KernelCodes
from sdlgm.gradients import reinmax
from sdlgm.kernels import codes, launch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = [(3, 4, 5, 4), (2, 1, 7, 6), (5, 3, 1, 6), (2, 2, 300, 6), (70, 40, 5, 40)]
"""Samples, groups, features of a group, and budget."""


@pytest.fixture
def source() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def both(monkeypatch: pytest.MonkeyPatch, call):
    """Return the results of a call without and with the kernels."""
    monkeypatch.setattr(launch, "usable", lambda logits: False)
    reference = call()
    monkeypatch.setattr(launch, "usable", lambda logits: logits.dtype == torch.float32)
    return reference, call()


def logits(shape: tuple[int, ...], source: torch.Generator) -> torch.Tensor:
    return (2 * torch.randn(shape, generator=source)).to(DEVICE).requires_grad_()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("draws", [(), (3,)])
def test_draws_are_those_of_torch(
    shape: tuple[int, ...],
    draws: tuple[int, ...],
    source: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n, groups, width, budget = shape
    gates, features = logits((n, groups), source), logits((n, groups, width), source)

    def call() -> torch.Tensor:
        q = GatedMultinomial(budget // groups, gates, features)
        return q.sample(draws, torch.Generator(DEVICE).manual_seed(1))

    one, two = both(monkeypatch, call)
    # The last digit of a probability may move one draw in millions to the next feature.
    assert (one != two).sum() <= 2
    assert (two.sum(-1) <= budget // groups).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["exact", "paper"])
@pytest.mark.parametrize("prior", ["of all rows", "of each row"])
@pytest.mark.parametrize("opened", [False, True])
def test_the_kl_and_its_gradients_are_those_of_torch(
    shape: tuple[int, ...],
    form: str,
    prior: str,
    opened: bool,
    source: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n, groups, width, budget = shape
    batch = (n, groups) if prior == "of each row" else (groups,)
    leaves = [
        logits((n, groups), source), logits((n, groups, width), source),
        logits(batch, source), logits((*batch, width), source),
    ]  # fmt: skip
    if opened:
        leaves[0] = torch.full_like(leaves[0], torch.inf)
        leaves[2] = torch.full_like(leaves[2], torch.inf)
    weights = torch.randn(2, n, generator=source).to(DEVICE)

    def call() -> list[torch.Tensor]:
        q = Grouped(GatedMultinomial(budget // groups, leaves[0], leaves[1]))
        p = Grouped(GatedMultinomial(budget // groups, leaves[2], leaves[3]))
        terms = kl_terms(q, p, form)  # type: ignore[arg-type]
        loss = (terms.gates * weights[0] + terms.features * weights[1]).sum()
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        return [terms.gates, terms.features, *torch.autograd.grad(loss, wanted)]

    for a, b in zip(*both(monkeypatch, call), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)


def test_the_kl_without_groups_is_that_of_torch(
    source: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates, features = logits((4, 3), source), logits((4, 3, 9), source)
    p = GatedMultinomial(2, logits((), source), logits((9,), source))

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(kl_terms(GatedMultinomial(2, gates, features), p))

    for a, b in zip(*both(monkeypatch, call), strict=True):
        assert b.shape == (4, 3)
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


def test_logits_may_have_any_layout(
    source: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of networks of several members, or those that are the same for many rows."""
    gates = logits((4, 6), source).T
    features = logits((5, 4, 6), source).movedim(0, -1).transpose(0, 1)
    prior = logits((1, 4), source).expand(6, 4), logits((1, 1, 5), source).expand(6, 4, 5)
    weights = torch.randn(5, generator=source).to(DEVICE)
    assert not features.is_contiguous()

    def call() -> list[torch.Tensor]:
        q, p = GatedMultinomial(2, gates, features), GatedMultinomial(2, *prior)
        noise = torch.Generator(DEVICE).manual_seed(1)
        estimate = reinmax(q, lambda z: (z @ weights).square(), generator=noise)
        total = estimate.surrogate.sum() + kl_terms(q, p).total.sum()
        total = total + q.relax(1.0, 0.7).rsample(generator=noise).sum() * 0
        return [total.detach(), *torch.autograd.grad(total, (gates, features))]

    for a, b in zip(*both(monkeypatch, call), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradients_of_reinmax_are_those_of_torch(
    shape: tuple[int, ...], source: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, groups, width, budget = shape
    gates, features = logits((n, groups), source), logits((n, groups, width), source)
    weights = torch.randn(groups * width, generator=source).to(DEVICE)

    def call() -> tuple[torch.Tensor, ...]:
        q = Grouped(GatedMultinomial(budget // groups, gates, features))
        noise = torch.Generator(DEVICE).manual_seed(1)
        estimate = reinmax(q, lambda z: (z @ weights).square(), generator=noise)
        return torch.autograd.grad(estimate.surrogate.sum(), (gates, features))

    for a, b in zip(*both(monkeypatch, call), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("n", "slots", "width"), [(3, 5, 7), (2, 40, 200), (4, 1, 1)])
@pytest.mark.parametrize("opened", [False, True])
def test_relaxed_codes_and_their_gradients_fit_their_noise(
    n: int, slots: int, width: int, opened: bool, source: torch.Generator
) -> None:
    """The noise is recovered from the kernels' own slots; autograd then gives the gradients."""
    gates = torch.full((n,), torch.inf, device=DEVICE) if opened else logits((n,), source)
    features = logits((n, width), source)
    heats = [(torch.rand(n, generator=source) + 0.5).to(DEVICE).requires_grad_() for _ in range(2)]
    grad, seed = torch.randn(n, width, generator=source).to(DEVICE), torch.tensor(9, device=DEVICE)
    leaves = [each for each in (gates, features, *heats) if each.requires_grad]
    mine = _KernelCodes.apply(gates, features, *heats, seed, slots)
    found = torch.autograd.grad((mine * grad).sum(), leaves)

    inside, noise = noise_of(gates, features, heats, seed, slots)
    rates = heats[1].double()[:, None, None]
    chosen = torch.softmax((features.double()[:, None] + noise) / rates, -1)
    scaled = (gates.double().clamp(-1e19, 1e19)[:, None] + inside) / heats[0].double()[:, None]
    code = (scaled.sigmoid()[..., None] * chosen).sum(1)
    torch.testing.assert_close(mine.double(), code, rtol=1e-4, atol=1e-5)
    wanted = torch.autograd.grad((code * grad).sum(), leaves)
    for a, b in zip(wanted, found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)


def noise_of(
    gates: torch.Tensor,
    features: torch.Tensor,
    heats: list[torch.Tensor],
    seed: torch.Tensor,
    slots: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logistic and Gumbel noise of each slot, from codes of 0, 1, ... slots."""
    drawn = [torch.zeros_like(features)]
    drawn += [codes.relaxed_codes(gates, features, *heats, seed, n + 1) for n in range(slots)]
    single = torch.stack(drawn, 1).double().diff(dim=1).detach()
    weights = single.sum(-1)
    noise = (single / weights[..., None]).log() * heats[1].double()[:, None, None]
    inside = weights.clamp(1e-12, 1 - 1e-12).logit() * heats[0].double()[:, None]
    inside = torch.where(gates.isinf()[:, None], 0.0, inside - gates.double()[:, None])
    return inside.detach(), (noise - features.double()[:, None]).detach()


def test_relaxed_codes_have_the_noise_of_eqs_8_and_10(source: torch.Generator) -> None:
    """Cold codes are counts: gates open with their probability, features follow the softmax."""
    number, cold = 20_000, torch.full((1,), 1e-3, device=DEVICE)
    features = torch.randn(1, 4, generator=source).to(DEVICE)
    gate, seed = torch.full((1,), -0.5, device=DEVICE), torch.tensor(5, device=DEVICE)
    found = codes.relaxed_codes(gate, features, cold, cold, seed, number) / number
    wanted = gate.sigmoid() * features.softmax(-1)
    assert (found - wanted).abs().max() < 4 * (0.25 / number) ** 0.5
    other = codes.relaxed_codes(gate, features, cold, cold, seed + 1, number)
    assert not torch.equal(found, other)


def test_double_precision_and_wide_codes_take_torch() -> None:
    def usable(tensor: torch.Tensor) -> bool:
        return launch.usable(tensor)

    here = DEVICE.type == "cuda"
    assert usable(torch.zeros(2, 5, device=DEVICE)) == here
    assert not usable(torch.zeros(2, 5, device=DEVICE, dtype=torch.float64))
    assert not usable(torch.zeros(2, launch.MAX_WIDTH + 1, device=DEVICE))
    assert not usable(torch.zeros(2, 5))
