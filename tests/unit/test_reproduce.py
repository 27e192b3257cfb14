"""`imcl reproduce`: what it says of cells while Snakemake trains them, and if Snakemake fails."""

import re
import signal
from pathlib import Path

import pytest
from forked import Command
from handmade import empty_project, parameters, record, write

from imcl.cli import main
from imcl.progress import Events
from imcl.project import Project
from imcl.records import follow
from imcl.records.follow import LINES, Follower
from imcl.study import grid
from imcl.study.grid import Cell
from imcl.study.load import checked, load


@pytest.fixture
def project(tmp_path) -> Project:
    return empty_project(tmp_path)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, as its only entry, for a test to set."""
    now = [0.0]
    monkeypatch.setattr(follow.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def cells(project) -> list[Cell]:
    return grid.cells(load(project.params))


def finish(project: Project, cell: Cell, *accuracies: float) -> None:
    write(project, cell, record(cell, [*accuracies]))


def test_each_cell_is_a_line_with_its_accuracy_the_count_and_the_time_left(
    project, cells, clock, capsys
):
    finish(project, cells[0], 0.9, 0.9)  # an earlier run did
    with Follower(project, cells[:4]) as shown:
        assert [cell.name for cell in shown.missing] == [cell.name for cell in cells[1:4]]
        shown.update()
        clock[0] = 40.0
        finish(project, cells[2], 0.5, 0.75)
        shown.update()
        shown.update()
        clock[0] = 100.0
        finish(project, cells[1], 0.25, 0.25)
        shown.update()
        finish(project, cells[3], 0.05, 0.05)
        shown.update()
    *lines, rest = capsys.readouterr().err.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        f"{cells[2].name} 62.5 % 2 of 4 cells, 1 min 20 s left",  # two more at 40 s each
        f"{cells[1].name} 25.0 % 3 of 4 cells, 50 s left",
        f"{cells[3].name} 5.0 % 4 of 4 cells",
    ]
    assert len({line.index(" %") for line in lines}) == 1  # they stand below each other
    assert rest == follow.REST


def test_of_many_cells_some_are_told(project, clock, capsys):
    raw = parameters()
    raw["studies"]["quick"] |= {"seeds": [1], "noise": ["clean", "n20", "n50", "n80"]}
    many = grid.cells(checked(raw, Path("params.yaml")))
    assert len(many) > LINES
    with Follower(project, many) as shown:
        for cell in many:
            finish(project, cell, 0.5)
            shown.update()
    *lines, _ = capsys.readouterr().err.splitlines()
    assert len(lines) == LINES
    assert f"{len(many)} of {len(many)} cells" in lines[-1]


def test_a_record_that_cannot_be_read_ends_nothing(project, cells, capsys):
    with Follower(project, cells) as shown:
        project.record(cells[0].key).parent.mkdir(parents=True)
        project.record(cells[0].key).write_text("{")
        shown.update()
    assert re.search(r"  \? +1 of 28 cells, ", capsys.readouterr().err)


def test_on_a_terminal_it_is_one_table(project, cells, clock, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    running, failing = (Events(project.events(cell.runs[0].run_key)) for cell in cells[1:3])
    for events in (running, failing):
        events.add("started", pid=1, host="elsewhere", total=4, done=0)
        events.add("epoch", done=1, total=4, seconds_left=5)
    failing.add("failed", message="the loss is nan")
    with Follower(project, cells) as shown:
        clock[0] = 10.0
        finish(project, cells[0], 0.5, 0.5)
        shown.update()
        table = follow.Console(width=80, force_terminal=False)
        with table.capture() as captured:
            table.print(shown._table())
        assert shown.failed() == [cells[2].name]
    lines = [" ".join(line.split()) for line in captured.get().splitlines()]
    assert lines == [
        f"{cells[0].name} 50.0 %",
        f"{cells[1].name} running 12%",  # of its two seeds
        f"{cells[2].name} failed 12%",
        "1 of 28 cells, 4 min 28 s left",  # 22.75 cells at 10 s: the two eighths were there before
    ]
    assert capsys.readouterr().err.count("digits") >= 3  # and it is shown while it goes on


def fake(project: Project, *lines: str) -> None:
    """A Snakemake of these lines: Python finds a module in the folder that it is started in."""
    text = "\n".join(["import os, signal, sys, time", "from pathlib import Path", *lines])
    (project.root / "snakemake.py").write_text(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["study=quick"]),
        (["--study", "cpu", "--committed"], ["study=cpu", "records=committed"]),
    ],
)
def test_if_snakemake_fails_the_end_of_its_log_is_told(project, capsys, arguments, words):
    fake(
        project,
        "print(*range(100), sep='\\n', flush=True)",
        "sys.exit(f'{sys.argv[1:]} {os.environ.get(\"IMCL_PARAMS\")}')",
    )
    named = ["--params", str(project.params)]
    assert main(["reproduce", f"--project={project.root}", *arguments, *named]) == 1
    out, err = capsys.readouterr()
    told = "documents from committed records" if arguments else "28 of 28 cells to train"
    study = words[0].partition("=")[2]
    log = project.logs / "snakemake.log"
    first, *tail, last = out.splitlines()
    assert first == f"study {study}: {told}; Snakemake's log is {log}"
    assert tail == [str(number) for number in range(89, 100)]
    command = ["--workflow-profile", "workflow/profiles/default", "--config", *words]
    assert last == f"{command} {project.params.resolve()}"
    assert err == (
        f"imcl reproduce: Snakemake failed; {log} says why, and what is done stays done\n"
    )


def test_a_signal_reaches_snakemake_and_is_waited_for(project, tmp_path):
    fake(
        project,
        "def stop(*_):",
        "    time.sleep(0.3)",
        "    Path('stopped').touch()",
        "    sys.exit(1)",
        "signal.signal(signal.SIGTERM, stop)",
        "Path('started').touch()",
        "time.sleep(60)",
    )
    command = Command([f"--project={project.root}", "reproduce"], tmp_path / "printed")
    command.until(lambda: (project.root / "started").exists())
    command.send(signal.SIGTERM)
    code, err = command.wait()
    assert (code, err) == (143, "imcl reproduce: SIGTERM; run it again to continue\n")
    assert (project.root / "stopped").exists()
