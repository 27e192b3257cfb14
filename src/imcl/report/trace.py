"""Leads a number that is shown back to the records, configurations, seeds and code behind it."""

from pathlib import Path

from imcl.errors import UsageError, unknown
from imcl.files import read_json, sha256
from imcl.report import summary, tables
from imcl.report.render import Entry


def trace(params: dict, place: str, here: bool = True) -> dict:
    """What stands behind the entry at TABLE:ROW:COLUMN, as the records are now.

    Args:
        params: checked parameters; of the study that is chosen.
        place: names a table (or figure, or `text`), a row by its labels joined with `/`, and a
            column.
        here: a record made here goes before the committed one; else committed ones alone.

    Raises:
        UsageError: there is no such place.
        ImclError: the study has no records.
    """
    made = summary.current(params, here)
    entry = _find(tables.build(made), place)
    rows = {row["key"]: row for row in made["cells"]}
    return {
        "place": place,
        "study": made["study"],
        "study_digest": made["digest"],
        "shown": entry.text,
        "value": entry.value,
        "rule": entry.rule,
        "sources": [
            _source(Path(rows[s]["record"]["path"] if s in rows else s)) for s in entry.sources
        ],
    }


def _find(built: list, place: str) -> Entry:
    shown = {table.name: table.rows() for table in built}
    parts = place.split(":")
    if len(parts) != 3:
        raise UsageError(
            f"{place}: a place is TABLE:ROW:COLUMN, such as "
            f"{_example(shown)}; tables: {', '.join(shown)}"
        )
    table, row, column = parts
    for name, known, what in (
        (table, shown, "table"),
        (row, shown.get(table, {}), f"row of {table}"),
        (column, shown.get(table, {}).get(row, {}), f"column of {table}"),
    ):
        if name not in known:
            raise UsageError(f"{place}: {unknown(what, name, known)}")
    return shown[table][row][column]


def _example(shown: dict) -> str:
    table = next(iter(shown))
    row = next(iter(shown[table]))
    return f"{table}:{row}:{next(iter(shown[table][row]))}"


def _source(path: Path) -> dict:
    """A record, or the record of a measurement, as far as it decides a number."""
    record = read_json(path)
    found = {"path": str(path), "sha256": sha256(path)}
    for key in ("cell", "digest", "config", "settings", "dataset", "noise", "code", "environment"):
        if key in record:
            value = record[key]
            found[key] = (
                {k: v for k, v in value.items() if k != "transition_matrix"}
                if isinstance(value, dict)
                else value
            )
    found["runs"] = [
        {"seed": run["seed"], **run["final"], "weights_sha256": run.get("weights_sha256")}
        for run in record.get("runs", [])
    ]
    return found


def show(traced: dict) -> None:
    """Print what was traced."""
    from tabulate import tabulate

    print(f"{traced['place']} of study {traced['study']} ({traced['study_digest']})")
    print(f"shown  {traced['shown']}")
    if traced["rule"]:
        print(f"value  {_short(traced['value'])}")
        print(f"rule   {traced['rule']}")
    if not traced["sources"]:
        print("no record stands behind it: it is a name, a setting or a gap")
    for source in traced["sources"]:
        print(f"\nrecord {source['path']}\n  sha256   {source['sha256']}")
        for key in ("digest", "settings", "dataset", "noise", "code", "environment"):
            if key in source:
                print(f"  {key:<8} {_short(source[key])}")
        for key, value in source.get("config", {}).items():
            print(f"  config.{key}: {_short(value)}")
        if source["runs"]:
            table = tabulate(source["runs"], headers="keys", tablefmt="plain", floatfmt=".6g")
            print("  " + table.replace("\n", "\n  "))


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
