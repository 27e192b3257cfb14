"""The runner without an engine, on records that are there already."""

import json

import pytest
from handmade import empty_project, record

from imcl import grid, params, runner
from imcl.errors import ImclError


@pytest.fixture
def cells(tmp_path, monkeypatch) -> list[grid.Cell]:
    """The cells of `quick`, each with a record: base is right on 80 and 90 % by seed."""
    empty_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    grid.RECORDS.mkdir(parents=True)
    made = grid.cells(params.load())
    for cell in made:
        cell.record.write_text(json.dumps(record(cell, [0.8, 0.9])))
    return made


def test_an_anchor_that_falls_short_is_told_even_when_nothing_is_left_to_train(cells):
    anchor = "digits-clean-vgg16-base"
    with pytest.raises(ImclError, match=rf"^{anchor} reaches 85.00% where its anchor is 86.00%"):
        runner.run(cells, [], [], jobs=1, anchors={anchor: 0.86})
    assert runner.run(cells, [], [], jobs=1, anchors={anchor: 0.85}) == ([], [])
