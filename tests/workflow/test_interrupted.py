"""Workers that die, engines at the same cell, and Ctrl-C in every command that takes long."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import OTHER, Checkout
from forked import Command
from storm import jobs

from imcl.files import sha256
from imcl.progress import Events
from imcl.project import Project
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.load import load
from imcl.study.sources import SOURCES

pytestmark = pytest.mark.workflow

RECORDS = ("snakemake", "--workflow-profile", "workflow/profiles/default", "records")
WAITING = "another process trains it; waiting for it"


def wait_for_training(checkout: Checkout, engine: subprocess.Popen[str]) -> psutil.Process:
    """A process that trains a cell."""
    while True:
        assert engine.poll() is None, engine.communicate()
        for kind, process in jobs(checkout):
            if kind == "imcl train":
                return process
        time.sleep(0.05)


def test_a_worker_that_dies_costs_its_cell_alone_and_engines_may_meet_at_it(checkout):
    checkout.change(studies__micro__noise=["clean"])
    engine = checkout.start(*RECORDS)
    wait_for_training(checkout, engine).kill()
    refused = checkout.run(*RECORDS, code=1)
    assert "Directory cannot be locked" in refused
    assert "--unlock" in refused
    # Nor do the jobs that wait see an edit of the parameters.
    params = checkout.folder / "params.yaml"
    submitted = params.read_bytes()
    params.write_text("studies: [half an edit")
    output, _ = engine.communicate()
    params.write_bytes(submitted)
    assert engine.returncode == 1
    assert "Error in rule train" in output
    assert "logs/train/" in output
    assert len(checkout.records()) == 2
    for name in checkout.records():
        record = json.loads((checkout.folder / "results/records" / name).read_text())
        (named,) = record["params_sha256"]
        snapshot = checkout.folder / f"results/params/{named[:12]}.yaml"
        assert snapshot.read_bytes() == submitted
        assert sha256(snapshot) == named
    before = checkout.records()
    _meet(checkout)
    after = checkout.records()
    assert len(after) == 3
    assert {name: after[name] for name in before} == before


def _meet(checkout: Checkout) -> None:
    """Two Snakemakes and `imcl run` train the cell that is left, all at the same time."""
    project = Project(checkout.folder)
    (cell,) = (c for c in grid.cells(load(project.params)) if not project.record(c.key).exists())
    logs = [project.events(run.run_key) for run in cell.runs]
    earlier = [len(Events.read(log)) for log in logs]
    first = checkout.start(*RECORDS)
    training = wait_for_training(checkout, first)
    while [len(Events.read(log)) for log in logs] == earlier:  # until it has a seed
        time.sleep(0.02)
    training.suspend()
    second, run = checkout.start(*RECORDS, "--nolock"), checkout.start("imcl", "run")
    try:
        assert run.stdout and any(WAITING in line for line in iter(run.stdout.readline, ""))
        while WAITING not in project.log(cell.key).read_text(errors="replace"):
            assert second.poll() is None, second.communicate()
            time.sleep(0.05)
    finally:
        training.resume()
    for engine in (first, second, run):
        output, _ = engine.communicate()
        assert engine.returncode == 0, output
        assert "Traceback" not in output
    for log, before in zip(logs, earlier, strict=True):
        kinds = [event["event"] for event in Events.read(log)[before:]]
        assert kinds.count("started") == kinds.count("done") <= 1
    assert Store(project).faults(cell, project.record(cell.key)) == []
    assert not list(project.results.rglob("*.tmp"))


# Ctrl-C -----------------------------------------------------------------------------------------

# Of the study `fresh`, of which nothing is trained.
CELL, LAST = "digits-clean-resnet18-base", "digits-clean-resnet18-kernel"
TRAIN = f"train --study fresh --device cpu {LAST}"
ENTRY = "accuracy-digits:resnet18/base:clean"

# Commands, and the file that each opens when Ctrl-C is pressed.
OPENED = {
    "plan": "params.yaml",
    "status": "params.yaml",
    "data": "params.yaml",
    f"trace {ENTRY}": "/results/records/",
    "verify": "/results/records/",
}
# Commands, and the file that each has written, but not given its name, when Ctrl-C is pressed.
WRITTEN = {
    "prepare digits": ".scratch",
    "noise digits n50": ".npy.",
    TRAIN: "/weights/",  # of its only seed, which is then finished
    "claims --save": "/results/.claims.json",
    "tables": "/paper/build/tables/.",
    "figures": "/paper/build/figures/.",
    "report": "/paper/build/.report.html",
    "verify --retrain 1": "/weights/",
}
# It deletes the summary before it, which the others read, so it comes after them.
LATER = {"summary": "/results/summary/."}
LATEXMK = """#!/bin/sh
touch build/paper.pdf
kill -INT 0
exec sleep 9
"""


def interrupting(scratch: Path, event: str, place: str) -> Callable[[], None]:
    """What a command's process does first: it becomes a group, as a terminal's jobs are.

    At the first event of this kind with a file whose path contains `place`, Ctrl-C is pressed.
    """
    pressed = False

    def hook(kind: str, arguments: tuple[object, ...]) -> None:
        nonlocal pressed
        if kind == event and not pressed and place in str(arguments[0]):
            pressed = True
            os.killpg(0, signal.SIGINT)

    def prepare() -> None:
        os.setsid()
        tempfile.tempdir = str(scratch)
        os.environ["PATH"] = f"{scratch.parent}{os.pathsep}{os.environ['PATH']}"
        sys.addaudithook(hook)

    return prepare


def contents(project: Project) -> dict[Path, bytes]:
    """All that commands made, except what an interrupted one continues from, or ends with."""
    made = [project.data, project.results, project.build, project.measurements]
    files = [path for folder in made for path in folder.rglob("*") if path.is_file()]
    passing = {project.checkpoints, project.archives, project.build / "paper.pdf"}
    passing |= {project.results / "params"}  # what a run was started with
    for folder in (project.results / "weights", project.runs, project.records):
        passing |= {*folder.glob(f"{LAST}-*")}
    return {
        path: path.read_bytes()
        for path in files
        if not {path, *path.parents} & passing and path.suffix != ".lock"
    }


def test_ctrl_c_ends_each_command_in_one_line_and_leaves_nothing_half_written(
    finished: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = Project(finished.folder)
    finished.change(studies__fresh={**OTHER, "seeds": [7]})
    first = project.events(grid.find(load(project.params, "fresh"), CELL).run_key)
    before = contents(project)
    latexmk = tmp_path / "latexmk"
    latexmk.write_text(LATEXMK)
    latexmk.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    archive = SOURCES["cifar100"].archives[0]
    running: dict[str, Command] = {}

    def start(words: str, event: str = "", place: str = "") -> Command:
        arguments = ["--project", str(project.root), *words.split()]
        printed = tmp_path / f"{len(running)}"
        running[words] = Command(arguments, printed, interrupting(scratch, event, place))
        return running[words]

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("IMCL_MIRROR", f"http://127.0.0.1:{server.getsockname()[1]}")
        fetch = start("fetch cifar100")
        run = start("run --study fresh")
        start("paper")
        for words, place in OPENED.items():
            start(words, "open", place)
        for words, place in WRITTEN.items():
            start(words, "os.rename", place)
        connection, _ = server.accept()
        with connection:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {archive.size}\r\n\r\n"
            connection.sendall(head.encode() + bytes(100_000))
            fetch.until(lambda: list(project.archives.glob("*.part")))
            os.killpg(fetch.process.pid or 0, signal.SIGINT)
            fetch.wait()
        run.until(lambda: Events.read(first))  # it trains
        os.killpg(run.process.pid or 0, signal.SIGINT)
    loop = start("bench loop --device cpu --threads 1 --widths 8 --repeats 1000")
    time.sleep(1)  # it measures
    os.killpg(loop.process.pid or 0, signal.SIGINT)
    for command in running.values():
        command.wait()
    for words, place in LATER.items():
        start(words, "os.rename", place)
    for words, command in running.items():
        code, err = command.wait()
        if words == TRAIN:
            assert code == 0, err
            continue
        *_, last = err.splitlines()
        name = words.split()[0]
        assert code == 130, (words, err)
        assert "Traceback" not in err
        assert last in (
            f"imcl {name}: interrupted",
            f"imcl {name}: SIGINT; run it again to continue",
        )
        if name != "run":
            assert err.count("imcl ") == 1, err
    assert list(scratch.iterdir()) == []
    assert contents(project).items() <= before.items()
    assert not (project.build / "paper.pdf").exists()
    assert not list(project.root.rglob("*.tmp"))
