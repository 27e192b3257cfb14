"""A project behind a symbolic link, one that is read-only, and a user without rights or a home."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Checkout

from imcl.cli import main
from imcl.present.pdf import can_build
from imcl.project import Project
from imcl.study import grid
from imcl.study.load import load

pytestmark = pytest.mark.workflow

CELL = "digits-n50-resnet18-base"
ENTRY = "accuracy-digits:resnet18/base:clean"
NOBODY = 65534

READING = ["plan", "plan --json", "status", "settings", "schema", "data", "data --contents"]
READING += ["claims", "bench tables", f"trace {ENTRY}", "verify"]
# Each with the place that its message names.
WRITING = {
    "schema --write": "workflow/schemas",
    "prepare digits": "data",
    "noise digits n50": "data",
    "fetch cifar100": "data/archives",
    f"train {CELL}": "results/checkpoints",
    "summary": "results/summary",
    "claims --save": "results",
    "search": "results/params",
    "tables": "paper/build",
    "paper": "paper/build",
}


@pytest.fixture(scope="module")
def own(finished: Checkout) -> Checkout:
    """A finished project of one's own: without the committed studies and the texts about them."""
    for study in (finished.folder / "paper/results").glob("*/records"):
        shutil.rmtree(study.parent)
    for readme in ("README.md", "paper/README.md"):
        (finished.folder / readme).unlink()
    finished.commit("my own project")
    return finished


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder on a file system that is mounted read-only."""
    if subprocess.run(["mount", "--bind", folder, folder]).returncode:
        pytest.skip("mounting a file system needs rights that this user lacks")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_in_a_read_only_checkout_commands_read_and_refuse_to_write_in_a_sentence(own, capsys):
    project = ["--project", str(own.folder)]
    with read_only(own.folder):
        for words in READING:
            code = main([*project, *words.split()])
            assert (code, capsys.readouterr().err) == (0, ""), words
        for words, place in WRITING.items():
            if words == "paper" and not can_build():
                continue
            code = main([*project, *words.split()])
            *told, error = capsys.readouterr().err.splitlines()
            assert code == 1, words
            assert all("was finished before" in line for line in told), words
            assert error.startswith(f"imcl {words.split()[0]}: {own.folder / place}"), error
            assert error.endswith(
                ": Read-only file system; work in a copy of the project where you can write"
            )


def test_a_cell_is_trained_and_verified_behind_a_symbolic_link(own, tmp_path, monkeypatch, capsys):
    link = tmp_path / "link"
    link.symlink_to(own.folder)
    monkeypatch.chdir(link)
    project = Project(Path())
    path = project.record(grid.find(load(project.params), CELL).key)
    before = json.loads(path.read_text())
    path.unlink()
    for command in (f"train --device cpu {CELL}", "summary", "claims --save", "tables"):
        assert main(command.split()) == 0, command
    assert json.loads(path.read_text())["runs"] == before["runs"]
    capsys.readouterr()
    assert main(["--project", str(link), "verify"]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.endswith(", no faults\n")


def as_nobody(checkout: Checkout, *command: str, code: int = 0, **environment: str) -> str:
    """Run a command as a user who may write nothing of others and whose home is not there.

    He may read everything, since the interpreter can be in a folder of root's.
    """
    capabilities = "-all,+dac_read_search"
    identity = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    identity += [f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"]
    return checkout.run(
        "setpriv", *identity, *command, code=code, HOME="/nonexistent", **environment
    )


def test_a_user_without_rights_and_home_trains_a_cell_and_makes_the_report(own, tmp_path):
    probe = ["setpriv", f"--reuid={NOBODY}", "--inh-caps=-all", "true"]
    if os.getuid() or not shutil.which("setpriv") or subprocess.run(probe).returncode:
        pytest.skip("becoming another user needs rights that this user lacks, and setpriv")
    tmp_path.chmod(0o777)
    refused = as_nobody(own, "imcl", "prepare", "digits", code=1, LOADED=str(tmp_path))
    assert refused.startswith(f"imcl prepare: {own.folder}/data/")
    assert refused.endswith(
        ": Permission denied; change its rights, or work in a copy of the project that is yours\n"
    )
    theirs = own.copy(tmp_path / "theirs")
    project = Project(theirs.folder)
    path = project.record(grid.find(load(project.params), CELL).key)
    before = json.loads(path.read_text())
    path.unlink()
    for run in project.runs.glob(f"{CELL}-seed*.json"):
        run.unlink()
    (project.build / "report.html").unlink()
    for place in (theirs.folder, *theirs.folder.rglob("*")):
        os.chown(place, NOBODY, NOBODY, follow_symlinks=False)
    assert "5 done, 1 waiting" in as_nobody(theirs, "imcl", "status")
    # DVC runs Snakemake, which keeps a cache in the home folder unless it is told another place.
    cache = str(theirs.folder / ".cache")
    # Forced, since what DVC carries, results/shared, is all there.
    as_nobody(theirs, "dvc", "repro", "--force", "--single-item", "train", XDG_CACHE_HOME=cache)
    assert json.loads(path.read_text())["runs"] == before["runs"]
    as_nobody(theirs, "imcl", "report")
    assert (project.build / "report.html").stat().st_uid == NOBODY
