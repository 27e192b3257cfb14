"""From a number back to its records."""

import json
from pathlib import Path

import pytest
from handmade import empty_project, record

from imcl import grid, params
from imcl.cli import main
from imcl.errors import ImclError
from imcl.files import sha256
from imcl.report import claims, figures, summary, tables, trace

ACCURACY = {"base": [0.80, 0.82, 0.84], "kernel": [0.81, 0.84, 0.87]}


@pytest.fixture
def study(tmp_path, monkeypatch) -> dict:
    """A study of two methods with its records."""
    empty_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    loaded = params.load()
    loaded["studies"]["quick"] |= {
        "noise": ["clean"],
        "backbones": ["resnet18"],
        "methods": list(ACCURACY),
        "seeds": [1, 2, 3],
    }
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(loaded):
        cell.record.write_text(json.dumps(record(cell, ACCURACY[cell.method])))
    return loaded


def record_of(study: dict, method: str) -> Path:
    (found,) = [cell.record for cell in grid.cells(study) if cell.method == method]
    return found


def test_a_digit_changed_in_a_record_changes_its_cell_and_the_trace_shows_it(study):
    place = "accuracy-digits:resnet18/kernel:clean"
    before = trace.trace(study, place)
    assert before["shown"] == "84.0 ± 7.5"
    path = record_of(study, "kernel")
    path.write_text(path.read_text().replace("0.87", "0.97"))
    after = trace.trace(study, place)
    assert after["shown"] == "87.3 ± 21.1"  # 81, 84, 97: standard deviation 8.5
    (source,) = after["sources"]
    assert (source["path"], source["sha256"]) == (str(path), sha256(path))
    assert source["sha256"] != before["sources"][0]["sha256"]
    assert [run["accuracy"] for run in source["runs"]] == [0.81, 0.84, 0.97]
    assert [run["seed"] for run in source["runs"]] == [1, 2, 3]
    assert source["config"]["method"] == "kernel"
    assert source["code"]["commit"] == "c" * 40


def test_committed_records_are_traced_beside_others_made_here(study, monkeypatch, capsys):
    committed = Path("paper/results/quick/records")
    committed.mkdir(parents=True)
    for cell in grid.cells(study):
        (committed / cell.record.name).write_text(json.dumps(record(cell, [0.5, 0.5, 0.5])))
    place = "accuracy-digits:resnet18/kernel:clean"
    assert trace.trace(study, place)["shown"] == "84.0 ± 7.5"
    found = trace.trace(study, place, here=False)
    assert found["shown"] == "50.0"
    (source,) = found["sources"]
    assert Path(source["path"]).parent == committed
    monkeypatch.setattr(params, "load", lambda *_: study)
    assert main(["trace", place]) == 0
    assert "shown  84.0 ± 7.5" in capsys.readouterr().out
    assert main(["trace", "--committed", place]) == 0
    assert "shown  50.0" in capsys.readouterr().out
    study["claims"]["ledger"]["each_way"] |= {"datasets": ["digits"], "methods": ["kernel"]}
    judged = claims.judge(study, here=False)
    assert summary.current(study, here=False)["claims"] == judged != claims.judge(study)
    for path in committed.iterdir():
        path.unlink()
    with pytest.raises(ImclError, match=r"no records in paper/results/quick/records$"):
        trace.trace(study, place, here=False)


def test_a_difference_leads_to_both_records(study):
    found = trace.trace(study, "difference-to-base-digits:resnet18/kernel:clean")
    assert [s["path"] for s in found["sources"]] == [
        str(record_of(study, "kernel")),
        str(record_of(study, "base")),
    ]


def test_every_number_of_every_table_names_its_records(study):
    built = tables.build(summary.write(study))
    keys = {cell.key for cell in grid.cells(study)}
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
    summary.write(study)
    (path,) = [p for p in figures.write(summary.read()) if p.stem == "error-digits"]
    found = trace.trace(study, f"{path.stem}:resnet18/base:clean")
    assert found["shown"] == "18.0 ± 5.0"
    assert trace.trace(study, "curves-digits:resnet18/base/clean:1")["shown"] == "82.0 ± 5.0"


def test_a_wrong_place_is_usage_and_the_nearest_is_named(capsys, monkeypatch):
    for place, hint in (
        ("accuracy-digits", "a place is TABLE:ROW:COLUMN, such as accuracy-digits:resnet18/base"),
        ("acuracy-digits:x:y", "unknown table 'acuracy-digits'; did you mean 'accuracy-digits'?"),
        ("accuracy-digits:resnet18/al:n50", "did you mean 'resnet18/all'?"),
        ("accuracy-digits:resnet18/all:n05", "did you mean 'n50'?"),
    ):
        assert main(["trace", place]) == 2
        assert hint in capsys.readouterr().err


def test_a_study_without_records_says_so(capsys):
    assert main(["trace", "--study", "paper", "accuracy-cifar10:resnet18/base:clean"]) == 1
    assert (
        "study 'paper' has no records in results/records or paper/results/paper"
        in capsys.readouterr().err
    )


def test_the_trace_reads_committed_records_without_a_summary(capsys):
    assert main(["trace", "accuracy-digits:vgg16/all:clean"]) == 0
    shown = capsys.readouterr().out
    assert "record paper/results/quick/records/digits-clean-vgg16-all-" in shown
    assert "weights_sha256" in shown
    assert main(["trace", "--json", "text:StudySeeds:value"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 2
