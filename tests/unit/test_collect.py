"""A cell's seeds, each in a file of its own, are collected into the cell's record."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from handmade import ENVIRONMENT, empty_project, parameters, record

from imcl.analysis import summary
from imcl.cli import main
from imcl.errors import ImclError
from imcl.files import write_bytes, write_json
from imcl.project import Project
from imcl.records.collect import collect, kept, unfinished
from imcl.records.record import Record
from imcl.records.seal import sealed
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.grid import Cell
from imcl.study.load import checked, load
from imcl.training import runner

ACCURACIES = [0.5, 0.75]


@pytest.fixture
def project(tmp_path) -> Project:
    """With a study of one epoch."""
    project = empty_project(tmp_path)
    project.params.unlink()
    project.params.write_text(yaml.safe_dump(short(), sort_keys=False))
    return project


def short() -> dict[str, Any]:
    raw = parameters()
    raw["studies"] = {"quick": raw["studies"]["quick"]}
    raw["studies"]["quick"]["training"] |= {"epochs": 1, "warmup_epochs": 0}
    return raw


def run_of(run: Cell, accuracy: float = 0.5) -> Any:
    """The record of a seed, which does not contradict itself."""
    return consistent(record(run, [accuracy]))


def consistent(made: Record) -> Any:
    for run in made["runs"]:
        run["oracle"] = {"epoch": 1, **run["history"][0]["evaluation"]}
    return sealed(made)


@pytest.fixture
def cell(project) -> Cell:
    """Of seeds 1 and 2."""
    return grid.find(load(project.params), "digits-n50-resnet18-base")


def write(
    project: Project, cell: Cell, change: Callable[[Any], object] = lambda made: None
) -> None:
    """The files of a cell's runs; `change` edits the last one."""
    for index, run in enumerate(cell.runs):
        made = run_of(run, ACCURACIES[index])
        if index == len(cell.runs) - 1:
            change(made)
        write_json(project.run(run.run_key), sealed(made))


def elsewhere(made: Record) -> None:
    made["environment"] = {**ENVIRONMENT, "device_name": "another machine"}


def test_what_all_seeds_share_stands_once(project, cell):
    write(project, cell)
    expected = consistent(record(cell, ACCURACIES))
    made = collect(project, cell)
    assert sealed(made) == expected
    assert Store(project).read(cell, project.record(cell.key)) == expected


def test_a_device_that_differs_stands_in_each_run_and_is_warned_of(project, cell, capsys):
    write(project, cell, elsewhere)
    made = collect(project, cell)
    assert "environment" not in made
    assert [run["environment"]["device_name"] for run in made["runs"]] == [
        "a machine",
        "another machine",
    ]
    assert made["code"]["commit"] == "c" * 40
    assert capsys.readouterr().err == (
        f"{cell.name}: its seeds were trained on different devices (a machine: seeds 1; another "
        f"machine: seeds 2); {project.record(cell.key)} says which\n"
    )
    Store(project).read(cell, project.record(cell.key))


def test_code_that_differs_is_warned_of_too(project, cell, capsys):
    write(project, cell, lambda made: made["code"].update(commit="d" * 40, modified=True))
    made = collect(project, cell)
    assert [run["code"]["modified"] for run in made["runs"]] == [False, True]
    printed = capsys.readouterr().err
    assert "trained by different code (cccccccccccc: seeds 1; dddddddddddd (modified): " in printed


def test_another_machine_of_the_same_kind_is_told_without_a_warning(project, cell, capsys):
    write(project, cell, lambda made: made["environment"].update(platform="another kernel"))
    assert "environment" in collect(project, cell)["runs"][0]
    assert capsys.readouterr().err == ""


def test_every_fault_of_every_file_is_listed(project, cell):
    more = replace(cell, seeds=[1, 2, 3, 4, 5])
    first, second, third, fourth, fifth = (project.run(run.run_key) for run in more.runs)
    for run in more.runs[:1] + more.runs[2:]:
        write_json(project.run(run.run_key), run_of(run))
    third.write_text(third.read_text()[:-20])
    fourth.write_text(fourth.read_text().replace('"nll": 0.5', '"nll": 0.6', 1))
    other = run_of(more.runs[4])
    other["dataset"]["sha256"] = "0" * 64
    write_json(fifth, sealed(other))
    with pytest.raises(ImclError) as error:
        collect(project, more)
    lines = str(error.value).splitlines()
    assert f"{second}: is missing; run `imcl train {cell.name} --seed 2`" in lines
    assert any(line.startswith(f"{third}: is damaged: ") for line in lines)
    assert f"{fourth}: was changed since it was written: its seal is broken" in lines
    assert (
        f"{fifth}: was made from other data than {first} (dataset); delete the one that is out of "
        "date" in lines
    )
    assert not project.record(more.key).exists()


FOREIGN: dict[str, tuple[Callable[[Any], object], str]] = {
    "another seed": (lambda m: m["runs"][0].update(seed=1), "runs are not of the seeds [2]"),
    "another cell": (lambda m: m.update(cell="a"), "cell is not that of the cell in params.yaml"),
    "predictions": (
        lambda m: m["runs"][0].update(
            predictions={"calibration": {"count": [], "confidence": [], "correct": []}}
        ),
        "predictions is not like that of ",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_run_is_refused(project, cell, kind):
    change, fault = FOREIGN[kind]
    write(project, cell, change)
    with pytest.raises(ImclError) as error:
        collect(project, cell)
    assert f"{project.run(cell.runs[1].run_key)}: {fault}" in str(error.value)


def test_what_is_told_in_each_run_though_all_have_the_same_is_a_fault(project, cell):
    write(project, cell, elsewhere)
    made = collect(project, cell)
    for run in made["runs"]:
        run["environment"] = ENVIRONMENT
    write_json(project.record(cell.key), sealed(made))
    with pytest.raises(ImclError, match="environment must stand once for all runs"):
        Store(project).read(cell, project.record(cell.key))


def test_labels_drawn_for_each_run_stay_in_each_run(project):
    raw = short()
    raw["noise"]["n50"]["noise_seed"] = "per_run"
    cell = grid.find(checked(raw, project.params), "digits-n50-resnet18-base")
    write(project, cell)
    made = collect(project, cell)
    assert "noise" not in made
    assert [run["noise"]["realised_rate"] for run in made["runs"]] == [0.5, 0.5]


def test_a_comparison_lists_the_seeds_that_were_trained_on_different_devices(project, cell):
    settings = load(project.params)
    for each in grid.cells(settings):
        write(project, each, elsewhere if each.name == "digits-n50-resnet18-kernel" else str)
        collect(project, each)
    rows = {row["cell"]: row for row in summary.write(project, settings)["cells"]}
    kernel, output = (rows[f"digits-n50-resnet18-{name}"] for name in ("kernel", "output"))
    assert kernel["machines"] == ["a machine", "another machine"]
    assert kernel["difference_to_base"]["elsewhere"] == [2]
    assert "cost_to_base" not in kernel
    assert output["difference_to_base"]["elsewhere"] == []


def test_the_command_needs_no_torch(project, cell):
    write(project, cell)
    code = (
        "import sys, imcl.cli\n"
        "for command in ('collect', 'train'):\n"
        "    assert imcl.cli.main(['--project', *sys.argv[1:2], command, sys.argv[2]]) == 0\n"
        "    assert 'torch' not in sys.modules\n"
    )
    for run in cell.runs:
        weights = project.weights(run.run_key)
        weights.parent.mkdir(parents=True, exist_ok=True)
        weights.write_bytes(b"")
        made = run_of(run)
        made["runs"][0]["weights_sha256"] = (
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of nothing
        )
        write_json(project.run(run.run_key), sealed(made))
    command = [sys.executable, "-c", code, str(project.root), cell.name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = f"{project.record(cell.key)}: test accuracy by seed 50.00%, 50.00%\n"
    assert done.stdout == 2 * told
    assert json.loads(Path(project.record(cell.key)).read_text())["runs"][1]["seed"] == 2


def test_a_seed_that_the_cell_does_not_have_is_wrong_usage(project, cell, capsys):
    command = ["--project", str(project.root), "train", cell.name, "--seed", "7"]
    assert main(command) == 2
    assert "--seed: unknown seed 7; known: 1, 2" in capsys.readouterr().err


# what counts as finished ------------------------------------------------------------------------


def test_a_seed_whose_weights_are_not_here_is_finished(project, cell, capsys):
    """`imcl merge` takes in records alone."""
    write(project, cell)
    assert unfinished(project, cell) is None
    assert (
        f"{cell.name}, seed 2 was finished before; its weights are not here, --again trains them\n"
    ) in capsys.readouterr().err


def test_a_seed_whose_weights_are_others_is_not_finished(project, cell, capsys):
    write(project, cell)
    weights = project.weights(cell.runs[1].run_key)
    write_bytes(weights, b"other")
    left = unfinished(project, cell)
    assert left and left.seeds == [2]
    told = f"seed 2: {weights} differs from the recorded weights\n"
    assert capsys.readouterr().err.endswith(told)


def test_a_whole_record_without_the_files_of_its_seeds_is_kept(project, cell, capsys):
    write(project, cell)
    path = project.record(cell.key)
    made = collect(project, cell)
    before = path.read_bytes()
    assert kept(project, cell) is None  # it can be collected again
    project.run(cell.runs[0].run_key).unlink()
    assert kept(project, cell) == sealed(made)
    capsys.readouterr()
    assert main(["--project", str(project.root), "train", cell.name]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{path}: test accuracy by seed 50.00%, 75.00%\n"
    assert printed.err == f"{cell.name} was finished before; --again trains it\n"
    assert path.read_bytes() == before
    path.write_text(path.read_text().replace('"nll": 0.5', '"nll": 0.6', 1))
    assert kept(project, cell) is None
    assert f"{cell.name} is trained again: {path}: " in capsys.readouterr().err


# in a study that runs without an engine ---------------------------------------------------------


def refuse(*arguments: object, **options: object) -> None:
    pytest.fail("it started a process")


def test_a_cell_whose_seeds_are_all_there_is_collected_and_not_trained(project, cell, monkeypatch):
    write(project, cell)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert runner.run(project, [cell]) == ([], [])
    assert Store(project).faults(cell, project.record(cell.key)) == []


def test_a_cell_whose_seeds_have_faults_fails_and_is_not_trained(
    project, cell, monkeypatch, capsys
):
    write(project, cell, lambda made: made.update(cell="a"))
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert runner.run(project, [cell]) == ([cell.name], [])
    told = f"imcl run: {project.run(cell.runs[1].run_key)}: cell is not that of the cell"
    assert capsys.readouterr().err.count(told) == 1


def test_seeds_that_end_while_they_are_told_to_stop_are_collected(project, cell, monkeypatch):
    @contextmanager
    def children(until: float | None) -> Iterator[runner.Children]:
        yield {}
        write(project, cell)

    monkeypatch.setattr(runner, "_children", children)
    assert runner.run(project, [cell], seconds=0) == ([], [])
    assert project.record(cell.key).exists()
