"""What a folder holds."""

from pathlib import Path

import pytest

from sdlgm.folders import (
    ESTIMATOR,
    METRICS,
    MODEL,
    SETTINGS,
    holds_estimator,
    holds_metrics,
    holds_model,
    holds_run,
)


@pytest.mark.parametrize(
    ("files", "held"),
    [
        ([], (False, False, False)),
        ([SETTINGS], (True, False, False)),  # a run that is not finished
        ([SETTINGS, MODEL], (True, True, False)),
        ([MODEL], (False, True, False)),
        ([ESTIMATOR], (False, False, True)),  # a classifier or a counter
        ([ESTIMATOR, MODEL], (False, True, True)),  # a transformer
    ],
)
def test_a_folder_is_told_by_the_files_that_describe_what_it_holds(
    files: list[str], held: tuple[bool, bool, bool], tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert (holds_run(tmp_path), holds_model(tmp_path), holds_estimator(tmp_path)) == held


def test_a_complete_run_holds_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).touch()
    assert not holds_metrics(tmp_path)
    (tmp_path / METRICS).touch()
    assert holds_metrics(tmp_path)


def test_a_folder_with_one_of_these_names_is_no_description(tmp_path: Path) -> None:
    (tmp_path / MODEL).mkdir()
    assert not holds_model(tmp_path)
    assert not holds_run(tmp_path / "missing")
