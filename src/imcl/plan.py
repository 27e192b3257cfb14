"""What a study consists of, what of it is done, and why the rest is not."""

from collections import defaultdict
from pathlib import Path

from imcl import grid
from imcl.errors import ImclError
from imcl.files import read_json


def rows(params: dict) -> list[dict]:
    """One row for each cell: cell, digest, state (done or missing) and the reason."""
    older = _records_by_cell()
    return [_row(cell, older[cell.name]) for cell in grid.cells(params)]


def show(rows: list[dict]) -> None:
    """Print the rows as a table, and a last line that counts them."""
    from rich.console import Console
    from rich.table import Table
    from tabulate import tabulate

    console = Console()
    if console.is_terminal:
        table = Table(box=None, header_style="bold")
        table.add_column("cell", overflow="fold")
        table.add_column("digest", no_wrap=True)
        table.add_column("state", no_wrap=True)
        table.add_column("reason", overflow="fold")
        for row in rows:
            table.add_row(*row.values(), style="green" if row["state"] == "done" else "yellow")
        console.print(table)
    else:  # in a file or a pager, a row stays on one line
        print(tabulate(rows, headers="keys", tablefmt="plain", disable_numparse=True))
    done = sum(row["state"] == "done" for row in rows)
    print(f"{len(rows)} cells, {done} done, {len(rows) - done} missing")


def _row(cell: grid.Cell, older: list[Path]) -> dict:
    state, reason = "missing", "no record"
    if cell.record.exists():
        record = _read(cell.record)
        if record is None:
            reason = "its record cannot be read; delete it"
        elif record["digest"] != cell.digest:
            reason = "its record is of another configuration; delete it"
        else:
            state, reason = "done", "record is there"
    elif older:
        newest = _read(max(older, key=lambda path: path.stat().st_mtime))
        if newest is not None:
            reason = _change(newest["config"], cell.config)
    return {"cell": cell.name, "digest": cell.digest, "state": state, "reason": reason}


def _records_by_cell() -> dict[str, list[Path]]:
    found = defaultdict(list)
    for path in grid.RECORDS.glob("*.json"):
        found[path.stem.rpartition("-")[0]].append(path)
    return found


def _read(path: Path) -> dict | None:
    """A record with at least its digest and configuration; None if it is damaged."""
    try:
        record = read_json(path, ("digest", "config"))
    except (ImclError, OSError):
        return None
    return record if isinstance(record["config"], dict) else None


def _change(old: dict, new: dict) -> str:
    """What differs between an older record's configuration and the cell's, in a few words."""
    before, now = _flat(old), _flat(new)
    changed = [
        f"{key} {before.get(key, 'absent')} -> {now.get(key, 'absent')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    return "changed: " + "; ".join(changed[:3]) + (" ..." if len(changed) > 3 else "")


def _flat(config: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
