"""What Snakemake makes of a worker that dies, a second Snakemake, and dates that lie."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Project
from storm import jobs

pytestmark = pytest.mark.workflow

PROFILE = ("--workflow-profile", "workflow/profiles/default")


def start(project: Project) -> subprocess.Popen:
    return subprocess.Popen(
        ["snakemake", *PROFILE],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_training(project: Project, engine: subprocess.Popen):
    """A process that trains a cell."""
    while True:
        assert engine.poll() is None, engine.communicate()
        for kind, process in jobs(project):
            if kind == "imcl train":
                return process
        time.sleep(0.05)


def test_a_worker_that_dies_costs_its_cell_alone_and_a_second_snakemake_is_refused(project):
    engine = start(project)
    wait_for_training(project, engine).kill()
    refused = project.run("snakemake", *PROFILE, code=1)
    assert "Directory cannot be locked" in refused
    assert "--unlock" in refused
    output, _ = engine.communicate()
    assert engine.returncode == 1
    assert "Error in rule train" in output
    assert "logs/train/" in output
    assert len(project.records()) == 5
    before = project.records()
    project.run("snakemake", *PROFILE)
    after = project.records()
    assert len(after) == 6
    assert {name: after[name] for name in before} == before


def test_dates_that_lie_train_nothing(project):
    before = project.records()
    for date in (2**31, 10**8):  # 2038 and 1973
        for path in [*(project.folder / "data").rglob("*"), *Path(project.folder).glob("results")]:
            os.utime(path, (date, date))
        output = project.snakemake("--dry-run")
        assert "train " not in output
    assert project.records() == before
