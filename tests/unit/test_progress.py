"""Progress as lines for people, and as events for programs."""

import os
import sys
from contextlib import suppress

import pytest

from imcl import progress
from imcl.progress import LINES, Events, Progress, say


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, as its only entry, for a test to set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_it_prints_a_line_now_and_then(capsys, clock):
    with Progress("training", 1000, "epochs") as shown:
        for _ in range(1000):
            clock[0] += 2
            shown.advance(note="loss 1.5")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == LINES
    assert lines[0] == "training: 100 of 1,000 epochs, 30 min 0 s left, loss 1.5"
    assert lines[-1] == "training: 1,000 of 1,000 epochs, loss 1.5"


def test_what_was_done_before_does_not_count_for_the_pace(clock):
    shown = Progress("training", 100, "epochs")
    shown.skip(90)
    clock[0] = 10.0
    shown.advance()
    assert (shown.done, shown.seconds_left) == (91, 90.0)


def test_events_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "logs/cell.jsonl"
    assert Events.read(path) == []
    events = Events(path)
    events.add("started", pid=1, host="here", total=4, done=0)
    events.add("failed", message="two\nlines")
    first, second = Events.read(path)
    assert (first["event"], first["pid"], first["total"]) == ("started", 1, 4)
    assert (second["event"], second["message"]) == ("failed", "two\nlines")
    assert first["time"] <= second["time"]
    assert first["time"].endswith("+00:00")


def test_a_line_that_a_killed_process_left_unfinished_is_skipped(tmp_path):
    path = tmp_path / "cell.jsonl"
    Events(path).add("started", pid=1, host="here", total=4, done=0)
    whole = path.read_bytes()
    for end in (b'{"time": "2026', b"[]\n", b"\xff\xfe\n", b'{"event": "done"}\n'):
        path.write_bytes(whole + end)
        assert len(Events.read(path)) == 1
        Events(path).add("done")
        assert [event["event"] for event in Events.read(path)] == ["started", "done"]


def test_a_pipe_in_place_of_events_is_refused(tmp_path):
    os.mkfifo(tmp_path / "cell.jsonl")
    with pytest.raises(OSError, match="not a file, but a device or a pipe"):
        Events.read(tmp_path / "cell.jsonl")


def test_a_terminal_that_was_closed_ends_nothing(monkeypatch):
    master, terminal = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    file = os.fdopen(terminal, "w")
    monkeypatch.setattr(sys, "stderr", file)
    with Progress("training", 10, "epochs") as shown:
        assert shown._bar, "this is a terminal"
        shown.advance()
        os.close(master)
        shown.advance()
        say("to nobody")
    monkeypatch.undo()
    assert shown.done == 2
    with suppress(OSError):
        file.close()
