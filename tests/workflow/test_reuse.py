"""What both engines make anew in a finished study, and what they keep.

The tests are in the order in which a user would do these things, on one checkout.
"""

import os
import shutil

import pytest
from conftest import planned

pytestmark = pytest.mark.workflow


def test_dates_that_lie_train_nothing(finished):
    before = finished.records()
    dates = {path: path.stat() for name in ("data", "results") for path in under(finished, name)}
    for date in (2**31, 10**8):  # 2038 and 1973
        for path in dates:
            if path.parent.name != "records":
                os.utime(path, (date, date))
        assert planned(finished.snakemake("--dry-run")) == {}
    for path, found in dates.items():
        os.utime(path, (found.st_atime, found.st_mtime))
    assert finished.records() == before


def under(checkout, name):
    return [checkout.folder / name, *(checkout.folder / name).rglob("*")]


def test_a_study_with_a_new_cell_is_trained_summarised_and_left_again(finished):
    finished.change(studies__other__methods=["base", "control"])
    summary = finished.folder / "results/summary"
    arguments = ("--config", "study=other")
    assert planned(finished.snakemake("--dry-run", *arguments)) == {"control": 1}
    shutil.rmtree(finished.folder / ".snakemake")  # nor may this depend on what Snakemake remembers
    assert finished.trained_by(lambda: finished.tables(*arguments)) == {"control"}
    assert [path.name.split("-")[0] for path in summary.iterdir()] == ["other"]
    table = finished.folder / "paper/build/tables/accuracy-digits.md"
    assert "| control" in table.read_text()
    shutil.rmtree(finished.folder / ".snakemake")
    assert finished.trained_by(finished.tables) == set()
    assert "| all" in table.read_text()


def test_a_deleted_record_is_trained_again(finished):
    (record,) = (finished.folder / "results/records").glob("digits-n50-resnet18-base-*.json")
    record.unlink()
    assert finished.trained_by(finished.tables) == {"base"}


def test_force_trains_the_records_of_the_study_alone(finished):
    """Records of other studies are inputs of claims, but no cells of this study."""
    forced = finished.snakemake("--dry-run", "--forceall", "all")
    assert planned(forced) == {"base": 2, "kernel": 2, "all": 2}


def test_lost_data_is_no_reason_to_train_again(finished):
    shutil.rmtree(finished.folder / "data")
    assert finished.trained_by(finished.tables) == set()


def test_dvc_experiment_with_another_study(finished):
    finished.commit("more")
    command = ("dvc", "exp", "run", "-S", "study=other")
    assert finished.trained_by(lambda: finished.run(*command)) == set()
    table = finished.folder / "paper/build/tables/accuracy-digits.md"
    assert "| all" not in table.read_text()


def test_wrong_parameters_stop_both_engines_before_anything_runs(finished):
    finished.change(study="micro", studies__micro__methods=["base", "outptu"])
    expected = "studies.micro.methods[1]: unknown method 'outptu'; did you mean 'output'?"
    before = finished.records()
    for command in (("snakemake", "--cores", "1"), ("dvc", "repro"), ("imcl", "plan")):
        output = finished.run(*command, code=None)
        assert expected in output
        assert "Traceback" not in output
    assert finished.run("imcl", "plan", code=2)
    assert finished.records() == before


def test_a_job_without_the_environment_of_its_snakemake_is_refused(finished):
    output = finished.snakemake("--mode", "remote", "records", code=1)
    assert "this job does not know which parameters it was submitted with" in output


def test_an_unknown_config_key_is_refused(finished):
    output = finished.run("snakemake", "-n", "--config", "studdy=micro", code=1)
    assert "--config unknown key 'studdy'; did you mean 'study'?" in output
