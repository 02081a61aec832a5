"""The page about a classifier of label sets."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from sdlgm.cli import main
from sdlgm.errors import ModelFileError, SDLGMError
from sdlgm.estimators import BudgetedClassifier, SDLGMClassifier
from sdlgm.report import write_label_report, write_saved_label_report

SOURCE = np.random.default_rng(0)
ROWS = SOURCE.normal(size=(80, 4))
NAMES = ["<b>bold</b>", "rain & snow", "$x$", "never"]
TABLE = pd.DataFrame((ROWS > [0.0, 0.3, -0.3, 9.0]).astype(int), columns=NAMES)


@pytest.fixture(scope="module")
def model() -> SDLGMClassifier:
    return SDLGMClassifier(members=2, folds=2, epochs=10, hidden=(8,), random_state=0).fit(
        ROWS, TABLE
    )


def test_the_page_has_a_line_for_each_label_with_its_name_escaped(
    model: SDLGMClassifier, tmp_path: Path
) -> None:
    page = write_label_report(model, ROWS, TABLE, tmp_path / "labels.html").read_text()
    report = model.label_report(ROWS, TABLE)
    assert "<b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "rain &amp; snow" in page
    assert "No row has never." in page
    assert re.findall(r'class="name">([^<]*)<', page)[-1] == "never"  # the most frequent first
    for label, row in report.iterrows():
        if row.support:
            line = page[page.index(str(label).replace("<b>", "&lt;b&gt;")[:6]) :]
            assert f"{100 * row.recall:.1f}%" in line[: line.index("</tr>")]
    assert not re.findall(r'(?:src|href)="', page)
    assert "<script" not in page


def test_sets_without_a_threshold_and_unknown_labels_are_said(tmp_path: Path) -> None:
    some = TABLE.astype(float).mask(SOURCE.random(TABLE.shape) < 0.2)
    model = BudgetedClassifier(LogisticRegression(), threshold="counts", folds=2, random_state=0)
    model.fit(ROWS, TABLE)
    page = write_label_report(model, ROWS, some, tmp_path / "labels.html").read_text()
    assert "most probable number" in page
    assert "<th>threshold</th>" not in page
    assert f"{int(some.isna().to_numpy().sum())} entries" in page


def test_classes_of_one_label_each_have_a_page_too(tmp_path: Path) -> None:
    words = np.where(ROWS[:, 0] > 0, "up", "down")
    model = SDLGMClassifier(members=2, epochs=2, hidden=(4,), random_state=0).fit(ROWS, words)
    page = write_label_report(model, ROWS, words, tmp_path / "labels.html").read_text()
    assert "2 labels on 80 rows" in page
    assert ">up<" in page


def test_the_command_line_writes_the_page_of_a_saved_classifier(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame(ROWS, columns=list("abcd")).assign(colour=["red", "blue"] * 40)
    model = SDLGMClassifier(members=2, epochs=2, hidden=(4,), mixed=True, random_state=0)
    model.fit(frame, TABLE).save(tmp_path / "tags")
    table = pd.concat([TABLE.astype("Int8"), frame], axis=1).assign(id="x")
    table.loc[3, "$x$"] = pd.NA
    table.to_csv(tmp_path / "rows.csv", index=False)
    page = tmp_path / "page.html"
    command = ["report", str(tmp_path / "tags"), "--out", str(page), "--data"]
    assert main([*command, str(tmp_path / "rows.csv")]) == 0
    expected = write_label_report(
        model, frame, table[NAMES].astype(float), tmp_path / "expected.html"
    )
    assert page.read_text() == expected.read_text()
    assert main([*command, str(page)]) == 1
    table.drop(columns=["b", "never"]).to_csv(tmp_path / "rows.csv", index=False)
    assert main([*command, str(tmp_path / "rows.csv")]) == 1
    assert "lacks the columns 'b', 'never'" in capfd.readouterr().err
    assert main(command[:2]) == 1
    assert "name a table of rows with labels by --data" in capfd.readouterr().err


def test_a_saved_classifier_without_names_has_a_page_in_python_only(
    model: SDLGMClassifier, tmp_path: Path
) -> None:
    model.save(tmp_path / "tags")
    with pytest.raises(ModelFileError, match="without names of inputs"):
        write_saved_label_report(tmp_path / "tags", tmp_path / "rows.csv")


def test_labels_that_are_numbers_are_found_by_their_text(tmp_path: Path) -> None:
    frame, labels = pd.DataFrame(ROWS, columns=list("abcd")), TABLE.set_axis(range(4), axis=1)
    short = SDLGMClassifier(members=2, epochs=1, hidden=(4,), random_state=0)
    short.fit(frame, labels).save(tmp_path / "tags")
    pd.concat([frame, labels], axis=1).to_csv(tmp_path / "rows.csv", index=False)
    page = write_saved_label_report(tmp_path / "tags", tmp_path / "rows.csv")
    expected = write_label_report(short, frame, labels, tmp_path / "expected.html")
    assert page.read_text() == expected.read_text()


def test_inputs_and_labels_of_one_name_are_not_read_from_one_column(tmp_path: Path) -> None:
    frame, labels = (
        pd.DataFrame(ROWS > 0, columns=list("abcd")),
        TABLE.set_axis(list("axyz"), axis=1),
    )
    short = SDLGMClassifier(members=2, epochs=1, hidden=(4,), random_state=0)
    short.fit(frame, labels).save(tmp_path / "tags")
    pd.concat([frame, labels.drop(columns="a")], axis=1).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(ModelFileError, match="inputs and labels of the same names .'a'."):
        write_saved_label_report(tmp_path / "tags", tmp_path / "rows.csv")


@pytest.mark.usefixtures("without_jinja2")
def test_a_missing_package_is_named(model: SDLGMClassifier, tmp_path: Path) -> None:
    with pytest.raises(SDLGMError, match=r"needs jinja2: pip install 'sdlgm\[report\]'"):
        write_label_report(model, ROWS, TABLE, tmp_path / "labels.html")
    assert not (tmp_path / "labels.html").exists()
