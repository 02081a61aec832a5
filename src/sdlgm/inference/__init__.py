"""Codes of a trained model: choose, refine, cut, search, refit and evaluate."""

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
from sdlgm.inference.linear import is_linear
from sdlgm.inference.neighbours import nearest
from sdlgm.inference.prefixes import prefix_codes
from sdlgm.inference.refinement import check_refinement, refine_posterior
from sdlgm.inference.refitting import refit_decoder, refit_prior
from sdlgm.inference.scores import document_weights, query_weights, scores
from sdlgm.inference.search import search_codes

__all__ = [
    "BATCH",
    "Evaluation",
    "check_code",
    "check_posterior",
    "check_refinement",
    "choose_codes",
    "default_code",
    "document_weights",
    "encode_batches",
    "evaluate",
    "is_linear",
    "limit_active",
    "nearest",
    "prefix_codes",
    "query_weights",
    "refine_posterior",
    "refit_decoder",
    "refit_prior",
    "scores",
    "search_codes",
]
