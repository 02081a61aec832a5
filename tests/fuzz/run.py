"""Read forged and damaged files until a number of trials is done; print the counts as JSON.

``python -m tests.fuzz.run --trials 20000 --seed 0``. Each trial depends on the seed and its number
alone: ``--only NUMBER`` repeats one and shows its traceback. Trials run in worker processes whose
memory may grow by 1 GB and which have 10 s for each trial.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import multiprocessing as mp
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

GIGABYTE = 2**30
SECONDS = 10


class TooSlow(BaseException):
    """A trial took more than 10 s."""


def main() -> None:
    """Parse options and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=None, help="Stop after this long.")
    parser.add_argument("--only", type=int, default=None, help="Repeat one trial.")
    options = parser.parse_args()
    if options.only is not None:
        _quiet()
        with tempfile.TemporaryDirectory() as folder:
            targets = _targets(Path(folder))
            name, target = _choose(targets, options.seed, options.only)
            print(name)  # noqa: T201
            target(random.Random(f"{options.seed} {options.only}"))
        return
    result = fuzz(options.trials, options.seed, options.workers, options.seconds)
    print(json.dumps(result, indent=2))  # noqa: T201
    sys.exit(bool(result["crashes"] or result["over_1_gb"] or result["over_10_s"]))


def fuzz(
    trials: int, seed: int = 0, workers: int = 2, seconds: float | None = None
) -> dict[str, Any]:
    """Run trials; return how many ended in which way, and the first failures."""
    with tempfile.TemporaryDirectory() as root:  # also of workers that are killed
        return _fuzz(trials, seed, workers, seconds, root)


def _fuzz(trials: int, seed: int, workers: int, seconds: float | None, root: str) -> dict[str, Any]:
    began = time.monotonic()
    context = mp.get_context("spawn")
    counts: collections.Counter[str] = collections.Counter()
    by_target: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    failures: list[dict[str, Any]] = []
    slowest = 0.0
    waiting = {number: list(range(number, trials, workers)) for number in range(workers)}
    active: dict[Connection, tuple[int, Any, list[Any]]] = {}

    def start(number: int) -> None:
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, seed, waiting[number], root), daemon=True
        )
        process.start()
        theirs.close()
        active[ours] = (number, process, [None, time.monotonic()])

    def record(trial: int, name: str, outcome: str, detail: str) -> None:
        counts[outcome] += 1
        by_target[name][outcome] += 1
        if outcome not in ("loaded", "refused"):
            failures.append({"trial": trial, "target": name, "outcome": outcome, "detail": detail})

    for number in range(workers):
        start(number)
    while active:
        for pipe in wait(list(active), timeout=1):
            assert isinstance(pipe, Connection)
            number, process, current = active[pipe]
            try:
                message = pipe.recv()
            except EOFError:
                process.join()
                del active[pipe]
                if current[0] is not None:  # it died in a trial
                    trial, name = current[0]
                    record(trial, name, "crashes", f"exit code {process.exitcode}")
                    waiting[number] = [other for other in waiting[number] if other > trial]
                    start(number)
                continue
            if message[0] == "start":
                current[:] = [message[1:], time.monotonic()]
            else:
                _, trial, name, outcome, detail, took = message
                record(trial, name, outcome, detail)
                slowest = max(slowest, took)
                current[:] = [None, time.monotonic()]
        for _, process, current in list(active.values()):
            if current[0] is not None and time.monotonic() - current[1] > 6 * SECONDS:
                process.kill()  # in compiled code, where the alarm does not reach it
        if seconds is not None and time.monotonic() - began > seconds:
            for _, process, _ in active.values():
                process.terminate()
                process.join()
            break
    return {
        "seed": seed,
        "trials": sum(counts.values()),
        "loaded": counts["loaded"],
        "refused": counts["refused"],
        "crashes": counts["crashes"],
        "over_1_gb": counts["over_1_gb"],
        "over_10_s": counts["over_10_s"],
        "slowest_s": round(slowest, 2),
        "seconds": round(time.monotonic() - began),
        "by_target": {name: dict(found) for name, found in sorted(by_target.items())},
        "failures": failures[:100],
    }


def _quiet() -> None:
    """Keep libraries from reserving address space for threads, which would count as memory."""
    os.environ.update(OMP_NUM_THREADS="1", ARROW_DEFAULT_MEMORY_POOL="system", MALLOC_ARENA_MAX="1")


def _targets(folder: Path) -> Any:
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    from tests.fuzz.targets import Targets

    targets = Targets(folder)
    targets.warm_up()
    return targets


def _choose(targets: Any, seed: int, trial: int) -> tuple[str, Any]:
    everything = targets.all()
    name = sorted(everything)[trial % len(everything)]
    return name, everything[name]


def _work(pipe: Connection, seed: int, trials: list[int], root: str) -> None:
    _quiet()
    with tempfile.TemporaryDirectory(dir=root) as folder:
        targets = _targets(Path(folder))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + GIGABYTE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        signal.signal(signal.SIGALRM, _too_slow)
        for trial in trials:
            name, target = _choose(targets, seed, trial)
            pipe.send(("start", trial, name))
            began = time.monotonic()
            outcome, detail = _outcome(target, random.Random(f"{seed} {trial}"))
            pipe.send(("end", trial, name, outcome, detail, time.monotonic() - began))
    pipe.close()


def _too_slow(*_: object) -> None:
    raise TooSlow


def _outcome(target: Any, source: random.Random) -> tuple[str, str]:
    from sdlgm.errors import SDLGMError
    from sdlgm.limits import reason

    try:
        with _alarm():
            target(source)
    except TooSlow as error:
        return "over_10_s", _last_lines(error)
    except SDLGMError as error:
        causes, cause = [], error
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
        memory = any(
            isinstance(each, MemoryError) or "can't allocate memory" in reason(each)
            for each in causes
        )
        return ("over_1_gb" if memory else "refused"), _last_lines(error) if memory else ""
    except MemoryError as error:
        return "over_1_gb", _last_lines(error)
    except Exception as error:
        return "crashes", _last_lines(error)
    return "loaded", ""


@contextlib.contextmanager
def _alarm() -> Any:
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _last_lines(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))[-1200:]
    except Exception as second:  # an error that cannot be printed
        return repr(second)


if __name__ == "__main__":
    main()
