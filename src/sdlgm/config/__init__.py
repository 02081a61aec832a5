"""Settings: three frozen dataclasses drive Python, YAML, the command line and saved files.

The defaults are the recommended settings. Fields that are ``None`` are resolved when the object is
created, except ``learning_rate`` and ``weight_decay``: they depend on the likelihood of the model
and are resolved when training starts. A saved configuration always holds the values that were used.
:func:`preset` returns other named settings. This package imports nothing heavy, so that
``sdlgm --help`` stays fast.
"""

from sdlgm.config.data import DataConfig
from sdlgm.config.model import (
    FEW_MASKED,
    MAX_LEVELS,
    MAX_MASKED,
    ModelConfig,
    masked,
    quadratic,
    structured,
)
from sdlgm.config.names import (
    Accelerator,
    Activation,
    Binarisation,
    CodeMethod,
    LikelihoodName,
    Metric,
    NetworkAccelerator,
    ObjectiveName,
    PriorName,
    Scaling,
    SearchEngine,
    TrackerName,
    VectorFormat,
    WeightMetric,
)
from sdlgm.config.presets import PRESETS, preset, preset_values
from sdlgm.config.training import MAX_SEARCHED, TrainingConfig, iterations_of, resolve_training
from sdlgm.config.values import from_dict, to_dict

__all__ = [
    "FEW_MASKED",
    "MAX_LEVELS",
    "MAX_MASKED",
    "MAX_SEARCHED",
    "PRESETS",
    "Accelerator",
    "Activation",
    "Binarisation",
    "CodeMethod",
    "DataConfig",
    "LikelihoodName",
    "Metric",
    "ModelConfig",
    "NetworkAccelerator",
    "ObjectiveName",
    "PriorName",
    "Scaling",
    "SearchEngine",
    "TrackerName",
    "TrainingConfig",
    "VectorFormat",
    "WeightMetric",
    "from_dict",
    "iterations_of",
    "masked",
    "preset",
    "preset_values",
    "quadratic",
    "resolve_training",
    "structured",
    "to_dict",
]
