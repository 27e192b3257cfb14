"""The plan: what is done, what is missing, and why; and that it costs no import of torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imcl import grid, params, plan

ROOT = Path(__file__).resolve().parents[2]
CELL = "digits-clean-vgg16-kernel"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)  # rich would take the test for a terminal
    return tmp_path


def tiny(weight: float = 10.0, width: int = 8, seeds: tuple[int, ...] = (1, 2)) -> dict:
    """Parameters of a study with two cells: base and kernel."""
    loaded = params.load(ROOT / "params.yaml")
    study = {
        "datasets": ["digits"],
        "noise": ["clean"],
        "backbones": ["vgg16"],
        "methods": ["base", "kernel"],
        "seeds": list(seeds),
        "width": width,
        "training": {"epochs": 14, "warmup_epochs": 2},
    }
    kernel = {"variant": "cosine", "weight": weight, "ramp_up": 0.2}
    return {
        **loaded,
        "study": "tiny",
        "studies": {"tiny": study},
        "ways": {**loaded["ways"], "kernel": kernel},
    }


def write_record(cell: grid.Cell, text: str | None = None) -> Path:
    """A record of the cell, as far as the plan reads it, or a file with this text instead."""
    record = {"cell": cell.name, "digest": cell.digest, "config": cell.config}
    cell.record.parent.mkdir(parents=True, exist_ok=True)
    cell.record.write_text(json.dumps(record) if text is None else text, encoding="utf-8")
    return cell.record


def state(planned: dict) -> tuple[str, str]:
    """State and reason of the kernel cell."""
    row = next(row for row in plan.rows(planned) if row["cell"] == CELL)
    return row["state"], row["reason"]


# state and reason -------------------------------------------------------------------------------


def test_nothing_is_done_at_first():
    rows = plan.rows(tiny())
    assert [row["cell"] for row in rows] == ["digits-clean-vgg16-base", CELL]
    assert {(row["state"], row["reason"]) for row in rows} == {("missing", "no record")}


def test_a_record_makes_its_cell_done_and_no_other():
    cell = grid.find(tiny(), CELL)
    write_record(cell)
    base, kernel = plan.rows(tiny())
    assert (base["state"], base["reason"]) == ("missing", "no record")
    assert kernel == {
        "cell": CELL,
        "digest": cell.digest,
        "state": "done",
        "reason": "record is there",
    }


def test_a_changed_parameter_is_named():
    write_record(grid.find(tiny(weight=10.0), CELL))
    assert state(tiny(weight=12.0)) == ("missing", "changed: ways.kernel.weight 10.0 -> 12.0")


def test_several_changed_parameters_are_named():
    write_record(grid.find(tiny(), CELL))
    assert state(tiny(weight=12.0, width=16, seeds=(1, 2, 3))) == (
        "missing",
        "changed: backbone.width 8 -> 16; seeds [1, 2] -> [1, 2, 3]; "
        "ways.kernel.weight 10.0 -> 12.0",
    )


def test_three_changed_parameters_are_enough():
    write_record(grid.find(tiny(), CELL))
    planned = tiny(weight=12.0, width=16, seeds=(1,))
    planned["studies"]["tiny"]["training"] = {"epochs": 15, "warmup_epochs": 2}
    assert state(planned) == (
        "missing",
        "changed: backbone.width 8 -> 16; seeds [1, 2] -> [1]; training.epochs 14 -> 15 ...",
    )


def test_a_revision_is_named(monkeypatch):
    write_record(grid.find(tiny(), CELL))
    monkeypatch.setattr(grid, "REVISIONS", {"kernel": 2})
    assert state(tiny()) == ("missing", "changed: revisions.kernel absent -> 2")


def test_the_newest_of_older_records_is_compared():
    for age, weight in [(300, 8.0), (100, 9.0), (200, 10.0)]:
        path = write_record(grid.find(tiny(weight=weight), CELL))
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    assert state(tiny(weight=12.0)) == ("missing", "changed: ways.kernel.weight 9.0 -> 12.0")


def test_an_older_record_does_not_undo_a_newer_one():
    write_record(grid.find(tiny(weight=10.0), CELL))
    write_record(grid.find(tiny(weight=12.0), CELL))
    assert state(tiny(weight=10.0))[0] == state(tiny(weight=12.0))[0] == "done"


def test_a_record_of_another_cell_is_no_older_record():
    write_record(grid.find(tiny(weight=12.0), "digits-clean-vgg16-base"))
    assert state(tiny()) == ("missing", "no record")


def test_a_record_that_was_renamed():
    cell = grid.find(tiny(), CELL)
    write_record(grid.find(tiny(weight=12.0), CELL)).rename(cell.record)
    assert state(tiny()) == (
        "missing",
        "its record is of another configuration; delete it",
    )


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"done"', "3"])
def test_a_record_that_cannot_be_read(text):
    write_record(grid.find(tiny(), CELL), text)
    assert state(tiny()) == ("missing", "its record cannot be read; delete it")


def test_a_record_that_is_not_utf_8():
    write_record(grid.find(tiny(), CELL)).write_bytes(b'{"cell": "caf\xe9"}')
    assert state(tiny()) == ("missing", "its record cannot be read; delete it")


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"config": null}'])
def test_an_older_record_that_cannot_be_read(text):
    write_record(grid.find(tiny(weight=12.0), CELL), text)
    assert state(tiny())[0] == "missing"


# the table --------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_cell_and_counts_them(capsys):
    write_record(grid.find(tiny(), CELL))
    plan.show(plan.rows(tiny()))
    header, base, kernel, count = capsys.readouterr().out.splitlines()
    assert header.split() == ["cell", "digest", "state", "reason"]
    assert base.split()[::2] == ["digits-clean-vgg16-base", "missing", "record"]
    assert kernel.split()[::2] == [CELL, "done", "is"]
    assert count == "2 cells, 1 done, 1 missing"


def test_a_row_stays_on_one_line_in_a_file(capsys):
    reason = "changed: " + "; ".join(["ways.representation.variant correlation -> cosine"] * 3)
    name = "cifar10_5k-n50_inclusive-resnet18-intermediate+representation+kernel"
    row = {"cell": name, "digest": "0123456789ab", "state": "missing", "reason": reason}
    plan.show([row])
    _, line, _ = capsys.readouterr().out.splitlines()
    assert name in line
    assert reason in line


# imports ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["imcl", "imcl.params", "imcl.grid", "imcl.plan", "imcl.cli"])
def test_planning_imports_nothing_that_takes_seconds(module):
    code = f"import sys, {module}; print(*(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "imcl" in loaded
    assert not loaded & {"torch", "torchvision", "sklearn", "pandas", "scipy", "matplotlib"}
