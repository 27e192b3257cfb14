"""A micro study through real Snakemake and DVC runs.

The tests are in the order in which a user would do these things, on one checkout. Those of
test_reuse.py begin from the same finished study.
"""

import json
import os
import re

import pytest
import yaml
from conftest import planned

from imcl.present.pdf import HINT, can_build

pytestmark = pytest.mark.workflow


def test_snakemake_builds_everything(finished):
    assert len(finished.records()) == 6
    build = finished.folder / "paper/build"
    for kind in ("tex", "md"):
        names = {path.stem for path in (build / "tables").glob(f"*.{kind}")}
        assert {"accuracy-digits", "difference-to-base-digits", "data", "settings"} <= names
    for kind in ("pdf", "png"):
        names = {path.stem for path in (build / "figures").glob(f"*.{kind}")}
        drawn = ("error", "curves", "noise", "transition", "difference-to-base")
        measured = (finished.folder / "paper/results/bench").glob("*.json")
        of_measured = {p.stem for p in measured if p.stem.split("-")[0] in ("growth", "library")}
        assert names == {*(f"{name}-digits" for name in drawn), *of_measured, "network"}
    if can_build():
        assert (build / "paper.pdf").read_bytes().startswith(b"%PDF")
        assert "undefined" not in (build / "paper.log").read_text(errors="replace").lower()


def test_make_reproduce_prints_a_line_for_each_cell_and_ends_with_the_verdict(finished):
    makefile = (finished.folder / "Makefile").read_text()
    assert "\n\t@$(BIN)/imcl reproduce $(if $(STUDY),--study $(STUDY))\n" in makefile
    lines = finished.first("snakemake")["output"].splitlines()
    assert len(lines) <= 60
    assert lines[0] == "study micro: 6 of 6 cells to train; Snakemake's log is logs/snakemake.log"
    of_cells = [line for line in lines if line.startswith("digits-")]
    assert {f"{line.split()[0]}" for line in of_cells} == {
        name.rpartition("-")[0] for name in finished.records()
    }
    for done, line in enumerate(of_cells, 1):
        name, accuracy, percent, rest = line.split(maxsplit=3)
        (path,) = (finished.folder / "results/records").glob(f"{name}-*.json")
        runs = json.loads(path.read_text())["runs"]
        mean = sum(run["final"]["accuracy"] for run in runs) / len(runs)
        assert (accuracy, percent) == (f"{100 * mean:.1f}", "%")
        left = r", (\d+ min )?\d+ s left" if done < 6 else ""
        assert re.fullmatch(f"{done} of 6 cells{left}", rest)
    verdict = lines.index(next(line for line in lines if line.startswith("claim ")))
    assert len([line for line in lines[verdict : verdict + 8] if " not tested " in line]) == 5
    paths = ["table    paper/build/tables/accuracy-digits.md", "figures  paper/build/figures"]
    *found, paper = lines[-4:]
    assert found == [*paths, "report   paper/build/report.html"]
    assert paper == f"paper    {'paper/build/paper.pdf' if can_build() else HINT}"
    assert "6 of 6 steps" not in "\n".join(lines)
    assert "steps (100%) done" in (finished.folder / "logs/snakemake.log").read_text()


def test_dvc_finds_everything_done(finished):
    assert finished.first("dvc")["trained"] == []
    assert finished.repro().count("didn't change, skipping") == 3


def test_a_second_run_does_nothing(finished):
    def again():
        assert "Nothing to be done" in finished.snakemake()

    assert finished.trained_by(again) == set()


def test_a_dry_run_in_an_empty_folder_plans_every_cell(finished, tmp_path):
    dry = finished.clone(tmp_path / "clone").snakemake("--dry-run")
    assert planned(dry) == {"base": 2, "kernel": 2, "all": 2}


def test_the_plan_agrees(finished):
    rows = json.loads(finished.run("imcl", "plan", "--json"))
    assert [row["state"] for row in rows] == ["done"] * 6
    assert {f"{row['cell']}-{row['digest']}.json" for row in rows} == set(finished.records())


def test_the_targets_of_dvc_are_those_of_snakemake(finished, tmp_path):
    stages = yaml.safe_load((finished.folder / "dvc.yaml").read_text())["stages"]
    outputs = [
        next(iter(out)) if isinstance(out, dict) else out
        for name, stage in stages.items()
        if name != "contents"  # which is for DVC alone
        for out in [*stage["outs"], *stage.get("metrics", [])]
    ]
    summary = finished.clone(tmp_path / "clone").snakemake("--summary")
    made = [line.split("\t")[0] for line in summary.splitlines()[1:]]
    made = [path for path in made if path.startswith(("results", "paper"))]
    made = [path.replace("results/records", "results/shared") for path in made]  # DVC has a copy
    assert len(made) > 20
    for path in made:
        assert any(path == out or path.startswith(f"{out}/") for out in outputs), path
    for out in outputs:
        assert any(path == out or path.startswith(f"{out}/") for path in made), out


def test_what_is_pushed_and_pulled_gives_the_paper_without_data_or_training(finished, tmp_path):
    finished.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    finished.commit("run")
    finished.run("dvc", "push")
    clone = finished.clone(tmp_path / "clone")
    clone.run("dvc", "pull")
    output = clone.repro()
    assert "Stage 'train' didn't change, skipping" in output
    assert not re.search(r"^Job \d+: train ", output, flags=re.MULTILINE)
    for folder in ("results/records", "results/runs", "results/weights"):
        theirs = [path for path in (finished.folder / folder).rglob("*") if path.is_file()]
        for path in theirs:
            ours = clone.folder / path.relative_to(finished.folder)
            assert ours.read_bytes() == path.read_bytes()
        assert len(theirs) in (6, 12)
    made, ours = clone.folder / "paper/build", finished.folder / "paper/build"
    for table in (ours / "tables").iterdir():
        assert (made / "tables" / table.name).read_bytes() == table.read_bytes()
    assert (made / "paper.pdf").exists() == can_build()
    assert not (clone.folder / "data").exists()
    assert clone.repro().count("didn't change, skipping") == 3
    for age, path in enumerate(sorted((clone.folder / "results/records").iterdir())):
        os.utime(path, (1e9 + age, 1e9 + age))  # older than everything else
    assert planned(clone.snakemake("--dry-run")) == {}
    clone.change(ways__kernel__weight=4.0)
    assert planned(clone.snakemake("--dry-run")) == {"kernel": 2, "all": 2}


def test_dvc_tracks_existing_parameters(finished):
    """All but how a machine trains, which makes no record stale."""
    loaded = finished.params()
    stages = yaml.safe_load((finished.folder / "dvc.yaml").read_text())["stages"]
    tracked = {key for stage in stages.values() for key in stage.get("params", [])}
    assert tracked == set(loaded) - {"run"}


def test_dvc_shows_metrics_and_plots(finished):
    shown = finished.run("dvc", "metrics", "show")
    assert "digits-n50-resnet18-kernel" in shown
    assert "accuracy" in shown
    assert "index.html" in finished.run("dvc", "plots", "show")
    page = (finished.folder / "dvc_plots/index.html").read_text()
    assert '"method": "kernel"' in page


def test_a_changed_lambda_through_dvc_retrains_its_method_and_all(finished):
    finished.change(ways__kernel__weight=300.0)
    assert "Running stage 'train'" in finished.run("dvc", "repro", "--dry")
    assert finished.trained_by(finished.repro) == {"kernel", "all"}
    assert len(finished.records()) == 6 + 4
    assert "Nothing to be done" in finished.snakemake("--dry-run")
    assert "results/metrics/digits-" in finished.run("dvc", "metrics", "diff")


def test_a_changed_lambda_through_snakemake_retrains_what_uses_it(finished):
    finished.change(ways__output__weight=3.0)
    assert planned(finished.snakemake("--dry-run")) == {"all": 2}
    assert finished.trained_by(finished.tables) == {"all"}
    assert finished.trained_by(finished.repro) == set()


def test_an_old_parameter_finds_its_old_records(finished):
    finished.change(ways__output__weight=45.0, ways__kernel__weight=10.0)
    assert finished.trained_by(finished.tables) == set()
    table = (finished.folder / "paper/build/tables/settings.md").read_text()
    assert re.search(r"\| kernel +\| weight +\| 10 ", table)
