"""Names and notes from files reach the terminal as text, not as commands."""

from __future__ import annotations

import io
import sys

import pytest

from sdlgm.cli.output import say, show, show_metrics


def test_escape_codes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    say("column \x1b[2J\x07 is wrong\nsecond line")
    show("data \x1b]0;title\x07")
    out, err = capsys.readouterr()
    assert err == "column \\x1b[2J\\x07 is wrong\nsecond line\n"
    assert out == "data \\x1b]0;title\\x07\n"


def test_markup_and_escape_codes_of_metrics_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_metrics({"budget": "[bold]4[/x]\x1b[2J", "negative_elbo": 1.5}, "run[/x] \x1b[31m")
    out = capsys.readouterr().out
    assert all(text in out for text in ("[bold]4[/x]", "run[/x]", "1.50"))
    assert "\x1b" not in out


def test_letters_that_the_terminal_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    say("café")
    stream.flush()
    assert stream.buffer.getvalue() == b"caf\\xe9\n"  # type: ignore[attr-defined]
