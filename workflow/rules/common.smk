# What the rules share: checked settings, cells, and the files that a rule depends on.
import os
import re
import shutil
import sys
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path

import grimp
import yaml
from snakemake.cli import parse_args
from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from imcl.data.contents import settings_of
from imcl.errors import ImclError, UsageError, unknown
from imcl.present.pdf import HINT, can_build
from imcl.project import VARIABLE, Project
from imcl.records.store import Store
from imcl.study import grid, references
from imcl.study.cost import memory_mb, one_job, runtime_minutes
from imcl.study.snapshot import Snapshot
from imcl.study.sources import KINDS, SOURCES

if not workflow.is_main_process and VARIABLE not in os.environ:
    raise WorkflowError(
        f"this job does not know which parameters it was submitted with: {VARIABLE} is not set;"
        " let the executor hand the environment on to its jobs"
    )
PROJECT = Project.find(Path())
STORE = Store(PROJECT)

try:
    for key in config:
        if key not in ("study", "records"):
            known = unknown("key", key, ["study", "records"])
            raise UsageError(f"--config {known}; set everything else in params.yaml")
    if config.get("records", "committed") != "committed":
        known = unknown("origin", config["records"], ["committed"])
        raise UsageError(f"--config records={config['records']}: {known}")
    SETTINGS = settings_of(PROJECT, config.get("study"))
    SNAPSHOT = Snapshot.of(PROJECT)
except UsageError as error:
    raise WorkflowError(str(error))
# imcl has checked more, with better messages; this holds the published schema to the same file.
validate(
    yaml.safe_load(SNAPSHOT.content),
    "../schemas/params.schema.json",
    set_default=False,
)

STUDY = SETTINGS.study
CELLS = {cell.key: cell for cell in grid.cells(SETTINGS)}
DATA = dict.fromkeys(data for cell in CELLS.values() for data in cell.all_data)
DATASETS = {data.dataset.key: data.dataset for data in DATA}
NOISES = {(data.dataset.key, data.noise.key): data.noise for data in DATA if data.noise}
ARCHIVES = {
    archive.name: name
    for name, source in (SOURCES | KINDS).items()
    for archive in source.archives
}

# `--config records=committed` renders the study from the records in paper/results, as many as there
# are, and trains nothing.
COMMITTED = config.get("records") == "committed"
ORIGIN = ["--committed"] if COMMITTED else []
if COMMITTED:
    folder = PROJECT.committed_records(STUDY)
    found = {
        key: STORE.find(cell, STUDY, committed=True) for key, cell in CELLS.items()
    }
    RECORDS = {key: path for key, path in found.items() if path}
    stray = sorted({*folder.glob("*.json")} - {*RECORDS.values()})
    if stray:
        raise WorkflowError(
            f"{stray[0]} and {len(stray) - 1} more belong to no cell of study {STUDY}: params.yaml"
            " has changed since; train the study again, or delete them"
        )
    if not RECORDS:
        raise WorkflowError(
            f"study {STUDY} has no records in {folder}; choose another, as in"
            " `--config study=quick records=committed`, or leave out records= to train it"
        )
else:
    RECORDS = {key: PROJECT.record(key) for key in CELLS}

SUMMARY = PROJECT.summary(grid.study_key(SETTINGS), COMMITTED)
CLAIMS = PROJECT.claims(COMMITTED)
ANALYSIS = [SUMMARY, CLAIMS]
# Records of the study's search, and of any search that was made here.
SEARCHED = sorted(
    [
        *PROJECT.committed_records(f"{references.SEARCH}{STUDY}").glob("*.json"),
        *([] if COMMITTED else PROJECT.records.glob("*@*.json")),
    ]
)
TABLES = [
    PROJECT.build / "tables",
    *PROJECT.texts,
]
FIGURES = PROJECT.build / "figures"
REPORT, CRATE = PROJECT.build / "report.html", PROJECT.build / "crate"
PAPER = [PROJECT.build / "paper.pdf"] if can_build() else []

# A record's name carries the digest of everything that decides it. So a record that exists is right,
# and no rule makes it again, whatever happens to file times, data or metadata. The same is true of
# the file of a seed. Delete both, or say --forceall, to train a cell again.
OWN = {cell.digest for cell in CELLS.values()}
KEPT = {
    digest
    for path in PROJECT.records.glob("*.json")
    if re.fullmatch("[0-9a-f]{12}", digest := path.stem.rpartition("-")[2])
}
if workflow.is_main_process:
    # Snakemake does not tell rules of it. So its own parser reads the command once more: flags may be
    # short or joined, or stand in a profile, which it must not announce twice.
    try:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            FORCED = parse_args(sys.argv[1:])[1].forceall
    except SystemExit:
        raise WorkflowError(
            f"there is no such profile in {Path.cwd()}: with --directory, say its absolute path"
        )
else:
    FORCED = bool(os.environ.get("IMCL_FORCED"))
if FORCED or not workflow.is_main_process:  # a job makes what it is told to
    KEPT -= OWN
BY_NAME = {cell.name: cell for cell in CELLS.values()}
SHORT = {c.digest for c in CELLS.values() if c.digest not in KEPT and one_job(c)}
LONG = OWN - KEPT - SHORT


def only(digests):
    """A regular expression of the cells that a rule may make, by the shorter of two lists.

    Snakemake repeats it in the file names of every job, so its length counts squared. It excludes
    the records that other studies made here: they are inputs of claims, but no cells of this study.
    """
    others = (OWN | KEPT) - digests
    if digests and len(others) < len(digests):
        return rf"(?!.*-(?:{'|'.join(sorted(others)) or '(?!)'})\.json$)[^/]+"
    return rf"[^/]+-(?:{'|'.join(sorted(digests)) or '(?!)'})"


def cell_of(wildcards):
    if wildcards.cell not in CELLS:
        raise WorkflowError(f"study {STUDY}: {unknown('cell', wildcards.cell, CELLS)}")
    return CELLS[wildcards.cell]


def run_of(wildcards):
    """The cell with the seed that a file of one seed is of."""
    key = "{name}-seed{seed}-{digest}".format(**wildcards)
    cell, seed = BY_NAME.get(wildcards.name), int(wildcards.seed)
    if cell is None or seed not in cell.seeds or cell.of_seed(seed).run_key != key:
        raise WorkflowError(f"study {STUDY} has no seed of a cell with the key {key}")
    return cell.of_seed(seed)


def missing_runs(cell):
    """The files of a cell's seeds that are still to be made."""
    paths = [PROJECT.run(run.run_key) for run in cell.runs]
    return [path for path in paths if FORCED or not path.exists()]


# What a training asks of a cluster: a GPU if the study needs one, memory and minutes for its cell.
DEVICE = os.environ.get("IMCL_DEVICE") or SETTINGS.run.device
ON_GPU = DEVICE == "cuda" or (SETTINGS.gpu_for is not None and DEVICE != "cpu")
GRES = "gpu:1" if ON_GPU else ""


def trained(wildcards):
    """The cell that a job trains: with all its seeds, or one."""
    return run_of(wildcards) if "seed" in wildcards.keys() else cell_of(wildcards)


def memory(wildcards, attempt):
    return memory_mb(trained(wildcards), attempt, ON_GPU)


def runtime(wildcards, attempt):
    return runtime_minutes(trained(wildcards), attempt, ON_GPU)


def prepared(cell):
    """The data and labels that a cell's runs are trained on."""
    used = cell.all_data
    paths = [PROJECT.dataset(data.dataset.key) for data in used]
    paths += [PROJECT.noise(d.dataset.key, d.noise.key) for d in used if d.noise]
    return list(dict.fromkeys(paths))  # runs with labels of their own share a dataset


def archives(of):
    """The official files of a dataset or a noise. Their checksums identify them, not their dates."""
    return ancient([archive.path(PROJECT.archives) for archive in of.archives])


@cache
def evidence(*studies):
    """The records of some studies: those that this run makes, and those that exist."""
    paths = {
        (
            RECORDS[cell.key]
            if cell.key in RECORDS and not COMMITTED
            else STORE.find(cell, study, COMMITTED)
        )
        for study in studies
        for cell in grid.cells(SETTINGS, study)
    }
    return sorted(path for path in paths if path)


def measurements(bench="*"):
    return sorted(PROJECT.measurements.glob(f"{bench}-*.json"))


@cache
def imports():
    """What imports what in imcl."""
    return grimp.build_graph("imcl", cache_dir=None, exclude_type_checking_imports=True)


# What each command loads before it does anything. A test compares with what commands do load.
COMMAND_LINE = (
    "imcl.__main__",
    "imcl.signals",
    "imcl.terminal",
    "imcl.data.contents",
    "imcl.bench.options",
)


@cache
def sources(*modules):
    """The files of these modules and of all that they import, so that no rule can forget one.

    With the data files of their packages, and the command line, which calls the modules.
    """
    # Not followed any further: the commands import what each of them needs.
    reached = {*imports().find_descendants("imcl.cli")}
    left = [*modules, *COMMAND_LINE]
    while left:
        name = left.pop()
        if name and name not in reached:
            reached.add(name)
            left += [
                name.rpartition(".")[0],  # Python runs a package before its modules
                *imports().find_modules_directly_imported_by(name),
            ]
    found = []
    for name in sorted(reached):
        place = Path("src", *name.split("."))
        found += package_files(place) if place.is_dir() else [place.with_suffix(".py")]
    return found


def package_files(package):
    """The package's own __init__.py, and every file in it that is not Python."""
    return [package / "__init__.py"] + [
        path
        for path in files(package)
        if path.suffix not in (".py", ".pyc", ".md")
        and package == next(p for p in path.parents if (p / "__init__.py").exists())
    ]


def files(folder):
    """Every file, since the date of a folder does not tell that a file in it was edited."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


# The rules run `python -m imcl`: with the interpreter that runs Snakemake, unless a deployment
# method puts its own first, with the code of this checkout, and with the parameters as they are
# now, even if params.yaml is edited while jobs wait.
os.environ.update(
    {
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), *os.get_exec_path()]
        ),
        "PYTHONPATH": str(Path("src").resolve()),
        VARIABLE: str(SNAPSHOT.project.params),
        "IMCL_FORCED": "yes" if FORCED else "",
    }
)


onstart:
    if workflow.executor_plugin.name == "slurm" and not shutil.which("sbatch"):
        raise WorkflowError(
            "no SLURM on this machine (there is no sbatch): start Snakemake where jobs are submitted,"
            " or take --workflow-profile workflow/profiles/default to run them here"
        )
    try:
        SNAPSHOT.write()
    except (ImclError, OSError) as error:
        raise WorkflowError(str(error))


onsuccess:
    if not PAPER:
        print(HINT)
