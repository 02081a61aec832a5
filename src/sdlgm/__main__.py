"""``python -m sdlgm`` is the command ``sdlgm``."""

from sdlgm.cli import run

run()
