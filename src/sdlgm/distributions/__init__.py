r"""Distributions over codes: vectors of ``K`` counts whose sum never exceeds a budget ``L0``.

The library rests on one distribution. Each of ``L0`` slots is closed with probability
:math:`1 - \lambda`; otherwise it holds feature :math:`k` with probability :math:`\pi_k`. A code
counts the features in the slots, so the counts and the closed slots are exactly multinomial:

.. math::

    (z_1, \dots, z_K, L_0 - \textstyle\sum_k z_k) \sim
    \mathrm{Multinomial}(L_0;\ \lambda\pi_1, \dots, \lambda\pi_K,\ 1 - \lambda)

- :class:`GatedMultinomial` is this distribution, with all its closed forms.
- :class:`Grouped` concatenates independent ones; one integer, the number of groups, leads from the
  paper's model to categorical and Bernoulli latents.
- :class:`PoissonMultinomial` gives each slot its own probabilities.
- :class:`Chain` makes parts of a code depend on those before them: levels, or single groups.
- :class:`RelaxedGatedMultinomial` is the continuous relaxation of the paper, which yields no codes.
- :func:`kl_terms` and :func:`log_ratio` compare a posterior with its prior.
"""

from sdlgm.distributions.chain import Chain, GroupChain, LevelChain, OfGroups, conditionals, greedy
from sdlgm.distributions.gated_multinomial import GatedMultinomial
from sdlgm.distributions.grouped import Grouped, grouped_gated_multinomial
from sdlgm.distributions.kl import KLForm, KLTerms, kl_terms, log_ratio
from sdlgm.distributions.poisson_multinomial import PoissonMultinomial
from sdlgm.distributions.relaxed import RelaxedGatedMultinomial

__all__ = [
    "Chain",
    "GatedMultinomial",
    "GroupChain",
    "Grouped",
    "KLForm",
    "KLTerms",
    "LevelChain",
    "OfGroups",
    "PoissonMultinomial",
    "RelaxedGatedMultinomial",
    "conditionals",
    "greedy",
    "grouped_gated_multinomial",
    "kl_terms",
    "log_ratio",
]
