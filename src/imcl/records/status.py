"""How far a study is, read from its records and events. It also works if nothing is running."""

import os
import socket
from datetime import UTC, datetime
from typing import Literal

from typing_extensions import TypedDict

from imcl.progress import Event, Events
from imcl.project import Project
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.grid import Cell
from imcl.study.settings import Settings

# A run is silent after the longer of these two without an event.
SILENT = 600  # seconds
PATIENCE = 3  # epochs

State = Literal["done", "running", "silent", "failed", "waiting"]

STYLES: dict[State, str] = {
    "done": "green",
    "running": "cyan",
    "silent": "magenta",
    "failed": "red",
    "waiting": "dim",
}


class Row(TypedDict):
    """A cell of the study.

    Attributes:
        cell: its name.
        state: `silent` is a run that wrote no event for long; it may be dead.
        done: share of the epochs of all seeds, in 0..1.
        seconds_left: None if unknown.
        note: why it failed or is silent.
    """

    cell: str
    state: State
    done: float
    seconds_left: float | None
    note: str


def rows(project: Project, settings: Settings) -> list[Row]:
    """One row for each cell of the chosen study.

    A waiting cell is expected to take as long as the finished ones did on average.
    """
    cells, store = grid.cells(settings), Store(project)
    finished = {cell.key for cell in cells if store.path(cell).exists()}
    glances = [store.glance(store.path(cell)) for cell in cells if cell.key in finished]
    took = [glance.seconds for glance in glances if glance and glance.seconds is not None]
    typical = sum(took) / len(took) if took else None
    return [
        {"cell": cell.name, "state": "done", "done": 1.0, "seconds_left": 0.0, "note": ""}
        if cell.key in finished
        else _row(project, cell, typical)
        for cell in cells
    ]


def _row(project: Project, cell: Cell, typical: float | None) -> Row:
    """The row of a cell without a record, from the events of its last run."""
    row: Row = {
        "cell": cell.name,
        "state": "waiting",
        "done": 0.0,
        "seconds_left": typical,
        "note": "",
    }
    events = _last_run(Events.read(project.events(cell.key)))
    if not events or events[-1]["event"] == "done":  # its record was deleted since
        return row
    for event in events:
        if "done" in event and "total" in event:
            row["done"] = event["done"] / event["total"]
    first, last = events[0], events[-1]
    log = _log(project, cell)
    silence = max((datetime.now(UTC) - datetime.fromisoformat(last["time"])).total_seconds(), 0.0)
    if last["event"] == "failed":
        return row | {"state": "failed", "note": last.get("message", "")}
    if last["event"] == "stopped":
        return row | {"state": "failed", "note": f"{last.get('signal')}; run it again to resume"}
    if _is_gone(first):
        note = f"its process ended without a message; was it killed?{log}"
        return row | {"state": "failed", "note": note}
    left, patience = typical, float(SILENT)
    if "seconds_left" in last and "total" in last and "done" in last:
        left = max(last["seconds_left"] - silence, 0.0)
        epochs = last["total"] - last["done"]
        patience = max(SILENT, PATIENCE * last["seconds_left"] / max(epochs, 1))
    if silence > patience:
        note = f"no event for {_duration(silence)}.{log}"
        return row | {"state": "silent", "note": note}
    return row | {"state": "running", "seconds_left": left}


def _log(project: Project, cell: Cell) -> str:
    """Where the output of a run is; only an engine keeps it."""
    log = project.log(cell.key)
    return f" See {log}" if log.exists() else ""


def _last_run(events: list[Event]) -> list[Event]:
    """The events from the last `started` on; all, if every run failed before it started."""
    starts = [index for index, event in enumerate(events) if event["event"] == "started"]
    return events[starts[-1] if starts else 0 :]


def _is_gone(started: Event) -> bool:
    """Whether the process of a run was on this machine and is no longer there."""
    if started.get("host") != socket.gethostname() or "pid" not in started:
        return False
    try:
        os.kill(started["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is another user's
        return False
    return False


def show(rows: list[Row]) -> None:
    """Print the counts, the time left, and the cells that are neither done nor waiting."""
    from rich.console import Console
    from rich.table import Table

    counts = {state: [row for row in rows if row["state"] == state] for state in STYLES}
    console = Console(highlight=False)
    told = ", ".join(
        f"[{STYLES[state]}]{len(found)} {state}[/]" for state, found in counts.items() if found
    )
    console.print(f"{len(rows)} cells: {told}")
    running = counts["running"]
    lefts = [row["seconds_left"] for row in [*running, *counts["waiting"]]]
    known = [left for left in lefts if left is not None]
    if lefts and len(known) == len(lefts):
        jobs = max(len(running), 1)
        longest = max(known[: len(running)], default=0.0)
        about = _duration(max(sum(known) / jobs, longest))
        console.print(f"about {about} left with {jobs} at a time")
    table = Table(box=None, header_style="bold")
    for name in ("cell", "state", "done", "left", "note"):
        table.add_column(name, overflow="fold", no_wrap=name in ("state", "done", "left"))
    for row in [*running, *counts["silent"], *counts["failed"]]:
        left = row["seconds_left"] if row["state"] == "running" else None
        table.add_row(
            row["cell"],
            f"[{STYLES[row['state']]}]{row['state']}[/]",
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
