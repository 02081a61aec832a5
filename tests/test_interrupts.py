"""Signal handlers are set inside the block and restored after it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from sdlgm.interrupts import handling, interruptible, postponed


def test_signals_go_to_the_handler_and_the_previous_ones_are_restored() -> None:
    numbers, seen = (signal.SIGINT, signal.SIGTERM), list[int]()
    before = [signal.getsignal(number) for number in numbers]
    with (
        pytest.raises(ZeroDivisionError),
        handling(lambda number, frame: seen.append(number), *numbers),
    ):
        for number in numbers:
            os.kill(os.getpid(), number)
        raise ZeroDivisionError
    assert seen == list(numbers)
    assert [signal.getsignal(number) for number in numbers] == before


def test_other_threads_leave_handlers_unchanged() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with handling(lambda number, frame: None, signal.SIGTERM):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_signal_waits_for_the_end_of_a_block_that_must_not_be_interrupted() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible() as received:
        with postponed():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("block")
        done.append("after")
    assert (done, received) == (["block"], [signal.SIGINT])
