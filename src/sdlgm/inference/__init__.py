"""Codes of a trained model: choose, refine, search and refit them, and evaluate the bounds."""

from sdlgm.inference.codes import BATCH, check_choice, choose_codes, encode_batches, limit_active
from sdlgm.inference.evaluation import Evaluation, evaluate
from sdlgm.inference.linear import refit_decoder
from sdlgm.inference.refinement import check_refinement, refine_posterior
from sdlgm.inference.search import refine_codes, refit_prior

__all__ = [
    "BATCH",
    "Evaluation",
    "check_choice",
    "check_refinement",
    "choose_codes",
    "encode_batches",
    "evaluate",
    "limit_active",
    "refine_codes",
    "refine_posterior",
    "refit_decoder",
    "refit_prior",
]
