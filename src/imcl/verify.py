"""Checks what stands in records, tables and weights against what can be computed again.

Nothing is believed but the records' measurements, and those only under an unbroken seal; even they
are put to the test by training a cell anew.
"""

import contextlib
import json
import random
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from imcl import grid, params, stats
from imcl.data import prepare
from imcl.errors import ImclError
from imcl.files import is_sealed, json_text, read_json, sha256
from imcl.noise import inject
from imcl.report import BENCHES, BUILD, CURVES, METRICS, SUMMARY, summary, tables
from imcl.report.records import COMMITTED, FIELDS

SAME_MACHINE = ("device", "device_name", "threads", "torch", "numpy")

# On another machine sums are rounded in another order, and training amplifies that: first little,
# in the end as much as another seed would. So the loss of the first epoch may differ by this share,
# seed by seed, and the mean accuracy over the seeds by the first of these, or, where the record's
# own seeds leave more open, by as much as two means of other seeds would, up to the second.
LOSS_TOLERANCE = 0.1
ACCURACY_TOLERANCE = (0.15, 0.25)


class Finding(NamedTuple):
    """A place and what is wrong there."""

    place: Path
    fault: str


class Study(NamedTuple):
    """A study's cells, with the folder of its records and what was made from them.

    `made` are files, by the path that they have in a project's folder.
    """

    loaded: dict
    records: Path
    made: dict[Path, Path]


def studies(loaded: dict, file: Path) -> list[Study]:
    """What there is to verify: each committed study, and the chosen one as it was run here.

    Args:
        loaded: checked parameters.
        file: that they were read from.
    """
    found = []
    # A study whose records are gone altogether still has its tables.
    places = {path.parent for part in ("records", "*.md") for path in COMMITTED.glob(f"*/{part}")}
    for folder in (place / "records" for place in sorted(places)):
        name = folder.parent.name
        shown = sorted(folder.parent.glob("*.md"))
        made = {BUILD / "tables" / path.name: path for path in shown}
        found.append(Study(params.load(file, name), folder, made))
    if any(cell.record.exists() for cell in grid.cells(loaded)):
        made = [*SUMMARY.glob("*.json"), *METRICS.glob("*.json"), CURVES]
        built = [*BUILD.glob("tables/*"), *BUILD.glob("*.tex")]
        summarised = summary.path(loaded).exists()  # or tables are of another study, or not yet
        of_it = {path: path for path in [*made, *built] if summarised and path.exists()}
        found.append(Study(loaded, grid.RECORDS, of_it))
    return found


def check(study: Study) -> Iterator[Finding]:
    """All that is wrong with a study's records and with what was made from them.

    Of a dataset whose table of accuracies is committed, a study may have records of a part of its
    cells: the table says which, and is wrong when one is taken away.
    """
    cells = grid.cells(study.loaded)
    paths = {study.records / cell.record.name: cell for cell in cells}
    faults = [fault for path, cell in paths.items() for fault in check_record(cell, path)]
    if study.records != grid.RECORDS:  # where older ones stay, and others are yet to come
        there = set(study.records.glob("*.json"))
        if not there:
            faults.append(Finding(study.records, "has no records"))
        tables_of = {path.name for path in study.made.values()}
        faults += [
            Finding(path, "is missing")
            for path, cell in paths.items()
            if path not in there and f"accuracy-{cell.dataset.name}.md" not in tables_of
        ]
        faults += [
            Finding(path, f"is of no cell of study {study.loaded['study']}")
            for path in sorted(there - set(paths))
        ]
    yield from faults
    if study.made and not faults:
        with _project(study.records):
            summary.write(study.loaded, partial=study.records != grid.RECORDS)
            tables.write(summary.read())
            again = {path: path.read_bytes() for path in study.made if path.exists()}
        for path, shown in study.made.items():
            if again.get(path) != shown.read_bytes():
                yield Finding(shown, "is not what the records give")


def check_benches() -> Iterator[Finding]:
    """All that is wrong with the committed measurements: broken seals, and wrong ratios."""
    for path in sorted(BENCHES.glob("*.json")):
        record = read_json(path, ("bench", "rows"))
        if not is_sealed(record):
            yield Finding(path, "was changed since it was written: its seal is broken")
        for index, row in enumerate(record["rows"]):
            for ratio, value in _ratios(record["bench"], row, record["rows"]).items():
                if row[ratio] != value:
                    yield Finding(path, f"rows[{index}]: {ratio} is not {value}")


def _ratios(bench: str, row: dict, rows: list[dict]) -> dict[str, float]:
    """The ratios of a measurement's row, computed again from what was measured."""
    if bench == "overhead":
        base = next(r for r in rows if r["backbone"] == row["backbone"])
        measured = {"time": "seconds", "memory": "memory_bytes", "macs": "macs"}
        return {f"{name}_ratio": row[key] / base[key] for name, key in measured.items()}
    if bench == "loop":
        ours = row["images_per_second"]
        return {f"ratio_to_{other}": ours / row[other] for other in ("usual", "tuned", "limit")}
    if bench == "pipeline":
        return {"overhead_ratio": row["wall_seconds"] * row["cores"] / row["own_seconds"]}
    return {}


def check_record(cell: grid.Cell, path: Path) -> Iterator[Finding]:
    """All that is wrong with the record of a cell; nothing if it is not there."""
    if not path.exists():
        return
    try:
        record = read_json(path, FIELDS)
        faults = list(_record_faults(cell, record))
        # Two spellings of one number have one seal.
        if is_sealed(record) and path.read_text(encoding="utf-8") != json_text(record):
            faults.append("was changed since it was written: it is spelled otherwise")
    except (ImclError, LookupError, TypeError, ValueError, AttributeError):
        faults = ["is damaged"]
    yield from (Finding(path, fault) for fault in faults)


def _record_faults(cell: grid.Cell, record: dict) -> Iterator[str]:
    if "seal" not in record:
        yield "has no seal: it was made before records had one; train the cell again"
    elif not is_sealed(record):
        yield "was changed since it was written: its seal is broken"
    computed = {"cell": cell.name, "digest": grid.digest(record["config"]), "config": cell.config}
    for key, value in computed.items():
        if record[key] != value:
            yield f"{key} is not that of the cell in params.yaml"
    training, seeds = cell.config["training"], cell.config["seeds"]
    for part in ("runs", "cost"):
        if [entry["seed"] for entry in record[part]] != seeds:
            yield f"{part} are not of the seeds {seeds}"
    for run in record["runs"]:
        where = f"seed {run['seed']}:"
        history = run["history"]
        if [entry["epoch"] for entry in history] != list(range(1, training["epochs"] + 1)):
            yield f"{where} history is not of {training['epochs']} epochs"
        evaluated = [entry for entry in history if "evaluation" in entry]
        best = max(evaluated, key=lambda entry: entry["evaluation"]["accuracy"])
        for name, value in history[-1]["evaluation"].items():
            if run["final"][name] != value:
                yield f"{where} final {name} is not that of the last epoch"
        for name, value in {"epoch": best["epoch"], **best["evaluation"]}.items():
            if run["oracle"][name] != value:
                yield f"{where} oracle {name} is not that of the best epoch"
        weights = cell.weights(run["seed"])
        if weights.exists() and sha256(weights) != run["weights_sha256"]:
            yield f"{where} {weights} holds other weights than were recorded"
    prepared = {"dataset": cell.dataset.path, **({"noise": cell.noise.path} if cell.noise else {})}
    for what, path in prepared.items():
        if path.exists() and read_json(path, ("sha256",))["sha256"] != record[what]["sha256"]:
            yield f"{what} is not that of {path}"


def sample(checked: Iterable[Study], count: int) -> list[tuple[grid.Cell, Path]]:
    """So many cells at random, each with its record; of those whose archives are here."""
    there = {
        cell.key: (cell, study.records / cell.record.name)
        for study in checked
        for cell in grid.cells(study.loaded)
        if (study.records / cell.record.name).exists()
        and all(archive.exists() for archive in _archives(cell))
    }
    return random.sample(list(there.values()), min(count, len(there)))


def retrain(cell: grid.Cell, path: Path) -> tuple[str, Finding | None]:
    """Train a cell in a scratch folder and compare it with its record.

    Returns:
        How it was compared, and what differs.
    """
    from imcl import experiment

    record = read_json(path, FIELDS)
    place = path.resolve()
    with _project(None):
        if not cell.dataset.path.exists():
            dataset = cell.dataset
            prepare.prepare(dataset.name, dataset.config, dataset.archives, dataset.path)
        if cell.noise and not cell.noise.path.exists():
            arrays = prepare.load(cell.dataset.path)[1]
            inject.inject(cell.noise.config, arrays, cell.noise.archives, cell.noise.path)
        device, threads = (record["environment"][key] for key in ("device", "threads"))
        again = json.loads(json.dumps(experiment.run(cell, device, threads)))
    return _compare(record, again, place)


def _archives(cell: grid.Cell) -> list[Path]:
    return [*cell.dataset.archives, *(cell.noise.archives if cell.noise else [])]


def _compare(record: dict, again: dict, path: Path) -> tuple[str, Finding | None]:
    """Bit for bit where the machine is of the same kind, else within the tolerance."""
    for key in ("dataset", "noise"):
        if again[key] != record[key]:
            return "data", Finding(path, f"{key} came out otherwise")
    there, here = (value["environment"] for value in (record, again))
    if all(there[key] == here[key] for key in SAME_MACHINE):
        same = again["runs"] == record["runs"]
        return "bit for bit", None if same else Finding(path, "trained again, it is another one")
    pairs = list(zip(record["runs"], again["runs"], strict=True))
    losses = [[run["history"][0]["loss"] for run in pair] for pair in pairs]
    loss = max(abs(now / before - 1) for before, now in losses)
    gains = [now["final"]["accuracy"] - before["final"]["accuracy"] for before, now in pairs]
    accuracy = abs(sum(gains)) / len(gains)
    seeds = stats.estimate([before["final"]["accuracy"] for before, _ in pairs])
    least, most = ACCURACY_TOLERANCE
    tolerance = min(max(least, 2**0.5 * (seeds.half_width or 0)), most)
    how = (
        f"on another machine ({there['device_name']}): first epoch's loss within {loss:.2%} "
        f"(tolerance {LOSS_TOLERANCE:.0%}), mean accuracy within {100 * accuracy:.2f} points "
        f"(tolerance {100 * tolerance:.2f})"
    )
    if loss > LOSS_TOLERANCE or accuracy > tolerance:
        return how, Finding(path, "trained again, it differs by more than another machine explains")
    return how, None


@contextlib.contextmanager
def _project(records: Path | None) -> Iterator[None]:
    """Work in a scratch folder that is like this project, with these records or none."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="imcl-verify-") as scratch:
        results = Path(scratch, grid.RECORDS)
        results.parent.mkdir()
        if records is not None:
            results.symlink_to(records.resolve())
        Path(scratch, BUILD.parent).mkdir()
        for path in [*here.iterdir(), *(here / BUILD.parent).iterdir()]:
            place = path.relative_to(here)
            if place not in (BUILD, BUILD.parent, grid.RECORDS.parent):
                Path(scratch, place).symlink_to(path)
        with contextlib.chdir(scratch):
            yield
