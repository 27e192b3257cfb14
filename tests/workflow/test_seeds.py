"""A seed as a job of its own, as for trainings that take hours."""

import json
import re
from collections import Counter

import pytest
from conftest import MICRO, Checkout

from imcl.files import write_text
from imcl.project import Project
from imcl.study import grid
from imcl.study.load import load

pytestmark = pytest.mark.workflow

SHORT = "SHORT_SECONDS = 120"  # in cost.py: below it, one job trains all seeds of a cell


def planned(checkout: Checkout, *options: str) -> Counter[str]:
    """How often each rule of training would run."""
    dry = checkout.snakemake("--dry-run", *options, "records")
    return Counter(re.findall(r"Job \d+: (train|collect) \S+", dry))


def runs(checkout: Checkout) -> dict[str, float]:
    found = (checkout.folder / "results/runs").glob("*.json")
    return {path.name: path.stat().st_mtime for path in found}


def results(checkout: Checkout) -> object:
    (path,) = (checkout.folder / "results/records").glob("*.json")
    return json.loads(path.read_text())["runs"]


def seeds(checkout: Checkout, *seeds: int) -> None:
    one = {**MICRO, "noise": ["clean"], "methods": ["base"], "seeds": [*seeds]}
    checkout.change(studies__micro=one)


def test_a_seed_is_a_job_and_another_seed_costs_one(checkout):
    seeds(checkout, 1, 2)
    checkout.snakemake("records")
    together = results(checkout)
    cost = checkout.folder / "src/imcl/study/cost.py"
    cost.write_text(cost.read_text().replace(SHORT, "SHORT_SECONDS = 0"))
    for folder in ("records", "runs"):
        for path in (checkout.folder / "results" / folder).glob("*.json"):
            path.unlink()

    checkout.snakemake("records")
    assert results(checkout) == together
    logs = {path.stem for path in (checkout.folder / "logs/train").glob("*seed*.log")}
    assert logs == {name.removesuffix(".json") for name in runs(checkout)}

    before = runs(checkout)
    seeds(checkout, 1, 2, 3)
    assert planned(checkout) == {"train": 1, "collect": 1}
    output = checkout.run("imcl", "run")
    assert "study micro: 1 of 1 cells done, 0 left" in output
    assert {name: time for name, time in runs(checkout).items() if name in before} == before
    assert len(runs(checkout)) == 3

    # Without the record, the files of the seeds are collected again, and that is all.
    for path in (checkout.folder / "results/records").glob("*.json"):
        path.unlink()
    assert planned(checkout) == {"collect": 1}

    # By force all seeds are trained again, in one job too.
    assert planned(checkout, "--forceall") == {"train": 3, "collect": 1}
    cost.write_text(cost.read_text().replace("SHORT_SECONDS = 0", SHORT))
    dry = checkout.snakemake("--dry-run", "--printshellcmds", "--forceall", "records")
    assert "imcl train --study micro --threads 1 --again digits-clean-resnet18-base" in dry


def test_force_is_seen_however_it_is_said(checkout, tmp_path):
    seeds(checkout, 4)
    project = Project(checkout.folder)
    for cell in grid.cells(load(project.params)):
        write_text(project.record(cell.key), "")  # its name decides
    (tmp_path / "config.yaml").write_text("forceall: true\n")
    assert planned(checkout) == {}
    for words in ("--forceall", "-F", "-Fk", "-nF", "--forcea", f"--workflow-profile={tmp_path}"):
        assert planned(checkout, words) == {"train": 1}, words
