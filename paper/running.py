"""What every experiment does: choose what to run, run it in processes, and report progress."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sdlgm.errors import SDLGMError
from sdlgm.interrupts import handling

__all__ = [
    "Say",
    "check_seeds",
    "choose",
    "in_processes",
    "measure_all",
    "plan_runs",
    "profile_named",
    "say_on_stderr",
    "torch_threads",
]

Say = Callable[[str], None]
"""Receives a line of progress."""
Size = TypeVar("Size")
Result = TypeVar("Result")


def say_on_stderr(text: str) -> None:
    """Print a line of progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def choose(names: Sequence[str] | None, known: Iterable[str], what: str) -> list[str]:
    """Return the requested names in the order of ``known``, or all names if none is requested.

    Raises
    ------
    SDLGMError
        If a name is unknown; the message lists the known names.
    """
    known = list(known)
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise SDLGMError(f"No {what} is named {unknown[0]!r}. There are {', '.join(known)}.")
    return [name for name in known if not names or name in names]


def profile_named(name: str, profiles: Mapping[str, Size]) -> Size:
    """Return the profile of this name.

    Raises
    ------
    SDLGMError
        If there is none; the message lists the known profiles.
    """
    (name,) = choose([name], profiles, "profile")
    return profiles[name]


def check_seeds(number: int) -> int:
    """Return a number of seeds.

    Raises
    ------
    SDLGMError
        If it is not positive.
    """
    if number < 1:
        raise SDLGMError(f"seeds must be a positive integer, got {number}.")
    return number


def plan_runs(
    methods: Iterable[str], seeds_of: Callable[[str], Iterable[int]]
) -> list[tuple[str, int]]:
    """Return all pairs of method and seed, the pairs of one seed before those of the next.

    An experiment that is stopped early then still compares all methods on the same seeds.
    """
    pairs = [(method, seed) for method in methods for seed in seeds_of(method)]
    return sorted(pairs, key=lambda pair: pair[1])


def measure_all(
    measure: Callable[..., Result],
    plan: Sequence[tuple[Any, ...]],
    describe: Callable[[Result], str],
    *,
    say: Say,
    jobs: int = 1,
    prefix: str = "",
) -> None:
    """Call ``measure(*entry)`` for each entry of a plan and report a line of progress for each.

    Parameters
    ----------
    measure
        Measures one entry. With more than one job it runs in other processes: give a function of
        a module, or a ``functools.partial`` of one.
    plan
        Arguments of each call.
    describe
        Returns the line for a result.
    say
        Receives the lines, each preceded by ``prefix`` and how far the plan is.
    jobs
        Number of processes, with one thread each.

    Raises
    ------
    SDLGMError
        If ``jobs`` is not positive.
    """
    for done, result in enumerate(in_processes(measure, plan, jobs), 1):
        say(f"{prefix}[{done}/{len(plan)}] {describe(result)}")


def in_processes(
    run: Callable[..., Result], plan: Sequence[tuple[Any, ...]], jobs: int
) -> Iterable[Result]:
    """Yield ``run(*entry)`` for each entry of a plan as soon as it is computed.

    Parameters
    ----------
    run, plan
        The function, and the arguments of each call.
    jobs
        Number of processes, with one thread each. 1 runs all calls in this process.

    Raises
    ------
    SDLGMError
        If ``jobs`` is not positive.
    """
    if jobs < 1:
        raise SDLGMError(f"jobs must be a positive integer, got {jobs}.")
    if jobs == 1:
        return (run(*entry) for entry in plan)
    return _in_pool(run, plan, jobs)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Use this number of threads of torch, and restore the previous number at the end."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_pool(
    run: Callable[..., Result], plan: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[Result]:
    """Yield results from a pool whose processes end with this one on Ctrl-C and SIGTERM."""
    import joblib

    pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    with handling(signal.default_int_handler, signal.SIGTERM):
        yield from pool(joblib.delayed(_single_threaded)(run, entry) for entry in plan)


def _single_threaded(run: Callable[..., Result], entry: tuple[Any, ...]) -> Result:
    import torch

    torch.set_num_threads(1)
    return run(*entry)
