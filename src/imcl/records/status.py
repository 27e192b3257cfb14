"""How far a study is, read from its records and events. It also works if nothing is running."""

import os
import socket
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from typing_extensions import TypedDict

from imcl import terminal
from imcl.progress import Event, Events, duration
from imcl.project import Project
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.grid import Cell
from imcl.study.settings import Settings

# A run is silent after the longer of these two without an event.
SILENT = 600  # seconds
PATIENCE = 3  # epochs

State = Literal["done", "committed", "running", "silent", "failed", "waiting"]

STYLES: dict[State, str] = {
    "done": "green",
    "committed": "green",
    "running": "cyan",
    "silent": "magenta",
    "failed": "red",
    "waiting": "dim",
}
# Of a cell whose seeds have several: what someone has to see comes first.
STATES: tuple[State, ...] = ("running", "failed", "silent", "waiting", "committed", "done")


class Row(TypedDict):
    """A cell of the study.

    Attributes:
        cell: its name.
        state: `silent` is a run that wrote no event for long; it may be dead. `committed`: its
            record is among the committed ones, and was not made here.
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
COMMITTED = Run("committed", 1.0, 0.0)


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
        if cell.key in finished:
            return [DONE] * len(cell.seeds)
        committed = store.find(cell, settings.study, committed=True)
        return [COMMITTED if committed else Run("waiting", left=typical)] * len(cell.seeds)

    return [_row(cell, runs(cell)) for cell in cells]


def row(project: Project, cell: Cell) -> Row:
    """The row of a cell that has no record yet, from what its runs wrote."""
    return _row(cell, [_run(project, cell, run, None) for run in cell.runs])


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
        note = f"{title}: no event for {duration(silence)}.{see}"
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
    from rich.text import Text

    counts = {state: [row for row in rows if row["state"] == state] for state in STYLES}
    told = [Text(f"{len(rows)} {state}", STYLES[state]) for state, rows in counts.items() if rows]
    terminal.console().print(Text(f"{len(rows)} cells: "), Text(", ").join(told), sep="")
    left = _left(counts["running"], counts["waiting"])
    if left:
        print(left)
    listed = [*counts["running"], *counts["silent"], *counts["failed"]]
    if listed:
        terminal.table(
            ["cell", "state", "done", "left", "note"],
            [
                [
                    row["cell"],
                    Text(row["state"], STYLES[row["state"]]),
                    f"{row['done']:.0%}",
                    ""
                    if row["seconds_left"] is None or row["state"] != "running"
                    else duration(row["seconds_left"]),
                    row["note"],
                ]
                for row in listed
            ],
            whole=["state", "done", "left"],
        )


def _left(running: list[Row], waiting: list[Row]) -> str:
    """The time that the rest will take, in words; "" if it is unknown or nothing is left."""
    lefts = [row["seconds_left"] for row in [*running, *waiting]]
    known = [left for left in lefts if left is not None]
    if not lefts or len(known) < len(lefts):
        return ""
    jobs = max(sum(row["running"] for row in running), 1)
    each = (row["running"] for row in running)
    longest = max((left / n for left, n in zip(known, each, strict=False)), default=0.0)
    return f"about {duration(max(sum(known) / jobs, longest))} left with {jobs} at a time"
