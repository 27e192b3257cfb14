"""The bill of a study: finds what is missing and how fast this machine is, and shows the bill."""

import os
import shutil
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict

from imcl.errors import ImclError
from imcl.project import Project
from imcl.records import plan
from imcl.records.record import environment_of
from imcl.records.store import Store
from imcl.study import budget, cost, grid
from imcl.study.budget import Accuracy, Disk, Family, Missing, Rate, Recorded, Row, Speed
from imcl.study.grid import Cell
from imcl.study.settings import Settings
from imcl.study.sources import Archive

COLUMNS = 80
NUMBER = 8  # bytes of a label or an index
CPU = " (cpu)"  # at the end of a device's name


class Bill(TypedDict):
    """What a study will cost.

    Attributes:
        study: its name.
        cells: all of them; those with seeds to train are in the rows.
        to_collect: how many are trained, but have no record yet.
        time: what the times are computed from, in words.
        rate: that of --rate, else None.
        watts: that a device draws, and `energy`: where this number comes from, in words.
        unknown: for each dataset whose cost is not known, the reason.
        rows: of each dataset with seeds to train, then of all; empty if there are none.
        accuracy: estimate by record, for each device that has trained cells of any study.
    """

    study: str
    cells: int
    to_collect: int
    time: str
    rate: float | None
    watts: float
    energy: str
    unknown: dict[str, str]
    rows: list[Row]
    accuracy: list[Accuracy]


def bill(
    project: Project,
    settings: Settings,
    rate: float | None = None,
    watts: float | None = None,
    device: str = "auto",
) -> Bill:
    """The bill of the chosen study.

    Args:
        project: whose records, data and archives are already there.
        settings: of the project.
        rate: images that ResNet-18 at width 64 trains in a second, of 32 x 32 pixels; without it
            this machine is measured for up to a minute.
        watts: that a device draws while it trains.
        device: what to measure without a rate, as of `imcl train`.

    Raises:
        ImclError: the cost of nothing that is missing is known, or the device is not there.
    """
    cells = grid.cells(settings)
    done = [row["state"] == "done" for row in plan.rows(project, settings)]
    missing = [
        Missing(cell, seeds, cost.of_seed(cell))
        for cell, is_done in zip(cells, done, strict=True)
        if not is_done and (seeds := _seeds_left(project, cell))
    ]
    unknown = {one.cell.dataset.name: _why_unknown(one.cell) for one in missing if one.seed is None}
    made: Bill = {
        "study": settings.study,
        "cells": len(cells),
        "to_collect": len(cells) - sum(done) - len(missing),
        "time": "",
        "rate": rate,
        "watts": watts or 0.0,
        "energy": "--watts",
        "unknown": unknown,
        "rows": [],
        "accuracy": [],
    }
    if not missing:
        return made
    if all(one.seed is None for one in missing):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unknown.items())
        raise ImclError(f"study {settings.study}: what it costs is not known: {reasons}")
    recorded = _recorded(project, settings)
    if rate is None:
        others = [cell for cell, *_ in recorded]
        speed, kind, here, made["time"] = _measured(missing, others, device)
    else:
        speed, kind, here = budget.at_rate(rate), "cuda", 1
        made["time"] = f"by multiply-adds, at --rate {rate:g}"
    if watts is None:
        made["watts"] = budget.WATTS[kind]
        made["energy"] = f"assumed for {'a GPU' if kind == 'cuda' else 'a core'}"
    devices = sorted({*budget.DEVICES, here})
    made["rows"] = budget.rows(missing, _disk(project, missing), speed, made["watts"], devices)
    made["accuracy"] = budget.accuracy(
        Recorded(name, seconds, speed.seconds(cell, seed))
        for cell, name, seconds in recorded
        if (seed := cost.of_seed(cell)) is not None
        and (rate is not None or budget.family(cell, seed) in speed.families)
    )
    return made


class Effort(TypedDict):
    """What some cells still need.

    Attributes:
        cells: how many there are; `done` have a record already.
        seeds: that are still to be trained.
        core_hours: of their jobs; None if the cost of one is not known.
    """

    cells: int
    done: int
    seeds: int
    core_hours: float | None


def efforts(
    project: Project, settings: Settings, steps: Iterable[Sequence[Cell]]
) -> Iterator[Effort]:
    """What each of several steps still needs on CPU cores as fast as those of the records.

    A seed that an earlier step trains is no work for a later one.
    """
    speed, planned = _recorded_speed(project, settings), set[str]()
    for cells in steps:
        jobs: list[list[float] | None] = []
        seeds = done = 0
        for cell in cells:
            is_done = project.record(cell.key).exists()
            left = {run.run_key for run in cell.runs if not project.run(run.run_key).exists()}
            left = set() if is_done else left - planned
            planned |= left
            seeds, done = seeds + len(left), done + is_done
            cost_of_seed = cost.of_seed(cell)
            known = cost_of_seed is not None or not left
            jobs.append(Missing(cell, len(left), cost_of_seed).jobs(speed) if known else None)
        seconds = [sum(each) for each in jobs if each is not None]
        known = len(seconds) == len(jobs)
        yield {
            "cells": len(cells),
            "done": done,
            "seeds": seeds,
            "core_hours": sum(seconds) / 3600 if known else None,
        }


def _recorded_speed(project: Project, settings: Settings) -> Speed:
    """The speed of a CPU core, as the records that can be read tell it."""
    work: dict[Family | None, tuple[float, float]] = {}
    for cell, name, seconds in _recorded(project, settings):
        seed = cost.of_seed(cell)
        if seed is None or not name.endswith(CPU):
            continue
        for key in (budget.family(cell, seed), None):
            macs, took = work.get(key, (0.0, 0.0))
            work[key] = macs + seed.training + seed.evaluation, took + seconds
    rates = {key: Rate(macs / took, macs / took) for key, (macs, took) in work.items()}
    typical = rates.pop(None, Rate(cost.CORE_RATE, cost.CORE_RATE))
    return Speed(typical, cost.START_SECONDS, {k: rate for k, rate in rates.items() if k})


def _seeds_left(project: Project, cell: Cell) -> int:
    """The seeds of a cell that are not trained yet."""
    return sum(not project.run(run.run_key).exists() for run in cell.runs)


def _measured(
    missing: Sequence[Missing], recorded: Sequence[Cell], named: str
) -> tuple[Speed, str, int, str]:
    """The speed of this machine, its device's type, how many it has, and what was measured."""
    begun = time.process_time()
    import torch

    from imcl.bench import rate
    from imcl.training import device as devices

    start = max(time.process_time() - begun, cost.START_SECONDS)  # if torch was not imported before

    device = devices.choose(named)
    works = [rate.Work(one.cell, one.seed, one.seeds) for one in missing if one.seed is not None]
    others = [
        rate.Work(cell, seed, 1) for cell in recorded if (seed := cost.of_seed(cell)) is not None
    ]
    speed, told = rate.measure(works, others, device, start=start)
    name = devices.environment(device, 1)["device_name"]
    if device.type == "cuda":
        return speed, "cuda", torch.cuda.device_count(), f"measured here on {name}: {told}"
    return speed, "cpu", os.cpu_count() or 1, f"measured here on a core of {name}: {told}"


def _recorded(project: Project, settings: Settings) -> list[tuple[Cell, str, float]]:
    """The seeds of all records that can be read: their cell, device and seconds."""
    store, found = Store(project), []
    seen: set[str] = set()
    for study in settings.studies:
        for cell in grid.cells(settings, study):
            path = store.find(cell, study)
            if path is None or cell.digest in seen:
                continue
            seen.add(cell.digest)
            try:
                record = store.read(cell, path)
            except ImclError:  # `imcl plan` and `imcl verify` tell of it
                continue
            for run, took in zip(record["runs"], record["cost"], strict=True):
                environment = environment_of(record, run)
                name = f"{environment['device_name']} ({environment['device']})"
                seconds = took["training_seconds"] + took["evaluation_seconds"]
                found.append((cell, name, seconds))
    return [entry for entry in found if entry[2] > 0]


def _why_unknown(cell: Cell) -> str:
    """Why the cost of a cell is not known."""
    if cost.of_dataset(cell.dataset) is not None:
        return f"{cell.backbone} cannot be built here, as its training would tell"
    if cell.dataset.options.path:
        return cell.lacks or "no pictures were found"
    return f"imcl.study.sources does not state the size of {cell.dataset.options.source}"


# What is still to be written -------------------------------------------------------------------


def _disk(project: Project, missing: Sequence[Missing]) -> dict[str, Disk]:
    """The bytes of archives, arrays and labels that are not there, by dataset."""
    disk: dict[str, Disk] = {}
    seen: set[str] = set()
    for one in missing:
        here = disk.setdefault(
            one.cell.dataset.name, Disk(archives=0, arrays=0, labels=0, weights=0, records=0)
        )
        for what, key, size in _inputs(project, one):
            if key not in seen:
                seen.add(key)
                here[what] += size  # type: ignore[literal-required]  # a key of a Disk
    return disk


def _inputs(project: Project, one: Missing) -> Iterator[tuple[str, str, int]]:
    """What a cell is trained on and is not there: what it is, its name, its bytes."""
    images = cost.of_dataset(one.cell.dataset)
    for dataset, noise in one.cell.all_data:
        if not project.dataset(dataset.key).exists():
            yield from _absent(project, dataset.archives)
            if images:
                numbers = 2 * images.train + images.evaluated
                size = (images.train + images.evaluated) * images.bytes + numbers * NUMBER
                yield "arrays", dataset.key, size
        if noise and not project.noise(dataset.key, noise.key).exists():
            yield from _absent(project, noise.archives)
            if images:
                yield "labels", f"{dataset.key} {noise.key}", images.train * NUMBER


def _absent(project: Project, archives: Sequence[Archive]) -> Iterator[tuple[str, str, int]]:
    for archive in archives:
        if not archive.path(project.archives).exists():
            yield "archives", archive.name, archive.size


# For people ------------------------------------------------------------------------------------


def show(bill: Bill) -> None:
    """Print the bill: two tables and what they rest on, in 80 columns."""
    from rich.console import Console

    if not bill["rows"]:
        told = f"nothing to do, all {bill['cells']} cells are done"
        if count := bill["to_collect"]:
            told = f"all seeds are trained; {count} cells are still to be collected"
        print(f"study {bill['study']}: {told}")
        return
    *_, whole = bill["rows"]
    console = Console(highlight=False)
    print(f"study {bill['study']}: {whole['cells']} of {bill['cells']} cells are missing\n")
    for table in (_amounts(bill["rows"]), _times(bill["rows"])):
        _print(console, table)
        print()
    width = min(COLUMNS, shutil.get_terminal_size((COLUMNS, 24)).columns)
    for note in _notes(bill):
        print(textwrap.fill(note, width, subsequent_indent="  ", break_on_hyphens=False))


def _print(console: Any, table: list[dict[str, str]]) -> None:
    from rich.markup import escape
    from rich.table import Table
    from tabulate import tabulate

    first, *others = table[0]
    if console.is_terminal:
        shown = Table(box=None, header_style="bold")
        shown.add_column(first, overflow="fold")
        for name in others:
            shown.add_column(name, justify="right", no_wrap=True)
        for row in table:
            style = "bold" if row is table[-1] else None
            shown.add_row(*map(escape, row.values()), style=style)
        console.print(shown)
    else:
        print(
            tabulate(
                table,
                headers="keys",
                tablefmt="plain",
                disable_numparse=True,
                colalign=["left", *["right"] * len(others)],
                maxcolwidths=[24, *[None] * len(others)],
            )
        )


def _amounts(rows: Sequence[Row]) -> list[dict[str, str]]:
    return [
        {
            "dataset": row["dataset"] or "all",
            "cells": f"{row['cells']:,}",
            "seeds": f"{row['seeds']:,}",
            **_known(
                row,
                {
                    "jobs": f"{row['jobs']:,}",
                    "energy": amount(row["joules"], JOULES),
                    "disk": amount(sum(row["disk"].values()), BYTES),  # type: ignore[arg-type]
                    "memory": amount(row["memory"], BYTES),
                },
            ),
        }
        for row in rows
    ]


def _times(rows: Sequence[Row]) -> list[dict[str, str]]:
    return [
        {
            "dataset": row["dataset"] or "all",
            **_known(
                row,
                {
                    "longest": amount(row["longest"], SECONDS),
                    **{
                        f"on {n}": amount(seconds, SECONDS)
                        for n, seconds in row["makespan"].items()
                    },
                },
            ),
        }
        for row in rows
    ]


def _known(row: Row, figures: dict[str, str]) -> dict[str, str]:
    """The figures of a row, or a question mark for each if its cost is not known."""
    return dict.fromkeys(figures, "?") if row["unknown"] == row["cells"] else figures


def _notes(bill: Bill) -> Iterator[str]:
    *_, whole = bill["rows"]
    yield (
        f"time: {bill['time']}. `longest` is the longest job; `on N` is the time on N devices, if "
        "jobs start in the study's order"
    )
    yield (
        f"energy: an estimate, the hours on 1 x {bill['watts']:g} W, {bill['energy']}, without the "
        "rest of the machine"
    )
    parts = ", ".join(
        f"{what} {amount(count, BYTES)}"  # type: ignore[arg-type]
        for what, count in whole["disk"].items()
        if count
    )
    checkpoint = amount(whole["checkpoint"], BYTES)
    yield f"disk: {parts}; each job that runs also has a checkpoint, {checkpoint}"
    yield "memory: the most that a job takes on its device, roughly"
    for name, reason in bill["unknown"].items():
        yield f"not in these sums: {name}, {reason}"
    for found in bill["accuracy"]:
        who = f"records: {found['device']}, {found['seeds']} seeds"
        ratios = [found["median"], found["least"], found["most"]]
        if bill["rate"] is None:
            median, least, most = (f"{ratio:.2f}" for ratio in ratios)
            yield f"{who}: estimate / record {median} ({least} to {most})"
        else:
            median, least, most = (f"{bill['rate'] * ratio:.3g}" for ratio in ratios)
            yield f"{who}: as long as at --rate {median} ({least} to {most})"


SECONDS = {"s": 1, "min": 60, "h": 3600, "years": 365 * 24 * 3600}
BYTES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
JOULES = {"Wh": 3.6e3, "kWh": 3.6e6, "MWh": 3.6e9, "GWh": 3.6e12}


def amount(value: float, units: Mapping[str, float]) -> str:
    """With two digits or more, in the largest unit that is not larger.

    Args:
        value: to print.
        units: the size of each unit by its name, ascending.

    >>> [amount(seconds, SECONDS) for seconds in (0.25, 42.4, 90, 12240, 763200, 1e8)]
    ['0.25 s', '42 s', '1.5 min', '3.4 h', '212 h', '3.2 years']
    """
    fitting = [unit for unit, of in units.items() if value >= of] or list(units)[:1]
    shown = value / units[fitting[-1]]
    return f"{shown:.2g} {fitting[-1]}" if shown < 9.95 else f"{shown:,.0f} {fitting[-1]}"
