"""Traces a number in a document back to its records, configurations, seeds and code."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from imcl import terminal
from imcl.errors import UsageError, printable, unknown
from imcl.files import sha256
from imcl.present import tables
from imcl.present.documents import Documents
from imcl.present.render import Entry, Table, number
from imcl.project import Project
from imcl.records.record import Measurement, Run
from imcl.records.store import Store


class Source(TypedDict):
    """A file that a number comes from, with the parts of it that decide the number.

    `path` is relative to the project's root. A record has the entries `cell` to `noise`, and a
    run for each seed; what differs between the seeds is in the runs. A measurement has
    `settings`.
    """

    path: str
    sha256: str
    cell: NotRequired[str]
    digest: NotRequired[str]
    config: NotRequired[dict[str, Any]]
    settings: NotRequired[dict[str, Any]]
    dataset: NotRequired[dict[str, Any]]
    noise: NotRequired[dict[str, Any]]
    code: NotRequired[dict[str, Any]]
    environment: NotRequired[dict[str, Any]]
    runs: list[dict[str, Any]]


class Traced(TypedDict):
    """An entry of a table, and the files that it comes from."""

    place: str
    study: str
    study_digest: str
    shown: str
    value: dict[str, Any] | float | None
    rule: str
    sources: list[Source]


def trace(project: Project, documents: Documents, place: str) -> Traced:
    """What is behind the entry at TABLE:ROW:COLUMN.

    Args:
        project: whose records are read.
        documents: of the study.
        place: names a table (or a figure, or `text`), a row by its labels joined with `/`, and a
            column.

    Raises:
        UsageError: there is no such place.
    """
    entry = _find(tables.build(documents), place)
    summary = documents.summary
    records = {row["key"]: row["record"]["path"] for row in summary["cells"]}
    paths = [records.get(source, source) for source in entry.sources]
    return {
        "place": place,
        "study": summary["study"],
        "study_digest": summary["digest"],
        "shown": entry.text,
        "value": entry.value,
        "rule": entry.rule,
        "sources": [_source(project, documents.measurements, path) for path in paths],
    }


def _find(built: Sequence[Table], place: str) -> Entry:
    shown = {table.name: table.rows() for table in built}
    parts = place.split(":")
    if len(parts) != 3:
        raise UsageError(
            f"{place}: a place is TABLE:ROW:COLUMN, such as {_example(built[0])}; "
            f"tables: {', '.join(shown)}"
        )
    table, row, column = parts
    if table not in shown:
        raise UsageError(f"{place}: {unknown('table', table, shown)}")
    rows = shown[table]
    if row not in rows:
        raise UsageError(f"{place}: {unknown(f'row of {table}', row, rows)}")
    if column not in rows[row]:
        raise UsageError(f"{place}: {unknown(f'column of {table}', column, rows[row])}")
    return rows[row][column]


def _example(table: Table) -> str:
    row, entries = next(iter(table.rows().items()))
    return f"{table.name}:{row}:{next(iter(entries))}"


def _source(project: Project, measurements: Mapping[str, Measurement], path: str) -> Source:
    file = project.root / path
    if path in measurements:
        measurement = measurements[path]
        return {
            "path": path,
            "sha256": sha256(file),
            "settings": measurement["settings"],
            "code": {**measurement["code"]},
            "environment": {**measurement["environment"]},
            "runs": [],
        }
    record = Store(project).open(file)
    source: Source = {
        "path": path,
        "sha256": sha256(file),
        "cell": record["cell"],
        "digest": record["digest"],
        "config": {**record["config"]},
        "runs": [
            {
                "seed": run["seed"],
                **run["final"],
                "weights_sha256": run["weights_sha256"],
                **_drawn(run),
            }
            for run in record["runs"]
        ],
    }
    if "code" in record:
        source["code"] = {**record["code"]}
    if "environment" in record:
        source["environment"] = {**record["environment"]}
    if "dataset" in record:
        source["dataset"] = {**record["dataset"]}
    if "noise" in record:
        noise = record["noise"]
        source["noise"] = {k: v for k, v in noise.items() if k != "transition_matrix"}
    return source


def _drawn(run: Run) -> dict[str, Any]:
    """What tells of this run alone: its data and labels, code and machine."""
    told: dict[str, Any] = {}
    if "code" in run:
        told["commit"] = run["code"]["commit"]
    if "environment" in run:
        told["device_name"] = run["environment"]["device_name"]
    if "dataset" in run:
        told["dataset_sha256"] = run["dataset"]["sha256"]
    if "noise" in run:
        told["noise_sha256"] = run["noise"]["sha256"]
        told["realised_rate"] = run["noise"]["realised_rate"]
    return told


# How tables show what a run reached: title, factor and digits.
REACHED = {
    "accuracy": ("accuracy", 100, 1),
    "nll": ("NLL", 1, 2),
    "ece": ("ECE", 100, 1),
    "roc_auc": ("AUC", 100, 1),
    "channel_correlation": ("channels", 1000, 1),
    "kernel_cosine": ("kernels", 1000, 1),
}


def show(traced: Traced, verbose: bool = False) -> None:
    """Print a number, what the seeds behind it reached, and their records.

    `verbose` adds configuration, code, machine and hashes. Numbers are rounded as in tables.
    """
    tell = terminal.tell
    tell(f"{traced['place']} of study {traced['study']}")
    rule = f": {traced['rule']}" if traced["rule"] else ""
    tell(f"{printable(traced['shown'])}{rule}")
    if not traced["sources"]:
        tell("It has no record: it is a name, a setting or an empty entry.")
        return
    runs = [(source, run) for source in traced["sources"] for run in source["runs"]]
    reached = [key for key in REACHED if any(key in run for _, run in runs)]
    if runs:
        print()
        numbers = [title for title, _, _ in map(REACHED.__getitem__, reached)]
        terminal.table(
            ["cell", "seed", *numbers],
            [
                [source["cell"], str(run["seed"]), *(_reached(run, key) for key in reached)]
                for source, run in runs
            ],
            right=["seed", *numbers],
        )
        print("(NLL in nats; channels and kernels × 1000; the others in %)")
    print()
    for source in traced["sources"]:
        tell(source["path"])
        if verbose:
            _show_source(source)
    if not verbose:
        tell("\n`imcl trace -v` shows configuration, code, machine and hashes.")
        return
    tell(f"study {traced['study']} has the digest {traced['study_digest']}")
    if traced["value"] is not None:
        tell(f"value  {_short(traced['value'])}")


def _reached(run: Mapping[str, Any], key: str) -> str:
    _, factor, digits = REACHED[key]
    return number(run.get(key), (), "", scale=factor, digits=digits).text


def _show_source(source: Source) -> None:
    """Print what decides the numbers of a file, and its hashes."""
    for key, value in source.items():
        if key in ("sha256", "digest", "settings", "dataset", "noise", "code", "environment"):
            terminal.tell(f"  {key:<8} {_short(value)}")
    for key, value in source.get("config", {}).items():
        terminal.tell(f"  config.{key}: {_short(value)}")
    for run in source["runs"]:
        told = {key: value for key, value in run.items() if key not in ("seed", *REACHED)}
        terminal.tell(f"  seed {run['seed']}: {_short(told)}")


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
