"""The command line: ``sdlgm fit | resume | evaluate | encode | decode | report | info | ...``.

Every setting is a field of a dataclass in :mod:`sdlgm.config`; the same classes read YAML. Only
what a command needs is imported, when it is run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import set_parsing_settings

from sdlgm import __version__
from sdlgm.cli.commands import COMMANDS
from sdlgm.cli.parser import Parser, underscored
from sdlgm.cli.show import say
from sdlgm.cli.start import starting_values
from sdlgm.errors import SDLGMError

__all__ = ["main", "run"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (0 done, 1 error, 2 usage, 130 interrupted)."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = Parser(
        prog="sdlgm",
        description="Sparse discrete codes under a hard budget.",
        epilog="""examples:
  sdlgm fit mnist-5k --out runs/digits
  sdlgm evaluate runs/digits
  sdlgm encode runs/digits mnist-5k codes.parquet
  sdlgm fit --help""",
    )
    parser.add_argument("--version", action="version", version=f"sdlgm {__version__}")
    commands = parser.add_subcommands(dest="command")
    given = [underscored(token) for token in (sys.argv[1:] if arguments is None else arguments)]
    for name, (build, _, what) in COMMANDS.items():
        command = build() if name in given else Parser()
        if name == "fit" and name in given:
            command.set_defaults(starting_values(given))
        commands.add_subcommand(name, command, help=what)
        command.prog = f"sdlgm {name}"
    options = parser.parse_args(given)
    try:
        COMMANDS[options.command][1](options[options.command])
    except SDLGMError as error:
        from sdlgm.training import Interrupted

        say(f"sdlgm: {error}")
        return 130 if isinstance(error, Interrupted) else 1
    except KeyboardInterrupt:
        say("sdlgm: interrupted; nothing was left half-written.")
        return 130
    return 0


def run() -> None:
    """Run the command of this process and exit with its status."""
    sys.exit(main())
