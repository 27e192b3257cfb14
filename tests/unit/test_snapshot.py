"""The copy of the parameters that jobs read, while params.yaml may be edited."""

import hashlib

import pytest
from handmade import empty_project

from imcl.cli import main
from imcl.project import Project
from imcl.study.load import load
from imcl.study.snapshot import Snapshot
from imcl.training import runner


@pytest.fixture
def project(tmp_path) -> Project:
    return empty_project(tmp_path)


def test_an_edit_after_the_snapshot_changes_nothing_for_who_reads_it(project):
    before = project.params.read_bytes()
    snapshot = Snapshot.of(project)
    project.params.unlink()  # it is a link to the one of this project
    project.params.write_text("edited")
    reads = snapshot.write()
    digest = hashlib.sha256(before).hexdigest()
    assert reads.params == project.results / f"params/{digest[:12]}.yaml"
    assert reads.params.read_bytes() == before
    assert load(reads.params).study == "quick"
    # Whoever takes a snapshot of it, as each job does, gets the same file.
    assert Snapshot.of(reads).write() == reads


def test_a_copy_that_is_damaged_is_written_again(project):
    reads = Snapshot.of(project).write()
    date = reads.params.stat().st_mtime_ns
    assert Snapshot.of(project).write().params.stat().st_mtime_ns == date
    reads.params.write_text("damaged")
    assert Snapshot.of(project).write().params.read_bytes() == project.params.read_bytes()


def test_the_environment_names_the_file_unless_the_command_does(project, tmp_path, monkeypatch):
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    assert Project.find(tmp_path).params == project.params
    monkeypatch.setenv("IMCL_PARAMS", str(one))
    assert Project.find(tmp_path).params == one
    assert Project.find(tmp_path, other).params == other
    monkeypatch.setenv("IMCL_PARAMS", "")
    assert Project.find(tmp_path).params == project.params


def test_the_cells_of_a_run_read_a_snapshot(project, monkeypatch):
    seen = []
    monkeypatch.setattr(
        runner, "run", lambda project, *_, **__: (seen.append(project), ([], []))[1]
    )
    assert main(["--project", str(project.root), "run"]) == 0
    (reads,) = seen
    assert reads == Snapshot.of(project).project
    assert reads.params.exists()
