"""The store of records: what it finds, what it refuses, and how it says so."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from handmade import ROOT, empty_project, parameters, record, write
from studies import Study

from imcl.analysis import rows
from imcl.data import prepare
from imcl.errors import ImclError
from imcl.files import json_text, sha256, write_json
from imcl.noise import inject
from imcl.project import Project
from imcl.records import store as store_module
from imcl.records.record import Measurement
from imcl.records.seal import is_sealed, sealed
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.load import checked, load


@pytest.fixture
def project(tmp_path) -> Project:
    return empty_project(tmp_path)


@pytest.fixture
def store(project) -> Store:
    return Store(project)


@pytest.fixture(scope="module")
def cells() -> list[grid.Cell]:
    """The cells of the study quick: digits, clean and n50, seeds 1 and 2, 14 epochs."""
    return grid.cells(checked(parameters(), ROOT / "params.yaml"))


@pytest.fixture
def cell(cells) -> grid.Cell:
    return next(c for c in cells if c.name == "digits-n50-resnet18-kernel")


def good(cell: grid.Cell) -> dict[str, Any]:
    """A record that does not contradict itself; 0.75 is the best accuracy, at epoch 14."""
    made: dict[str, Any] = dict(record(cell, [0.75, 0.75]))
    for run in made["runs"]:
        (last,) = run["history"]
        run["history"] = [
            {**last, "epoch": epoch, "evaluation": {**last["evaluation"], "accuracy": 0.5}}
            for epoch in range(1, cell.training.epochs)
        ] + [{**last, "epoch": cell.training.epochs}]
        run["oracle"] = {**last["evaluation"], "epoch": cell.training.epochs}
    return made


@pytest.fixture
def path(project, cell) -> Path:
    """The file of a good record."""
    return write(project, cell, good(cell))


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a file and seal it anew."""
    content = json.loads(path.read_text())
    edit(content)
    write_json(path, sealed(content))


# places -----------------------------------------------------------------------------------------


def test_a_record_made_here_is_found_before_a_committed_one(project, store, cell):
    assert store.find(cell, "quick") is None
    committed = write(project, cell, good(cell), study="quick")
    assert store.find(cell, "quick") == store.find(cell, "quick", committed=True) == committed
    here = write(project, cell, good(cell))
    assert here == store.path(cell)
    assert store.find(cell, "quick") == here
    assert store.find(cell, "quick", committed=True) == committed
    assert store.find(cell, "cpu", committed=True) is None


def test_records_made_here_are_listed_by_cell(project, store, cells):
    assert store.made() == {}
    for cell in cells[:2]:
        write(project, cell, good(cell))
    older = project.record(f"{cells[0].name}-000000000000")
    older.write_text("{}")
    assert {name: {*paths} for name, paths in store.made().items()} == {
        cells[0].name: {store.path(cells[0]), older},
        cells[1].name: {store.path(cells[1])},
    }


# reading and writing ----------------------------------------------------------------------------


def test_what_is_written_is_read(store, cell):
    made = good(cell)
    del made["seal"]
    path = store.write(cell, made)
    assert path == store.path(cell)
    found = store.read(cell, path)
    assert found == sealed(made)
    assert is_sealed(found)
    assert json_text(found) == path.read_text()
    assert store.faults(cell, path) == []


def test_a_missing_record_has_no_faults(store, cell):
    assert store.faults(cell, store.path(cell)) == []
    with pytest.raises(ImclError, match="cannot be read: No such file"):
        store.read(cell, store.path(cell))


def test_a_glance_takes_what_it_gets(project, store, cell, path):
    found = store.glance(path)
    assert (found.digest, found.config, found.seconds) == (cell.digest, cell.config, [3.0, 3.0])
    write_json(path, {"digest": 3, "config": {"peer": {}}})
    assert store.glance(path) == (3, {"peer": {}}, [])
    for text in ("", "[]", '{"digest": "a", "config": 3}'):
        path.write_text(text)
        assert store.glance(path) is None
    assert store.glance(project.record("none")) is None


# what is refused --------------------------------------------------------------------------------

DAMAGE = {
    "empty": ("", "is damaged: line 1, column 1: Expecting value"),
    "half": ('{\n "cell": "a",\n "dig', "is damaged: line 3, column 2: "),
    "list": ("[1, 2]", "is damaged: [1, 2] is not a JSON object"),
    "nan": ('{"runs": NaN}', "is damaged: NaN is not a finite number"),
    "infinite": ('{"runs": 1e999}', "is damaged: 1e999 is not a finite number"),
    "deep": ("[" * 100_000, "is damaged: nested too deeply"),
    "long": ('{"runs": ' + "1" * 5000 + "}", "is damaged: "),
    "twice": ('{"runs": [{"seed": 1, "seed": 2}]}', "is damaged: the key 'seed' appears twice"),
}


@pytest.mark.parametrize(("text", "fault"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_json_is_refused_with_the_place(store, cell, path, text, fault):
    path.write_text(text)
    with pytest.raises(ImclError) as refused:
        store.read(cell, path)
    assert str(refused.value).startswith(f"{path}: {fault}")
    (found,) = store.faults(cell, path)
    assert found.startswith(fault)


def test_a_record_that_is_not_utf_8_is_refused(store, cell, path):
    path.write_bytes(b'{"cell": "caf\xe9"}')
    assert store.faults(cell, path) == ["is damaged: not UTF-8 text (byte 13)"]


def test_what_is_no_file_or_too_large_is_refused_unread(store, cell, path):
    with path.open("ab") as file:
        file.truncate(100_000_000)  # it takes no room on the disk
    assert store.faults(cell, path) == ["is damaged: it has 100 MB, and no record has 64"]
    path.unlink()
    os.mkfifo(path)  # to read from it would wait for ever
    assert store.faults(cell, path) == ["is not a file, but a folder, a pipe or a device"]
    assert store.glance(path) is None
    path.unlink()
    path.mkdir()
    assert store.faults(cell, path) == ["is not a file, but a folder, a pipe or a device"]


def test_a_glance_refuses_what_the_store_refuses(store, path):
    for text, _ in DAMAGE.values():
        path.write_text(text)
        assert store.glance(path) is None
    path.write_text(
        '{"digest": "a", "config": {}, "cost": [{"training_seconds": 1%s, ' % ("0" * 400)
    )
    path.write_text(path.read_text() + '"evaluation_seconds": 0.5}]}')
    assert store.glance(path).seconds == []


def respelled(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1), newline="")


SPELLINGS = {
    "exponent": ('"accuracy": 0.75', '"accuracy": 7.5e-1'),
    "zeros": ('"accuracy": 0.75', '"accuracy": 0.750'),
    "space": ('"accuracy": 0.75', '"accuracy":  0.75'),
    "escape": ('"cell": "digits', '"cell": "\\u0064igits'),
    "blanks": ("{", "{" + " " * 1000),
    "whole": ('"realised_rate": 0.5', '"realised_rate": 0.50'),
    "lines": ("\n", "\r\n"),
}


@pytest.mark.parametrize(("old", "new"), SPELLINGS.values(), ids=SPELLINGS)
def test_two_spellings_have_one_seal_so_the_text_counts_too(store, cell, path, old, new):
    respelled(path, old, new)
    assert is_sealed(json.loads(path.read_text()))
    assert store.faults(cell, path) == [
        "was changed since it was written: the values are the same, but not the text"
    ]


def test_a_changed_value_breaks_the_seal(store, cell, path):
    respelled(path, '"accuracy": 0.75', '"accuracy": 0.76')
    assert "was changed since it was written: its seal is broken" in store.faults(cell, path)
    with pytest.raises(ImclError, match="its seal is broken"):
        store.read(cell, path)


def test_a_missing_seal_is_a_fault(store, cell, path):
    content = json.loads(path.read_text())
    del content["seal"]
    write_json(path, content)
    (fault,) = store.faults(cell, path)
    assert fault.startswith("has no seal")
    with pytest.raises(ImclError, match="has no seal"):
        store.read(cell, path)


def test_a_whole_number_written_as_another_kind_breaks_the_seal(store, cell, path):
    respelled(path, '"seed": 1', '"seed": 1.0')
    assert "was changed since it was written: its seal is broken" in store.faults(cell, path)


def test_a_key_that_appears_twice_is_found_at_once_among_many(store, cell, path):
    keys = ", ".join(f'"{number}": 0' for number in [*range(100_000), 99_999])
    path.write_text(f"{{{keys}}}")
    begun = time.perf_counter()
    (fault,) = store.faults(cell, path)
    assert "the key '99999' appears twice" in fault
    assert time.perf_counter() - begun < 5  # to count each key anew takes minutes


def test_a_key_that_appears_twice_is_refused_by_every_reader(store, cell, path):
    """Python's reader takes the last one, so the seal is that of the record without the first."""
    respelled(path, '"accuracy": 0.75', '"accuracy": 0.5,\n    "accuracy": 0.75')
    assert is_sealed(json.loads(path.read_text()))
    fault = "is damaged: the key 'accuracy' appears twice"
    assert store.faults(cell, path) == [fault]
    for read in (lambda: store.read(cell, path), lambda: store.open(path)):
        with pytest.raises(ImclError, match=fault):
            read()


def run(content: dict[str, Any]) -> dict[str, Any]:
    return content["runs"][1]


SHAPES = {
    "missing": (lambda c: c.pop("runs"), "runs: missing"),
    "missing inside": (lambda c: run(c)["final"].pop("ece"), "runs[1].final.ece: missing"),
    "unknown key": (lambda c: c.update(peer=1), "peer: unknown key"),
    "unknown key inside": (lambda c: run(c).update(look=1), "runs[1].look: unknown key"),
    "no list": (lambda c: c.update(runs=3), "runs: 3 is not a list"),
    "no mapping": (lambda c: c.update(dataset=[]), "dataset: [] is not a mapping"),
    "no number": (
        lambda c: run(c)["final"].update(ece="a"),
        "runs[1].final.ece: 'a' is not a number",
    ),
    "a text": (lambda c: run(c)["final"].update(ece="0.1"), "runs[1].final.ece: '0.1' is not a n"),
    "no count": (lambda c: run(c).update(parameters=1.5), "runs[1].parameters: 1.5 is not a whole"),
    "a truth": (
        lambda c: run(c).update(parameters=True),
        "runs[1].parameters: True is not a whole",
    ),
    "above 1": (
        lambda c: run(c)["history"][3]["evaluation"].update(accuracy=1.5),
        "runs[1].history[3].evaluation.accuracy: 1.5 is out of range; it must be at most 1",
    ),
    "below 0": (
        lambda c: c["cost"][0].update(training_seconds=-1.0),
        "cost[0].training_seconds: -1.0 is out of range; it must be at least 0",
    ),
    "no hash": (lambda c: run(c).update(weights_sha256="ab"), "runs[1].weights_sha256: 'ab': "),
    "no runs": (lambda c: c.update(runs=[]), "runs: []: "),
    "no epochs": (lambda c: run(c).update(history=[]), "runs[1].history: []: "),
    "a decimal": (lambda c: run(c).update(seed=2.0), "runs[1].seed: 2.0 is not a whole number"),
    "huge": (
        lambda c: c["cost"][0].update(peak_memory_bytes=10**400),
        "cost[0].peak_memory_bytes: 10000",
    ),
    "no control": (
        lambda c: c["environment"].update(device_name="\x1b[2J"),
        "environment.device_name: '\\x1b[2J' contains a control character",
    ),
    "half a character": (
        lambda c: c["environment"].update(device_name="\ud800"),
        "environment.device_name: '\\ud800' holds half a character",
    ),
    "no split": (lambda c: c["dataset"].update(evaluation="train"), "dataset.evaluation: 'train'"),
    "no square": (
        lambda c: c["noise"].update(transition_matrix=[[1.0], [0.5, 0.5]]),
        "noise.transition_matrix: [[1.0], [0.5, 0.5]]: is not a square matrix",
    ),
    "uneven bins": (
        lambda c: run(c).update(
            predictions={"calibration": {"count": [1], "confidence": [], "correct": [1]}}
        ),
        "runs[1].predictions.calibration: {'count': [1], 'confidence': [], 'correct': [1]}: has li",
    ),
}


@pytest.mark.parametrize(("edit", "fault"), SHAPES.values(), ids=SHAPES)
def test_a_record_of_another_shape_is_refused_with_the_place(store, cell, path, edit, fault):
    change(path, edit)
    (found,) = store.faults(cell, path)
    assert found.startswith(fault)
    with pytest.raises(ImclError) as refused:
        store.read(cell, path)
    assert str(refused.value).startswith(f"{path}: {fault}")


IDENTITIES = {
    "cell": (lambda c: c.update(cell="x"), ["cell"]),
    "digest": (lambda c: c.update(digest="0" * 12), ["digest"]),
    "config": (lambda c: c["config"]["training"].update(epochs=99), ["digest", "config"]),
}


@pytest.mark.parametrize(("edit", "keys"), IDENTITIES.values(), ids=IDENTITIES)
def test_a_record_of_another_configuration_is_refused(store, cell, path, edit, keys):
    change(path, edit)
    expected = [f"{key} is not that of the cell in params.yaml" for key in keys]
    assert store.faults(cell, path) == expected
    with pytest.raises(ImclError, match=f"{keys[0]} is not that of the cell"):
        store.read(cell, path)


def test_a_record_of_another_cell_is_refused(store, cells, cell, path):
    other = cells[0]
    path.rename(store.path(other))
    with pytest.raises(ImclError, match="digest is not that of the cell"):
        store.read(other, store.path(other))
    assert store.open(store.path(other))["cell"] == cell.name


def test_a_record_is_opened_without_its_cell_but_not_without_checks(store, cell, path):
    assert store.open(path) == store.read(cell, path)
    change(path, lambda content: content.pop("code"))
    with pytest.raises(ImclError, match=f"^{path}: code: missing"):
        store.open(path)
    change(path, lambda content: content.update(code=good(cell)["code"], digest="0" * 12))
    with pytest.raises(ImclError, match=f"^{path}: digest is not that of its config"):
        store.open(path)


# what a record must not contradict --------------------------------------------------------------

CONTRADICTIONS = {
    "final": (
        lambda c: run(c)["final"].update(nll=0.1),
        "seed 2: final nll is not that of the last",
    ),
    "oracle": (lambda c: run(c)["oracle"].update(epoch=0), "seed 2: oracle epoch is not that of"),
    "oracle value": (
        lambda c: run(c)["oracle"].update(ece=0.9),
        "seed 2: oracle ece is not that of",
    ),
    "epoch": (
        lambda c: [each["history"].pop(3) for each in c["runs"]],
        "seed 2: history is not of 14 epochs",
    ),
    "roc": (
        lambda c: run(c)["history"][-1]["evaluation"].update(roc_auc=0.5),
        "seed 2: final roc_auc is not that of the last",
    ),
}


@pytest.mark.parametrize(("edit", "fault"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_record_that_contradicts_itself_is_found(store, cell, path, edit, fault):
    change(path, edit)
    assert [found for found in store.faults(cell, path) if found.startswith(fault)]
    store.read(cell, path)  # its seal is right, and its shape


MISFITS = {
    "runs": (lambda c: c["runs"].pop(), "runs are not of the seeds [1, 2]"),
    "order": (lambda c: c["runs"].reverse(), "runs are not of the seeds [1, 2]"),
    "cost": (lambda c: c["cost"].pop(), "cost is not of the seeds [1, 2]"),
    "epoch": (
        lambda c: run(c)["history"].pop(3),
        "seed 2: history is not like that of seed 1",
    ),
    "last": (
        lambda c: [each["history"][-1].pop("evaluation") for each in c["runs"]],
        "seed 1: history has no evaluation of the last epoch",
    ),
    "metric": (
        lambda c: run(c)["final"].update(roc_auc=0.5),
        "seed 2: final is not like that of seed 1",
    ),
    "predictions": (
        lambda c: run(c).update(
            predictions={"calibration": {"count": [1], "confidence": [1.0], "correct": [1]}}
        ),
        "seed 2: predictions is not like that of seed 1",
    ),
    "dataset": (lambda c: c["dataset"].update(name="letters"), "seed 1: dataset.name is not dig"),
    "labels": (lambda c: c["noise"].update(sha256=None), "seed 1: noise.sha256 does not fit n50"),
}


@pytest.mark.parametrize(("edit", "fault"), MISFITS.values(), ids=MISFITS)
def test_runs_that_cannot_be_compared_are_refused(store, cell, path, edit, fault):
    change(path, edit)
    assert [found for found in store.faults(cell, path) if found.startswith(fault)]
    with pytest.raises(ImclError) as refused:
        store.read(cell, path)
    assert f"{path}: {fault}" in str(refused.value)


# Any value anywhere ------------------------------------------------------------------------------

GONE = object()
DEEP: list[Any] = json.loads("[" * 500 + "]" * 500)
VALUES = (GONE, None, {}, [], DEEP, "x", "\x1b[2J", -1, 0, 0.5, 5.0, 1e300, 10**400, True, {"a": 1})


def places(value: object, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key, and the last index of every list."""
    if place:
        yield place
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*place, key))
    elif isinstance(value, list) and value:
        yield from places(value[-1], (*place, len(value) - 1))


def test_whatever_stands_in_a_record_it_is_a_fault_or_documents_can_be_made(tmp_path):
    """Each value at each place under a new seal: never another error than that of the store."""
    study = Study.make(tmp_path)
    study.plan |= {"methods": ["base"], "noise": ["n50"], "seeds": [1, 2]}
    study.plan["training"] = {"epochs": 2, "warmup_epochs": 0}
    (cell,), project = study.cells, study.project
    store = Store(project)
    whole = good(cell) | {"migrated": {"digest": "0" * 12, "change": "its form"}}
    matrix = {
        "calibration": {"count": [2], "confidence": [1.5], "correct": [1]},
        "confusion": [[2]],
    }
    for each, cost in zip(whole["runs"], whole["cost"], strict=True):
        each["predictions"], cost["resumed"] = matrix, 1
    del whole["seal"]
    path = write(project, cell, whole)
    assert store.faults(cell, path) == []
    text, read = json.dumps(whole), 0
    for place in places(whole):
        for value in VALUES:
            changed = json.loads(text)
            at: Any = changed
            for key in place[:-1]:
                at = at[key]
            if value is GONE:
                del at[place[-1]]
            else:
                at[place[-1]] = value
            path.write_text(json.dumps(sealed(changed)))
            store.faults(cell, path)
            store.glance(path)
            try:
                record = store.read(cell, path)
            except ImclError:
                continue
            read += 1
            row = rows.compared_rows([(cell, record, {"path": "", "sha256": ""})])
            json_text(row)  # which refuses NaN and infinity
    assert read > 50  # a time, for example, may be any


def test_other_weights_are_found(project, store, cell, path):
    weights = project.weights(cell.runs[1].run_key)
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"trained")
    assert store.faults(cell, path) == [f"seed 2: {weights} differs from the recorded weights"]
    change(path, lambda content: run(content).update(weights_sha256=sha256(weights)))
    assert store.faults(cell, path) == []


def test_other_data_is_found(project, store, cell, path):
    dataset = prepare.prepare(project, cell.dataset)
    noise = inject.inject(project, cell.noise)
    assert store.faults(cell, path) == [
        f"dataset is not that of {project.dataset(cell.dataset.key)}",
        f"noise is not that of {project.noise(cell.dataset.key, cell.noise.key)}",
    ]
    change(path, lambda content: content["dataset"].update(sha256=dataset["sha256"]))
    change(path, lambda content: content["noise"].update(sha256=noise["sha256"]))
    assert store.faults(cell, path) == []


def test_all_faults_of_a_record_are_listed(store, cell, path):
    respelled(path, '"accuracy": 0.75', '"accuracy": 0.76')
    respelled(path, f'"digest": "{cell.digest}"', '"digest": "000000000000"')
    assert store.faults(cell, path) == [
        "was changed since it was written: its seal is broken",
        "digest is not that of the cell in params.yaml",
        "seed 1: final accuracy is not that of the last epoch",
    ]


# all records of a study -------------------------------------------------------------------------


@pytest.fixture
def paths(project, cells) -> dict[str, Path]:
    """The files of four good records, by the cell's name."""
    return {cell.name: write(project, cell, good(cell)) for cell in cells[:4]}


def test_all_records_are_read_in_order(store, cells, paths):
    records = store.read_all(cells[:4], paths)
    assert [*records] == [cell.name for cell in cells[:4]]
    assert records[cells[3].name] == store.read(cells[3], paths[cells[3].name])


def test_missing_records_are_counted_or_left_out(store, cells, paths):
    everything = {cell.name: store.path(cell) for cell in cells}
    with pytest.raises(ImclError, match=r"24 of 28 cells have no record yet.*--partial"):
        store.read_all(cells, everything)
    assert [*store.read_all(cells, everything, partial=True)] == [*paths]


def test_every_fault_of_every_file_is_listed(store, cells, paths):
    first, second, third, _ = paths.values()
    first.write_text("{")
    change(second, lambda content: (content.pop("code"), run(content).update(seed=-1)))
    respelled(third, '"accuracy": 0.75', '"accuracy": 0.76')
    with pytest.raises(ImclError) as refused:
        store.read_all(cells[:4], paths)
    *lines, remedy = str(refused.value).splitlines()
    assert lines == [
        f"{first}: is damaged: line 1, column 2: Expecting property name enclosed in double quotes",
        f"{second}: code: missing",
        f"{second}: runs[1].seed: -1 is out of range; it must be at least 0",
        f"{third}: was changed since it was written: its seal is broken",
    ]
    assert remedy == "restore these files, or delete them and run again"


def test_long_lists_of_faults_are_cut(store, cells, paths, monkeypatch):
    monkeypatch.setattr(store_module, "MOST_FILES", 2)
    for path in paths.values():
        change(path, lambda content: [entry.pop("loss") for entry in run(content)["history"]])
    with pytest.raises(ImclError) as refused:
        store.read_all(cells[:4], paths)
    *lines, _ = str(refused.value).splitlines()
    assert lines[0].endswith("runs[1].history[0].loss: missing")
    assert lines[5].endswith("... and 9 more faults")
    assert lines[6].endswith("runs[1].history[0].loss: missing")
    assert lines[12] == "... and 2 more files with faults"
    assert len(lines) == 13


def test_records_of_different_data_are_refused(store, cells, paths):
    first, second, third, _ = paths.values()
    for path in (second, third):
        change(path, lambda content: content["dataset"].update(sha256="0" * 64))
    with pytest.raises(ImclError) as refused:
        store.read_all(cells[:4], paths)
    for path in (second, third):
        fault = f"{path}: was made from other data than {first} (dataset digits)"
        assert fault in str(refused.value)


def test_records_of_different_labels_are_refused(project, store, cells):
    noisy = [cell for cell in cells if cell.noise][:2]
    paths = {cell.name: write(project, cell, good(cell)) for cell in noisy}
    first, second = paths.values()
    change(second, lambda content: content["noise"].update(sha256="0" * 64))
    with pytest.raises(
        ImclError, match=rf"{second}: was made from other data than {first} \(noise digits n50\)"
    ):
        store.read_all(noisy, paths)


def test_records_of_other_data_than_is_prepared_are_refused(project, store, cells, paths):
    prepare.prepare(project, cells[0].dataset)
    with pytest.raises(ImclError) as refused:
        store.read_all(cells[:4], paths)
    dataset = project.dataset(cells[0].dataset.key)
    for path in paths.values():
        assert f"{path}: was made from other data than {dataset}" in str(refused.value)


# what is committed ------------------------------------------------------------------------------


def test_the_committed_records_are_as_written(store):
    """With all checks; the weights and data that they came from are not here."""
    committed = Project(ROOT).committed_records("quick")
    for cell in grid.cells(load(ROOT / "params.yaml", "quick")):
        path = committed / f"{cell.key}.json"
        assert store.faults(cell, path) == []
        assert store.read(cell, path)["runs"]


# measurements -----------------------------------------------------------------------------------


def measurement(bench: str) -> Measurement:
    """A committed one, without its seal."""
    found: Measurement = json.loads((ROOT / f"paper/results/bench/{bench}-cpu.json").read_text())
    del found["seal"]
    return found


def test_measurements_are_read_as_written(project, store):
    overhead = store.write_measurement("overhead", "cpu", measurement("overhead"))
    loop = store.write_measurement("loop", "cuda", measurement("loop"))
    assert overhead == project.measurements / "overhead-cpu.json"
    assert store.measurements() == {
        loop: sealed(measurement("loop")),
        overhead: sealed(measurement("overhead")),
    }
    assert [*store.measurements("overhead")] == [overhead]
    assert store.measurements("growth") == {}


def test_every_fault_of_every_measurement_is_listed(store):
    overhead = store.write_measurement("overhead", "cpu", measurement("overhead"))
    loop = store.write_measurement("loop", "cpu", measurement("loop"))
    growth = store.write_measurement("growth", "cpu", measurement("growth"))
    respelled(overhead, '"macs": ', '"macs": 1')
    change(loop, lambda content: content.update(rows=[]))
    growth.write_text("")
    with pytest.raises(ImclError) as refused:
        store.measurements()
    *lines, _ = str(refused.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(growth), str(loop), str(overhead)]
    found, faults = store.measurement(overhead)
    assert found["rows"]  # so that `imcl verify` can also check its ratios
    assert faults == ["was changed since it was written: its seal is broken"]


ROW_FAULTS = {
    "missing": (lambda c: c["rows"][2].pop("seconds"), "rows[2].seconds: missing"),
    "zero": (lambda c: c["rows"][0].update(macs=0.0), "rows[0].macs: 0.0 is out of range"),
    "text": (lambda c: c["rows"][1].update(macs="3"), "rows[1].macs: '3' is not a number"),
    "no width": (lambda c: c["settings"].update(width="x"), "settings.width: 'x' is not a whole"),
    "no repeats": (lambda c: c["settings"].pop("repeats"), "settings.repeats: missing"),
    "no device": (
        lambda c: c["environment"].pop("device_name"),
        "environment.device_name: missing",
    ),
    "unknown bench": (lambda c: c.update(bench="overheat"), "unknown bench 'overheat'; did you"),
}


@pytest.mark.parametrize(("edit", "fault"), ROW_FAULTS.values(), ids=ROW_FAULTS)
def test_a_measurement_with_a_wrong_row_is_refused(store, edit, fault):
    path = store.write_measurement("overhead", "cpu", measurement("overhead"))
    change(path, edit)
    with pytest.raises(ImclError) as refused:
        store.measurements()
    assert str(refused.value).startswith(f"{path}: {fault}")


def test_the_committed_measurements_are_as_written():
    assert Store(Project(ROOT)).measurements()


def test_every_fault_of_every_existing_record_is_listed(project, store, cells):
    for one in cells[:3]:
        write(project, one, record(one, [0.5, 0.75]))
    planned = [("quick", one) for one in cells]
    found = [one.name for _, one, _, _ in store.existing(planned)]
    assert found == [one.name for one in cells[:3]]
    first, second = store.path(cells[0]), store.path(cells[1])
    respelled(first, '"accuracy": 0.75', '"accuracy": 0.76')
    second.write_text("{")
    with pytest.raises(ImclError) as refused:
        list(store.existing(planned))
    assert f"{first}: was changed" in str(refused.value)
    assert f"{second}: is damaged" in str(refused.value)


# data drawn for each run --------------------------------------------------------------------------


def drawn(cell: grid.Cell) -> grid.Cell:
    """The cell, but with noise that is drawn for each run."""
    assert cell.noise
    options = cell.noise.options.model_copy(update={"noise_seed": "per_run"})
    return replace(cell, noise=replace(cell.noise, options=options))


def test_a_record_tells_of_each_run_what_was_drawn_for_it(project, store, cell):
    own = drawn(cell)
    path = write(project, own, good(own))
    assert store.faults(own, path) == []
    made = store.read(own, path)
    assert "noise" not in made
    assert [run["noise"]["sha256"] for run in made["runs"]] == ["00" * 32, "01" * 32]


TOLD_TWICE = {
    "of all and of one": (
        lambda c: c.update(noise=c["runs"][0]["noise"]),
        ["runs[0].noise: unknown key", "runs[1].noise: unknown key"],
    ),
    "of one run only": (lambda c: c["runs"][1].pop("noise"), ["runs[1].noise: missing"]),
    "of none": (lambda c: [run.pop("noise") for run in c["runs"]], ["noise: missing"]),
    "once for all": (
        lambda c: c.update(noise={**[run.pop("noise") for run in c["runs"]][-1]}),
        ["noise must stand in each run"],
    ),
    "the dataset too": (
        lambda c: [run.update(dataset=c["dataset"]) for run in c["runs"]] and c.pop("dataset"),
        ["dataset must stand once for all runs"],
    ),
    "a wrong rate": (
        lambda c: c["runs"][1]["noise"].update(realised_rate=2.0),
        ["runs[1].noise.realised_rate: 2.0 is out of range; it must be at most 1.0"],
    ),
}


@pytest.mark.parametrize(("edit", "faults"), TOLD_TWICE.values(), ids=TOLD_TWICE)
def test_a_record_tells_of_data_once(project, store, cell, edit, faults):
    own = drawn(cell)
    made = good(own)
    edit(made)
    path = write(project, own, made)
    assert store.faults(own, path) == faults
    with pytest.raises(ImclError):
        store.read(own, path)


def test_records_of_one_run_must_be_of_the_same_labels(project, store, cells):
    pair = [drawn(c) for c in cells if c.noise][:2]
    paths = {one.name: write(project, one, good(one)) for one in pair}
    store.read_all(pair, paths)
    made = good(pair[1])
    made["runs"][1]["noise"]["sha256"] = "ff" * 32
    write(project, pair[1], made)
    with pytest.raises(ImclError) as refused:
        store.read_all(pair, paths)
    first, second = paths.values()
    message = f"{second}: was made from other data than {first} (noise digits n50 --seed 2); "
    assert str(refused.value).startswith(message)
