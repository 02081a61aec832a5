"""Progress where standard error is not a terminal."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sdlgm.progress

PROGRAM = """
import sdlgm.progress

sdlgm.progress.SECONDS_BETWEEN_LINES = {seconds}
with sdlgm.progress.progress_bar("training", 10_000) as update:
    update(3_200, {{"objective": 102.314, "kl": 7}})
    input()
    update(9_999, {{}})
    update(10_000, {{}})
"""


def start(seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(seconds=seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_lines_appear_while_the_task_runs() -> None:
    with start(seconds=0) as process:
        assert process.stderr is not None
        # The program waits for its input, so this line was not held back in a buffer.
        line = process.stderr.readline()
        out, rest = process.communicate("\n", timeout=60)
    assert line == "training 3,200/10,000 (32 %) 0:00:00, objective 102.31, kl 7\n"
    assert [text.split(" 0:")[0] for text in rest.splitlines()] == [
        "training 9,999/10,000 (99 %)",
        "training 10,000/10,000 (100 %)",
    ]
    assert (out, process.returncode) == ("", 0)


def test_a_short_task_prints_its_last_state_alone() -> None:
    with start(seconds=100) as process:
        out, errors = process.communicate("\n", timeout=60)
    assert [text.split(" 0:")[0] for text in errors.splitlines()] == [
        "training 10,000/10,000 (100 %)"
    ]
    assert (out, process.returncode) == ("", 0)


def test_a_task_that_fails_prints_how_far_it_came() -> None:
    with start(seconds=100) as process:
        _, errors = process.communicate("", timeout=60)  # no input: EOFError
    assert errors.startswith("training 3,200/10,000 (32 %) 0:")
    assert process.returncode == 1


def test_a_step_that_may_be_short_is_shown_once_it_is_long(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(sdlgm.progress.time, "monotonic", lambda: now)
    for elapsed, shown in ((1.9, []), (2.1, ["reading 5/9 (55 %) 0:00:02", "reading 9/9 "])):
        start = now
        with sdlgm.progress.progress_bar("reading", 9, after=2) as update:
            now = start + elapsed
            update(5, {})
            update(9, {})
        lines = capfd.readouterr().err.splitlines()
        assert [line[: len(text)] for line, text in zip(lines, shown, strict=True)] == shown


@pytest.mark.parametrize(
    ("seconds", "line"),
    [
        (0.25, []),  # 50 seconds in all
        (0.5, ["fitting: about 2 minutes for 3 members\n"]),
        (1.2, ["fitting: about 4 minutes for 3 members\n"]),
        (60.0, ["fitting: about 3 hours for 3 members\n"]),
    ],
)
def test_a_task_of_minutes_is_announced_once_after_a_second(
    seconds: float,
    line: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(sdlgm.progress.time, "monotonic", lambda: now)
    says = sdlgm.progress.announced_duration("fitting", 200, " for 3 members")
    silent = sdlgm.progress.announced_duration("fitting", 200, "", enabled=False)
    with sdlgm.progress.silenced():
        quiet = sdlgm.progress.announced_duration("fitting", 200)
    now += 100  # before and in the first step, which does not count
    said = []
    for step in range(1, 11):
        for after_step in (says, silent, quiet):
            after_step(step)
        said += capfd.readouterr().err.splitlines(keepends=True)
        assert not said or (step - 1) * seconds >= 1
        now += seconds
    assert said == line
