"""The parser: jsonargparse, with options spelled as people type them."""

from __future__ import annotations

import argparse
import re
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

__all__ = ["Parser", "add_split", "underscored"]


class _Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and examples as they are written."""


class Parser(ArgumentParser):
    """Takes ``--batch-size`` as well as ``--batch_size``, and shows the former."""

    def __init__(self, synopsis: str = "COMMAND ...", **about: Any) -> None:
        usage = f"sdlgm {synopsis}"
        super().__init__(usage=usage, formatter_class=_Formatter, **about)

    def format_help(self, *arguments: Any) -> str:
        """Spell options with dashes."""
        return re.sub(
            r"--[a-z_]+",
            lambda option: option[0].replace("_", "-"),
            super().format_help(*arguments),
        )


def underscored(token: str) -> str:
    """Spell an option as a field's name; leave its value and everything else alone."""
    if not token.startswith("--"):
        return token
    name, equals, value = token.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def add_split(parser: Parser, default: str) -> None:
    """Add ``--split``: which rows a command takes."""
    parser.add_argument(
        "--split",
        choices=("train", "test", "all"),
        default=default,
        help="Rows to take; of a file of yours the test rows are those held out by fit.",
    )
