"""Training: the loop and its callbacks, checkpoints, logs, and runs in a folder."""

from sdlgm.training.log import read_log
from sdlgm.training.loop import Interrupted
from sdlgm.training.model_training import Result, train
from sdlgm.training.prior_fitting import fit_prior
from sdlgm.training.runs import LoadedRows, Run, RunConfig, fit, resume

__all__ = [
    "Interrupted",
    "LoadedRows",
    "Result",
    "Run",
    "RunConfig",
    "fit",
    "fit_prior",
    "read_log",
    "resume",
    "train",
]
