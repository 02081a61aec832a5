"""What tests of reports share."""

from __future__ import annotations

import builtins

import pytest


@pytest.fixture
def without_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every import of jinja2 fail, as where it is not installed."""
    real = builtins.__import__

    def refuse(name: str, *rest: object, **more: object) -> object:
        if name == "jinja2":
            raise ImportError(name=name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
