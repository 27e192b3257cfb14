"""The runner without an engine, on records that are there already."""

import pytest
from handmade import empty_project, record, write

from imcl.errors import ImclError
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
