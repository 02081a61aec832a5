"""Data sets and files as checked rows; offline through the environment variable ``SDLGM_DATA``."""

from sdlgm.data.arff import ArffTable, read_arff
from sdlgm.data.columns import Columns
from sdlgm.data.digit_columns import digit_columns
from sdlgm.data.folder_tables import FolderRows
from sdlgm.data.folders import is_folder
from sdlgm.data.label_sets import MULTILABEL, MultilabelDataset, load_multilabel
from sdlgm.data.named import (
    BUILT_IN,
    load_data,
    maximum_grey_value,
    resolve_binarisation,
    split_file,
)
from sdlgm.data.rows import Dataset, Rows, Samples, SparseRows, Summary, as_numbers
from sdlgm.data.series import (
    TELEMETRY,
    Series,
    load_telemetry,
    sliding_windows,
    telemetry_dataset,
)
from sdlgm.data.tables import (
    SUFFIXES,
    Table,
    file_sha256,
    read_rows,
    read_table,
    write_rows,
)

__all__ = [
    "BUILT_IN",
    "MULTILABEL",
    "SUFFIXES",
    "TELEMETRY",
    "ArffTable",
    "Columns",
    "Dataset",
    "FolderRows",
    "MultilabelDataset",
    "Rows",
    "Samples",
    "Series",
    "SparseRows",
    "Summary",
    "Table",
    "as_numbers",
    "digit_columns",
    "file_sha256",
    "is_folder",
    "load_data",
    "load_multilabel",
    "load_telemetry",
    "maximum_grey_value",
    "read_arff",
    "read_rows",
    "read_table",
    "resolve_binarisation",
    "sliding_windows",
    "split_file",
    "telemetry_dataset",
    "write_rows",
]
