"""Multi-label data sets of the Mulan collection: ARFF files with XML files that name the labels."""

from __future__ import annotations

import difflib
import functools
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdlgm.data.download import fetch, read_known
from sdlgm.environment import neutral
from sdlgm.errors import DataError
from sdlgm.limits import check, reading, reason

__all__ = ["MULTILABEL", "MultilabelDataset", "load_multilabel"]

Table: TypeAlias = Any
"""An array or a ``scipy.sparse.csr_array``, for which there are no type stubs."""

FOLDS = 5
FIRST = 400
"""Training rows of the split ``"first-400"``."""
_URL = (
    "https://raw.githubusercontent.com/tsoumakas/mulan/"
    "43f6389095ad71984264db4387a8074b22bc7d4a/data/multi-label/"
)
MULTILABEL: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "emotions": {
            "train.arff": "bbe704106c79bb8fb99c1d1d2e9bde081d6a2daeb01f100862f11fd91a3c1f98",
            "test.arff": "f13d4b746b7b5c8eb484bd751d6ac463d4560dff998a93516a5c1fe35daf6c8f",
            "xml": "dbce8e6ccbbb2fcbfd9e9edbb230d7ed12692c6e13f59fdbc0161fa9b6cf2dc0",
        },
        "birds": {
            "train.arff": "8f215db6ee163149901e753977f631ba8bea0e0e8e1abc42b234414822f8ae36",
            "test.arff": "51ba6326d65ccdd7c755b6461280eb6d2769c7f59d8e12fd4250f91e6ca28326",
            "xml": "0f4ea547b2b3d538c8402662daf689e0d4520cc8b4f5ba113c2e7c01700f010f",
        },
        "cal500": {
            "arff": "cfe6097ba5fd6e8584e54911ab9783dcab34e898446b7c9370c71d477eae56d3",
            "xml": "877e128531268d7661faa3e44f7bb43cbcda829c0895e49879168775b192728c",
        },
        "bibtex": {
            "train.arff": "8dcc9de6e0b2cebaec8c1f4fac78431adeeb73cfd3ab879b530a66d366e59174",
            "test.arff": "9b03329cde64d3f994bdf7fbbac3f3b10fe185c311cb9ae725475f59c7f3f922",
            "xml": "08fe20013c1e75dcf1888c185f5187c95e76495b8518ce289b4d3afce38d1232",
        },
        "delicious": {
            "train.arff": "030186cdb542ebdd32052fcdbb1ebe30115b3a22518c1b4b198c45eb827aebe1",
            "test.arff": "2dfb01723a819914b0ca83361177ed413ce3f2169851d9f228d4692915d63944",
            "xml": "4e0c0f93c7d86a39b9fca4aaefaa00e9428f2c80277732dfbf03ca48e2c14da2",
        },
        "yeast": {
            "train.arff": "e759dc991ff54694a4ff9c4314f3be0d6fd2b1994a4b563f57e416394c6aebbd",
            "test.arff": "4aaac102bff9669a765bf0b378602e5cc8c3b181048282e2f003117b496d552a",
            "xml": "c3056cc26444b5158b1588d1b73bec9c45429e10f0957ad085903423cb81f247",
        },
        "scene": {
            "train.arff": "b53ba93bdf412de922e3960389bcee24744fa3e872ce610511fc1d750888b64d",
            "test.arff": "ea38d20296b3ff7e220f477a3b802a9bcb2d768881fe6ee163efbc97ea527a42",
            "xml": "55d8b247b949ad5c52e5a73d8c6775ec6e5469ce9682465b45b333b68ee4bcc5",
        },
        "enron": {
            "train.arff": "2988cefc1cdf7a8004a20ef84615cc8fa1b5d7434c16687283b41454e2d9d194",
            "test.arff": "2f3aad54a8f54caaab4ab01246fe9dd385ba944a2633028f52747b57eac5474e",
            "xml": "ed40c92d7f613eed51714912cab10dddc4ce456262137d8fef230d44c7f4457b",
        },
        "medical": {
            "train.arff": "c764f45756ab1c553b8b4eaaf5605a5610a43bbbcf37492d0f1a12bf9c9e2244",
            "test.arff": "6be472e75a6c0b0916187f343a398011b1b26f8f0ddc682c575312ad3532f6c4",
            "xml": "51fa9d5c09e48caff3f0a0c75db1c9aa85944f8e35451f3ad8bd56fc422286ce",
        },
    }
)
"""SHA-256 of the files of each set; the keys are the ends of their names."""


@dataclass(frozen=True)
class MultilabelDataset:
    """A multi-label data set with its split."""

    name: str
    split: str
    """``"official"``, ``"first-400"`` or ``"fold-0"`` to ``"fold-4"``."""
    X_train: Table
    """Inputs, float64, ``(n, D)``: dense, or CSR where the file is sparse."""
    Y_train: Table
    """0 or 1, int64, ``(n, K)``: dense, or CSR where the file is sparse."""
    X_test: Table
    Y_test: Table
    label_names: tuple[str, ...]
    feature_names: tuple[str, ...]


@neutral()
def load_multilabel(
    name: str,
    split: str | None = None,
    *,
    drop_unlabelled: bool = False,
    standardise: bool = False,
) -> MultilabelDataset:
    """Load a set from ``$SDLGM_DATA/mulan/<name>/``; download files that are not there.

    Nominal inputs become the numbers that they are named by (``{0,1}``, codes of places).

    Parameters
    ----------
    name
        ``"emotions"``, ``"birds"``, ``"cal500"``, ``"yeast"``, ``"scene"``, or the sparse
        ``"bibtex"``, ``"delicious"``, ``"enron"`` and ``"medical"``.
    split
        ``"official"``, the default where it exists. CAL500 has none: ``"first-400"`` (its
        default) trains on the first 400 of its 502 rows; ``"fold-0"`` to ``"fold-4"`` hold out one
        of five blocks of consecutive rows.
    drop_unlabelled
        Leave out training and test rows without labels.
    standardise
        Centre and scale inputs by the mean and standard deviation (of the population) of the kept
        training rows. Columns that are constant in these are left unchanged. Dense sets only.

    Raises
    ------
    DataError
        If the name or the split is unknown, or files are damaged, or missing and cannot be
        downloaded (the message says how to provide them).
    """
    if name not in MULTILABEL:
        near = difflib.get_close_matches(name, MULTILABEL, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise DataError(
            f"No multi-label set is named {name!r}. {hint}Choose from {', '.join(MULTILABEL)}."
        )
    official = "train.arff" in MULTILABEL[name]
    folds = [f"fold-{fold}" for fold in range(FOLDS)]
    splits = ["official"] if official else [f"first-{FIRST}", *folds]
    chosen = splits[0] if split is None else split
    if chosen not in splits:
        raise DataError(f"{name} has the split {' or '.join(map(repr, splits))}, got {split!r}.")
    if official:
        train, test = _read(name, "train.arff"), _read(name, "test.arff")
        if (train.labels, train.features) != (test.labels, test.features):
            raise DataError(f"{name}: the columns of training and test files differ.")
    else:
        whole = _read(name, "arff")
        held = _held_out(len(whole.y), chosen)
        train, test = whole.rows(~held), whole.rows(held)
    if drop_unlabelled:
        train, test = (part.rows(np.asarray(part.y.sum(1)) > 0) for part in (train, test))
    found = MultilabelDataset(
        name, chosen, train.x, train.y, test.x, test.y, train.labels, train.features
    )
    return _standardised(found) if standardise else found


def _held_out(rows: int, split: str) -> NDArray[np.bool_]:
    held = np.zeros(rows, bool)
    if split == f"first-{FIRST}":
        held[FIRST:] = True
    else:
        held[np.array_split(np.arange(rows), FOLDS)[int(split[-1])]] = True
    return held


def _standardised(data: MultilabelDataset) -> MultilabelDataset:
    if not isinstance(data.X_train, np.ndarray):
        raise DataError(
            f"{data.name} is sparse, and centring would make it dense. Load it without standardise."
        )
    mean, scale = data.X_train.mean(0), data.X_train.std(0)
    mean, scale = np.where(scale > 0, mean, 0), np.where(scale > 0, scale, 1)
    return replace(data, X_train=(data.X_train - mean) / scale, X_test=(data.X_test - mean) / scale)


class _Part(NamedTuple):
    """The content of one file."""

    x: Any
    y: Any
    labels: tuple[str, ...]
    features: tuple[str, ...]

    def rows(self, kept: NDArray[np.bool_]) -> _Part:
        return self._replace(x=self.x[kept], y=self.y[kept])


def _read(name: str, end: str) -> _Part:
    file = f"{name}.{end}" if end == "arff" else f"{name}-{end}"
    return parse(_file(name, file, end), _file(name, f"{name}.xml", "xml"), file)


def _file(name: str, file: str, end: str) -> str:
    known = MULTILABEL[name][end]
    read = functools.partial(read_known, known)
    return fetch(f"mulan/{name}", file, f"{_URL}{name}/", known, read).decode()


def parse(arff: str, xml: str, file: str = "the ARFF file") -> _Part:
    """Parse inputs and labels from the text of an ARFF file and of an XML file.

    Labels are in the order of the XML file. A file is sparse if its rows are in braces; values
    that such a row omits are 0.

    Raises
    ------
    DataError
        If the text is not ARFF, a label has no column, a value is missing or not a number, or a
        limit of :mod:`sdlgm.limits` is exceeded.
    """
    with reading(file, DataError):
        return _parse(arff, xml, file)


def _parse(arff: str, xml: str, file: str) -> _Part:
    try:
        import arff as liac
    except ImportError:
        raise DataError("ARFF files need liac-arff: pip install 'sdlgm[data]'.") from None
    check("data_bytes", len(arff) + len(xml), f"The size of {file}", DataError)
    rows = arff[arff.lower().index("@data") + 5 :] if "@data" in arff.lower() else ""
    sparse = rows.lstrip().startswith("{")
    try:
        found = liac.load(io.StringIO(arff), return_type=liac.LOD if sparse else liac.DENSE)
    except liac.ArffException as error:
        raise DataError(f"{file} cannot be read: {reason(error)}") from None
    labels = label_names(xml, f"The XML file of {file}")
    names = [plain_name(column) for column, _ in found["attributes"]]
    check("columns", max(len(names), len(labels)), f"The number of columns of {file}", DataError)
    known = set(names)
    missing = [label for label in labels if label not in known]
    if missing:
        raise DataError(f"{file} has no column for the label {missing[0]!r} of its XML file.")
    if sparse:
        _check_first_values(found["attributes"], file)
    table = _table(found["data"], len(names), sparse, file)
    place = {column: index for index, column in enumerate(names)}
    targets = [place[label] for label in labels]
    targeted = set(labels)
    inputs = [index for column, index in place.items() if column not in targeted]
    y = table[:, targets]
    if not np.isin(y.data if sparse else y, (0, 1)).all():
        raise DataError(f"{file} has labels that are neither 0 nor 1.")
    features = tuple(names[index] for index in inputs)
    return _Part(table[:, inputs], y.astype(np.int64), tuple(labels), features)


def label_names(xml: str, file: str) -> list[str]:
    """Return the names of the labels in the text of an XML file of Mulan, which may be nested.

    Raises
    ------
    DataError
        If it is not such a file, or declares entities.
    """
    if "<!DOCTYPE" in xml.upper() or "<!ENTITY" in xml.upper():
        raise DataError(f"{file} declares entities, which could be nested.")
    try:
        root = ET.fromstring(xml)  # noqa: S314
        return [plain_name(label.attrib["name"]) for label in root.iter() if label is not root]
    except (ET.ParseError, KeyError) as error:
        raise DataError(f"{file} cannot be read: {reason(error)}") from None


def plain_name(name: str) -> str:
    """Remove backslashes before quotes from a name, which liac-arff and some XML files keep."""
    return re.sub(r"\\(['\"\\])", r"\1", name)


def _table(rows: list[Any], width: int, sparse: bool, file: str) -> Any:
    try:
        if sparse:
            ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
            columns = np.array([column for row in rows for column in row], np.int32)
            values = np.array([value for row in rows for value in row.values()], np.float64)
            from scipy.sparse import csr_array

            table = csr_array((values, columns, ends), shape=(len(rows), width))
            table.eliminate_zeros()
        else:
            values = table = np.array(rows, np.float64).reshape(-1, width)
    except ValueError as error:
        raise DataError(f"{file} has a value that is not a number: {error}.") from None
    if not len(rows) or not np.isfinite(values).all():
        raise DataError(f"{file} has no rows, or has missing values.")
    return table


def _check_first_values(attributes: list[tuple[str, Any]], file: str) -> None:
    """Raise :class:`DataError` if values that sparse rows omit are not 0."""
    for column, values in attributes:
        if isinstance(values, list) and values[0] != "0":
            raise DataError(
                f"{file} is sparse, and values that it omits in column {column!r} are "
                f"{values[0]!r}, not 0."
            )
