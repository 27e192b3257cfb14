"""Reads and writes records and measurements. Nothing else opens them.

Every file is checked when it is read: it must be whole, its seal unbroken, and its content in the
shape and bounds of `imcl.records.record`. A file with a fault is refused, and the message lists
every fault of every file.
"""

import json
import math
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from imcl.data.description import describe as describe_dataset
from imcl.errors import ImclError, shown, unknown
from imcl.files import json_text, read_bytes, sha256, write_json
from imcl.noise.description import describe as describe_noise
from imcl.project import Project
from imcl.records.record import (
    LINE,
    ROWS,
    SETTINGS,
    CheckedRecord,
    Circumstances,
    Measurement,
    Record,
    Run,
    code_of,
    environment_of,
    trained_on,
)
from imcl.records.seal import is_sealed, sealed
from imcl.study import grid
from imcl.study.faults import BOUNDS, TYPES, Fault
from imcl.study.grid import Cell

# A record takes below 1 MB. With a transition matrix of 1,000 classes it takes about 20.
LARGEST_MB = 64
DEEPEST = 20  # objects and lists inside each other; in a record there are 7
MOST_FAULTS = 5  # of one file, in a message
MOST_FILES = 20  # in a message

RECORD: TypeAdapter[Record] = TypeAdapter(CheckedRecord)
MEASUREMENT = TypeAdapter(Measurement)
ROW_LISTS: dict[str, TypeAdapter[Any]] = {
    bench: TypeAdapter(list[row])  # type: ignore[valid-type]  # rows are chosen at run time
    for bench, row in ROWS.items()
}

Content = TypeVar("Content", Record, Measurement)


Words = tuple[str, ...]  # what names some data: `dataset` or `noise`, then as in a command


class Glance(NamedTuple):
    """What a record says of its cell, unchecked; `seconds`: what each of its trainings took."""

    digest: object
    config: dict[str, Any]
    seconds: list[float]


class Store:
    """The records and measurements of a project."""

    def __init__(self, project: Project):
        self.project = project

    # Where they are ----------------------------------------------------------------------------

    def path(self, cell: Cell) -> Path:
        """The record of a cell that is, or will be, made here."""
        return self.project.record(cell.key)

    def find(self, cell: Cell, study: str, committed: bool = False) -> Path | None:
        """The record of a cell: the one made here, else the committed one, else None.

        Args:
            cell: a cell of the study.
            study: the study whose committed records are searched.
            committed: ignore records made here.
        """
        here = self.path(cell)
        if not committed and here.exists():
            return here
        path = self.project.committed_records(study) / here.name
        return path if path.exists() else None

    def made(self) -> dict[str, list[Path]]:
        """All records made here, with any parameters, by the cell's name."""
        found = defaultdict(list)
        for path in self.project.records.glob("*.json"):
            found[path.stem.rpartition("-")[0]].append(path)
        return found

    # Records -----------------------------------------------------------------------------------

    def glance(self, path: Path) -> Glance | None:
        """What a record says of its cell; None if it cannot be read.

        For `imcl plan` and `imcl status`, which also look at older and damaged records.
        """
        try:
            record = _content(path)
        except ImclError:
            return None
        if not ("digest" in record and isinstance(record.get("config"), dict)):
            return None
        try:
            seconds = [
                float(seed["training_seconds"] + seed["evaluation_seconds"])
                for seed in record["cost"]
            ]
        except (KeyError, TypeError, ValueError, OverflowError):
            seconds = []
        return Glance(record["digest"], record["config"], seconds)

    def read(self, cell: Cell, path: Path) -> Record:
        """The record of a cell.

        Raises:
            ImclError: it is damaged, was changed, or has other parameters; with every fault.
        """
        record, faults = _record(cell, path)
        if record is None or faults:
            raise _refusal({path: faults})
        return record

    def existing(
        self, cells: Sequence[tuple[str, Cell]], committed: bool = False
    ) -> Iterator[tuple[str, Cell, Path, Record]]:
        """The records that exist, each with its study, cell and file.

        Args:
            cells: pairs of a study and one of its cells.
            committed: ignore records made here.

        Raises:
            ImclError: records have faults; with every fault of every file.
        """
        faults: dict[Path, list[str]] = {}
        for study, cell in cells:
            path = self.find(cell, study, committed)
            if path is None:
                continue
            record, found = _record(cell, path)
            if record is None or found:
                faults[path] = found
            elif not faults:
                yield study, cell, path, record
        if faults:
            raise _refusal(faults)

    def open(self, path: Path) -> Record:
        """The record in a file, for documents. Its cell need not be in params.yaml.

        Raises:
            ImclError: it is damaged or was changed; with every fault.
        """
        record, faults = self.examined(path)
        if record is None or faults:
            raise _refusal({path: faults})
        return record

    def examined(self, path: Path) -> tuple[Record | None, list[str]]:
        """The record in a file, unless its shape is wrong, and everything that is wrong with it."""
        record, faults = _opened(path, RECORD)
        if record is not None and record["digest"] != grid.digest(record["config"]):
            faults.append("digest is not that of its config")
        return record, faults

    def read_all(
        self, cells: Sequence[Cell], paths: Mapping[str, Path], partial: bool = False
    ) -> dict[str, Record]:
        """The records of the cells by name.

        Args:
            cells: the cells whose records are wanted.
            paths: where the record of each cell is, or would be, by the cell's name.
            partial: leave out cells without a record instead of refusing.

        Raises:
            ImclError: records are missing, have faults, or were made from different data; with
                every fault of every file.
        """
        missing = [cell for cell in cells if not paths[cell.name].exists()]
        if missing and not partial:
            # Without their pictures, records that are there are not found.
            cell = next((cell for cell in missing if cell.lacks), missing[0])
            why = f": {cell.lacks}" if cell.lacks else ", ..."
            raise ImclError(
                f"{len(missing)} of {len(cells)} cells have no record yet ({cell.name}{why}); run "
                "`snakemake --cores all`, or add --partial to continue without them"
            )
        there = [cell for cell in cells if paths[cell.name].exists()]
        records: dict[str, Record] = {}
        faults: dict[Path, list[str]] = {}
        for cell in there:
            path = paths[cell.name]
            record, found = _record(cell, path)
            if record is None or found:
                faults[path] = found
            else:
                records[cell.name] = record
        read = [cell for cell in there if cell.name in records]
        for path, fault in self._data_faults(read, paths, records):
            faults.setdefault(path, []).append(fault)
        if faults:
            raise _refusal(faults)
        return records

    def faults(self, cell: Cell, path: Path) -> list[str]:
        """Everything that is wrong with the record of a cell; empty if there is no record.

        Besides what `read` checks, every byte of the file must be unchanged, and the record must
        not contradict itself or the weights and prepared data in this project.
        """
        return self._whole(cell, path)[1] if path.exists() else []

    def write(self, cell: Cell, record: Record) -> Path:
        """Seal a record and write it, whole or not at all; return its file.

        Raises:
            ImclError: the disk is full.
        """
        return _write(self.path(cell), record)

    # Runs: the records of one seed -------------------------------------------------------------

    def lacks(self, run: Cell) -> str | None:
        """Why a run is to be trained: what is wrong with its file or weights; None if nothing.

        Weights that are not here are nothing wrong: records of other machines come without them.
        """
        path = self.project.run(run.run_key)
        if not path.exists():
            return f"{path} is missing"
        faults = self.faults(run, path)
        return f"{path}: {'; '.join(faults[:MOST_FAULTS])}" if faults else None

    def write_run(self, run: Cell, record: Record) -> Path:
        """As `write`, for the record of a cell with one seed, from which others are collected."""
        return _write(self.project.run(run.run_key), record)

    def collected(self, cell: Cell) -> Record:
        """The record of a cell, made of the records of its runs.

        Raises:
            ImclError: files of runs are missing, have faults, or were made from different data;
                with every fault of every file.
        """
        found: dict[Path, Record] = {}
        faults: dict[Path, list[str]] = {}
        for run in cell.runs:
            path = self.project.run(run.run_key)
            if not path.exists():
                command = f"imcl train {cell.name} --seed {run.seeds[0]}"
                faults[path] = [f"is missing; run `{command}`"]
                continue
            record, wrong = self._whole(run, path)
            if record is None or wrong:
                faults[path] = wrong
            else:
                found[path] = record
        for path, fault in _unlike(cell, found):
            faults.setdefault(path, []).append(fault)
        if faults:
            raise _refusal(faults)
        return _joined(cell, [*found.values()])

    def _whole(self, cell: Cell, path: Path) -> tuple[Record | None, list[str]]:
        """What a file holds as the record of a cell, and everything that `faults` finds."""
        record, faults = _record(cell, path)
        if record is not None and not faults and read_bytes(path) != json_text(record).encode():
            # The seal covers values only: it is the same for 5e-1 and 0.5.
            faults.append(
                "was changed since it was written: the values are the same, but not the text"
            )
        if record is not None:
            faults += _contradictions(cell, record)
            try:
                faults += self._changes(cell, record)
            except (ImclError, OSError) as error:  # of the weights or the data here
                faults.append(f"cannot be compared with what it was made from: {error}")
        return record, faults

    # Measurements ------------------------------------------------------------------------------

    def measurement(self, path: Path) -> tuple[Measurement | None, list[str]]:
        """A measurement, unless its shape is wrong, and everything that is wrong with its file."""
        measurement, faults = _opened(path, MEASUREMENT)
        if measurement is None:
            return None, faults
        rows = ROW_LISTS.get(measurement["bench"])
        if rows is None:
            return None, [*faults, unknown("bench", measurement["bench"], ROW_LISTS)]
        wrong = [*_shape_faults(rows, measurement["rows"], ("rows",))]
        if told := SETTINGS.get(measurement["bench"]):
            settings = {
                k: v for k, v in measurement["settings"].items() if k in told.__annotations__
            }
            wrong += _shape_faults(TypeAdapter(told), settings, ("settings",))
        return None if wrong else measurement, [*faults, *wrong]

    def measurements(self, bench: str = "*") -> dict[Path, Measurement]:
        """The committed measurements by file: all of them, or those of one benchmark.

        Raises:
            ImclError: files are damaged or were changed; with every fault of every file.
        """
        found: dict[Path, Measurement] = {}
        faults: dict[Path, list[str]] = {}
        for path in sorted(self.project.measurements.glob(f"{bench}-*.json")):
            measurement, wrong = self.measurement(path)
            if measurement is None or wrong:
                faults[path] = wrong
            else:
                found[path] = measurement
        if faults:
            raise _refusal(faults)
        return found

    def write_measurement(self, name: str, device_type: str, measurement: Measurement) -> Path:
        """Seal a measurement and write it, over an older one; return its file."""
        path = self.project.measurements / f"{name}-{device_type}.json"
        write_json(path, sealed(measurement))
        return path

    # Checks against other files ----------------------------------------------------------------

    def _data_faults(
        self, cells: Sequence[Cell], paths: Mapping[str, Path], records: Mapping[str, Record]
    ) -> Iterator[tuple[Path, str]]:
        """Records made from other data than the prepared dataset, or than earlier records."""
        seen = self.prepared(cells)
        for cell in cells:
            path, record = paths[cell.name], records[cell.name]
            for what, digest in hashes(cell, record).items():
                first, expected = seen.setdefault(what, (path, digest))
                if digest != expected:
                    yield (
                        path,
                        f"was made from other data than {first} ({' '.join(what)}); "
                        "delete the one that is out of date",
                    )

    def prepared(self, cells: Iterable[Cell]) -> dict[Words, tuple[Path, str | None]]:
        """The hashes of the prepared datasets of the cells, each with its file."""
        found: dict[Words, tuple[Path, str | None]] = {}
        for dataset in {data.dataset for cell in cells for data in cell.all_data}:
            path = self.project.dataset(dataset.key)
            if path.exists():  # if not, the records came without their data
                digest = describe_dataset(self.project, dataset)["sha256"]
                found["dataset", *dataset.words] = path, digest
        return found

    def _changes(self, cell: Cell, record: Record) -> Iterator[str]:
        """Weights and data in this project that are not the recorded ones."""
        for run in record["runs"]:
            weights = self.project.weights(cell.of_seed(run["seed"]).run_key)
            if weights.exists() and sha256(weights) != run["weights_sha256"]:
                yield f"seed {run['seed']}: {weights} differs from the recorded weights"
        hashes = {
            cell.data(run["seed"]): [told["sha256"] for told in trained_on(record, run)]
            for run in record["runs"]
        }
        for (dataset, noise), (of_dataset, of_noise) in hashes.items():
            path = self.project.dataset(dataset.key)
            if path.exists() and describe_dataset(self.project, dataset)["sha256"] != of_dataset:
                yield f"dataset is not that of {path}"
            if noise:
                path = self.project.noise(dataset.key, noise.key)
                if path.exists() and describe_noise(self.project, noise)["sha256"] != of_noise:
                    yield f"noise is not that of {path}"


def hashes(cell: Cell, record: Record) -> dict[Words, str | None]:
    """The hashes of the data and labels that a record was made from; clean labels have none."""
    used: dict[Words, str | None] = {}
    for run in record["runs"]:
        (dataset, noise), (told, labels) = cell.data(run["seed"]), trained_on(record, run)
        words = noise.words if noise else [*dataset.words, "clean"]
        used["dataset", *dataset.words] = told["sha256"]
        used["noise", *words] = labels["sha256"]
    return used


def _content(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ImclError: it is damaged; the message does not name the file.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ImclError("is not a file, but a folder, a pipe or a device")
        if found.st_size > LARGEST_MB * 1e6:
            size = f"{found.st_size / 1e6:,.0f} MB"
            raise ImclError(f"is damaged: it has {size}, and no record has {LARGEST_MB}")
        value: object = json.loads(
            read_bytes(path).decode("utf-8"),
            parse_float=_finite,
            parse_constant=_finite,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise ImclError(f"is damaged: not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ImclError(f"is damaged: {place}: {error.msg}") from None
    except OSError as error:
        raise ImclError(f"cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ImclError("is damaged: nested too deeply") from None
    except ValueError as error:
        raise ImclError(f"is damaged: {error}") from None
    if _is_deep(value):
        raise ImclError("is damaged: nested too deeply")
    if not isinstance(value, dict):
        raise ImclError(f"is damaged: {shown(value)} is not a JSON object")
    return value


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _is_deep(value: object) -> bool:
    """Whether a value is nested too deeply for functions that call themselves."""
    level = [value]
    for _ in range(DEEPEST):
        filled = [each for each in level if isinstance(each, dict | list)]
        level = [inside for each in filled for inside in _inside(each)]
    return bool(level)


def _opened(path: Path, adapter: TypeAdapter[Content]) -> tuple[Content | None, list[str]]:
    """What a file holds, unless its shape is wrong, and everything that is wrong with it."""
    try:
        value = _content(path)
    except ImclError as damage:
        return None, [str(damage)]
    faults = list(_seal_faults(value))
    shape = list(_shape_faults(adapter, value))
    return None if shape else cast(Content, value), faults + shape


def _shape_faults(
    adapter: TypeAdapter[Any], value: object, place: tuple[str, ...] = ()
) -> Iterator[str]:
    """What is wrong with the shape and bounds of a value at a place of its file."""
    try:
        adapter.validate_python(value, strict=True, extra="forbid")
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False):
            yield _fault(error, place)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Python's own reader takes the last value of a key that appears twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {shown(twice)} appears twice")
    return made


def _seal_faults(value: dict[str, Any]) -> Iterator[str]:
    if "seal" not in value:
        yield "has no seal: it was made before files had one; make it again"
    elif not is_sealed(value):
        yield "was changed since it was written: its seal is broken"


def _fault(error: ErrorDetails, place: tuple[str, ...]) -> str:
    """What is wrong with one value, and where in the file it is."""
    value = error["input"]
    match error["type"]:
        case "missing":
            message = "missing"
        case "extra_forbidden":
            message = "unknown key"
        case kind if kind in BOUNDS:
            bound, limit = BOUNDS[kind]
            message = f"{value} is out of range; it must be {bound} {error['ctx'][limit]}"
        case kind if kind in TYPES:
            message = f"{shown(value)} is not {TYPES[kind]}"
        case "string_unicode":
            message = f"{shown(value)} holds half a character"
        case "string_pattern_mismatch" if error["ctx"]["pattern"] == LINE:
            message = f"{shown(value)} contains a control character"
        case _:
            message = f"{shown(value)}: {error['msg']}"
    return str(Fault((*place, *error["loc"]), message))


def _record(cell: Cell, path: Path) -> tuple[Record | None, list[str]]:
    """What a file holds as the record of a cell, and everything that is wrong with it."""
    record, faults = _opened(path, RECORD)
    if record is not None:
        same = {
            "cell": record["cell"] == cell.name,
            "digest": record["digest"] == cell.digest == grid.digest(record["config"]),
            "config": record["config"] == cell.config,
        }
        faults += [f"{key} is not that of the cell in params.yaml" for key in same if not same[key]]
        per_run = cell.drawn_per_run | _differing(record)
        for key in Circumstances.__annotations__:
            if (key in record) == (key in per_run):
                place = "in each run" if key in record else "once for all runs"
                faults.append(f"{key} must stand {place}")
        faults += _misfits(cell, record)
    return record, faults


def _differing(record: Record) -> set[str]:
    """Which of code and environment differ between the runs of a record."""
    codes = [code_of(record, run) for run in record["runs"]]
    machines = [environment_of(record, run) for run in record["runs"]]
    each: dict[str, list[Any]] = {"code": codes, "environment": machines}
    return {key for key, values in each.items() if any(value != values[0] for value in values)}


def _unlike(cell: Cell, runs: Mapping[Path, Record]) -> Iterator[tuple[Path, str]]:
    """What keeps the runs of a cell from standing in one record."""
    first = next(iter(runs), None)
    for path, record in runs.items():
        assert first
        told, theirs = record["runs"][0], runs[first]["runs"][0]
        for key in ("dataset", "noise"):
            if key not in cell.drawn_per_run and record.get(key) != runs[first].get(key):
                yield (
                    path,
                    f"was made from other data than {first} ({key}); delete the one that is out "
                    "of date",
                )
        form, expected = _form(told), _form(theirs)
        for key in form:
            if form[key] != expected[key]:
                yield path, f"{key} is not like that of {first}"


def _joined(cell: Cell, parts: Sequence[Record]) -> Record:
    """The record of a cell from those of its runs, which are whole and alike."""
    first = parts[0]
    same: Circumstances = {}
    for key in Circumstances.__annotations__:
        if key in first and all(part.get(key) == first.get(key) for part in parts):
            same[key] = first[key]  # type: ignore[literal-required]  # a name of Circumstances
    own = {"code", "environment"} - same.keys()
    joined: Record = {
        "cell": cell.name,
        "digest": cell.digest,
        "config": cell.config,
        **same,
        "runs": [
            cast(Run, {**part["runs"][0], **{key: part[key] for key in sorted(own)}})  # type: ignore[literal-required]
            for part in parts
        ],
        "cost": [part["cost"][0] for part in parts],
    }
    if params := dict.fromkeys(sha for part in parts for sha in part.get("params_sha256", ())):
        joined["params_sha256"] = [*params]
    return joined


def _write(path: Path, record: Record) -> Path:
    write_json(path, sealed(record))
    return path


def _misfits(cell: Cell, record: Record) -> Iterator[str]:
    """What keeps the runs from being averaged, or compared with those of other cells."""
    seeds, runs = cell.seeds, record["runs"]
    if [cost["seed"] for cost in record["cost"]] != seeds:
        yield f"cost is not of the seeds {seeds}"
    if [run["seed"] for run in runs] != seeds:
        yield f"runs are not of the seeds {seeds}"
        return
    first = _form(runs[0])
    for run in runs:
        told, labels = trained_on(record, run)
        form = _form(run)
        faults = [
            f"{key} is not like that of seed {seeds[0]}" for key in form if form[key] != first[key]
        ]
        if "evaluation" not in run["history"][-1]:
            faults.append("history has no evaluation of the last epoch")
        if told["name"] != cell.dataset.name:
            faults.append(f"dataset.name is not {cell.dataset.name}")
        if (labels["sha256"] is None) != (cell.noise is None):
            faults.append(f"noise.sha256 does not fit {cell.noise_name} labels")
        yield from (f"seed {run['seed']}: {fault}" for fault in faults)


def _form(run: Run) -> dict[str, object]:
    """What is the same in all runs of a cell."""
    predictions = run.get("predictions")
    return {
        "history": [(epoch["epoch"], "evaluation" in epoch) for epoch in run["history"]],
        "final": run["final"].keys(),
        "predictions": predictions
        and [len(predictions["calibration"]["count"]), len(predictions.get("confusion", ()))],
    }


def _contradictions(cell: Cell, record: Record) -> Iterator[str]:
    """Where a record contradicts its configuration or itself."""
    for run in record["runs"]:
        for fault in _run_faults(run, cell.training.epochs):
            yield f"seed {run['seed']}: {fault}"


def _run_faults(run: Run, epochs: int) -> Iterator[str]:
    history = run["history"]
    if [entry["epoch"] for entry in history] != [*range(1, epochs + 1)]:
        yield f"history is not of {epochs} epochs"
    evaluated = [(e["epoch"], e["evaluation"]) for e in history if "evaluation" in e]
    if not evaluated:
        return
    for name, value in evaluated[-1][1].items():
        if run["final"].get(name) != value:
            yield f"final {name} is not that of the last epoch"
    epoch, best = max(evaluated, key=lambda entry: entry[1]["accuracy"])
    for name, value in {"epoch": epoch, **best}.items():
        if run["oracle"].get(name) != value:
            yield f"oracle {name} is not that of the best epoch"


def _refusal(faults: Mapping[Path, Sequence[str]]) -> ImclError:
    """An error that lists the faults of files."""
    lines = []
    for path, found in islice(faults.items(), MOST_FILES):
        lines += [f"{path}: {fault}" for fault in found[:MOST_FAULTS]]
        if len(found) > MOST_FAULTS:
            lines.append(f"{path}: ... and {len(found) - MOST_FAULTS} more faults")
    if len(faults) > MOST_FILES:
        lines.append(f"... and {len(faults) - MOST_FILES} more files with faults")
    return ImclError("\n".join([*lines, "restore these files, or delete them and run again"]))
