"""`imcl verify` finds what was changed by hand, by accident, or by another machine."""

import copy
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import quick
import torch
import yaml
from handmade import ROOT, empty_project, parameters, record, write

from imcl import verify
from imcl.analysis import claims, summary
from imcl.analysis.search import Search
from imcl.cli import main
from imcl.data import prepare
from imcl.files import write_json
from imcl.present import tables
from imcl.present.documents import Documents
from imcl.project import Project
from imcl.records.seal import sealed
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.grid import Cell
from imcl.study.load import load
from imcl.study.settings import Settings
from imcl.training import worker


@pytest.fixture
def project(tmp_path) -> Project:
    """A project with the committed results of the study `quick`, and the measurements."""
    project = empty_project(tmp_path)
    shutil.copy(ROOT / "params.yaml", project.params)
    for name in ("quick", "bench"):
        shutil.copytree(ROOT / "paper/results" / name, project.committed / name)
    return project


def verified(capsys, project: Project, *arguments: str) -> tuple[int, str, str]:
    code = main(["verify", f"--project={project.root}", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def one_fault(place: Path, fault: str) -> str:
    return f"imcl verify: 1 faults:\n  {place}: {fault}\n"


def a_record(project: Project) -> Path:
    (path,) = project.committed_records("quick").glob("digits-n50-resnet18-kernel-*.json")
    return path


def change(path: Path, edit: Callable[[dict[str, Any]], object], seal: bool = True) -> None:
    record = json.loads(path.read_text())
    del record["seal"]
    edit(record)
    write_json(path, sealed(record) if seal else record)


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_is_committed_is_as_computed(project, capsys):
    code, out, err = verified(capsys, project)
    assert (code, err) == (0, "")
    folder = project.committed_records("quick")
    assert out == f"{folder}: 28 records, 1 files made from them, no faults\n"


def test_a_record_with_one_digit_changed_is_found(project, capsys):
    path = a_record(project)
    loss = str(json.loads(path.read_text())["runs"][1]["history"][7]["loss"])
    digit = loss[5]
    replace_once(path, loss, loss[:5] + str((int(digit) + 1) % 10) + loss[6:])
    code, out, err = verified(capsys, project)
    assert code == 1
    assert "1 faults" in out
    assert err == one_fault(path, "was changed since it was written: its seal is broken")


def test_every_digit_of_a_record_counts(project):
    path, store = a_record(project), Store(project)
    (cell,) = [c for c in grid.cells(load(project.params)) if c.key == path.stem]
    text = path.read_text()
    places = [index for index, character in enumerate(text) if character.isdigit()]
    for place in places[:: len(places) // 200]:
        path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
        assert store.faults(cell, path), text[place - 40 : place + 10]
    path.write_text(text)
    assert not store.faults(cell, path)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda r: r["runs"][0]["final"].update(nll=0.1), "seed 1: final nll is not that of the"),
        (lambda r: r["runs"][1]["oracle"].update(epoch=0), "seed 2: oracle epoch is not that of"),
        (lambda r: r.update(digest="0" * 12), "digest is not that of the cell"),
        (lambda r: r["config"]["training"].update(epochs=99), "config is not that of the cell"),
        (lambda r: r["config"]["training"].update(epochs=99), "digest is not that of the cell"),
        (lambda r: r.update(cell="x"), "cell is not that of the cell"),
        (lambda r: r["runs"].pop(), "runs are not of the seeds [1, 2, 3]"),
        (lambda r: r["cost"].pop(), "cost is not of the seeds [1, 2, 3]"),
        (lambda r: r["runs"][0]["history"].pop(3), "seed 1: history is not of 14 epochs"),
        (lambda r: r.pop("runs"), "runs: missing"),
        (lambda r: r.update(runs=3), "runs: 3 is not a list"),
    ],
)
def test_a_record_that_contradicts_itself_is_found_under_a_new_seal(project, capsys, edit, fault):
    path = a_record(project)
    change(path, edit)
    code, _, err = verified(capsys, project)
    assert code == 1
    assert f"{path}: {fault}" in err


def test_a_record_without_a_seal_is_found(project, capsys):
    path = a_record(project)
    change(path, lambda record: None, seal=False)
    assert f"{path}: has no seal" in verified(capsys, project)[2]


def test_half_a_record_is_found(project, capsys):
    path = a_record(project)
    path.write_text(path.read_text()[:1000])
    assert f"{path}: is damaged" in verified(capsys, project)[2]


def test_a_foreign_record_is_found(project, capsys):
    path = a_record(project)
    other = path.with_name("digits-n50-resnet18-kernel-000000000000.json")
    path.rename(other)
    code, _, err = verified(capsys, project)
    assert code == 1
    assert f"{other}: belongs to no cell of study quick" in err


def test_a_record_that_was_taken_away_is_missing_from_the_committed_table(project, capsys):
    a_record(project).unlink()
    code, _, err = verified(capsys, project)
    assert code == 1
    table = project.committed / "quick/accuracy-digits.md"
    assert f"{table}: is not what the records give" in err


def test_a_study_whose_records_are_all_gone_is_found(project, capsys):
    folder = project.committed_records("quick")
    shutil.rmtree(folder)
    code, _, err = verified(capsys, project)
    assert code == 1
    assert err == one_fault(folder, "has no records")


def test_a_folder_of_no_study_is_found_and_the_others_are_checked(project, capsys):
    folder = project.committed / "cpuu"
    (folder / "records").mkdir(parents=True)
    code, out, err = verified(capsys, project)
    assert code == 1
    assert f"{project.params}: has no study cpuu, but {project.committed} has its results" in err
    assert f"{project.committed_records('quick')}: " in out


def test_a_study_whose_folder_is_gone_is_told_by_git_and_by_the_readme(project, capsys):
    table = (project.committed / "quick/accuracy-digits.md").read_text()
    readme = project.root / "README.md"
    readme.write_text(f"<!-- quick/accuracy-digits -->\n{table}<!-- /quick/accuracy-digits -->\n")
    git = ("git", "-C", str(project.root), "-c", "user.name=x", "-c", "user.email=x@example.org")
    curves, records = project.committed / "quick/curves.png", project.committed_records("quick")
    curves.touch()
    for command in (("init", "-q"), ("add", "paper/results"), ("commit", "-q", "-m", "all")):
        subprocess.run([*git, *command], check=True)
    assert verified(capsys, project)[0] == 0
    curves.unlink()
    assert verified(capsys, project)[2] == one_fault(curves, "is gone, but it is in git")
    curves.touch()
    a_record(project).unlink()  # git does not tell which records must be there
    (fault,) = verified(capsys, project)[2].splitlines()[1:]
    assert "accuracy-digits.md: is not what the records give" in fault
    shutil.rmtree(records)
    assert verified(capsys, project)[2] == one_fault(records, "has no records")
    (project.measurements / "growth-cpu.json").unlink()
    folder = project.committed / "quick"
    shutil.rmtree(folder)
    code, _, err = verified(capsys, project)
    gone = f"shows the table quick/accuracy-digits, but {folder}/accuracy-digits.md is gone"
    assert code == 1
    assert err.splitlines() == [
        "imcl verify: 3 faults:",
        f"  {folder}: is gone, but it is in git",
        f"  {project.measurements / 'growth-cpu.json'}: is gone, but it is in git",
        f"  {readme}: {gone}",
    ]
    shutil.rmtree(project.committed)
    err = verified(capsys, project)[2]
    for name in ("quick", "bench"):
        assert f"{project.committed / name}: is gone, but it is in git" in err


def test_a_readme_that_shows_another_table_is_found(project, capsys):
    readme, table = project.paper / "README.md", project.committed / "quick/accuracy-digits.md"
    readme.write_text("<!-- quick/accuracy-digits -->\nmine\n<!-- /quick/accuracy-digits -->\n")
    otherwise = one_fault(readme, f"shows the table quick/accuracy-digits otherwise than {table}")
    assert verified(capsys, project)[2] == otherwise
    whole = table.read_bytes()
    readme.write_bytes(
        b"\xff<!-- quick/accuracy-digits -->\n%b<!-- /quick/accuracy-digits -->\n" % whole
    )
    assert not [*verify.check_readmes(project)]  # what stands around it is no matter
    for damage in (whole[:9] + b"\xff" + whole[10:], whole.replace(b"\n", b"\r\n")):
        table.write_bytes(damage)
        (finding,) = verify.check_readmes(project)
        assert one_fault(*finding) == otherwise


def test_with_parameters_of_ones_own_one_sentence_says_what_is_needed(project, capsys):
    raw = parameters()
    raw["studies"]["quick"]["width"] = 9
    raw["studies"]["mine"] = raw["studies"].pop("cpu")
    own = project.root / "own.yaml"
    own.write_text(yaml.safe_dump(raw))
    for name in ("cpu", "every"):
        (project.committed / name / "records").mkdir(parents=True)
    del raw["studies"]["every"]
    own.write_text(yaml.safe_dump(raw))
    code, _, err = verified(capsys, project, "--params", str(own))
    assert code == 1
    needed = "verify needs the params.yaml that the records were made with: the same study, "
    lacking, differing = err.splitlines()[1:]
    assert lacking.startswith(f"  {own}: has no study cpu, every, but {project.committed} has its")
    assert needed in lacking
    folder = project.committed_records("quick")
    assert differing.startswith(
        f"  {folder}: none of its 28 records belongs to study quick in {own}"
    )
    assert needed in differing


def test_every_fault_of_every_record_is_listed(project, capsys, monkeypatch):
    """However damaged a record is, the others are checked, and there is no traceback."""
    records = sorted(project.committed_records("quick").glob("*.json"))
    cells = {cell.key: cell for cell in grid.cells(load(project.params))}
    monkeypatch.setattr(verify, "sample", lambda *_: [(cells[records[0].stem], records[0])])
    faults = dict(zip(records, DAMAGES.items(), strict=False))
    for path, (_, damage) in faults.items():
        damage(path)
    code, out, err = verified(capsys, project, "--retrain", "1")
    assert code == 1
    for path, (fault, _) in faults.items():
        assert f"  {path}: {fault}" in err
    assert f"  {records[0]}: cannot be trained again: {records[0]}: is damaged" in err
    # The record with another digit has two: it contradicts itself as well.
    assert f"{len(faults) + 1} faults" in out


# Their first words, by what is done to a record.
DAMAGES: dict[str, Callable[[Path], object]] = {
    "is damaged: nested too deeply": lambda path: path.write_text("[" * 100_000),
    "was changed since it was written: the values are": lambda path: path.write_bytes(
        path.read_bytes().replace(b"\n", b"\r\n")
    ),
    "is damaged: it has 100 MB, and no record has 64": lambda path: os.truncate(path, 100_000_000),
    "is damaged: line 1, column 1": lambda path: path.write_text(""),
    "runs[0].final: missing": lambda path: change(path, lambda r: r["runs"][0].pop("final")),
    "environment: [] is not a mapping": lambda path: change(
        path, lambda r: r.update(environment=[])
    ),
    "dataset: missing": lambda path: change(path, lambda r: r.pop("dataset")),
    "runs[1].history: []": lambda path: change(path, lambda r: r["runs"][1].update(history=[])),
    "runs are not of the seeds [1, 2, 3]": lambda path: change(path, lambda r: r["runs"].pop()),
    "runs[0].final.accuracy: 'x' is not a number": lambda path: change(
        path, lambda r: r["runs"][0]["final"].update(accuracy="x")
    ),
    "peer: unknown key": lambda path: change(path, lambda r: r.update(peer=1)),
    "was changed since it was written: its seal": lambda path: replace_once(
        path, '"accuracy": 0.', '"accuracy": 0.0'
    ),
}


def test_a_study_without_tables_has_all_its_records(project, capsys):
    path = a_record(project)
    path.unlink()
    for table in (project.committed / "quick").glob("*.md"):
        table.unlink()
    code, _, err = verified(capsys, project)
    assert code == 1
    assert f"{path}: is missing" in err


SEARCHED = {
    "validation_share": 0.2,
    "rungs": [{"epochs": 0.5, "seeds": [1]}, {"seeds": [1, 2]}],
    "candidates": {"base": [{"training": {"learning_rate": rate}} for rate in (0.1, 0.2)]},
}


@pytest.fixture
def searched(tmp_path) -> tuple[Project, dict[int, list[Path]]]:
    """A project with the committed records of a search of base: by rung, their files."""
    project = empty_project(tmp_path)
    raw = parameters() | {"search": SEARCHED}
    raw["studies"] = {"quick": raw["studies"]["quick"] | {"noise": ["clean"]}}
    project.params.unlink()
    project.params.write_text(yaml.safe_dump(raw))
    files: dict[int, list[Path]] = {}
    for number, rung in enumerate(Search(project, load(project.params), committed=True).rungs()):
        for cell in rung.cells:
            accuracy = 0.6 if cell.method == "base@2" else 0.5
            made = record(cell, [accuracy] * len(cell.seeds))
            for run in made["runs"]:
                run["oracle"] = {"epoch": cell.training.epochs, **_measured(accuracy)}
                (last,) = run["history"]
                unevaluated = {k: v for k, v in last.items() if k != "evaluation"}
                earlier = range(1, cell.training.epochs)
                run["history"] = [
                    *({**unevaluated, "epoch": epoch} for epoch in earlier),
                    {**last, "epoch": cell.training.epochs},
                ]
            path = write(project, cell, made, "search_quick")
            files.setdefault(number, []).append(path)
    return project, files


def _measured(accuracy: float) -> dict[str, float]:
    return {"accuracy": accuracy, "nll": 0.5, "ece": 0.1}


def test_the_records_of_a_search_are_checked(searched, capsys):
    project, files = searched
    assert [len(paths) for paths in files.values()] == [4, 2]
    code, out, err = verified(capsys, project)
    assert (code, err) == (0, "")
    folder = project.committed_records("search_quick")
    assert out == f"{folder}: 6 records, 0 files made from them, no faults\n"


def test_a_record_of_a_search_that_is_gone_changed_or_foreign_is_found(searched, capsys):
    project, files = searched
    (last, other), name = files[1], "belongs to no cell of study search_quick"
    content = last.read_text()
    last.unlink()
    assert verified(capsys, project)[2] == one_fault(last, "is missing")
    last.write_text(content.replace("0.6", "0.7", 1))
    assert "its seal is broken" in verified(capsys, project)[2]
    last.write_text(content)
    stray = last.with_name(last.name.replace("@2", "@1"))
    last.rename(stray)
    found = verified(capsys, project)[2]
    assert f"{stray}: {name}" in found
    assert f"{last}: is missing" in found
    stray.rename(last)
    # Without a record of the first rung, nothing tells which candidates the second one has.
    files[0][0].unlink()
    found = verified(capsys, project)[2]
    assert f"{files[0][0]}: is missing" in found
    assert f"{other}: {name}" in found


def test_a_table_with_one_digit_changed_is_found(project, capsys):
    table = project.committed / "quick/accuracy-digits.md"
    shown = re.search(r"\d\d\.\d", table.read_text())[0]
    replace_once(table, shown, f"{float(shown) + 0.1:.1f}")
    code, _, err = verified(capsys, project)
    assert code == 1
    assert err == one_fault(table, "is not what the records give")


@pytest.mark.parametrize(
    ("bench", "ratio"),
    [
        *(("overhead", f"{of}_ratio") for of in ("time", "memory", "macs")),
        *(("loop", f"ratio_to_{other}") for other in ("usual", "tuned", "limit")),
        ("pipeline", "overhead_ratio"),
    ],
)
def test_a_changed_ratio_of_a_measurement_is_found(project, capsys, bench, ratio):
    path = project.measurements / f"{bench}-cpu.json"
    record = json.loads(path.read_text())
    record["rows"][0][ratio] *= 2
    write_json(path, record)
    code, _, err = verified(capsys, project)
    assert code == 1
    assert f"{path}: was changed since it was written: its seal is broken" in err
    assert f"{path}: rows[0]: {ratio} is not " in err


# What was run here ------------------------------------------------------------------------------


class Run(NamedTuple):
    """A project whose study is one cell that was trained there."""

    project: Project
    settings: Settings
    cell: Cell

    @property
    def record(self) -> Path:
        return self.project.record(self.cell.key)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A project in which a study of one cell was trained, with its summary and tables."""
    project = empty_project(tmp_path_factory.mktemp("trained"))
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["study"] = "tiny"
    raw["studies"]["tiny"] = {
        "datasets": ["digits"],
        "noise": ["clean"],
        "backbones": ["resnet18"],
        "methods": ["base"],
        "seeds": [1, 2],
        "width": 4,
        "training": {"epochs": 2, "warmup_epochs": 1},
    }
    project.params.write_text(yaml.safe_dump(raw))
    settings = load(project.params)
    (cell,) = grid.cells(settings)
    prepare.prepare(project, cell.dataset)
    worker.train(project, cell, worker.RunOptions("cpu"))
    for part in (summary, claims):
        part.write(project, settings)
    tables.write(project, Documents.read(project))
    return project.root


@pytest.fixture
def run(trained, tmp_path) -> Run:
    """A copy of it."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder, symlinks=True)
    project = Project(folder)
    settings = load(project.params)
    return Run(project, settings, grid.cells(settings)[0])


def test_what_was_run_here_is_as_computed(run, capsys):
    code, out, err = verified(capsys, run.project)
    assert (code, err) == (0, "")
    assert "results/records: 1 records, " in out
    assert "results/records: 1 records, 0 files" not in out


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("results/summary/tiny-*.json", '"n": 2', '"n": 3'),
        ("results/claims.json", "not tested", "reproduced"),
        ("results/metrics/*.json", "0", "1"),
        ("results/curves.csv", "0.", "1."),
        ("paper/build/tables/accuracy-digits.md", ".", ","),
        ("paper/build/tables/accuracy-digits.tex", "1", "2"),
        ("paper/build/results.tex", "digits", "digit"),
        ("paper/build/numbers.tex", "2", "3"),
    ],
)
def test_a_change_of_what_was_made_here_is_found(run, capsys, place, old, new):
    (path,) = run.project.root.glob(place)
    replace_once(path, old, new)
    code, _, err = verified(capsys, run.project)
    assert code == 1
    assert err == one_fault(path, "is not what the records give")


def test_hidden_files_of_an_engine_are_no_tables(run, capsys):
    (run.project.build / "tables/.snakemake_timestamp").touch()
    code, _, err = verified(capsys, run.project)
    assert (code, err) == (0, "")


def test_other_weights_and_other_data_are_found(run, capsys):
    weights = quick.weights(run.project, run.cell, 2)
    with weights.open("r+b") as file:
        file.seek(500)
        file.write(b"x")
    dataset = run.project.dataset(run.cell.dataset.key)
    write_json(dataset, json.loads(dataset.read_text()) | {"sha256": "0" * 64})
    code, _, err = verified(capsys, run.project)
    assert code == 1
    assert f"{run.record}: seed 2: {weights} " in err
    assert f"{run.record}: dataset is not that of {dataset}" in err


# Trained again ----------------------------------------------------------------------------------


def test_damaged_data_is_one_fault_among_others(run, capsys):
    dataset = run.project.dataset(run.cell.dataset.key)
    dataset.write_text("{")
    change(run.record, lambda record: record["runs"][0]["final"].update(nll=9.0))
    err = verified(capsys, run.project)[2]
    assert f"{run.record}: cannot be compared with what it was made from: {dataset}: damaged" in err
    assert f"{run.record}: seed 1: final nll is not that of the last epoch" in err


def test_a_cell_trained_again_is_the_same_to_the_bit_and_leaves_nothing(run, capsys, monkeypatch):
    before = sorted(run.project.root.rglob("*"))
    monkeypatch.setattr(verify.random, "sample", lambda cells, count: cells[-count:])
    code, out, err = verified(capsys, run.project, "--retrain", "1")
    assert code == 0, err
    assert f"{run.record}: trained again: agrees, bit for bit" in out
    assert sorted(run.project.root.rglob("*")) == before


def test_a_record_that_training_does_not_give_is_found(run):
    change(run.record, lambda r: r["runs"][0]["history"][0].update(loss=2.3))
    how, finding = verify.retrain(run.project, run.cell, run.record)
    assert how == "bit for bit"
    assert finding == (run.record, "trained again, it differs")


@pytest.mark.parametrize(
    ("points", "factor", "agrees"), [(0.14, 1.09, True), (0.16, 1, False), (0, 1.12, False)]
)
def test_another_machine_may_differ_within_the_tolerance(run, points, factor, agrees):
    def elsewhere(record):
        record["environment"]["device_name"] = "an abacus"
        mean = sum(one["final"]["accuracy"] for one in record["runs"]) / len(record["runs"])
        for one in record["runs"]:
            one["final"]["accuracy"] = mean + points  # alike: the seeds leave nothing open
            one["history"][0]["loss"] *= factor

    change(run.record, elsewhere)
    how, finding = verify.retrain(run.project, run.cell, run.record)
    assert "an abacus" in how
    assert (finding is None) == agrees


def test_what_a_gpu_trained_is_trained_again_without_one(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    change(run.record, lambda record: record["environment"].update(device="cuda"))
    how, finding = verify.retrain(run.project, run.cell, run.record)
    assert how.startswith("on another machine")
    assert finding is None


def test_what_need_not_repeat_is_compared_within_the_tolerance(run):
    def change_it(record):
        record["environment"]["deterministic"] = False
        record["runs"][0]["history"][0]["loss"] *= 1.05

    change(run.record, change_it)
    how, finding = verify.retrain(run.project, run.cell, run.record)
    assert how.startswith("by algorithms that do not repeat to the bit")
    assert finding is None


def test_a_run_that_moved_between_machines_is_compared_within_the_tolerance(run):
    def moved(record):
        record["runs"][0]["elsewhere"] = [{"epochs": 1, "differs": {"platform": "another"}}]
        record["runs"][0]["history"][0]["loss"] *= 1.05

    change(run.record, moved)
    how, finding = verify.retrain(run.project, run.cell, run.record)
    assert how.startswith("on several machines")
    assert finding is None


def test_a_record_of_earlier_code_is_compared_within_the_tolerance(run):
    def before(record):
        migrated = {"digest": "0" * 12, "change": "x is y", "earlier": "z was different"}
        record["migrated"] = migrated
        record["runs"][0]["history"][0]["loss"] *= 1.05

    change(run.record, before)
    how, finding = verify.retrain(run.project, run.cell, run.record)
    assert how.startswith("by earlier code")
    assert finding is None


@pytest.mark.parametrize(
    ("spread", "points", "agrees"),
    [
        # The mean of 0.5 - s and 0.5 + s is 0.5 +- t(0.975, 1) s = 12.706 s, and the difference of
        # two such means +- 17.969 s: here 17.97 points.
        (0.01, 0.175, True),
        (0.01, 0.185, False),
        (0.05, 0.245, True),  # 90 points: no more than 25
        (0.05, 0.255, False),
        (0.002, 0.145, True),  # 3.6 points: no less than 15
        (0.002, 0.155, False),
    ],
)
def test_another_machine_may_differ_as_much_as_the_seeds_leave_open(run, spread, points, agrees):
    record = Store(run.project).read(run.cell, run.record)
    record["environment"]["device_name"] = "an abacus"
    one = record["runs"][0]
    record["runs"] = [copy.deepcopy(one), copy.deepcopy(one)]
    again = copy.deepcopy(record)
    again["environment"]["device_name"] = "a slide rule"
    for sign, before, now in zip((-1, 1), record["runs"], again["runs"], strict=True):
        before["final"]["accuracy"] = 0.5 + sign * spread
        now["final"]["accuracy"] = 0.5 + points
    how, finding = verify._compare(record, again, run.record)
    assert (finding is None) == agrees
    tolerance = {0.01: "17.97", 0.05: "25.00", 0.002: "15.00"}[spread]
    assert f"within {100 * points:.2f} points (tolerance {tolerance})" in how


def test_other_data_is_no_matter_of_tolerance(run):
    change(run.record, lambda record: record["dataset"].update(sha256="0" * 64))
    how, finding = verify.retrain(run.project, run.cell, run.record)
    assert how == "data"
    assert finding == (run.record, "the dataset, prepared again, is different")


def test_the_sample_is_of_cells_whose_archives_are_here(run):
    shutil.copytree(ROOT / "paper/results/quick", run.project.committed / "quick")
    studies = verify.studies(run.project, run.settings)
    assert len(verify.sample(run.project, studies, 1000)) == 29  # all digits
    assert verify.sample(run.project, studies, 0) == []
