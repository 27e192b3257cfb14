"""The state of a study, from records and logs written by hand; and a run watched live."""

import json
import os
import time

import pytest
from handmade import empty_project, record

from imcl import experiment, grid, live, params, status
from imcl.cli import main
from imcl.errors import ImclError


@pytest.fixture
def cells(tmp_path, monkeypatch) -> list[grid.Cell]:
    empty_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    status.LOGS.mkdir(parents=True)
    return grid.cells(params.load())


def log(cell: grid.Cell, text: str, age: float = 0.0) -> None:
    path = status.LOGS / f"{cell.key}.log"
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)


def rows() -> list[dict]:
    return status.rows(params.load())


def test_each_state_is_told_from_files_alone(cells):
    cells[0].record.parent.mkdir(parents=True)
    made = record(cells[0], [0.5, 0.5])
    for cost in made["cost"]:
        cost |= {"training_seconds": 40.0, "evaluation_seconds": 10.0}
    cells[0].record.write_text(json.dumps(made))
    line = f"{cells[1].name}: 7 of 28 epochs, 90 s left, seed 1, loss 0.5\n"
    log(cells[1], f"{cells[1].name}: 3 of 28 epochs, 120 s left\n{line}", age=30)
    log(cells[2], f"{line}imcl train: {cells[2].name}, seed 1: the loss is nan [bold]\n")
    log(cells[3], line, age=700)
    log(cells[4], "")
    found = rows()
    assert [row["state"] for row in found[:6]] == [
        *("done", "running", "failed", "silent", "running", "waiting")
    ]
    assert found[1]["done"] == 0.25
    assert found[1]["seconds_left"] == pytest.approx(60, abs=2)  # 90 when it was written
    assert "the loss is nan" in found[2]["note"]
    assert "no line for 11 min 40 s" in found[3]["note"]
    assert found[5]["seconds_left"] == 100  # what the finished one took


def test_a_slow_run_is_not_called_silent(cells):
    """At 2 of 200 epochs with ten hours to go, its next line comes an hour later."""
    log(cells[0], f"{cells[0].name}: 2 of 200 epochs, 36000 s left\n", age=5000)
    assert rows()[0]["state"] == "running"
    log(cells[0], f"{cells[0].name}: 2 of 200 epochs, 36000 s left\n", age=12000)
    assert rows()[0]["state"] == "silent"


def test_the_command_counts_and_names_what_failed(cells, capsys):
    log(cells[0], "imcl train: no space is left\n")
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "24 cells: 1 failed, 23 waiting" in shown
    assert "no space is left" in shown
    assert main(["status", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 24


def test_what_progress_prints_is_what_status_reads(cells, capsys):
    from imcl.progress import Progress

    with Progress(cells[0].name, 28, unit="epochs") as progress:
        for _ in range(14):
            progress.advance(note="seed 1, loss 0.5")
    log(cells[0], capsys.readouterr().err)
    (row, *_) = rows()
    assert (row["state"], row["done"]) == ("running", 0.5)
    assert row["seconds_left"] is not None


def test_it_imports_no_torch(cells):
    import subprocess
    import sys

    code = "import sys, imcl.cli; imcl.cli.main(sys.argv[1:]); assert 'torch' not in sys.modules"
    place = "accuracy-digits:resnet18/base:clean"
    for arguments in (["status"], ["plan"], ["claims"], ["trace", "--study", "quick", place]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True
        )
        assert "AssertionError" not in done.stderr, arguments


def test_epochs_go_to_tensorboard_when_it_is_asked_for(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    entry = {"epoch": 3, "loss": 0.5, "terms": {"kernel": 0.25}, "evaluation": {"accuracy": 0.75}}
    live.watcher("cell", 1)(entry)
    assert list(tmp_path.iterdir()) == []  # off unless it is asked for
    monkeypatch.setenv("IMCL_LIVE", str(tmp_path / "live"))
    live.watcher("cell", 1)(entry)
    events = EventAccumulator(str(tmp_path / "live/cell/seed-1")).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "terms/kernel", "evaluation/accuracy"}
    (scalar,) = events.Scalars("evaluation/accuracy")
    assert (scalar.step, scalar.value) == (3, 0.75)


def test_a_missing_tensorboard_is_named_before_training(tmp_path, monkeypatch):
    import sys

    monkeypatch.setenv("IMCL_LIVE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImclError, match="uv sync --extra live"):
        live.watcher("cell", 1)
    assert experiment.live is live
