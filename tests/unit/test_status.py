"""The state of a study, told by records and events; and what TensorBoard is told."""

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from handmade import empty_project, parameters, record, write

from imcl.cli import main
from imcl.errors import ImclError
from imcl.files import write_json
from imcl.progress import Events
from imcl.project import Project
from imcl.records import status
from imcl.records.seal import sealed
from imcl.records.status import Row
from imcl.study import grid
from imcl.study.load import load
from imcl.training import tensorboard


@pytest.fixture
def project(tmp_path) -> Project:
    """With a study whose cells have one seed, so that a cell is a run."""
    return with_seeds(empty_project(tmp_path), [1])


def with_seeds(project: Project, seeds: list[int]) -> Project:
    raw = parameters()
    raw["studies"] = {"quick": raw["studies"]["quick"] | {"seeds": seeds}}
    project.params.unlink()
    project.params.write_text(yaml.safe_dump(raw, sort_keys=False))
    return project


@pytest.fixture
def cells(project) -> list[grid.Cell]:
    return grid.cells(load(project.params))


def rows(project: Project) -> list[Row]:
    return status.rows(project, load(project.params))


def log(project: Project, run: grid.Cell, *events: dict, age: float = 0.0) -> None:
    """The events of a run, one a second; the last one is so many seconds old."""
    path = project.events(run.run_key)
    path.parent.mkdir(parents=True, exist_ok=True)
    last = datetime.now(UTC) - timedelta(seconds=age)
    with path.open("a") as file:
        for index, event in enumerate(events, 1 - len(events)):
            time = (last + timedelta(seconds=index)).isoformat(timespec="milliseconds")
            file.write(json.dumps({"time": time, **event}) + "\n")


def started(total: int = 28, **changes: object) -> dict:
    own = {"pid": os.getpid(), "host": socket.gethostname()}
    return {"event": "started", **own, "total": total, "done": 0, **changes}


def epoch(done: int, left: float, total: int = 28) -> dict:
    counts = {"done": done, "total": total, "seconds_left": left}
    return {"event": "epoch", "seed": 1, "epoch": done, **counts}


def finished_process() -> int:
    """The id of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


# states -----------------------------------------------------------------------------------------


@pytest.fixture
def kept_output(project, cells) -> None:
    """The output of every run, as an engine keeps it."""
    project.trainings.mkdir(parents=True)
    for cell in cells:
        project.log(cell.key).touch()


@pytest.mark.usefixtures("kept_output")
def test_each_state_is_told_by_files_alone(project, cells):
    made = record(cells[0], [0.5])
    made["cost"][0] |= {"training_seconds": 80.0, "evaluation_seconds": 20.0}
    write(project, cells[0], made)
    failure = {"event": "failed", "message": f"{cells[2].name}, seed 1: the loss is nan [bold]"}
    log(project, cells[1], started(), epoch(3, 120), epoch(7, 90), age=30)
    log(project, cells[2], started(), epoch(7, 90), failure)
    log(project, cells[3], started(), epoch(7, 90), age=700)
    log(project, cells[4], started())
    found = rows(project)
    assert [row["state"] for row in found[:6]] == [
        *("done", "running", "failed", "silent", "running", "waiting")
    ]
    assert [row["done"] for row in found[:6]] == [1.0, 0.25, 0.25, 0.25, 0.0, 0.0]
    assert found[1]["seconds_left"] == pytest.approx(60, abs=2)  # 90 when it was written
    assert "the loss is nan" in found[2]["note"]
    assert "no event for 11 min 40 s" in found[3]["note"]
    assert str(project.log(cells[3].key)) in found[3]["note"]
    assert found[5]["seconds_left"] == 100  # what the finished one took


def test_a_slow_run_is_not_called_silent(project, cells):
    """At 2 of 20 epochs with ten hours to go, its next event comes half an hour later."""
    log(project, cells[0], started(20), epoch(2, 36000, 20), age=5000)
    log(project, cells[1], started(20), epoch(2, 36000, 20), age=7000)
    assert [row["state"] for row in rows(project)[:2]] == ["running", "silent"]


@pytest.mark.usefixtures("kept_output")
def test_a_killed_process_is_told_at_once(project, cells):
    gone = finished_process()
    log(project, cells[0], started(pid=gone), epoch(7, 90))
    log(project, cells[1], started(pid=gone, host="another machine"), epoch(7, 90))
    failed, elsewhere, *_ = rows(project)
    assert (failed["state"], failed["done"]) == ("failed", 0.25)
    assert "ended without a message" in failed["note"]
    assert str(project.log(cells[0].key)) in failed["note"]
    assert elsewhere["state"] == "running"  # its processes cannot be seen from here


def test_without_an_engine_no_output_is_kept_to_see(project, cells):
    log(project, cells[0], started(pid=finished_process()))
    assert rows(project)[0]["note"].endswith("was it killed?")


def test_a_run_that_failed_before_it_started_is_told(project, cells):
    failure = {"event": "failed", "message": "results/checkpoints: File exists"}
    log(project, cells[0], failure)
    log(project, cells[1], started(), epoch(7, 90), {"event": "done"}, failure)
    for row in rows(project)[:2]:
        assert (row["state"], row["note"]) == ("failed", "results/checkpoints: File exists")


@pytest.mark.parametrize(
    "line",
    [
        {"event": "epoch", "time": "x"},
        {"event": "epoch", "time": "2026-01-01T00:00:00"},
        {"event": "epoch", "total": 0, "done": 0},
        {"event": "started", "pid": 10**20, "host": "here"},
        {"event": "started", "pid": 0},
        {"event": "epoch", "seconds_left": -1.0},
        {"event": "went on"},
    ],
)
def test_a_line_that_is_no_event_is_skipped(project, cells, line):
    log(project, cells[0], started(), epoch(7, 90), line)
    assert rows(project)[0]["done"] == 0.25


def test_time_left_without_a_count_is_no_error(project, cells):
    log(project, cells[0], started(), {"event": "epoch", "seconds_left": 5.0})
    assert rows(project)[0]["state"] == "running"


def test_a_stopped_run_says_how_to_resume_it(project, cells):
    log(project, cells[0], started(), epoch(7, 90), {"event": "stopped", "signal": "SIGTERM"})
    (row, *_) = rows(project)
    assert (row["state"], row["done"]) == ("failed", 0.25)
    assert row["note"] == "seed 1: SIGTERM; run it again to resume"


def test_a_cell_is_as_far_as_its_seeds_together(tmp_path):
    project = with_seeds(empty_project(tmp_path), [1, 2, 3, 4])
    first, second, third, *_ = grid.cells(load(project.params))
    one, two, three, *_ = first.runs
    made = record(one, [0.5])
    made["cost"][0] |= {"training_seconds": 80.0, "evaluation_seconds": 20.0}
    write_json(project.run(one.run_key), sealed(made))
    log(project, two, started(), epoch(14, 50))
    log(project, three, started(), epoch(7, 75))
    row, waiting, *_ = rows(project)
    assert (row["state"], row["running"], row["done"]) == ("running", 2, (1 + 0.5 + 0.25) / 4)
    assert row["seconds_left"] == pytest.approx(50 + 75 + 100, abs=2)
    assert waiting["seconds_left"] == 4 * 100
    # Both are at work, and what they leave is shared by two.
    log(project, second.runs[0], started(), epoch(14, 50))
    log(project, second.runs[1], started(), {"event": "failed", "message": "the loss is nan"})
    _, row, waiting, *_ = rows(project)
    assert (row["state"], row["note"]) == ("running", "the loss is nan")
    for run in third.runs:
        write_json(project.run(run.run_key), sealed(record(run, [0.5])))
    assert rows(project)[2]["state"] == "done"  # though it is not collected yet


def test_only_the_last_run_counts(project, cells):
    failure = {"event": "failed", "message": "no space is left"}
    log(project, cells[0], started(), epoch(20, 10), failure, age=100)
    log(project, cells[0], started(done=14), age=2)
    (row, *_) = rows(project)
    assert (row["state"], row["done"]) == ("running", 0.5)


def test_a_resumed_run_has_done_what_was_done_before(project, cells):
    resumed = {"event": "resumed", "seed": 2, "epoch": 7, "done": 21, "total": 28}
    log(project, cells[0], started(), resumed)
    (row, *_) = rows(project)
    assert (row["state"], row["done"]) == ("running", 0.75)


def test_a_run_whose_record_was_deleted_waits_for_another(project, cells):
    log(project, cells[0], started(), epoch(28, 0), {"event": "done"})
    assert rows(project)[0] == {
        "cell": cells[0].name,
        "state": "waiting",
        "done": 0.0,
        "seconds_left": None,
        "running": 0,
        "note": "",
    }


def test_a_line_that_a_killed_process_left_unfinished_is_passed_over(project, cells):
    log(project, cells[0], started(), epoch(7, 90))
    with project.events(cells[0].run_key).open("a") as file:
        file.write('{"time": "2026-01-01T00:00:00+00:00", "event": "epo')
    assert rows(project)[0]["done"] == 0.25


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": "a", "config": {}, "cost": [{}]}'])
def test_a_damaged_record_tells_no_time(project, cells, text):
    path = project.record(cells[0].key)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    done, waiting, *_ = rows(project)
    assert (done["state"], waiting["seconds_left"]) == ("done", None)


def test_what_training_writes_is_what_status_reads(project, cells):
    events = Events(project.events(cells[0].run_key))
    events.add("started", pid=os.getpid(), host=socket.gethostname(), total=28, done=0)
    events.add("epoch", seed=1, epoch=14, done=14, total=28, seconds_left=10.0)
    (row, *_) = rows(project)
    assert (row["state"], row["done"]) == ("running", 0.5)
    assert row["seconds_left"] == pytest.approx(10, abs=1)
    events.add("failed", message="the loss is nan")
    (row, *_) = rows(project)
    assert (row["state"], row["note"]) == ("failed", "the loss is nan")


def test_a_committed_record_leaves_nothing_to_do(project, cells, capsys):
    for cell in cells[:2]:
        write(project, cell, record(cell, [0.5]), "quick")
    log(project, cells[1], started(), epoch(7, 90))  # and yet it is trained here
    row, running, waiting, *_ = rows(project)
    assert (row["state"], row["done"], row["seconds_left"]) == ("committed", 1.0, 0.0)
    assert (running["state"], waiting["state"]) == ("running", "waiting")
    status.show(rows(project))
    assert "28 cells: 1 committed, 1 running, 26 waiting" in capsys.readouterr().out


# the command ------------------------------------------------------------------------------------


def test_the_command_counts_and_names_what_failed(project, cells, capsys):
    log(project, cells[0], started(), {"event": "failed", "message": "no space is left"})
    assert main(["--project", str(project.root), "status"]) == 0
    shown = capsys.readouterr().out
    assert "28 cells: 1 failed, 27 waiting" in shown
    assert "no space is left" in shown
    assert main(["--project", str(project.root), "status", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 28


@pytest.mark.parametrize(
    ("lefts", "told"),
    [
        ([100.0, 50.0], "about 3 min 30 s left with 2 at a time"),  # and 270 s of waiting
        ([400.0, 10.0], "about 6 min 40 s left with 2 at a time"),  # the longest alone
        ([100.0, None], None),
    ],
)
def test_the_time_left_is_shared_by_what_runs(capsys, lefts, told):
    running = [
        Row(cell="a", state="running", done=0.5, seconds_left=left, running=1, note="")
        for left in lefts
    ]
    waiting = Row(cell="b", state="waiting", done=0.0, seconds_left=270.0, running=0, note="")
    status.show([*running, waiting])
    shown = capsys.readouterr().out
    assert told in shown if told else "about" not in shown


def test_it_imports_no_torch(project):
    place = "accuracy-digits:resnet18/base:clean"
    commands = [["status"], ["plan"], ["claims"], ["trace", "--study", "quick", place]]
    code = (
        "import sys, imcl.cli\n"
        f"for command in {commands}:\n"
        "    imcl.cli.main(['--project', sys.argv[1], *command])\n"
        "    assert 'torch' not in sys.modules, command\n"
    )
    command = [sys.executable, "-c", code, str(project.root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# TensorBoard ------------------------------------------------------------------------------------


def test_epochs_go_to_tensorboard_when_it_is_asked_for(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    entry = {"epoch": 3, "loss": 0.5, "terms": {"kernel": 0.25}, "evaluation": {"accuracy": 0.75}}
    monkeypatch.delenv(tensorboard.FOLDER, raising=False)
    tensorboard.writer("run")(entry)
    assert list(tmp_path.iterdir()) == []  # off unless it is asked for
    monkeypatch.setenv(tensorboard.FOLDER, str(tmp_path / "live"))
    tensorboard.writer("run")(entry)
    events = EventAccumulator(str(tmp_path / "live/run")).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "terms/kernel", "evaluation/accuracy"}
    (scalar,) = events.Scalars("evaluation/accuracy")
    assert (scalar.step, scalar.value) == (3, 0.75)


def test_a_missing_tensorboard_is_named_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv(tensorboard.FOLDER, str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    with pytest.raises(ImclError, match="uv sync --extra"):
        tensorboard.writer("run")
