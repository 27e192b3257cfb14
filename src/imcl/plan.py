"""What a study consists of, what of it is done, and why the rest is not."""

import json
from collections import defaultdict
from pathlib import Path

from imcl import grid


def rows(params: dict) -> list[dict]:
    """One row for each cell: cell, digest, state (done or missing) and the reason."""
    older = _records_by_cell()
    return [_row(cell, older[cell.name]) for cell in grid.cells(params)]


def show(rows: list[dict]) -> None:
    """Print the rows as a table, and a last line that counts them."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:  # in a file or a pager, a row stays on one line
        console = Console(width=200)
    table = Table("cell", "digest", "state", "reason", box=None, header_style="bold")
    table.columns[0].no_wrap = True
    for row in rows:
        style = "green" if row["state"] == "done" else "yellow"
        table.add_row(*row.values(), style=style)
    console.print(table)
    done = sum(row["state"] == "done" for row in rows)
    print(f"{len(rows)} cells, {done} done, {len(rows) - done} missing")


def _row(cell: grid.Cell, older: list[Path]) -> dict:
    state, reason = "missing", "no record"
    record, problem = _read(cell.record)
    if record is None:
        if problem:
            reason = problem
        elif older:
            newest = max(older, key=lambda path: path.stat().st_mtime)
            reason = _change(_read(newest)[0], cell.config)
    elif record.get("digest") != cell.digest:
        reason = "its record is of another configuration"
    else:
        state, reason = "done", "record is there"
    return {"cell": cell.name, "digest": cell.digest, "state": state, "reason": reason}


def _records_by_cell() -> dict[str, list[Path]]:
    found = defaultdict(list)
    for path in grid.RECORDS.glob("*.json"):
        found[path.stem.rpartition("-")[0]].append(path)
    return found


def _read(path: Path) -> tuple[dict | None, str]:
    try:
        return json.loads(path.read_text()), ""
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError):
        return None, "its record cannot be read; delete it"


def _change(record: dict | None, config: dict) -> str:
    """What differs between an older record's configuration and the cell's, in a few words."""
    if record is None:
        return "no record"
    before, now = _flat(record["config"]), _flat(config)
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
