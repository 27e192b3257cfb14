"""How far a study is, told from its records and logs alone: nothing has to run for it."""

import re
import time
from pathlib import Path

from imcl import grid
from imcl.errors import ImclError
from imcl.files import read_json
from imcl.progress import LINES

LOGS = Path("logs/train")
SILENT = 600  # seconds without a line after which a run may have ended unseen, at the least

STYLES = {
    "done": "green",
    "running": "cyan",
    "silent": "magenta",
    "failed": "red",
    "waiting": "dim",
}

# What imcl.progress prints where there is no terminal.
_PROGRESS = re.compile(r"^\S+: ([\d,]+) of ([\d,]+) epochs(?:, (\d+) s left)?", re.MULTILINE)
_FAILURE = re.compile(r"^(imcl train: .*|Traceback .*|\w*Error\b.*|Killed.*)$", re.MULTILINE)


def rows(params: dict) -> list[dict]:
    """One row for each cell: cell, state, done (share), seconds_left (None: unknown), and note.

    The states are done, running, silent (no line for long: ended unseen, perhaps), failed and
    waiting. A cell that waits is thought to take what the finished ones took on average.
    """
    cells = grid.cells(params)
    took = [seconds for cell in cells if (seconds := _seconds(cell)) is not None]
    typical = sum(took) / len(took) if took else None
    return [_row(cell, typical) for cell in cells]


def _row(cell: grid.Cell, typical: float | None) -> dict:
    row = {"cell": cell.name, "state": "waiting", "done": 0.0, "seconds_left": typical, "note": ""}
    if cell.record.exists():
        return row | {"state": "done", "done": 1.0, "seconds_left": 0.0}
    log = LOGS / f"{cell.key}.log"
    try:
        text, written = log.read_text(errors="replace"), log.stat().st_mtime
    except FileNotFoundError:
        return row
    silence = max(time.time() - written, 0.0)
    share, left, patience = 0.0, typical, float(SILENT)
    for epochs, of, seconds in _PROGRESS.findall(text)[-1:]:
        done, total = (int(count.replace(",", "")) for count in (epochs, of))
        share = done / total
        if seconds:
            # Lines come at every tenth of the whole, so at most this far apart.
            patience = max(SILENT, 3 * int(seconds) / (1 - share) / LINES)
            left = max(int(seconds) - silence, 0.0)
    failures = _FAILURE.findall(text)
    if failures:
        return row | {"state": "failed", "done": share, "note": failures[-1]}
    if silence > patience:
        note = f"no line for {_duration(silence)}; see {log}"
        return row | {"state": "silent", "done": share, "note": note}
    return row | {"state": "running", "done": share, "seconds_left": left}


def _seconds(cell: grid.Cell) -> float | None:
    """What a finished cell took, all its seeds; None if it is not finished."""
    if not cell.record.exists():
        return None
    try:
        cost = read_json(cell.record, ("cost",))["cost"]
        return sum(seed["training_seconds"] + seed["evaluation_seconds"] for seed in cost)
    except (ImclError, KeyError, TypeError):
        return None  # `imcl plan` says that it is damaged


def show(rows: list[dict]) -> None:
    """Print the counts, the time left, and the cells that are neither done nor waiting."""
    from rich.console import Console
    from rich.table import Table

    counts = {state: [r for r in rows if r["state"] == state] for state in STYLES}
    console = Console(highlight=False)
    told = ", ".join(
        f"[{STYLES[state]}]{len(found)} {state}[/]" for state, found in counts.items() if found
    )
    console.print(f"{len(rows)} cells: {told}")
    busy = counts["running"]
    lefts = [row["seconds_left"] for row in [*busy, *counts["waiting"]]]
    if lefts and None not in lefts:
        beside = max(len(busy), 1)
        longest = max((row["seconds_left"] for row in busy), default=0.0)
        about = _duration(max(sum(lefts) / beside, longest))
        console.print(f"about {about} left with {beside} at once")
    table = Table(box=None, header_style="bold")
    for name in ("cell", "state", "done", "left", "note"):
        table.add_column(name, overflow="fold", no_wrap=name in ("state", "done", "left"))
    for state in ("running", "silent", "failed"):
        for row in counts[state]:
            left = row["seconds_left"] if state == "running" else None
            table.add_row(
                row["cell"],
                f"[{STYLES[state]}]{state}[/]",
                f"{row['done']:.0%}",
                "" if left is None else _duration(left),
                row["note"].replace("[", r"\["),
            )
    if table.row_count:
        console.print(table)


def _duration(seconds: float) -> str:
    """90 as `1 min 30 s`, 5400 as `1 h 30 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
