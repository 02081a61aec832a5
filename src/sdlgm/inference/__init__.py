"""Codes of a trained model: choose, refine, search, refit and evaluate."""

from sdlgm.inference.codes import (
    BATCH,
    check_code,
    check_posterior,
    choose_codes,
    default_code,
    encode_batches,
    limit_active,
)
from sdlgm.inference.evaluation import Evaluation, evaluate
from sdlgm.inference.refinement import check_refinement, refine_posterior
from sdlgm.inference.refitting import refit_decoder, refit_prior
from sdlgm.inference.search import search_codes

__all__ = [
    "BATCH",
    "Evaluation",
    "check_code",
    "check_posterior",
    "check_refinement",
    "choose_codes",
    "default_code",
    "encode_batches",
    "evaluate",
    "limit_active",
    "refine_posterior",
    "refit_decoder",
    "refit_prior",
    "search_codes",
]
