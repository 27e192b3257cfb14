"""The runner without an engine, on records that are there already."""

import signal
import subprocess
import sys
import time

import pytest
from handmade import empty_project, record, write

from imcl.errors import ImclError, Stopped
from imcl.project import Project
from imcl.study import grid
from imcl.study.grid import Cell
from imcl.study.load import load
from imcl.training import runner


@pytest.fixture
def project(tmp_path) -> Project:
    return empty_project(tmp_path)


@pytest.fixture
def cells(project) -> list[Cell]:
    """The cells of `quick`, each with a record: 80 and 90 % accuracy by seed."""
    made = grid.cells(load(project.params))
    for cell in made:
        write(project, cell, record(cell, [0.8, 0.9]))
    return made


def test_an_anchor_that_is_not_reached_is_told_even_when_nothing_is_left_to_train(project, cells):
    anchor = "digits-clean-vgg16-base"
    with pytest.raises(ImclError, match=rf"^{anchor} reaches 85.00%, but its anchor is 86.00%"):
        runner.run(project, cells, anchors={anchor: 0.86})
    assert runner.run(project, cells, anchors={anchor: 0.85}) == ([], [])


def test_each_command_names_the_project_and_its_parameters(tmp_path):
    project = Project(tmp_path, tmp_path / "other.yaml")
    command = runner._command(project, "train", "cell")
    assert command[1:] == [
        *("-m", "imcl", "train", "cell"),
        *("--project", str(tmp_path), "--params", str(tmp_path / "other.yaml")),
    ]


SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7) if sys.argv[1] == "heeds" else None)
print("ready", flush=True)
time.sleep(60)
time.sleep(60)
"""


def start(kind: str) -> subprocess.Popen[bytes]:
    """A process that ends with code 7 when it is told to stop, if it heeds that."""
    child = subprocess.Popen([sys.executable, "-c", SLEEPER, kind], stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == b"ready\n"
    return child


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stopped(signal.SIGTERM)])
def test_whatever_ends_a_run_tells_its_trainings_to_stop(error):
    with pytest.raises(BaseException) as ended, runner._children(None) as running:
        running["cell"] = start("heeds")
        raise error
    assert ended.value is error or ended.type is error
    assert running["cell"].returncode == 7


def test_a_run_that_is_told_twice_leaves_no_training_behind(monkeypatch):
    wait, calls = subprocess.Popen.wait, []

    def interrupted(child: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        calls.append(child)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return wait(child, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt), runner._children(None) as running:
        running.update({name: start("deaf") for name in ("first", "second")})
        raise KeyboardInterrupt
    assert [child.returncode for child in running.values()] == [-signal.SIGKILL] * 2


def test_what_does_not_stop_in_time_is_killed():
    with runner._children(time.monotonic() + 0.05) as running:
        running["cell"] = start("deaf")
    assert running["cell"].returncode == -signal.SIGKILL


def test_data_that_each_run_draws_is_made_for_each_run(project, cells, monkeypatch):
    loaded = load(project.params)
    noise = loaded.noise["n50"].model_copy(update={"noise_seed": "per_run"})
    cell = grid.find(
        loaded.model_copy(update={"noise": {**loaded.noise, "n50": noise}}),
        "digits-n50-vgg16-base",
    )
    commands = []

    def ran(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        commands.append(command[3 : command.index("--project")])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", ran)
    assert runner._prepare(project, cell)
    assert commands == [
        ["prepare", "digits"],
        ["noise", "digits", "n50", "--seed", "1"],
        ["noise", "digits", "n50", "--seed", "2"],
    ]
