"""The parser: jsonargparse, with options spelled the way people type them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

__all__ = ["Command", "Parser", "add_split", "underscored"]


class Command(NamedTuple):
    """One command: its options, what it does, and its line in ``sdlgm --help``."""

    parser: Callable[[], Parser]
    run: Callable[[Namespace], None]
    summary: str


class _Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and examples as they are written."""


class _Short(_Formatter):
    """Shows the first sentence of each help and no types, so that the help fits a screen."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{**named, "max_help_position": 28, "width": 100})

    def _get_help_string(self, action: argparse.Action) -> str:
        text = (action.help or "").partition(". ")[0].rstrip(".")
        shows = action.default not in (None, argparse.SUPPRESS, False)
        return f"{text} (default: {action.default})." if shows else f"{text}."


class Parser(ArgumentParser):
    """A parser that takes ``--batch-size`` as well as ``--batch_size``, and shows the former.

    Options must be spelled out: an abbreviation is an error.
    """

    def __init__(self, synopsis: str = "COMMAND ...", **texts: Any) -> None:
        usage = f"sdlgm {synopsis}"
        super().__init__(usage=usage, formatter_class=_Formatter, allow_abbrev=False, **texts)

    def format_help(self, *arguments: Any) -> str:
        """Spell options with dashes."""
        return re.sub(
            r"--[a-z_]+",
            lambda option: option[0].replace("_", "-"),
            super().format_help(*arguments),
        )

    def shorten_help(self, shown: Collection[str]) -> None:
        """Let ``--help`` show only the options ``shown``, and ``--help-all`` all of them."""
        self.add_argument("--help_all", action=_HelpAll, nargs=0, help="Show all options and exit.")
        self.short_help = (*shown, "help", "help_all")

    def print_help(self, *arguments: Any, **named: Any) -> None:
        """Print the short help, if there is one."""
        shown = getattr(self, "short_help", None)
        if shown is None:
            super().print_help(*arguments, **named)
            return
        hidden = [action for action in self._actions if action.dest not in shown]
        texts = [(action, action.help, action.metavar) for action in self._actions]
        groups = list(self._action_groups)
        titles = [(group, group.title, group.description) for group in groups]
        before = self.formatter_class
        self.formatter_class = _Short
        try:
            for action in hidden:
                action.help = argparse.SUPPRESS
            for group in groups:
                if all(action in hidden for action in group._group_actions):
                    group.title = group.description = None
            super().print_help(*arguments, **named)
        finally:
            self.formatter_class = before
            for action, text, metavar in texts:
                action.help, action.metavar = text, metavar
            for group, title, description in titles:
                group.title, group.description = title, description


class _HelpAll(argparse.Action):
    """Prints the help of all options."""

    def __call__(self, parser: Any, *_: Any) -> None:
        parser.short_help = None
        parser.print_help()
        parser.exit()


def underscored(token: str) -> str:
    """Spell an option as a field's name; leave its value and everything else alone."""
    if not token.startswith("--"):
        return token
    name, equals, value = token.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def add_split(parser: Parser, default: str) -> None:
    """Add ``--split``: the rows that a command takes."""
    parser.add_argument(
        "--split",
        choices=("train", "test", "all"),
        default=default,
        help="Rows to take. In a file of yours, the test rows are those that fit held out.",
    )
