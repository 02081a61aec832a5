"""ARFF files with numbers, nominal and text columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import issparse

from sdlgm.data import read_arff
from sdlgm.errors import DataError

DENSE = """@relation 'own: -C -2'
@attribute size numeric
@attribute colour {red, green, 'dark blue'}
@attribute open {no, yes}
@attribute grade {1, 2, 5}
@attribute warm {0,1}
@attribute loud {FALSE,TRUE}
@data
1.5, red, yes, 5, 1, FALSE
-2, 'dark blue', no, 1, 0, TRUE
0, green, no, 2, ?, TRUE
"""
SPARSE = """@relation own
@attribute title string
@attribute colour {red, green}
@attribute warm {0,1}
@DATA
{0 'a red Rose red', 2 1}
{1 green}
"""
XML = '<labels><label name="loud"></label><label name="warm"></label></labels>'


def write(folder: Path, text: str, name: str = "own.arff") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_nominal_columns_become_numbers_or_levels(tmp_path: Path) -> None:
    found = read_arff(write(tmp_path, DENSE), 2)
    assert found.feature_names == (
        "size", "colour=red", "colour=green", "colour=dark blue", "open=yes", "grade"
    )  # fmt: skip
    assert found.X.tolist() == [
        [1.5, 1, 0, 0, 1, 5],
        [-2, 0, 0, 1, 0, 1],
        [0, 0, 1, 0, 0, 2],
    ]
    assert found.label_names == ("warm", "loud")
    np.testing.assert_array_equal(found.Y, [[1, 0], [0, 1], [np.nan, 1]])


def test_labels_are_named_by_xml_names_or_their_place(tmp_path: Path) -> None:
    text = DENSE.replace("?", "0")
    path = write(tmp_path, text)
    assert read_arff(path, write(tmp_path, XML, "own.xml")).label_names == ("loud", "warm")
    assert read_arff(path, ["warm"]).label_names == ("warm",)
    assert len(read_arff(path, ["warm", "loud"]).feature_names) == 6
    assert read_arff(path, 1).label_names == ("loud",)
    swapped = text.replace("warm {0,1}", "last {0,1}").replace("size numeric", "warm {0,1}")
    rows = swapped.replace("1.5, red", "1, red").replace("-2, 'dark", "0, 'dark")
    assert read_arff(write(tmp_path, rows), -1).label_names == ("warm",)


def test_texts_become_numbers_of_words(tmp_path: Path) -> None:
    found = read_arff(write(tmp_path, SPARSE), 1)
    assert found.feature_names == ("title:red", "title:rose", "colour=green")
    assert issparse(found.X)
    assert found.X.toarray().tolist() == [[2, 1, 0], [0, 0, 1]]
    assert found.Y.toarray().tolist() == [[1], [0]]


def test_what_a_sparse_row_leaves_out_is_the_first_level_of_labels_too(tmp_path: Path) -> None:
    head = "@relation x\n@attribute a numeric\n@attribute warm {1,0}\n@attribute loud {no,yes}\n"
    text = head + "@data\n{0 3, 2 yes}\n{1 0}\n{1 ?}\n"
    found = read_arff(write(tmp_path, text), 2)
    np.testing.assert_array_equal(found.Y.toarray(), [[1, 1], [0, 0], [np.nan, 0]])
    assert found.X.toarray().tolist() == [[3], [0], [0]]


def test_trees_take_the_rows_of_a_sparse_file(tmp_path: Path) -> None:
    found = read_arff(write(tmp_path, SPARSE), 1)
    for table in (found.X, found.Y):
        assert table.indices.dtype == table.indptr.dtype == np.int32


def test_labels_within_labels_are_labels(tmp_path: Path) -> None:
    xml = '<labels><label name="loud"><label name="warm"/></label><label name="open"/></labels>'
    found = read_arff(write(tmp_path, DENSE), write(tmp_path, xml, "labels.xml"))
    assert found.label_names == ("loud", "warm", "open")
    assert "warm" not in found.feature_names


def test_a_test_file_has_the_columns_of_the_training_file(tmp_path: Path) -> None:
    train = read_arff(write(tmp_path, SPARSE), 1)
    other = write(tmp_path, SPARSE.replace("a red Rose red", "violet rose"))
    test = read_arff(other, 1, train)
    assert test.feature_names == train.feature_names
    assert test.X.toarray().tolist() == [[0, 1, 0], [0, 0, 1]]


def test_levels_and_labels_of_a_test_file_may_have_another_order(tmp_path: Path) -> None:
    train = read_arff(write(tmp_path, DENSE), 2)
    other = DENSE.replace("{no, yes}", "{yes, no}").replace("{red, green,", "{green, red,")
    swapped = other.replace("warm {0,1}", "LOUD").replace("loud {FALSE,TRUE}", "warm {0,1}")
    swapped = swapped.replace("LOUD", "loud {FALSE,TRUE}").replace("1, FALSE", "FALSE, 1")
    swapped = swapped.replace("0, TRUE", "TRUE, 0").replace("?, TRUE", "TRUE, ?")
    for text in (other, swapped):
        test = read_arff(write(tmp_path, text), 2, train)
        np.testing.assert_array_equal(test.X, train.X)
        np.testing.assert_array_equal(test.Y, train.Y)
        assert test.label_names == train.label_names


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("size", "weight", "no column for 'size' of the training file"),
        ("colour", "tint", "no column for 'colour=red' of the training file"),
        ("loud", "noisy", "has the labels 'warm', 'noisy', but the training file has 'warm', 'l"),
    ],
)
def test_a_test_file_needs_the_columns_of_the_training_file(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    train = read_arff(write(tmp_path, DENSE), 2)
    with pytest.raises(DataError, match=message):
        read_arff(write(tmp_path, DENSE.replace(old, new)), 2, train)


def test_a_file_may_start_with_a_mark_and_must_be_utf_8(tmp_path: Path) -> None:
    (tmp_path / "own.arff").write_text(DENSE, encoding="utf-8-sig")
    assert read_arff(tmp_path / "own.arff", 2).X.shape == (3, 6)
    (tmp_path / "own.arff").write_text("@relation caf\xe9", encoding="latin-1")
    with pytest.raises(DataError, match="Save it as UTF-8"):
        read_arff(tmp_path / "own.arff", 2)


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        (DENSE.replace("1.5", "?"), 2, "missing value in column 'size', row 0"),
        (DENSE, ["cold"], "no column for the label 'cold'"),
        (DENSE, 6, "6 cannot be labels"),
        (DENSE, ["colour"], "label 'colour' is 'red' in row 0"),
        (DENSE[: DENSE.index("1.5")], 2, "has no rows"),
        ("hello", 1, "cannot be read"),
        (DENSE, "nowhere.xml", r"^nowhere\.xml cannot be read"),
        (DENSE, ["warm", "warm"], "labels hold several times 'warm'"),
        (DENSE, None, "labels are None, but"),
        (DENSE.replace("size", "'colour=red'"), 2, "become 'colour=red'"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, labels, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_arff(write(tmp_path, text), labels)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.arff cannot be read"):
        read_arff(tmp_path / "none.arff", 1)
