"""What Snakemake makes of a worker that dies, and of a second Snakemake."""

import subprocess
import time

import psutil
import pytest
from conftest import Checkout
from storm import jobs

pytestmark = pytest.mark.workflow

RECORDS = ("snakemake", "--workflow-profile", "workflow/profiles/default", "records")


def wait_for_training(checkout: Checkout, engine: subprocess.Popen[str]) -> psutil.Process:
    """A process that trains a cell."""
    while True:
        assert engine.poll() is None, engine.communicate()
        for kind, process in jobs(checkout):
            if kind == "imcl train":
                return process
        time.sleep(0.05)


def test_a_worker_that_dies_costs_its_cell_alone_and_a_second_snakemake_is_refused(checkout):
    engine = checkout.start(*RECORDS)
    wait_for_training(checkout, engine).kill()
    refused = checkout.run(*RECORDS, code=1)
    assert "Directory cannot be locked" in refused
    assert "--unlock" in refused
    output, _ = engine.communicate()
    assert engine.returncode == 1
    assert "Error in rule train" in output
    assert "logs/train/" in output
    assert len(checkout.records()) == 5
    before = checkout.records()
    checkout.run(*RECORDS)
    after = checkout.records()
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
