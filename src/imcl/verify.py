"""Checks records, measurements, tables and weights against what can be computed again.

It trusts only the measured values of a record, and only if the record's seal is intact. `retrain`
tests even these: it trains a cell again.

That something is gone, only another file can tell: params.yaml or a table that a record is missing,
git's last commit that a study or a measurement is, and a README that shows a table that the table
is. Without git, a study that no README shows can vanish unnoticed.
"""

import filecmp
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from imcl.analysis import claims, statistics, summary
from imcl.analysis.search import Search
from imcl.data import prepare
from imcl.data.contents import settings_of
from imcl.errors import ImclError
from imcl.files import read_bytes
from imcl.noise import inject
from imcl.present import tables
from imcl.present.documents import Documents
from imcl.project import Project
from imcl.records.collect import collect
from imcl.records.record import Record, changed_since, environment_of, trained_on
from imcl.records.store import Store
from imcl.study import grid, search
from imcl.study.grid import Cell
from imcl.study.references import SEARCH
from imcl.study.settings import Settings

# Another machine adds in another order, so it rounds differently. Training amplifies that: at first
# the difference is small, in the end as large as with another seed. So a seed's loss in the first
# epoch may differ by this share.
LOSS_TOLERANCE = 0.1
# The mean accuracy over the seeds may differ by the first of these shares. If the spread of the
# record's seeds allows more, it may differ as much as two means of other seeds would, but at most
# by the second.
ACCURACY_TOLERANCE = (0.15, 0.25)

# What the committed records are checked against.
NEEDED = (
    "verify needs the params.yaml that the records were made with: the same study, datasets, "
    "noise, ways, baselines, training and search"
)
# A committed table in a README.
SHOWN = rb"<!-- ([\w-]+/[\w-]+) -->\n(.*?)<!-- /\1 -->"


class Finding(NamedTuple):
    """A place and what is wrong there."""

    place: Path
    fault: str


class Study(NamedTuple):
    """A study or its search, with its records and the files that were made from them.

    Attributes:
        settings: choose the study.
        cells: of the study, or of the rungs of its search as far as these follow from records.
        searched: whether it is the search.
        committed: whether the records are the committed ones, or those made here.
        records: the folder of the records.
        made: the files, by the path at which the pipeline makes them, relative to the root.
    """

    settings: Settings
    cells: list[Cell]
    committed: bool
    records: Path
    made: dict[str, Path]
    searched: bool = False


def studies(project: Project, settings: Settings) -> list[Study]:
    """What there is to verify: each committed study, and the chosen one as it was run here."""
    found: list[Study] = []
    for folder in _folders(project):
        if folder.name in settings.studies:
            found.append(_committed(project, folder))
        elif (name := folder.name.removeprefix(SEARCH)) in settings.studies:
            of_search = settings_of(project, name)
            cells = _searched(project, of_search, committed=True)
            found.append(Study(of_search, cells, True, folder / "records", {}, searched=True))
    if any(project.record(cell.key).exists() for cell in grid.cells(settings)):
        found.append(_made_here(project, settings))
    if any(project.record(cell.key).exists() for cell in _searched(project, settings)):
        cells = _searched(project, settings)
        found.append(Study(settings, cells, False, project.records, {}, searched=True))
    return found


def _searched(project: Project, settings: Settings, committed: bool = False) -> list[Cell]:
    """The cells of the rungs of a search, as far as they follow from records."""
    cells: list[Cell] = []
    if search.possible(settings):
        with suppress(ImclError):  # of a damaged record, which is among the cells
            for rung in Search(project, settings, committed).rungs():
                if not rung.follows:
                    break
                cells += rung.cells
    return cells


def check_folders(project: Project, settings: Settings) -> Iterator[Finding]:
    """Committed results that are gone, or of studies that params.yaml does not have."""
    names = [folder.name for folder in _folders(project)]
    known = {*settings.studies, *(f"{SEARCH}{name}" for name in settings.studies)}
    lacking = [name for name in names if name not in known]
    if lacking:
        yield Finding(
            project.params,
            f"has no study {', '.join(lacking)}, but {project.committed} has its results; to check "
            f"them, {NEEDED}",
        )
    gone = [path for path in _in_git(project) if not (project.committed / path).exists()]
    tops = dict.fromkeys(project.committed / path.parts[0] for path in gone)
    empty = [top for top in tops if not any(path.is_file() for path in top.rglob("*"))]
    # Which records must be there, params.yaml and the tables tell.
    files = [project.committed / path for path in gone if path.parent.name != "records"]
    for path in [*empty, *(path for path in files if not {path, *path.parents} & {*empty})]:
        yield Finding(path, "is gone, but it is in git")


def _in_git(project: Project) -> list[Path]:
    """The committed results in git's last commit, from their folder; none outside a checkout."""
    folder = project.committed.relative_to(project.root)
    command = ["git", "-C", str(project.root), "ls-tree", "-r", "-z", "--name-only", "HEAD"]
    try:
        answer = subprocess.run([*command, "--", str(folder)], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    names = filter(None, answer.stdout.split(b"\0"))
    return [Path(os.fsdecode(name)).relative_to(folder) for name in names]


def check_readmes(project: Project) -> Iterator[Finding]:
    """Tables in the READMEs that differ from the committed ones, or whose file is gone."""
    for readme in (project.root / "README.md", project.paper / "README.md"):
        text = read_bytes(readme) if readme.is_file() else b""
        for found, shown in re.findall(SHOWN, text, flags=re.DOTALL):
            mark = found.decode()
            table = project.committed / f"{mark}.md"
            if not table.is_file():
                yield Finding(readme, f"shows the table {mark}, but {table} is gone")
            elif read_bytes(table) != shown:
                yield Finding(readme, f"shows the table {mark} otherwise than {table}")


def _folders(project: Project) -> list[Path]:
    """Of the committed studies. A study whose records are all gone still has its tables."""
    folders = sorted(path for path in project.committed.glob("*") if path.is_dir())
    return [folder for folder in folders if (folder / "records").exists() or _tables(folder)]


def _committed(project: Project, folder: Path) -> Study:
    built = project.build / "tables"
    made = {project.relative(built / path.name): path for path in _tables(folder)}
    settings = settings_of(project, folder.name)
    return Study(settings, grid.cells(settings), True, folder / "records", made)


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.md") if path.name != "README.md")


def _made_here(project: Project, settings: Settings) -> Study:
    cells = grid.cells(settings)
    written = project.summary(grid.study_key(settings), committed=False)
    if not written.exists():  # tables and figures are of another study, or not made yet
        return Study(settings, cells, False, project.records, {})
    files = [written, *project.metrics.glob("*.json"), project.curves]
    files += [project.claims(committed=False)]
    files += [*project.build.glob("tables/*"), *project.build.glob("*.tex")]
    # Snakemake leaves hidden files in the folders that its rules make.
    made = {project.relative(p): p for p in files if p.exists() and p.name[0] != "."}
    return Study(settings, cells, False, project.records, made)


def check(project: Project, study: Study) -> Iterator[Finding]:
    """Everything that is wrong with a study's records and with the files made from them."""
    store = Store(project)
    paths = {study.records / store.path(cell).name: cell for cell in study.cells}
    files = {**paths, **({} if study.committed else _runs(project, paths.values()))}
    faults = [
        Finding(path, fault) for path, cell in files.items() for fault in store.faults(cell, path)
    ]
    # In results/ records may be missing or of other studies. After one with faults, a search cannot
    # tell which records follow.
    if study.committed and not (study.searched and faults):
        faults += _not_as_planned(project.params, study, paths)
    yield from faults
    if study.made and not faults:
        yield from _out_of_date(project, study)


def _runs(project: Project, cells: Iterable[Cell]) -> dict[Path, Cell]:
    """Where the files of the cells' runs are, or would be."""
    return {project.run(run.run_key): run for cell in cells for run in cell.runs}


def _not_as_planned(params: Path, study: Study, paths: dict[Path, Cell]) -> Iterator[Finding]:
    """Committed records that are missing, or belong to no cell of the study.

    If the accuracy table of a dataset is committed too, records may be missing there: the table
    names the cells that have one, so it is wrong as soon as another record is removed.
    """
    there = set(study.records.glob("*.json"))
    if not there:
        yield Finding(study.records, "has no records")
    elif not there & set(paths):
        fault = f"none of its {len(there)} records belongs to study {study.records.parent.name} in "
        lacks = next((c.lacks for c in paths.values() if c.lacks), "")
        needed = lacks or f"to check them, {NEEDED}"
        yield Finding(study.records, f"{fault}{params}; {needed}")
        return
    tables_of = {path.name for path in study.made.values()}
    for path, cell in paths.items():
        if path not in there and f"accuracy-{cell.dataset.name}.md" not in tables_of:
            yield Finding(path, "; ".join(filter(None, ["is missing", cell.lacks])))
    for path in sorted(there - set(paths)):
        yield Finding(path, f"belongs to no cell of study {study.records.parent.name}")


def _out_of_date(project: Project, study: Study) -> Iterator[Finding]:
    """Files that differ from what the records give now."""
    with _scratch(project) as (scratch, folder):
        try:
            if not study.committed:
                shutil.copytree(project.records, scratch.records)
            summary.write(scratch, study.settings, study.committed, partial=True)
            claims.write(scratch, study.settings, study.committed)
            tables.write(scratch, Documents.read(scratch))
        except (ImclError, OSError) as error:
            yield Finding(study.records, f"its tables cannot be made again: {error}")
            return
        for place, path in study.made.items():
            again = folder / place
            if not again.exists() or not filecmp.cmp(again, path, shallow=False):
                yield Finding(path, "is not what the records give")


def check_measurements(project: Project) -> Iterator[Finding]:
    """Everything that is wrong with the committed measurements, wrong ratios included."""
    store = Store(project)
    for path in sorted(project.measurements.glob("*.json")):
        measurement, faults = store.measurement(path)
        yield from (Finding(path, fault) for fault in faults)
        if measurement is None:
            continue
        rows = measurement["rows"]
        for index, row in enumerate(rows):
            for ratio, value in _ratios(measurement["bench"], row, rows).items():
                if row[ratio] != value:
                    yield Finding(path, f"rows[{index}]: {ratio} is not {value}")


def _ratios(bench: str, row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, float]:
    """The ratios in a measurement's row, computed again from the measured values."""
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


def sample(project: Project, checked: Iterable[Study], count: int) -> list[tuple[Cell, Path]]:
    """`count` random cells with their records, among those whose archives are here."""
    store = Store(project)
    there = {
        cell.key: (cell, path)
        for study in checked
        for cell in study.cells
        if (path := study.records / store.path(cell).name).exists() and _can_train(project, cell)
    }
    return random.sample(list(there.values()), min(count, len(there)))


def _can_train(project: Project, cell: Cell) -> bool:
    archives = [*cell.dataset.archives, *(cell.noise.archives if cell.noise else ())]
    needed = [archive.path(project.archives) for archive in archives]
    if cell.dataset.options.path:
        needed.append(project.root / cell.dataset.options.path)
    if cell.foreign:
        if find_spec(cell.foreign.options.source) is None:
            return False
        if cell.foreign.options.weights:
            needed.append(project.root / cell.foreign.options.weights)
    return all(path.exists() for path in needed)


def retrain(project: Project, cell: Cell, path: Path) -> tuple[str, Finding | None]:
    """Prepare the data of a cell and train it again, in a scratch folder.

    Args:
        project: holds the archives.
        cell: to be trained.
        path: of its record.

    Returns:
        How the new record was compared with the old one, and what differs.

    Raises:
        ImclError: the record or an archive is damaged.
    """
    from imcl.training import worker  # imports torch, which takes seconds

    record = Store(project).read(cell, path)
    with _scratch(project) as (scratch, _):
        for dataset in dict.fromkeys(data.dataset for data in cell.all_data):
            prepare.prepare(scratch, dataset)
        for noise in dict.fromkeys(data.noise for data in cell.all_data if data.noise):
            inject.inject(scratch, noise)
        for run, made in zip(cell.runs, record["runs"], strict=True):
            where = environment_of(record, made)
            options = worker.RunOptions(
                device="auto" if where["device"] == "cuda" else "cpu",  # whoever has no GPU
                threads=where["threads"],
                compiled=where.get("compiled", False),
                deterministic=where.get("deterministic", True),
            )
            worker.train_runs(scratch, run, options)
        again = collect(scratch, cell)
    return _compare(record, again, path)


def _compare(record: Record, again: Record, path: Path) -> tuple[str, Finding | None]:
    """Bit for bit if machine and code are of the same kind, otherwise within the tolerances."""
    for run, new in zip(record["runs"], again["runs"], strict=True):
        (dataset, noise), (dataset_now, noise_now) = trained_on(record, run), trained_on(again, new)
        if dataset_now != dataset:
            return "data", Finding(path, "the dataset, prepared again, is different")
        if noise_now != noise:
            return "data", Finding(path, "the noise, drawn again, is different")
    earlier = changed_since(record)
    moved = any("elsewhere" in run for run in record["runs"])
    alike = _machines(record) == _machines(again)
    if alike and _repeats(record) and not earlier and not moved:
        same = _results(again) == _results(record)
        return "bit for bit", None if same else Finding(path, "trained again, it differs")
    pairs = list(zip(record["runs"], again["runs"], strict=True))
    losses = [(before["history"][0]["loss"], now["history"][0]["loss"]) for before, now in pairs]
    loss = max(abs(now - before) / (abs(before) or 1) for before, now in losses)
    gains = [now["final"]["accuracy"] - before["final"]["accuracy"] for before, now in pairs]
    accuracy = abs(sum(gains)) / len(gains)
    seeds = statistics.estimate([before["final"]["accuracy"] for before, _ in pairs])
    least, most = ACCURACY_TOLERANCE
    tolerance = min(max(least, 2**0.5 * (seeds["half_width"] or 0)), most)
    where = "by earlier code" if earlier else "on another machine"
    if alike and not _repeats(record):
        where = "by algorithms that do not repeat to the bit"
    if moved:
        where = "on several machines, or by several versions of the code"
    devices = (machine.device_name for machine in _machines(record))
    how = (
        f"{where} ({'; '.join(dict.fromkeys(devices))}): first epoch's loss within "
        f"{loss:.2%} (tolerance {LOSS_TOLERANCE:.0%}), mean accuracy within "
        f"{100 * accuracy:.2f} points (tolerance {100 * tolerance:.2f})"
    )
    if loss > LOSS_TOLERANCE or accuracy > tolerance:
        fault = "trained again, it differs by more than another machine or earlier code explains"
        return how, Finding(path, fault)
    return how, None


class _Machine(NamedTuple):
    """Machines that agree in these give the same bits."""

    device: str
    device_name: str
    threads: int
    torch: str
    numpy: str
    torchvision: str | None
    timm: str | None


def _machines(record: Record) -> list[_Machine]:
    """Those of the runs, by seed."""
    every = [environment_of(record, run) for run in record["runs"]]
    return [
        _Machine(
            e["device"],
            e["device_name"],
            e["threads"],
            e["torch"],
            e["numpy"],
            e.get("torchvision"),
            e.get("timm"),
        )
        for e in every
    ]


def _repeats(record: Record) -> bool:
    """Whether the same machine gives the same bits."""
    every = (environment_of(record, run) for run in record["runs"])
    return all(each.get("deterministic", True) for each in every)


def _results(record: Record) -> list[dict[str, object]]:
    """What the runs give: all but the code and the machine, which may be told in each of them."""
    told = {"code", "environment"}
    return [{k: v for k, v in run.items() if k not in told} for run in record["runs"]]


@contextmanager
def _scratch(project: Project) -> Iterator[tuple[Project, Path]]:
    """The project, with a temporary folder for everything that it makes; and that folder."""
    with tempfile.TemporaryDirectory(prefix="imcl-verify-") as folder:
        yield replace(project, scratch=Path(folder)), Path(folder)
