"""What a code is: bounded counts, their relaxation and their divergences."""

from sdlgm.distributions.gated_multinomial import GatedMultinomial
from sdlgm.distributions.grouped import Grouped, grouped_gated_multinomial
from sdlgm.distributions.kl import KLForm, KLTerms, kl_terms, log_ratio
from sdlgm.distributions.poisson_multinomial import PoissonMultinomial
from sdlgm.distributions.relaxed import RelaxedGatedMultinomial

__all__ = [
    "GatedMultinomial",
    "Grouped",
    "KLForm",
    "KLTerms",
    "PoissonMultinomial",
    "RelaxedGatedMultinomial",
    "grouped_gated_multinomial",
    "kl_terms",
    "log_ratio",
]
