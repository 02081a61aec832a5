"""The log holds each step once, also after a training was killed."""

from __future__ import annotations

from pathlib import Path

from sdlgm.training.log import Log, read_log


def test_lines_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path)
    for step in (100, 200, 300):
        log.write({"event": "train", "step": step, "objective": float(step)})
    with path.open("a") as file:
        file.write('{"event": "train", "step": 40')  # a kill in the middle of a line
    resumed = Log(path, keep_until=200)
    resumed.write({"event": "validation", "step": 200, "negative_elbo": 1.0})
    assert [line["step"] for line in read_log(path)] == [100, 200, 200]
    assert resumed.latest == {"validation_negative_elbo": 1.0}


def test_a_new_training_starts_an_empty_log(tmp_path: Path) -> None:
    Log(tmp_path / "log.jsonl").write({"event": "train", "step": 1})
    Log(tmp_path / "log.jsonl")
    assert read_log(tmp_path / "log.jsonl") == []
