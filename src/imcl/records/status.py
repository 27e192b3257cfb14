"""How far a study is, read from its records and events. It also works if nothing is running."""

import os
import socket
from datetime import UTC, datetime
from typing import Literal, NamedTuple

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
# Of a cell whose seeds have several: what someone has to see comes first.
STATES: tuple[State, ...] = ("running", "failed", "silent", "waiting", "done")


class Row(TypedDict):
    """A cell of the study.

    Attributes:
        cell: its name.
        state: `silent` is a run that wrote no event for long; it may be dead.
        done: share of the epochs of all seeds, in 0..1.
        seconds_left: of all seeds together, one after the other; None if unknown.
        running: how many of its seeds are being trained.
        note: why some failed or are silent.
    """

    cell: str
    state: State
    done: float
    seconds_left: float | None
    running: int
    note: str


class Run(NamedTuple):
    """How far one seed of a cell is; as in `Row`, `left` in seconds."""

    state: State
    done: float = 0.0
    left: float | None = None
    note: str = ""


DONE = Run("done", 1.0, 0.0)


def rows(project: Project, settings: Settings) -> list[Row]:
    """One row for each cell of the chosen study.

    A waiting seed is expected to take as long as the finished ones did on average.
    """
    cells, store = grid.cells(settings), Store(project)
    # Most cells of a large study have not begun, so their runs need not be looked for.
    files = [*project.runs.glob("*.json"), *project.trainings.glob("*.jsonl")]
    names = {path.stem.rpartition("-seed")[0] for path in files}
    finished = {cell.key: store.path(cell) for cell in cells if store.path(cell).exists()}
    begun = {c.key: c.runs for c in cells if c.name in names and c.key not in finished}
    made = [project.run(run.run_key) for runs in begun.values() for run in runs]
    glances = map(store.glance, [*finished.values(), *(path for path in made if path.exists())])
    took = [seconds for glance in glances if glance for seconds in glance.seconds]
    typical = sum(took) / len(took) if took else None

    def runs(cell: Cell) -> list[Run]:
        if cell.key in begun:
            return [_run(project, cell, run, typical) for run in begun[cell.key]]
        return [DONE if cell.key in finished else Run("waiting", left=typical)] * len(cell.seeds)

    return [_row(cell, runs(cell)) for cell in cells]


def _row(cell: Cell, runs: list[Run]) -> Row:
    """The row of a cell from its runs: the state is the first of `STATES` that one has."""
    lefts = [run.left for run in runs]
    known = [left for left in lefts if left is not None]
    notes = {run.note for run in runs if run.note}
    return {
        "cell": cell.name,
        "state": next(state for state in STATES if any(run.state == state for run in runs)),
        "done": sum(run.done for run in runs) / len(runs),
        "seconds_left": sum(known) if len(known) == len(lefts) else None,
        "running": sum(run.state == "running" for run in runs),
        "note": "; ".join(sorted(notes)),
    }


def _run(project: Project, cell: Cell, run: Cell, typical: float | None) -> Run:
    """How far a seed of a cell is, from its file and the events of its last run."""
    if project.run(run.run_key).exists():
        return DONE
    events = _last_run(Events.read(project.events(run.run_key)))
    if not events or events[-1]["event"] == "done":  # its file was deleted since
        return Run("waiting", left=typical)
    done = 0.0
    for event in events:
        if "done" in event and "total" in event:
            done = event["done"] / event["total"]
    first, last = events[0], events[-1]
    title, see = f"seed {run.seeds[0]}", _log(project, cell, run)
    silence = max((datetime.now(UTC) - datetime.fromisoformat(last["time"])).total_seconds(), 0.0)

    if last["event"] == "failed":
        return Run("failed", done, typical, last.get("message", ""))
    if last["event"] == "stopped":
        note = f"{title}: {last.get('signal')}; run it again to resume"
        return Run("failed", done, typical, note)
    if _is_gone(first):
        note = f"{title}: its process ended without a message; was it killed?{see}"
        return Run("failed", done, typical, note)
    left, patience = typical, float(SILENT)
    if "seconds_left" in last and "total" in last and "done" in last:
        left = max(last["seconds_left"] - silence, 0.0)
        epochs = last["total"] - last["done"]
        patience = max(SILENT, PATIENCE * last["seconds_left"] / max(epochs, 1))
    if silence > patience:
        note = f"{title}: no event for {_duration(silence)}.{see}"
        return Run("silent", done, typical, note)
    return Run("running", done, left)


def _log(project: Project, cell: Cell, run: Cell) -> str:
    """Where the output of a run's job is, or of its cell's; only an engine keeps it."""
    logs = (project.log(run.run_key), project.log(cell.key))
    return next((f" See {log}" for log in logs if log.exists()), "")


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
        jobs = max(sum(row["running"] for row in running), 1)
        each = (row["running"] for row in running)
        longest = max((left / n for left, n in zip(known, each, strict=False)), default=0.0)
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
