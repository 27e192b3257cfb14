"""The plan: what is done, what is missing, and why; and that it costs no import of torch."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from handmade import parameters, record, write

from imcl import verify
from imcl.errors import ImclError
from imcl.project import Project
from imcl.records import plan
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.load import checked
from imcl.study.settings import Settings
from imcl.study.sources import Archive, Counts

CELL = "digits-clean-vgg16-kernel"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    monkeypatch.delenv("FORCE_COLOR", raising=False)  # rich would take the test for a terminal
    return Project(tmp_path)


@cache
def tiny(
    weight: float = 10.0, width: int = 8, seeds: tuple[int, ...] = (1, 2), epochs: int = 14
) -> Settings:
    """Settings of a study with two cells: base and kernel."""
    study = {
        "datasets": ["digits"],
        "noise": ["clean"],
        "backbones": ["vgg16"],
        "methods": ["base", "kernel"],
        "seeds": list(seeds),
        "width": width,
        "training": {"epochs": epochs, "warmup_epochs": 2},
    }
    loaded = parameters()
    loaded |= {"study": "tiny", "studies": loaded["studies"] | {"tiny": study}}
    loaded["ways"] |= {"kernel": {"variant": "cosine", "weight": weight, "ramp_up_steps": 2000}}
    return checked(loaded, Path("params.yaml"))


def write_record(project: Project, cell: grid.Cell, text: str | None = None) -> Path:
    """A record of the cell, as far as the plan reads it, or a file with this text instead."""
    record = {"cell": cell.name, "digest": cell.digest, "config": cell.config}
    path = project.record(cell.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record) if text is None else text, encoding="utf-8")
    return path


def state(project: Project, planned: Settings) -> tuple[str, str]:
    """State and reason of the kernel cell."""
    row = next(row for row in plan.rows(project, planned) if row["cell"] == CELL)
    return row["state"], row["reason"]


# state and reason -------------------------------------------------------------------------------


def test_nothing_is_done_at_first(project):
    rows = plan.rows(project, tiny())
    assert [row["cell"] for row in rows] == ["digits-clean-vgg16-base", CELL]
    assert {(row["state"], row["reason"]) for row in rows} == {("missing", "no record")}


def test_a_record_makes_its_cell_done_and_no_other(project):
    cell = grid.find(tiny(), CELL)
    write_record(project, cell)
    base, kernel = plan.rows(project, tiny())
    assert (base["state"], base["reason"]) == ("missing", "no record")
    assert kernel == {
        "cell": CELL,
        "digest": cell.digest,
        "state": "done",
        "reason": "record is there",
    }


def test_a_changed_parameter_is_named(project):
    write_record(project, grid.find(tiny(weight=10.0), CELL))
    assert state(project, tiny(weight=12.0)) == (
        "missing",
        "changed: ways.kernel.weight 10.0 -> 12.0",
    )


def test_several_changed_parameters_are_named(project):
    write_record(project, grid.find(tiny(), CELL))
    assert state(project, tiny(weight=12.0, width=16, seeds=(1, 2, 3))) == (
        "missing",
        "changed: backbone.width 8 -> 16; seeds [1, 2] -> [1, 2, 3]; "
        "ways.kernel.weight 10.0 -> 12.0",
    )


def test_three_changed_parameters_are_enough(project):
    write_record(project, grid.find(tiny(), CELL))
    assert state(project, tiny(weight=12.0, width=16, seeds=(1,), epochs=15)) == (
        "missing",
        "changed: backbone.width 8 -> 16; seeds [1, 2] -> [1]; training.epochs 14 -> 15 ...",
    )


def test_a_revision_is_named(project, monkeypatch):
    write_record(project, grid.find(tiny(), CELL))
    monkeypatch.setattr(grid, "REVISIONS", {"kernel": 2})
    assert state(project, tiny()) == ("missing", "changed: revisions.kernel absent -> 2")


def test_the_newest_of_older_records_is_compared(project):
    for age, weight in [(300, 8.0), (100, 9.0), (200, 10.0)]:
        path = write_record(project, grid.find(tiny(weight=weight), CELL))
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    assert state(project, tiny(weight=12.0)) == (
        "missing",
        "changed: ways.kernel.weight 9.0 -> 12.0",
    )


def test_an_older_record_does_not_undo_a_newer_one(project):
    write_record(project, grid.find(tiny(weight=10.0), CELL))
    write_record(project, grid.find(tiny(weight=12.0), CELL))
    assert state(project, tiny(weight=10.0))[0] == state(project, tiny(weight=12.0))[0] == "done"


def test_a_record_of_another_cell_is_no_older_record(project):
    write_record(project, grid.find(tiny(weight=12.0), "digits-clean-vgg16-base"))
    assert state(project, tiny()) == ("missing", "no record")


def test_a_record_that_was_renamed(project):
    cell = grid.find(tiny(), CELL)
    write_record(project, grid.find(tiny(weight=12.0), CELL)).rename(project.record(cell.key))
    assert state(project, tiny()) == (
        "missing",
        "its record has another configuration; delete it",
    )


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"done"', "3"])
def test_a_record_that_cannot_be_read(project, text):
    write_record(project, grid.find(tiny(), CELL), text)
    assert state(project, tiny()) == ("missing", "its record cannot be read; delete it")


def test_a_record_that_is_not_utf_8(project):
    write_record(project, grid.find(tiny(), CELL)).write_bytes(b'{"cell": "caf\xe9"}')
    assert state(project, tiny()) == ("missing", "its record cannot be read; delete it")


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"config": null}'])
def test_an_older_record_that_cannot_be_read(project, text):
    write_record(project, grid.find(tiny(weight=12.0), CELL), text)
    assert state(project, tiny())[0] == "missing"


# pictures of one's own --------------------------------------------------------------------------


class Known:
    """What two folders hold, as a manifest would tell it, whatever their path is."""

    def __init__(self, content: str | None):
        self.content = content

    def pictures(self, folder: str) -> str | None:
        return self.content

    def counts(self, folder: str) -> Counts | None:
        return Counts(8, 4, classes=2) if self.content else None

    def archives(self, archives: Sequence[Archive]) -> str | None:
        return self.content if archives else None


def own(content: str | None, **entry: object) -> Settings:
    loaded = parameters()
    mine = {"source": "folder", "path": "pics", "side": 8, "padding": 0, "flip": False, **entry}
    loaded["datasets"]["mine"] = {key: value for key, value in mine.items() if value is not None}
    loaded["studies"]["own"] = {
        **loaded["studies"]["quick"],
        "datasets": ["mine"],
        "noise": ["n50"],
        "backbones": ["vgg16"],
        "methods": ["base"],
    }
    loaded["study"] = "own"
    return checked(loaded, Path("params.yaml")).knowing(Known(content))


def digests(settings: Settings) -> list[str]:
    (cell,) = grid.cells(settings)
    return [cell.digest, *(part.digest for data in cell.all_data for part in data if part)]


@pytest.mark.parametrize("path", ["./pics", "pics/", "/elsewhere/pics"])
def test_the_content_decides_and_not_the_place_of_the_folder(path):
    assert digests(own("one", path=path)) == digests(own("one"))
    assert not {*digests(own("two"))} & {*digests(own("one"))}
    assert not {*digests(own("one", side=9))} & {*digests(own("one"))}


IMAGENET = {"source": "imagenet32", "path": None, "side": None}  # without a published checksum


@pytest.mark.parametrize("entry", [{}, IMAGENET])
def test_without_its_pictures_a_cell_says_what_to_bring(project, entry):
    """Their content names its record, so a record that is there is not found."""
    known, unknown = own("one", **entry), own(None, **entry)
    (cell,) = grid.cells(known)
    write(project, cell, record(cell, [0.5] * len(cell.seeds)))
    assert [row["state"] for row in plan.rows(project, known)] == ["done"]
    (row,) = plan.rows(project, unknown)
    assert row["state"] == "missing"
    assert row["reason"].endswith(f"; {grid.NO_PICTURES}")
    paths = {cell.name: project.record(cell.key) for cell in grid.cells(unknown)}
    with pytest.raises(ImclError, match=rf"\({cell.name}: {grid.NO_PICTURES}\); run `snakemake"):
        Store(project).read_all(grid.cells(unknown), paths)
    committed = verify.Study(unknown, grid.cells(unknown), True, project.records, {})
    (finding,) = verify.check(project, committed)
    assert finding.fault.startswith("none of its 1 records belongs to study ")
    assert finding.fault.endswith(f"; {grid.NO_PICTURES}")
    project.record(cell.key).unlink()
    assert f"is missing; {grid.NO_PICTURES}" in [f.fault for f in verify.check(project, committed)]


# the table --------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_cell_and_counts_them(project, capsys):
    write_record(project, grid.find(tiny(), CELL))
    plan.show(project, "tiny", plan.rows(project, tiny()))
    header, base, kernel, count = capsys.readouterr().out.splitlines()
    assert header.split() == ["cell", "digest", "state", "reason"]
    assert base.split()[::2] == ["digits-clean-vgg16-base", "missing", "record"]
    assert kernel.split()[::2] == [CELL, "done", "is"]
    assert count == "2 cells, 1 done, 1 missing"


def test_a_row_stays_on_one_line_in_a_file(project, capsys):
    reason = "changed: " + "; ".join(["ways.representation.variant correlation -> cosine"] * 3)
    name = "cifar10_5k-n50_inclusive-resnet18-intermediate+representation+kernel"
    row = {"cell": name, "digest": "0123456789ab", "state": "missing", "reason": reason}
    plan.show(project, "tiny", [row])
    _, line, _ = capsys.readouterr().out.splitlines()
    assert name in line
    assert reason in line


def test_a_committed_record_is_told_apart_from_one_that_was_made_here(project, capsys):
    base, kernel = grid.cells(tiny())
    for cell in (base, kernel):
        write(project, cell, record(cell, [0.5, 0.5]), "tiny")
    write_record(project, base)
    rows = plan.rows(project, tiny())
    assert [row["state"] for row in rows] == ["done", "committed"]
    plan.show(project, "tiny", rows)
    *_, count, hint = capsys.readouterr().out.splitlines()
    assert count == "2 cells, 1 done, 1 committed, 0 missing"
    assert f"`imcl merge {project.committed}/tiny`" in hint
    # What is here and damaged hides it: it has to go first.
    write_record(project, kernel, "{")
    assert state(project, tiny()) == ("missing", "its record cannot be read; delete it")


# imports ----------------------------------------------------------------------------------------

QUICK = ["imcl", "imcl.study.load", "imcl.study.grid", "imcl.records.plan", "imcl.records.status"]
QUICK += ["imcl.records.store", "imcl.data.listing", "imcl.cli.program"]
SLOW = ["torch", "torchvision", "sklearn", "pandas", "scipy", "matplotlib", "numpy", "requests"]


def test_planning_imports_nothing_that_takes_seconds():
    code = (
        "import sys, importlib\n"
        f"for module in {QUICK}:\n"
        "    importlib.import_module(module)\n"
        f"    assert not set({SLOW}) & sys.modules.keys(), (module, sorted(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
