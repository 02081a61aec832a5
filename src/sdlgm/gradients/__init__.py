"""Gradient estimators for discrete codes: one file each, one registry, one signature.

An estimator draws codes from a posterior, evaluates a loss at them, and returns a surrogate whose
gradient estimates that of the expected loss (:class:`Estimator`). :func:`get_estimator` finds one
by name; ``docs/gradients.md`` compares them.
"""

from sdlgm.gradients.averaging import averaged
from sdlgm.gradients.control_variates import ControlVariate
from sdlgm.gradients.darn import darn
from sdlgm.gradients.gumbel_softmax import gumbel_softmax
from sdlgm.gradients.muprop import muprop
from sdlgm.gradients.registry import (
    Bound,
    Code,
    Estimate,
    Estimator,
    Loss,
    estimators,
    get_estimator,
    multi_sample,
    options,
    register,
)
from sdlgm.gradients.reinforce_loo import reinforce_loo
from sdlgm.gradients.reinmax import reinmax
from sdlgm.gradients.score_function import score_function
from sdlgm.gradients.slope_annealed_st import slope_annealed_st
from sdlgm.gradients.st_gumbel_softmax import st_gumbel_softmax
from sdlgm.gradients.straight_through import straight_through
from sdlgm.gradients.vimco import vimco

__all__ = [
    "Bound",
    "Code",
    "ControlVariate",
    "Estimate",
    "Estimator",
    "Loss",
    "averaged",
    "darn",
    "estimators",
    "get_estimator",
    "gumbel_softmax",
    "multi_sample",
    "muprop",
    "options",
    "register",
    "reinforce_loo",
    "reinmax",
    "score_function",
    "slope_annealed_st",
    "st_gumbel_softmax",
    "straight_through",
    "vimco",
]
