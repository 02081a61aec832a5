"""The parser: jsonargparse, with options spelled the way people type them."""

from __future__ import annotations

import argparse
import re
import typing
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter, Namespace

from sdlgm.config import Accelerator

__all__ = [
    "Command",
    "Parser",
    "add_accelerator",
    "add_split",
    "add_table_options",
    "underscored",
]


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


def add_accelerator(parser: Parser, default: str | None = "auto", text: str | None = None) -> None:
    """Add ``--accelerator``: the device that a command computes on."""
    parser.add_argument(
        "--accelerator",
        choices=typing.get_args(Accelerator),
        default=default,
        help=text or "Device to compute on. auto: the GPU if there is one, else the CPU.",
    )


def add_split(parser: Parser, default: str) -> None:
    """Add ``--split``: the rows that a command takes."""
    parser.add_argument(
        "--split",
        choices=("train", "test", "all"),
        default=None,
        help="Rows of a built-in set, or of the file that the run was trained on, whose test rows "
        "are those that fit held out. Any other file is taken as it is, in its order. Default: "
        f"{default}.",
    )


def add_table_options(parser: Parser, *, folders: bool = False, fit: bool = False) -> None:
    """Add the options that choose the columns of a file: --columns, --keep and --header."""
    also = ", of folders too" if folders else ""
    parser.add_argument(
        "--columns",
        nargs="+",
        default=None,
        help=f"Columns of a file to read{also}, in the model's order, or one column of lists. "
        + ("Default: all except those of --keep." if fit else "Default: those of the run."),
    )
    parser.add_argument(
        "--keep",
        nargs="+",
        default=() if fit else None,
        help=f"Columns of a file to pass through{also}, to files of codes and to decoded "
        "tables." + ("" if fit else " Default: those of the run, where the file has them."),
    )
    parser.add_argument(
        "--header",
        action=ActionYesNo(no_prefix="no_"),
        default=None,
        help="Whether the first line of a CSV file holds names. Default: it does, and a line of "
        "numbers alone is an error."
        if fit
        else "Whether the first line of a CSV file holds names. Default: as in training.",
    )
