"""A micro study through real Snakemake and DVC runs.

The tests stand in the order in which a user would do these things, on one copy of the project.
"""

import json
import os
import re
import shutil
from collections import Counter

import pytest
import yaml

from imcl.report.paper import HINT, can_build

pytestmark = pytest.mark.workflow


def planned(dry_run: str) -> Counter:
    """The methods that a dry run would train, with the number of their cells."""
    return Counter(re.findall(r"Job \d+: train \w+-\w+-\w+-([\w+]+)-", dry_run))


def test_snakemake_builds_everything(project):
    output = project.snakemake()
    assert len(project.records()) == 6
    build = project.folder / "paper/build"
    for kind in ("tex", "md"):
        names = {path.stem for path in (build / "tables").glob(f"*.{kind}")}
        assert {"accuracy-digits", "difference-to-base-digits", "data", "settings"} <= names
    for kind in ("pdf", "png"):
        names = {path.stem for path in (build / "figures").glob(f"*.{kind}")}
        of_digits = {f"{name}-digits" for name in ("error", "curves", "noise", "transition")}
        assert names == {*of_digits, "growth-cpu"}
    if can_build():
        assert (build / "paper.pdf").read_bytes().startswith(b"%PDF")
        assert "undefined" not in (build / "paper.log").read_text(errors="replace").lower()
    else:
        assert HINT in output


def test_a_second_run_does_nothing(project):
    assert project.trained_by(project.snakemake) == set()
    assert "Nothing to be done" in project.snakemake("--dry-run")


def test_a_dry_run_in_an_empty_folder_plans_every_cell(project, tmp_path):
    project.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    dry = type(project)(tmp_path / "clone").snakemake("--dry-run")
    assert planned(dry) == {"base": 2, "kernel": 2, "all": 2}


def test_the_plan_agrees(project):
    rows = json.loads(project.run("imcl", "plan", "--json"))
    assert [row["state"] for row in rows] == ["done"] * 6
    assert {f"{row['cell']}-{row['digest']}.json" for row in rows} == set(project.records())


def test_dvc_finds_all_done_and_its_targets_are_snakemakes(project, tmp_path):
    assert project.trained_by(lambda: project.run("dvc", "repro")) == set()
    assert "up to date" in project.run("dvc", "repro")
    stages = yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"]
    outputs = [
        next(iter(out)) if isinstance(out, dict) else out
        for stage in stages.values()
        for out in [*stage["outs"], *stage.get("metrics", [])]
    ]
    project.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    summary = type(project)(tmp_path / "clone").snakemake("--summary")
    made = [line.split("\t")[0] for line in summary.splitlines()[1:]]
    made = [path for path in made if path.startswith(("data", "results", "paper"))]
    assert len(made) > 20
    for path in made:
        assert any(path == out or path.startswith(f"{out}/") for out in outputs), path
    for out in outputs:
        assert any(path == out or path.startswith(f"{out}/") for path in made), out


def test_dvc_shows_metrics_and_plots(project):
    shown = project.run("dvc", "metrics", "show")
    assert "digits-n50-resnet18-kernel" in shown
    assert "accuracy" in shown
    assert "index.html" in project.run("dvc", "plots", "show")
    page = (project.folder / "dvc_plots/index.html").read_text()
    assert '"method": "kernel"' in page


def test_a_changed_lambda_through_dvc_retrains_its_method_and_all(project):
    project.run("git", "add", "dvc.lock")
    project.run("git", "commit", "--quiet", "--message", "run")
    project.change(ways__kernel__weight=300.0)
    assert "Running stage 'train'" in project.run("dvc", "repro", "--dry")
    assert project.trained_by(lambda: project.run("dvc", "repro")) == {"kernel", "all"}
    assert len(project.records()) == 6 + 4
    assert "Nothing to be done" in project.snakemake("--dry-run")
    assert "results/metrics/digits-" in project.run("dvc", "metrics", "diff")


def test_a_changed_lambda_through_snakemake_retrains_what_uses_it(project):
    project.change(ways__output__weight=3.0)
    assert planned(project.snakemake("--dry-run")) == {"all": 2}
    assert project.trained_by(project.snakemake) == {"all"}
    assert project.trained_by(lambda: project.run("dvc", "repro")) == set()


def test_an_old_parameter_finds_its_old_records(project):
    project.change(ways__output__weight=45.0, ways__kernel__weight=10.0)
    assert project.trained_by(project.snakemake) == set()
    table = (project.folder / "paper/build/tables/settings.md").read_text()
    assert "| kernel         | weight         | 10 " in table


def test_a_clone_with_the_records_retrains_only_what_changed(project, tmp_path):
    project.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = type(project)(tmp_path / "clone")
    shutil.copy(project.folder / "params.yaml", clone.folder)
    shutil.copytree(project.folder / "results/records", clone.folder / "results/records")
    for age, path in enumerate(sorted((clone.folder / "results/records").iterdir())):
        os.utime(path, (1e9 + age, 1e9 + age))  # older than everything else
    assert planned(clone.snakemake("--dry-run")) == {}
    assert clone.trained_by(clone.snakemake) == set()
    clone.change(ways__kernel__weight=4.0)
    assert planned(clone.snakemake("--dry-run")) == {"kernel": 2, "all": 2}


def test_a_study_with_a_new_cell_is_trained_summarised_and_left_again(project):
    project.change(studies__other__methods=["base", "control"])
    summary = project.folder / "results/summary"
    arguments = ("--config", "study=other")
    assert planned(project.snakemake("--dry-run", *arguments)) == {"control": 1}
    shutil.rmtree(project.folder / ".snakemake")  # nor may this hang on what Snakemake remembers
    assert project.trained_by(lambda: project.snakemake(*arguments)) == {"control"}
    assert [path.name.split("-")[0] for path in summary.iterdir()] == ["other"]
    table = project.folder / "paper/build/tables/accuracy-digits.md"
    assert "| control" in table.read_text()
    shutil.rmtree(project.folder / ".snakemake")
    assert project.trained_by(project.snakemake) == set()
    assert "| all" in table.read_text()
    # The claims are read from the other study's records too.
    (control,) = (project.folder / "results/records").glob("*-control-*")
    control.rename(project.folder / "away")
    assert "summarise study micro" in project.snakemake()
    (project.folder / "away").rename(control)


def test_a_deleted_record_is_trained_again(project):
    (record,) = (project.folder / "results/records").glob("digits-n50-resnet18-base-*.json")
    record.unlink()
    assert project.trained_by(project.snakemake) == {"base"}


def test_lost_data_is_no_reason_to_train_again(project):
    shutil.rmtree(project.folder / "data")
    assert project.trained_by(project.snakemake) == set()


def test_dvc_experiment_with_another_study(project):
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "more")
    command = ("dvc", "exp", "run", "-S", "study=other")
    assert project.trained_by(lambda: project.run(*command)) == set()
    assert "| all" not in (project.folder / "paper/build/tables/accuracy-digits.md").read_text()


def test_wrong_parameters_stop_both_engines_before_anything_runs(project):
    project.change(study="micro", studies__micro__methods=["base", "outptu"])
    expected = "studies.micro.methods[1]: unknown method 'outptu'; did you mean 'output'?"
    before = project.records()
    for command in (("snakemake", "--cores", "1"), ("dvc", "repro"), ("imcl", "plan")):
        output = project.run(*command, code=None)
        assert expected in output
        assert "Traceback" not in output
    assert project.run("imcl", "plan", code=2)
    assert project.records() == before


def test_an_unknown_config_key_is_refused(project):
    output = project.run("snakemake", "-n", "--config", "studdy=micro", code=1)
    assert "--config unknown key 'studdy'; did you mean 'study'?" in output
