"""Mulan files: tiny ones written here, and the real ones where they are available."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from scipy.sparse import issparse

from sdlgm.data import MULTILABEL, label_sets, load_multilabel
from sdlgm.data.label_sets import parse
from sdlgm.errors import DataError

XML = """<?xml version="1.0" encoding="utf-8"?>
<labels xmlns="http://mulan.sourceforge.net/labels">
<label name="Steller's Jay"></label><label name="Wren"></label>
</labels>"""
HEAD = r"""@relation tiny
@attribute loud numeric
@attribute place {12,3}
@attribute Wren {0,1}
@attribute 'Steller\'s Jay' {0,1}
@data
"""
DENSE = HEAD + "1.5,12,0,1\n-2,3,1,0\n0,3,0,0\n4.5,12,1,1\n"
SPARSE = HEAD.replace("{12,3}", "{0,1}") + "{0 1.5,1 1,3 1}\n{2 1}\n{}\n"
FOLDERS = [f"fold-{fold}" for fold in range(5)]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like Mulan's with small versions of "emotions" and "cal500" and their digests."""
    many = HEAD + "".join(f"{row},3,{row % 2},1\n" for row in range(402))
    sets = {
        "emotions": {"-train.arff": DENSE, "-test.arff": DENSE, ".xml": XML},
        "cal500": {".arff": many, ".xml": XML},
    }
    known = {}
    for name, files in sets.items():
        (tmp_path / "mulan" / name).mkdir(parents=True)
        for end, text in files.items():
            (tmp_path / "mulan" / name / (name + end)).write_text(text)
        known[name] = {
            end[1:]: hashlib.sha256(text.encode()).hexdigest() for end, text in files.items()
        }
    monkeypatch.setattr(label_sets, "MULTILABEL", MappingProxyType(known))
    monkeypatch.setenv("SDLGM_DATA", str(tmp_path))
    return tmp_path / "mulan"


def test_dense_files_are_parsed() -> None:
    found = parse(DENSE, XML)
    assert found.labels == ("Steller's Jay", "Wren")
    assert found.features == ("loud", "place")
    assert found.x.tolist() == [[1.5, 12], [-2, 3], [0, 3], [4.5, 12]]
    assert found.y.tolist() == [[1, 0], [0, 1], [0, 0], [1, 1]]
    assert (found.x.dtype, found.y.dtype) == (np.float64, np.int64)


def test_sparse_files_are_parsed() -> None:
    found = parse(SPARSE, XML)
    assert issparse(found.x)
    assert found.x.toarray().tolist() == [[1.5, 1], [0, 0], [0, 0]]
    assert found.y.toarray().tolist() == [[1, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DENSE.replace("-2", "?"), "has missing values"),
        (DENSE.replace("12", "north"), "not a number: could not convert string to float: 'north'"),
        (DENSE.replace("Wren", "Robin"), "no column for the label 'Wren'"),
        (HEAD, "has no rows"),
        ("hello", "cannot be read"),
        (DENSE.replace("{0,1}", "{0,1,2}").replace("3,1,0", "3,2,0"), "neither 0 nor 1"),
        (SPARSE.replace("place {0,1}", "place {1,0}"), "in column 'place' are '1', not 0"),
    ],
)
def test_unreadable_files_are_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(text, XML)


def test_unlabelled_rows_are_dropped_and_inputs_standardised(tiny: Path) -> None:
    plain = load_multilabel("emotions")
    assert (plain.split, len(plain.X_train), len(plain.Y_test)) == ("official", 4, 4)
    kept = load_multilabel("emotions", drop_unlabelled=True, standardise=True)
    assert kept.Y_train.tolist() == [[1, 0], [0, 1], [1, 1]]
    np.testing.assert_allclose(kept.X_train.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(kept.X_train.std(0), 1)


def test_a_set_without_an_official_split_has_folds(tiny: Path) -> None:
    first = load_multilabel("cal500")
    assert (first.split, len(first.X_train)) == ("first-400", 400)
    assert first.X_test[:, 0].tolist() == [400, 401]
    held = [load_multilabel("cal500", fold) for fold in FOLDERS]
    assert [len(fold.X_test) for fold in held] == [81, 81, 80, 80, 80]
    assert np.concatenate([fold.X_test[:, 0] for fold in held]).tolist() == list(range(402))
    # A column that is constant in training is left unchanged.
    assert (load_multilabel("cal500", standardise=True).X_test[:, 1] == 3).all()


def test_unknown_names_and_splits_and_damaged_files_are_refused(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="Did you mean 'emotions'"):
        load_multilabel("emotion")
    with pytest.raises(DataError, match="emotions has the split 'official', got 'fold-0'"):
        load_multilabel("emotions", "fold-0")
    path = tiny / "emotions" / "emotions-test.arff"
    path.write_text(DENSE.replace("4.5", "4.6"))
    with pytest.raises(DataError, match="emotions-test.arff is not the file it should be"):
        load_multilabel("emotions")
    path.unlink()
    monkeypatch.setattr("pooch.os_cache", lambda name: tiny / "cache")

    def refuse(*arguments: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DataError, match=r"could not be downloaded.*mulan/emotions/.*SDLGM_DATA"):
        load_multilabel("emotions")


def present(name: str) -> bool:
    return (Path(os.environ.get("SDLGM_DATA", "-")) / "mulan" / name).is_dir()


@pytest.mark.parametrize(
    ("name", "inputs", "labels", "rows", "labelled", "most"),
    [
        ("emotions", 72, 6, (391, 202), (391, 202), 3),
        ("birds", 260, 19, (322, 323), (179, 172), 6),
        ("cal500", 68, 174, (400, 102), (400, 102), 48),
        ("bibtex", 1836, 159, (4880, 2515), (4880, 2515), 28),
        ("delicious", 500, 983, (12920, 3185), (12910, 3181), 25),
        ("yeast", 103, 14, (1500, 917), (1500, 917), 11),
        ("scene", 294, 6, (1211, 1196), (1211, 1196), 3),
        ("enron", 1001, 53, (1123, 579), (1123, 579), 11),
        ("medical", 1449, 45, (333, 645), (333, 645), 3),
    ],
)
def test_the_published_files_have_the_documented_sizes(
    name, inputs, labels, rows, labelled, most
) -> None:
    if not present(name):
        pytest.skip(f"SDLGM_DATA names no folder with mulan/{name}")
    data = load_multilabel(name)
    assert set(MULTILABEL) >= {name}
    assert data.X_train.shape == (rows[0], inputs)
    assert data.Y_test.shape == (rows[1], labels)
    assert (len(data.feature_names), len(data.label_names)) == (inputs, labels)
    assert (
        issparse(data.X_train)
        == issparse(data.Y_train)
        == (name in ("bibtex", "delicious", "enron", "medical"))
    )
    assert data.Y_train.sum(1).max() == most
    kept = load_multilabel(name, drop_unlabelled=True)
    assert (kept.Y_train.shape[0], kept.X_test.shape[0]) == labelled
