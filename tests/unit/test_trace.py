"""From a number back to its records."""

import json
import re
import shutil
from pathlib import Path

import pytest
from handmade import ROOT, empty_project, record, write
from studies import ACCURACY, Study

from imcl.analysis import claims
from imcl.cli import main
from imcl.errors import ImclError, UsageError
from imcl.files import sha256
from imcl.present import figures, trace
from imcl.present.documents import Documents
from imcl.project import Project
from imcl.records.seal import sealed
from imcl.study.load import load

KERNEL = "accuracy-digits:resnet18/kernel:clean"


@pytest.fixture
def study(tmp_path) -> Study:
    """A study of two methods with its records."""
    study = Study.make(tmp_path)
    study.plan["methods"] = ["base", "kernel"]
    study.write(ACCURACY)
    return study


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> Project:
    """A project with the committed records of the study `quick`, and none made there."""
    project = empty_project(tmp_path_factory.mktemp("quick"))
    shutil.copy(ROOT / "params.yaml", project.params)
    shutil.copytree(ROOT / "paper/results/quick", project.committed / "quick")
    return project


@pytest.fixture(scope="module")
def documents(quick) -> Documents:
    return Documents.compute(quick, load(quick.params), committed=True)


def traced(study: Study, place: str, committed: bool = False) -> trace.Traced:
    return trace.trace(study.project, study.documents(committed), place)


def record_of(study: Study, method: str) -> Path:
    (found,) = [study.project.record(cell.key) for cell in study.cells if cell.method == method]
    return found


def test_a_digit_changed_in_a_record_changes_its_cell_and_the_trace_shows_it(study):
    before = traced(study, KERNEL)
    assert before["shown"] == "84.0 ± 7.5"
    path = record_of(study, "kernel")
    text = path.read_text().replace("0.87", "0.97").replace("0.88", "0.98")
    path.write_text(json.dumps(sealed(json.loads(text)), indent=1) + "\n")
    after = traced(study, KERNEL)
    assert after["shown"] == "87.3 ± 21.1"  # 81, 84, 97: standard deviation 8.5
    (source,) = after["sources"]
    assert (study.project.root / source["path"], source["sha256"]) == (path, sha256(path))
    assert source["sha256"] != before["sources"][0]["sha256"]
    assert [run["accuracy"] for run in source["runs"]] == [0.81, 0.84, 0.97]
    assert [run["seed"] for run in source["runs"]] == [1, 2, 3]
    assert source["config"]["method"] == "kernel"
    assert source["code"]["commit"] == "c" * 40


def test_committed_records_are_traced_beside_others_made_here(study, capsys):
    study.raw["claims"]["ledger"]["each_way"] |= {"datasets": ["digits"], "methods": ["kernel"]}
    study.save()
    for cell in study.cells:
        write(study.project, cell, record(cell, [0.5, 0.5, 0.5]), "quick")
    committed = study.project.committed_records("quick")
    assert traced(study, KERNEL)["shown"] == "84.0 ± 7.5"
    found = traced(study, KERNEL, committed=True)
    assert found["shown"] == "50.0"
    (source,) = found["sources"]
    assert (study.project.root / source["path"]).parent == committed
    command = ["trace", f"--project={study.project.root}", KERNEL]
    assert main(command) == 0
    assert "\n84.0 ± 7.5: mean" in capsys.readouterr().out
    assert main([*command, "--committed"]) == 0
    assert "\n50.0: mean" in capsys.readouterr().out
    judged = study.documents(committed=True).claims
    assert judged == claims.judge(study.project, study.settings, committed=True)
    assert judged != claims.judge(study.project, study.settings)
    for path in committed.iterdir():
        path.unlink()
    with pytest.raises(ImclError, match=r"no records in \S*paper/results/quick/records$"):
        study.documents(committed=True)


def test_a_difference_leads_to_both_records(study):
    found = traced(study, "difference-to-base-digits:resnet18/kernel:clean")
    assert [study.project.root / source["path"] for source in found["sources"]] == [
        record_of(study, "kernel"),
        record_of(study, "base"),
    ]


def test_every_number_of_every_table_names_its_records(study):
    built = study.tables().values()
    keys = {cell.key for cell in study.cells}
    count = 0
    for table in built:
        for name, row in table.rows().items():
            # A claim that was not tested has none.
            of_claims = table.name in ("claims", "readings") or name.startswith("StudyClaims")
            for entry in row.values():
                if entry.value is not None and table.name != "settings":
                    assert entry.rule, (table.name, entry)
                    if not of_claims:
                        assert set(entry.sources) <= keys, (table.name, entry)
                        assert entry.sources, (table.name, entry)
                    count += 1
    assert count > 30
    # What looks like a number is one: none was put into a table as mere text.
    for table in built:
        for name, row in table.rows().items():
            for column, entry in row.items():
                number_like = entry.text[:1].isdigit() and table.name not in ("settings", "data")
                if number_like and not name.startswith(
                    ("StudyDigest", "StudyCommit", "StudyTorch")
                ):
                    assert entry.value is not None, (table.name, name, column)


def test_figures_are_traced_by_their_own_name(study):
    written = figures.write(study.project, study.documents())
    (path,) = [path for path in written if path.stem == "error-digits"]
    assert traced(study, f"{path.stem}:resnet18/base:clean")["shown"] == "18.0 ± 5.0"
    assert traced(study, "curves-digits:resnet18/base/clean:1")["shown"] == "82.0 ± 5.0"


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("accuracy-digits", "a place is TABLE:ROW:COLUMN, such as accuracy-digits:resnet18/base"),
        ("acuracy-digits:x:y", "unknown table 'acuracy-digits'; did you mean 'accuracy-digits'?"),
        ("accuracy-digits:resnet18/al:n50", "did you mean 'resnet18/all'?"),
        ("accuracy-digits:resnet18/all:n05", "did you mean 'n50'?"),
    ],
)
def test_a_wrong_place_is_usage_and_the_nearest_is_named(quick, documents, place, hint):
    with pytest.raises(UsageError, match="^" + place) as raised:
        trace.trace(quick, documents, place)
    assert hint in str(raised.value)


def test_a_study_without_records_says_so(quick, capsys):
    place = "accuracy-cifar10:resnet18/base:clean"
    assert main(["trace", f"--project={quick.root}", "--study", "paper", place]) == 1
    said = capsys.readouterr().err
    assert "study 'paper' has no records in" in said
    assert f"{quick.records}" in said
    assert f"{quick.committed_records('paper')}" in said


def test_the_trace_reads_committed_records_without_a_summary(quick, capsys, monkeypatch, tmp_path):
    """From any folder, with paths from the project's root."""
    monkeypatch.chdir(tmp_path)
    command = ["trace", f"--project={quick.root}"]
    assert main([*command, "accuracy-digits:vgg16/all:clean"]) == 0
    shown = capsys.readouterr().out
    head, path = shown.index("\n98.1 ± 2.1: mean"), shown.index("\npaper/results/quick/records/")
    seed = re.search(r"\ndigits-clean-vgg16-all +1 +98\.9 +0\.06 +3\.0 ", shown)
    assert seed and head < seed.start() < path
    assert "sha256" not in shown
    assert main([*command, "-v", "accuracy-digits:vgg16/all:clean"]) == 0
    hashes = capsys.readouterr().out
    assert "seed 2: weights_sha256 425b7889fc4e" in hashes
    assert "  config.method: all\n" in hashes
    assert not re.search(r"\d\.\d{7}", shown + hashes)  # no digits that mean nothing
    assert main([*command, "--json", "text:StudySeeds:value"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 3
    assert main([*command, "accuracy-digits:vgg16/al:clean"]) == 2
