"""Data sets and files as checked rows; offline through the environment variable ``SDLGM_DATA``."""

from sdlgm.data.digit_columns import digit_columns
from sdlgm.data.label_sets import MULTILABEL, MultilabelDataset, load_multilabel
from sdlgm.data.named import BUILT_IN, load_data, maximum_grey_value, resolve_binarisation
from sdlgm.data.rows import Dataset, Rows, Samples, SparseRows, Summary
from sdlgm.data.series import (
    TELEMETRY,
    Series,
    load_telemetry,
    sliding_windows,
    telemetry_dataset,
)
from sdlgm.data.tables import read_rows, write_rows

__all__ = [
    "BUILT_IN",
    "MULTILABEL",
    "TELEMETRY",
    "Dataset",
    "MultilabelDataset",
    "Rows",
    "Samples",
    "Series",
    "SparseRows",
    "Summary",
    "digit_columns",
    "load_data",
    "load_multilabel",
    "load_telemetry",
    "maximum_grey_value",
    "read_rows",
    "resolve_binarisation",
    "sliding_windows",
    "telemetry_dataset",
    "write_rows",
]
