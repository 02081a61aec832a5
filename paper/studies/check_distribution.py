"""Check closed forms of codes against enumeration, and the budget with ten million draws.

    python -m paper.studies.check_distribution

Prints the largest deviations over 200 random distributions with K = 3 features and a budget of
L0 = 3 (20 codes each), and how many codes exceed the budget. Takes 15 seconds.
"""

from __future__ import annotations

import torch
from torch.distributions import Multinomial, kl_divergence

from sdlgm.distributions import GatedMultinomial

DRAWS = 10_000_000


def random_code(generator: torch.Generator, settings: int = 200) -> GatedMultinomial:
    """Return a batch of random distributions of codes in float64."""
    gates = torch.randn(settings, generator=generator, dtype=torch.float64)
    features = torch.randn(settings, 3, generator=generator, dtype=torch.float64)
    return GatedMultinomial(3, 2 * gates, 2 * features)


def largest(difference: torch.Tensor) -> str:
    """Format the largest absolute entry."""
    return f"{difference.abs().max().item():.1e}"


def check_enumeration(generator: torch.Generator) -> None:
    """Compare with sums over all codes, torch's Multinomial and finite differences."""
    q, p = random_code(generator), random_code(generator)
    codes = q.enumerate_support()
    log_q, log_p = q.log_prob(codes), p.log_prob(codes)
    print(f"codes enumerated                           {len(codes)}")
    print(f"probabilities sum to one within            {largest(log_q.exp().sum(0) - 1)}")
    exact = (log_q.exp() * (log_q - log_p)).sum(0)
    print(f"KL equals the enumerated one within        {largest(kl_divergence(q, p) - exact)}")
    full = torch.cat([codes, 3 - codes.sum(-1, keepdim=True)], -1)
    torchs = Multinomial(3, logits=q.slot_log_probs).log_prob(full)
    print(f"log_prob equals torch's Multinomial within {largest(log_q - torchs)}")

    def value(
        gates: torch.Tensor,
        features: torch.Tensor,
        prior_gates: torch.Tensor,
        prior_features: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        one = GatedMultinomial(3, gates, features)
        other = GatedMultinomial(3, prior_gates, prior_features)
        return one.log_prob(codes[:, :2]), kl_divergence(one, other)

    leaves = [
        part[:2].clone().requires_grad_()
        for c in (q, p)
        for part in (c.gate_logits, c.feature_logits)
    ]
    print(f"gradcheck of log_prob and KL in float64    {torch.autograd.gradcheck(value, leaves)}")


def check_budget(generator: torch.Generator) -> None:
    """Count the codes that exceed the budget, over random distributions."""
    drawn = exceeded = 0
    while drawn < DRAWS:
        total, features = (int(torch.randint(1, 60, (), generator=generator)) for _ in range(2))
        scale = 15 * torch.rand((), generator=generator)
        q = GatedMultinomial(
            total,
            scale * torch.randn(50, generator=generator),
            scale * torch.randn(50, features, generator=generator),
        )
        codes = q.sample((2500,), generator=generator)
        exceeded += int((codes.sum(-1) > total).sum())
        drawn += codes[..., 0].numel()
    print(f"codes drawn                                {drawn:,}")
    print(f"codes over the budget                      {exceeded}")


if __name__ == "__main__":
    source = torch.Generator().manual_seed(0)
    check_enumeration(source)
    check_budget(source)
