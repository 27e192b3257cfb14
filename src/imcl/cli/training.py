"""`imcl train | collect | run | search | merge | share`: train a cell or its seeds, or a study
without an engine, search for its settings, and exchange records with other machines."""

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from imcl import terminal
from imcl.cli.commands import (
    Commands,
    Parents,
    command,
    named_device,
    number,
    settings,
    with_device,
    with_study,
)
from imcl.errors import ImclError, UsageError, printable, unknown
from imcl.project import Project
from imcl.study.spec import MOST_SEED, MOST_THREADS, PER_GPU

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imcl.bench.budget import Effort
    from imcl.records.record import Record
    from imcl.study.grid import Cell
    from imcl.study.settings import Running, Settings

MOST_MINUTES = 10_000_000  # 19 years


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the commands."""
    threads = number(int, 1, MOST_THREADS)
    cell = "name of a cell, as `imcl plan` prints it"
    summary = "Train and evaluate the seeds of a cell that are not finished, then collect them."
    train = command(
        commands, parents, "train", _train, summary, "train digits-clean-vgg16-base --seed 1"
    )
    train.add_argument("cell", help=cell)
    train.add_argument(
        "--seed",
        type=number(int, 0, MOST_SEED),
        help="train this seed alone, and collect nothing",
    )
    train.add_argument("--again", action="store_true", help="train finished seeds again")
    train.add_argument(
        "--checkpoint-share",
        type=number(float, 0, 1),
        default=0.02,
        metavar="SHARE",
        help="largest share of the run time for checkpoints (default: 0.02)",
    )
    summary = "Make the record of a cell from the files of its seeds."
    collect = command(
        commands, parents, "collect", _collect, summary, "collect digits-clean-vgg16-base"
    )
    collect.add_argument("cell", help=cell)
    with_study(collect)
    summary = "Train the cells of a study in their order, without Snakemake or DVC."
    run = command(commands, parents, "run", _run, summary, "run --study quick --jobs 2")
    summary = (
        "Search for the settings of a study on held-out training images, and write them into "
        "params.yaml."
    )
    search = command(commands, parents, "search", _search, summary, "search quick --plan")
    search.add_argument(
        "study", nargs="?", help="the study (default: the one that params.yaml chooses)"
    )
    search.add_argument(
        "--plan", action="store_true", help="only say what the search would cost; train nothing"
    )
    for sub in (run, search):
        _with_jobs(sub)
    with_study(train)
    with_study(run)
    for sub in (train, run, search):
        with_device(sub, "where to train", " unless the study needs a GPU")
        sub.add_argument("--threads", type=threads, default=1, help="CPU threads (default: 1)")
        sub.add_argument(
            "--compile",
            action=argparse.BooleanOptionalAction,
            help="use torch's compiler; only for a GPU, since it is slower on a CPU (default: "
            "run.compile of params.yaml)",
        )
        sub.add_argument(
            "--deterministic",
            action=argparse.BooleanOptionalAction,
            help="take only algorithms of a GPU that repeat to the bit (default: run.deterministic "
            "of params.yaml)",
        )
    summary = "Take in the records of another machine; nothing here is replaced."
    merge = command(commands, parents, "merge", _merge, summary, "merge records.tar.gz")
    merge.add_argument(
        "source",
        type=Path,
        metavar="FOLDER|ARCHIVE",
        help="a project, or a folder of records; or a tar, tar.gz, tar.xz or zip archive of one",
    )
    summary = "Exchange records and weights with results/shared, the copy that DVC carries."
    command(commands, parents, "share", _share, summary, "share")


def _with_jobs(sub: argparse.ArgumentParser) -> None:
    """Add the options of a command that trains many cells."""
    threads, minutes = number(int, 1, MOST_THREADS), number(float, 0, MOST_MINUTES)
    sub.add_argument("--jobs", type=threads, help="processes that train at a time (default: 1)")
    sub.add_argument(
        "--gpus",
        metavar="all|0,1,...",
        help="use these GPUs, each for --per-gpu processes at a time, in place of --jobs",
    )
    sub.add_argument(
        "--per-gpu",
        type=threads,
        metavar="N",
        help=f"processes for each of --gpus, if its memory lets them (default: {PER_GPU})",
    )
    sub.add_argument(
        "--minutes", type=minutes, help="end within this time; the next call continues"
    )
    sub.add_argument(
        "--grace",
        type=minutes,
        default=1.0,
        help="begin to stop so many minutes earlier (default: 1)",
    )


def _running(arguments: argparse.Namespace, loaded: "Settings") -> "Running":
    """How to train: what params.yaml says, unless the environment or the command says otherwise."""
    given = {name: getattr(arguments, name) for name in type(loaded.run).model_fields}
    given = {name: value for name, value in given.items() if value is not None}
    return loaded.run.model_copy(update={**given, "device": named_device(arguments, loaded)})


def _words(run: "Running") -> list[str]:
    """The options of a command that trains so."""
    switches = {"compile": run.compile, "deterministic": run.deterministic}
    return [
        f"--device={run.device}",
        *(f"--{name}" if on else f"--no-{name}" for name, on in switches.items()),
    ]


def _train(arguments: argparse.Namespace) -> None:
    from imcl.records import collect
    from imcl.study import grid

    project = arguments.project
    loaded = settings(arguments)
    run = _running(arguments, loaded)
    whole = cell = grid.find(loaded, arguments.cell)
    if arguments.seed is None:
        if not arguments.again and (record := collect.kept(project, whole)):
            _tell(project, whole, record)
            return
    else:
        if arguments.seed not in whole.seeds:
            raise UsageError(f"--seed: {unknown('seed', arguments.seed, map(str, whole.seeds))}")
        cell = whole.of_seed(arguments.seed)
    todo = cell if arguments.again else collect.unfinished(project, cell)
    if todo:
        from imcl.training import worker  # imports torch, which takes seconds

        options = worker.RunOptions(
            run.device,
            arguments.threads,
            run.compile,
            run.deterministic,
            arguments.checkpoint_share,
            arguments.again,
            gpu_for=loaded.gpu_for,
        )
        with suppress(worker.StoppedLate):  # there is nothing left to stop
            worker.train_runs(project, todo, options)
    if arguments.seed is None:
        _tell(project, whole, collect.collect(project, whole))
    else:
        print(project.run(cell.run_key))


def _collect(arguments: argparse.Namespace) -> None:
    from imcl.records import collect
    from imcl.study import grid

    cell = grid.find(settings(arguments), arguments.cell)
    _tell(arguments.project, cell, collect.collect(arguments.project, cell))


def _tell(project: Project, cell: "Cell", record: "Record") -> None:
    """Say where the record of a cell is and how good its runs are."""
    from imcl.records.record import datasets

    accuracy = ", ".join(f"{run['final']['accuracy']:.2%}" for run in record["runs"])
    path = project.record(cell.key)
    terminal.tell(f"{path}: {datasets(record)[0]['evaluation']} accuracy by seed {accuracy}")


def _run(arguments: argparse.Namespace) -> None:
    from imcl.study.snapshot import Snapshot

    loaded = settings(arguments)
    train = _trainer(arguments, loaded)
    project = Snapshot.of(arguments.project).write()  # for cells that wait while it is edited
    train(project, loaded)


def _trainer(
    arguments: argparse.Namespace, loaded: "Settings"
) -> "Callable[[Project, Settings], bool]":
    """What trains the cells of a study; several studies share the time that --minutes gives.

    It tells how many are done, and gives whether all are; ImclError if some failed.
    """
    from imcl.study import grid
    from imcl.training import runner

    run = _running(arguments, loaded)
    if loaded.gpu_for and run.device == "auto":
        from imcl.training.device import require_gpu  # imports torch, which takes seconds

        require_gpu(f"{loaded.gpu_for} needs a GPU")  # instead of each cell
    jobs = _jobs(arguments)
    until = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes

    def train(project: Project, study: "Settings") -> bool:
        options = [f"--study={study.study}", f"--threads={arguments.threads}", *_words(run)]
        cells = grid.cells(study)
        failed, left = runner.run(
            project,
            cells,
            options,
            jobs=jobs,
            seconds=None if until is None else until - time.monotonic(),
            grace=60 * arguments.grace,
            anchors=study.chosen_study.anchors,
        )
        done = len(cells) - len(failed) - len(left)
        terminal.tell(f"study {study.study}: {done} of {len(cells)} cells done, {len(left)} left")
        if failed:
            raise ImclError(f"{len(failed)} cells failed: {', '.join(failed)}")
        return not left

    return train


def _search(arguments: argparse.Namespace) -> None:
    from imcl.analysis.search import Search
    from imcl.bench.budget import efforts
    from imcl.study import chosen
    from imcl.study.search import text
    from imcl.study.snapshot import Snapshot

    project, loaded = arguments.project, settings(arguments)
    planned = [rung.cells for rung in Search(project, loaded).rungs()]
    for line in _cost(loaded.study, [*efforts(project, loaded, planned)]):
        terminal.tell(line)
    if arguments.plan:
        return
    train = _trainer(arguments, loaded)
    for step, rung in enumerate(Search(project, loaded).rungs(), start=1):
        copy = Snapshot.holding(project, text(rung.settings).encode()).write()
        terminal.tell(f"step {step} of {len(planned)}: --params {copy.params}")
        if not train(copy, rung.settings):
            return
    now = settings(arguments)  # it may have been edited meanwhile
    found = Search(project, now)
    for _ in found.rungs():
        pass
    if not found.done:
        raise ImclError(f"{project.params} has changed since the search began; run it again")
    chosen.write(project, now, found.choices)
    for cell, choice in found.choices.items():
        terminal.tell(printable(f"{cell}: {choice.reason}"))
    terminal.tell(f"{project.params}: studies.{now.study}.chosen has {len(found.choices)} choices")


def _cost(study: str, steps: "Sequence[Effort]") -> Iterator[str]:
    """What the steps of a search cost, a line for each and one for all."""
    for index, step in enumerate(steps, start=1):
        yield (
            f"step {index}: {step['cells']} cells, {step['done']} done, {step['seeds']} seeds to "
            f"train, {_hours([step])} core-hours"
        )
    yield (
        f"search of study {study}: {sum(step['cells'] for step in steps)} cells, "
        f"{sum(step['seeds'] for step in steps)} seeds to train, about {_hours(steps)} core-hours "
        "by the records of CPUs"
    )


def _hours(steps: "Sequence[Effort]") -> str:
    known = [step["core_hours"] for step in steps if step["core_hours"] is not None]
    return f"{sum(known):.2f}" if len(known) == len(steps) else "?"


def _jobs(arguments: argparse.Namespace) -> int:
    """How many processes train at a time. They see the GPUs of --gpus alone.

    Each takes a place on the emptiest of them, as `imcl.training.places` tells.
    """
    if arguments.gpus is None:
        if arguments.per_gpu is not None:
            raise UsageError("--per-gpu: is for --gpus; add --gpus all, or take --jobs")
        return arguments.jobs or 1
    if arguments.jobs is not None:
        raise UsageError("--jobs and --gpus: choose one; --per-gpu says how many share a GPU")
    from imcl.training import device

    names = device.visible()
    wanted = names if arguments.gpus == "all" else arguments.gpus.split(",")
    for name in wanted:
        if name not in names:
            there = f"there are {', '.join(names)}" if names else "torch sees none"
            raise UsageError(f"--gpus {arguments.gpus}: no GPU {name!r}; {there}")
    if not wanted:
        raise UsageError("--gpus all: torch sees no GPU; take --jobs to train on the CPU")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(wanted))
    return len({*wanted}) * (arguments.per_gpu or PER_GPU)


def _merge(arguments: argparse.Namespace) -> None:
    from imcl.records import merge

    counts: Counter[str] = Counter()
    for state, place, reason in merge.merge(
        arguments.project, settings(arguments), arguments.source
    ):
        counts[state] += 1
        terminal.tell(printable(f"{state:8} {place}" + (f": {reason}" if reason else "")))
    terminal.tell(
        f"{counts['taken']} taken, {counts['there']} were here, {counts['refused']} refused"
    )
    if refused := counts["refused"]:
        raise ImclError(f"{arguments.source}: refused {refused} of {counts.total()} files")


def _share(arguments: argparse.Namespace) -> None:
    from imcl.records.share import share

    project = arguments.project
    taken, copied = share(project)
    terminal.tell(f"{project.shared}: {taken} files taken, {copied} copied there")
