"""What tests of reports share."""

from __future__ import annotations

import pytest

from helpers import refuse_import


@pytest.fixture
def without_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every import of jinja2 fail, as where it is not installed."""
    refuse_import(monkeypatch, "jinja2")
