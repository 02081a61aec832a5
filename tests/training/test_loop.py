"""The loop on a toy task: its order, early stopping, interruption and checks."""

from __future__ import annotations

import signal
import threading

import pytest
import torch
from torch import Tensor, nn

from sdlgm.errors import TrainingError
from sdlgm.training.callbacks import (
    CheckEveryStep,
    Checkpoints,
    Display,
    LogLines,
    Validation,
    describe_not_finite,
)
from sdlgm.training.loop import Callback, Interrupted, run_loop
from sdlgm.training.optimiser import Schedule
from sdlgm.training.state import Best, LoopState


class Count(nn.Module):
    """One weight, which counts the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))


class CountTask:
    """Adds 1 to the weight at each step; the term of step ``s`` is ``s``, or what is given."""

    def __init__(self, events: list[str], terms: dict[int, float] | None = None) -> None:
        self.model, self.events, self.terms = Count(), events, terms or {}
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(self.model.parameters(), lr=9.0)
        self.schedule = Schedule(1.0, 8, "cosine", warmup=0.25)

    def step(self, step: int) -> Tensor:
        self.events.append(f"step {step} at rate {self.optimizer.param_groups[0]['lr']:.2f}")
        with torch.no_grad():
            self.model.weight.add_(1)
        return torch.tensor([self.terms.get(step, float(step))])

    def check(self, start: int, terms: list[Tensor]) -> None:
        self.events.append(f"check {start}..{start + len(terms) - 1}")
        what = describe_not_finite(("loss",), start, terms)
        if what is not None:
            raise TrainingError(what)


class Events(Callback):
    """Records each call; can send a signal after a step."""

    def __init__(self, events: list[str], name: str, kill_after: int | None = None) -> None:
        self.events, self.name, self.kill_after = events, name, kill_after

    def receive(self, state: LoopState) -> None:
        self.events.append(f"{self.name} receives {state.terms.item():g}")

    def after_step(self, state: LoopState) -> None:
        self.events.append(f"{self.name} after {state.step}")
        if state.step == self.kill_after:
            signal.raise_signal(signal.SIGINT)

    def finish(self, state: LoopState) -> None:
        self.events.append(f"{self.name} finishes")


@pytest.fixture
def events() -> list[str]:
    return []


def test_callbacks_are_called_in_their_order(events: list[str]) -> None:
    run_loop(CountTask(events), LoopState(2), [Events(events, "a"), Events(events, "b")])
    assert events == [
        "step 0 at rate 0.50", "a receives 0", "b receives 0", "a after 1", "b after 1",
        "step 1 at rate 1.00", "a receives 1", "b receives 1", "check 0..1", "a after 2",
        "b after 2", "a finishes", "b finishes",
    ]  # fmt: skip


def test_terms_are_checked_when_a_callback_reads_numbers(events: list[str]) -> None:
    lines: list[list[float]] = []
    log = LogLines(
        lines.append,  # type: ignore[arg-type]
        lambda terms, state: [term.item() for term in terms],  # type: ignore[return-value,arg-type]
        every=3,
    )
    run_loop(CountTask(events), LoopState(8), [log])
    assert [event for event in events if "check" in event] == [
        "check 0..2", "check 3..5", "check 6..7",
    ]  # fmt: skip
    assert lines == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_one_line_can_be_written_after_the_last_step_alone(events: list[str]) -> None:
    lines: list[dict[str, float]] = []
    log = LogLines(lines.append, lambda terms, state: {"steps": len(terms)}, every=None)
    run_loop(CountTask(events), LoopState(7, 3), [log])
    assert lines == [{"steps": 4}]


def test_a_number_that_is_not_finite_is_named_with_its_step(events: list[str]) -> None:
    bad = {4: float("nan"), 5: float("inf")}
    with pytest.raises(TrainingError, match="The loss is nan at step 5"):
        run_loop(CountTask(events, bad), LoopState(8))
    assert events[-1] == "check 0..7"
    with pytest.raises(TrainingError, match="The loss is nan at step 5"):
        run_loop(CountTask(events, bad), LoopState(8), [CheckEveryStep()])
    assert events[-1] == "check 4..4"


def test_nothing_is_saved_after_a_number_that_is_not_finite(events: list[str]) -> None:
    saved: list[int] = []
    checkpoints = Checkpoints(lambda state: saved.append(state.step), every=2)
    with pytest.raises(TrainingError):
        run_loop(CountTask(events, {2: float("nan")}), LoopState(8), [checkpoints])
    assert saved == [2]


def test_the_loop_continues_from_a_state(events: list[str]) -> None:
    run_loop(CountTask(events), LoopState(8, 7))
    assert events == ["step 7 at rate 0.07", "check 7..7"]


def test_a_complete_training_takes_no_step(events: list[str]) -> None:
    for state in (LoopState(8, 8), LoopState(8, 5, stopped=True)):
        run_loop(CountTask(events), state, [Events(events, "a")])
    assert events == ["a finishes", "a finishes"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_loop_completes_its_step(number: int, events: list[str]) -> None:
    task = CountTask(events)
    take = task.step

    def step(step: int) -> Tensor:
        if step == 3:
            signal.raise_signal(number)
        return take(step)

    task.step = step  # type: ignore[method-assign]
    saved: list[int] = []
    before = signal.getsignal(number)
    checkpoints = Checkpoints(lambda state: saved.append(state.step), every=100)
    with pytest.raises(Interrupted, match="Stopped at step 4 of 8"):
        run_loop(task, LoopState(8), [checkpoints, Events(events, "a")])
    assert task.model.weight.item() == 4
    assert events[-2:] == ["check 0..3", "a after 4"]
    assert saved == [4]
    assert signal.getsignal(number) is before


def test_an_interruption_between_steps_ends_after_the_next(events: list[str]) -> None:
    with pytest.raises(Interrupted, match="Stopped at step 3 of 8"):
        run_loop(CountTask(events), LoopState(8), [Events(events, "a", kill_after=2)])


def test_an_interruption_in_the_last_step_changes_nothing(events: list[str]) -> None:
    state = LoopState(8)
    run_loop(CountTask(events), state, [Events(events, "a", kill_after=7)])
    assert state.done
    assert events[-1] == "a finishes"


def test_a_second_interruption_is_obeyed_at_once(events: list[str]) -> None:
    twice = [Events(events, "a", kill_after=2), Events(events, "b", kill_after=2)]
    with pytest.raises(KeyboardInterrupt):
        run_loop(CountTask(events), LoopState(8), twice)
    assert events[-1] == "b after 2"


def test_the_loop_runs_in_a_thread(events: list[str]) -> None:
    thread = threading.Thread(target=run_loop, args=(CountTask(events), LoopState(2)))
    thread.start()
    thread.join()
    assert events[-1] == "check 0..1"


def validated(
    events: list[str], losses: list[float], **options: object
) -> tuple[CountTask, LoopState, list[tuple[int, float]]]:
    """Train for 8 steps and evaluate after every second."""
    task, state, reported = CountTask(events), LoopState(8), []  # type: ignore[var-annotated]
    course = iter(losses)
    run_loop(
        task,
        state,
        [
            Validation(
                task.model,
                lambda: next(course),
                lambda state, value: reported.append((state.step, value)),
                every=2,
                **options,  # type: ignore[arg-type]
            )
        ],
    )
    return task, state, reported


def test_early_stopping_keeps_the_best_weights(events: list[str]) -> None:
    task, state, reported = validated(events, [3.0, 2.0, 2.5, 2.0], patience=2)
    assert reported == [(2, 3.0), (4, 2.0), (6, 2.5), (8, 2.0)]
    assert task.model.weight.item() == 4
    assert (state.best.value, state.best.step, state.best.misses) == (2.0, 4, 2)
    task, state, reported = validated(events, [1.0, 2.0, 0.0], patience=1)
    assert reported == [(2, 1.0), (4, 2.0)]
    assert (task.model.weight.item(), state.step, state.stopped) == (2, 4, True)


def test_the_best_weights_are_kept_without_early_stopping(events: list[str]) -> None:
    task, state, _ = validated(events, [3.0, 1.0, 2.0, 2.0])
    assert (task.model.weight.item(), state.step, state.stopped) == (4, 8, False)


def test_the_last_weights_stay_if_no_best_ones_are_wanted(events: list[str]) -> None:
    task, state, _ = validated(events, [3.0, 1.0, 2.0, 2.0], keep_best=False)
    assert (task.model.weight.item(), state.best) == (8, Best())


def test_evaluations_that_are_not_finite_count_as_misses(events: list[str]) -> None:
    nan = float("nan")
    task, state, _ = validated(events, [nan, 5.0, nan, nan], patience=2)
    assert (task.model.weight.item(), state.step) == (4, 8)
    task, state, _ = validated(events, [nan, nan], patience=2)
    assert (task.model.weight.item(), state.step, state.best.weights) == (4, 4, {})


def test_the_model_is_in_evaluation_mode_during_an_evaluation(events: list[str]) -> None:
    modes: list[bool] = []
    task = CountTask(events)

    def evaluate() -> float:
        modes.append(task.model.training)
        return 0.0

    run_loop(
        task, LoopState(2), [Validation(task.model, evaluate, lambda state, value: None, every=2)]
    )
    assert modes == [False]
    assert task.model.training


def test_a_checkpoint_is_written_when_early_stopping_ends_training(events: list[str]) -> None:
    task, saved = CountTask(events), []  # type: ignore[var-annotated]
    course = iter([1.0, 2.0])
    run_loop(
        task,
        LoopState(8),
        [
            Validation(
                task.model, lambda: next(course), lambda state, value: None, every=2, patience=1
            ),
            Checkpoints(lambda state: saved.append((state.step, state.stopped)), every=3),
        ],
    )
    assert saved == [(3, False), (4, True)]


def test_the_display_counts_epochs(events: list[str]) -> None:
    shown: list[tuple[int, dict[str, float]]] = []
    run_loop(
        CountTask(events),
        LoopState(8, 2),
        [
            Display(
                lambda unit, numbers: shown.append((unit, numbers)),
                lambda: {"loss": 1.5},
                every=3,
                start=2,
            )
        ],
    )
    assert shown == [(1, {"loss": 1.5}), (2, {"loss": 1.5})]
