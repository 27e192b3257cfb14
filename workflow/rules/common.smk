# What the rules share: the checked parameters and the grid, both from imcl.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from imcl import grid, params
from imcl.data import SOURCES
from imcl.errors import UsageError, unknown
from imcl.noise import KINDS
from imcl.report import BENCHES, BUILD, CURVES, METRICS, TEMPLATES, records, summary
from imcl.report.paper import HINT, can_build

try:
    for key in config:
        if key not in ("study", "records"):
            known = unknown("key", key, ["study", "records"])
            raise UsageError(f"--config {known}; all else is set in params.yaml")
    origin = config.get("records", "committed")
    if origin != "committed":
        known = unknown("origin", origin, ["committed"])
        raise UsageError(f"--config records={origin}: {known}")
    PARAMS = params.load("params.yaml", config.get("study"))
except UsageError as error:
    raise WorkflowError(str(error))

STUDY = PARAMS["study"]
CELLS = {cell.key: cell for cell in grid.cells(PARAMS)}
DATASETS = {cell.dataset.folder.name: cell.dataset for cell in CELLS.values()}
NOISES = {str(cell.noise.path): cell.noise for cell in CELLS.values() if cell.noise}
ARCHIVES = {
    archive.name: source
    for source, archives in (SOURCES | KINDS).items()
    for archive in archives
}

# `--config records=committed` renders the study from paper/results, as far as its records stand
# there, and trains nothing.
FROM_COMMITTED = config.get("records") == "committed"
RECORDS = records.committed(STUDY) if FROM_COMMITTED else grid.RECORDS
SHOWN = [
    cell
    for cell in CELLS.values()
    if not FROM_COMMITTED or (RECORDS / cell.record.name).exists()
]
if FROM_COMMITTED:
    planned = {RECORDS / cell.record.name for cell in CELLS.values()}
    stray = sorted({*RECORDS.glob("*.json")} - planned)
    if stray:
        raise WorkflowError(
            f"{stray[0]} and {len(stray) - 1} more are of no cell of study {STUDY}: params.yaml"
            " has changed since; train the study anew, or delete them"
        )
if not SHOWN:
    raise WorkflowError(
        f"study {STUDY} has no records in {RECORDS}; choose another, as in"
        " `--config study=quick records=committed`, or leave records= out to train it"
    )
STUDY_SUMMARY = summary.path(PARAMS, RECORDS)
# What claims and the search for the settings are read from beside the study: records of the others.
# Those made here are no inputs, since rule train would be asked for what is no cell of this study;
# their names say all, since they carry the digest of what decides them.
OTHERS = [
    path
    for study in PARAMS["studies"]
    if study != STUDY
    for cell in grid.cells(PARAMS, study)
    if (path := records.find(cell, study, here=not FROM_COMMITTED))
]
COMMITTED = [path for path in OTHERS if path.parent != grid.RECORDS]
MADE_HERE = [path.name for path in OTHERS if path.parent == grid.RECORDS]
BENCHES_THERE = sorted(BENCHES.glob("*.json"))
TABLES = [
    BUILD / "tables",
    *(BUILD / f"{name}.tex" for name in ("numbers", "results", "discussion")),
]
FIGURES = [BUILD / "figures"]
REPORT, CRATE = BUILD / "report.html", BUILD / "crate"
PAPER = [BUILD / "paper.pdf"] if can_build() else []

# A record's name carries the digest of all that decides it, so a record that is there is right, and
# nothing makes it again, whatever becomes of file times, data or metadata.
# Delete it, or say --forceall, to have that.
FORCED = {"--forceall", "-F"} & set(sys.argv)
TRAINED = [] if FORCED else [c.digest for c in CELLS.values() if c.record.exists()]
UNTRAINED = [c.digest for c in CELLS.values() if FORCED or not c.record.exists()]


def trainable():
    """A regular expression of the cells that may be trained, by the shorter of the two lists.

    Snakemake carries it in every job's file names, so its length counts squared.
    """
    if len(TRAINED) < len(UNTRAINED):
        return rf"(?!.*-(?:{'|'.join(TRAINED) or '(?!)'})\.json$)[^/]+"
    return rf"[^/]+-(?:{'|'.join(UNTRAINED) or '(?!)'})"


def cell_of(wildcards):
    if wildcards.cell not in CELLS:
        raise WorkflowError(f"study {STUDY}: {unknown('cell', wildcards.cell, CELLS)}")
    return CELLS[wildcards.cell]


# The rules run `python -m imcl`: with the interpreter that runs Snakemake, unless a deployment
# method puts its own first, and with the code of this checkout.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
    PYTHONPATH=str(Path("src").resolve()),
)


onsuccess:
    if not PAPER:
        print(HINT)
