"""`imcl verify` finds what was changed by hand, by accident, or by another machine."""

import copy
import re
import shutil
from pathlib import Path

import pytest

from imcl import experiment, grid, params, verify
from imcl.cli import main
from imcl.data import prepare
from imcl.files import read_json, sealed, write_json
from imcl.report import BUILD, summary, tables

ROOT = Path(__file__).resolve().parents[2]
QUICK = Path("paper/results/quick")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project's folder with the committed results of the study `quick`."""
    for name in ("workflow", "paper/templates"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for name in ("quick", "bench"):
        shutil.copytree(ROOT / "paper/results" / name, tmp_path / "paper/results" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def verified(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main(["verify", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def a_record() -> Path:
    (path,) = (QUICK / "records").glob("digits-n50-resnet18-kernel-*.json")
    return path


def change(path: Path, edit, seal: bool = True) -> None:
    record = read_json(path)
    del record["seal"]
    edit(record)
    write_json(path, sealed(record) if seal else record)


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_is_committed_is_as_computed(project, capsys):
    code, out, err = verified(capsys)
    assert (code, err) == (0, "")
    assert out == "paper/results/quick/records: 24 records, 1 files made from them, no faults\n"


def test_a_record_with_one_digit_changed_is_found(project, capsys):
    path = a_record()
    loss = str(read_json(path)["runs"][1]["history"][7]["loss"])
    digit = loss[5]
    replace_once(path, loss, loss[:5] + str((int(digit) + 1) % 10) + loss[6:])
    code, out, err = verified(capsys)
    assert code == 1
    assert "1 faults" in out
    assert err == (
        f"imcl verify: 1 faults:\n  {path}: was changed since it was written: its seal is broken\n"
    )


def test_every_digit_of_a_record_counts(project):
    path, (cell,) = a_record(), [c for c in grid.cells(params.load()) if c.key == a_record().stem]
    text = path.read_text()
    places = [index for index, character in enumerate(text) if character.isdigit()]
    for place in places[:: len(places) // 200]:
        path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
        assert list(verify.check_record(cell, path)), text[place - 40 : place + 10]
    path.write_text(text)
    assert not list(verify.check_record(cell, path))


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda r: r["runs"][0]["final"].update(nll=0.1), "seed 1: final nll is not that of the"),
        (lambda r: r["runs"][1]["oracle"].update(epoch=0), "seed 2: oracle epoch is not that of"),
        (lambda r: r.update(digest="0" * 12), "digest is not that of the cell"),
        (lambda r: r["config"]["training"].update(epochs=99), "config is not that of the cell"),
        (lambda r: r["config"]["training"].update(epochs=99), "digest is not that of the cell"),
        (lambda r: r.update(cell="x"), "cell is not that of the cell"),
        (lambda r: r["runs"].pop(), "runs are not of the seeds [1, 2]"),
        (lambda r: r["cost"].pop(), "cost are not of the seeds [1, 2]"),
        (lambda r: r["runs"][0]["history"].pop(3), "seed 1: history is not of 14 epochs"),
        (lambda r: r.pop("runs"), "is damaged"),
        (lambda r: r.update(runs=3), "is damaged"),
    ],
)
def test_a_record_that_contradicts_itself_is_found_under_a_new_seal(project, capsys, edit, fault):
    change(a_record(), edit)
    code, _, err = verified(capsys)
    assert code == 1
    assert f"{a_record()}: {fault}" in err


def test_a_record_without_a_seal_is_found(project, capsys):
    change(a_record(), lambda record: None, seal=False)
    assert f"{a_record()}: has no seal" in verified(capsys)[2]


def test_half_a_record_is_found(project, capsys):
    path = a_record()
    path.write_text(path.read_text()[:1000])
    assert f"{path}: is damaged" in verified(capsys)[2]


def test_a_foreign_record_is_found(project, capsys):
    path = a_record()
    other = path.with_name("digits-n50-resnet18-kernel-000000000000.json")
    path.rename(other)
    code, _, err = verified(capsys)
    assert code == 1
    assert f"{other}: is of no cell of study quick" in err


def test_a_record_that_was_taken_away_is_missing_from_the_committed_table(project, capsys):
    a_record().unlink()
    code, _, err = verified(capsys)
    assert code == 1
    assert f"{QUICK}/accuracy-digits.md: is not what the records give" in err


def test_a_study_whose_records_are_all_gone_is_found(project, capsys):
    shutil.rmtree(QUICK / "records")
    code, _, err = verified(capsys)
    assert code == 1
    assert err == f"imcl verify: 1 faults:\n  {QUICK}/records: has no records\n"


def test_a_study_without_tables_has_all_its_records(project, capsys):
    path = a_record()
    path.unlink()
    for table in QUICK.glob("*.md"):
        table.unlink()
    code, _, err = verified(capsys)
    assert code == 1
    assert f"{path}: is missing" in err


def test_a_table_with_one_digit_changed_is_found(project, capsys):
    table = QUICK / "accuracy-digits.md"
    shown = re.search(r"\d\d\.\d", table.read_text())[0]
    replace_once(table, shown, f"{float(shown) + 0.1:.1f}")
    code, _, err = verified(capsys)
    assert code == 1
    assert err == f"imcl verify: 1 faults:\n  {table}: is not what the records give\n"


@pytest.mark.parametrize(
    ("bench", "ratio"),
    [
        *(("overhead", f"{of}_ratio") for of in ("time", "memory", "macs")),
        *(("loop", f"ratio_to_{other}") for other in ("usual", "tuned", "limit")),
        ("pipeline", "overhead_ratio"),
    ],
)
def test_a_changed_ratio_of_a_measurement_is_found(project, capsys, bench, ratio):
    path = Path(f"paper/results/bench/{bench}-cpu.json")
    record = read_json(path)
    record["rows"][0][ratio] *= 2
    write_json(path, record)
    code, _, err = verified(capsys)
    assert code == 1
    assert f"{path}: was changed since it was written: its seal is broken" in err
    assert f"{path}: rows[0]: {ratio} is not " in err


# what was run here ------------------------------------------------------------------------------


@pytest.fixture
def run(project) -> tuple[dict, grid.Cell]:
    """A study of one cell, trained here, with its summary and tables."""
    replace_once(Path("params.yaml"), "study: quick", "study: tiny")
    tiny = (
        "studies:\n  tiny: {datasets: [digits], noise: [clean], backbones: [resnet18], "
        "methods: [base], seeds: [1, 2], width: 4, training: {epochs: 2, warmup_epochs: 1}}\n"
    )
    replace_once(Path("params.yaml"), "studies:\n", tiny)
    loaded = params.load()
    (cell,) = grid.cells(loaded)
    prepare.prepare("digits", cell.dataset.config, [], cell.dataset.path)
    experiment.run(cell, "cpu")
    summary.write(loaded)
    tables.write(summary.read())
    return loaded, cell


def test_what_was_run_here_is_as_computed(run, capsys):
    code, out, err = verified(capsys)
    assert (code, err) == (0, "")
    assert "results/records: 1 records, " in out
    assert "results/records: 1 records, 0 files" not in out


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("results/summary/tiny-*.json", '"n": 2', '"n": 3'),
        ("results/metrics/*.json", "0", "1"),
        ("results/curves.csv", "0.", "1."),
        (f"{BUILD}/tables/accuracy-digits.md", ".", ","),
        (f"{BUILD}/tables/accuracy-digits.tex", "1", "2"),
        (f"{BUILD}/results.tex", "digits", "digit"),
        (f"{BUILD}/numbers.tex", "2", "3"),
    ],
)
def test_a_change_of_what_was_made_here_is_found(run, capsys, place, old, new):
    (path,) = Path().glob(place)
    replace_once(path, old, new)
    code, _, err = verified(capsys)
    assert code == 1
    assert err == f"imcl verify: 1 faults:\n  {path}: is not what the records give\n"


def test_other_weights_and_other_data_are_found(run, capsys):
    _, cell = run
    with cell.weights(2).open("r+b") as file:
        file.seek(500)
        file.write(b"x")
    description = read_json(cell.dataset.path)
    write_json(cell.dataset.path, description | {"sha256": "0" * 64})
    code, _, err = verified(capsys)
    assert code == 1
    assert f"{cell.record}: seed 2: {cell.weights(2)} holds other weights" in err
    assert f"{cell.record}: dataset is not that of {cell.dataset.path}" in err


# trained again ----------------------------------------------------------------------------------


def test_a_cell_trained_again_is_the_same_to_the_bit_and_leaves_nothing(run, capsys, monkeypatch):
    _, cell = run
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr(verify.random, "sample", lambda cells, count: cells[-count:])
    code, out, err = verified(capsys, "--retrain", "1")
    assert code == 0, err
    assert f"{cell.record}: trained again: agrees, bit for bit" in out
    assert sorted(Path().rglob("*")) == before


def test_a_record_that_training_does_not_give_is_found(run):
    _, cell = run
    change(cell.record, lambda r: r["runs"][0]["history"][0].update(loss=2.3))
    how, finding = verify.retrain(cell, cell.record)
    assert how == "bit for bit"
    assert finding.fault == "trained again, it is another one"


@pytest.mark.parametrize(
    ("points", "factor", "agrees"), [(0.14, 1.09, True), (0.16, 1, False), (0, 1.12, False)]
)
def test_another_machine_may_differ_within_the_tolerance(run, points, factor, agrees):
    _, cell = run

    def elsewhere(record):
        record["environment"]["device_name"] = "an abacus"
        mean = sum(one["final"]["accuracy"] for one in record["runs"]) / len(record["runs"])
        for one in record["runs"]:
            one["final"]["accuracy"] = mean + points  # alike: the seeds leave nothing open
            one["history"][0]["loss"] *= factor

    change(cell.record, elsewhere)
    how, finding = verify.retrain(cell, cell.record)
    assert "an abacus" in how
    assert (finding is None) == agrees


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
    _, cell = run
    record = read_json(cell.record)
    record["environment"]["device_name"] = "an abacus"
    one = record["runs"][0]
    record["runs"] = [copy.deepcopy(one), copy.deepcopy(one)]
    again = copy.deepcopy(record)
    again["environment"]["device_name"] = "a slide rule"
    for sign, before, now in zip((-1, 1), record["runs"], again["runs"], strict=True):
        before["final"]["accuracy"] = 0.5 + sign * spread
        now["final"]["accuracy"] = 0.5 + points
    how, finding = verify._compare(record, again, cell.record)
    assert (finding is None) == agrees
    tolerance = {0.01: "17.97", 0.05: "25.00", 0.002: "15.00"}[spread]
    assert f"within {100 * points:.2f} points (tolerance {tolerance})" in how


def test_other_data_is_no_matter_of_tolerance(run):
    _, cell = run
    change(cell.record, lambda record: record["dataset"].update(sha256="0" * 64))
    _, finding = verify.retrain(cell, cell.record)
    assert finding.fault == "dataset came out otherwise"


def test_the_sample_is_of_cells_whose_archives_are_here(run):
    loaded, _ = run
    found = verify.sample(verify.studies(loaded, Path("params.yaml")), 1000)
    assert len(found) == 25  # all digits
    assert verify.sample(verify.studies(loaded, Path("params.yaml")), 0) == []
