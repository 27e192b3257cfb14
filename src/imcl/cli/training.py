"""`imcl train | collect | run`: train a cell or its seeds, or a study without an engine."""

import argparse
from typing import TYPE_CHECKING

from imcl.cli.commands import Commands, Parents, command, number, settings, with_study
from imcl.errors import ImclError, UsageError, unknown
from imcl.project import Project
from imcl.study.spec import MOST_SEED, MOST_THREADS

if TYPE_CHECKING:
    from imcl.study.grid import Cell

MOST_MINUTES = 10_000_000  # 19 years


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the commands."""
    threads, minutes = number(int, 1, MOST_THREADS), number(float, 0, MOST_MINUTES)
    cell = "name of a cell, as `imcl plan` prints it"
    summary = "Train and evaluate the seeds of a cell that are not finished, then collect them."
    train = command(commands, parents, "train", _train, summary)
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
    collect = command(commands, parents, "collect", _collect, summary)
    collect.add_argument("cell", help=cell)
    with_study(collect)
    summary = "Train the cells of a study in their order, without Snakemake or DVC."
    run = command(commands, parents, "run", _run, summary)
    run.add_argument(
        "--jobs", type=threads, default=1, help="processes that train at a time (default: 1)"
    )
    run.add_argument(
        "--minutes", type=minutes, help="end within this time; the next call continues"
    )
    run.add_argument(
        "--grace",
        type=minutes,
        default=1.0,
        help="begin to stop so many minutes earlier (default: 1)",
    )
    for sub in (train, run):
        with_study(sub)
        sub.add_argument(
            "--device",
            default="auto",
            choices=["auto", "cpu", "cuda"],
            help="where to train (default: auto)",
        )
        sub.add_argument("--threads", type=threads, default=1, help="CPU threads (default: 1)")
        sub.add_argument(
            "--compile",
            action="store_true",
            help="use torch's compiler; only for a GPU, since it is slower on a CPU",
        )


def _train(arguments: argparse.Namespace) -> None:
    from imcl.records import collect
    from imcl.study import grid

    project = arguments.project
    whole = cell = grid.find(settings(arguments), arguments.cell)
    if arguments.seed is not None:
        if arguments.seed not in whole.seeds:
            raise UsageError(f"--seed: {unknown('seed', arguments.seed, map(str, whole.seeds))}")
        cell = whole.of_seed(arguments.seed)
    todo = cell if arguments.again else collect.unfinished(project, cell)
    if todo:
        from imcl.training import worker  # imports torch, which takes seconds

        options = worker.RunOptions(
            arguments.device,
            arguments.threads,
            arguments.compile,
            arguments.checkpoint_share,
            arguments.again,
        )
        worker.train_runs(project, todo, options)
    if arguments.seed is None:
        _tell(project, whole)
    else:
        print(project.run(cell.run_key))


def _collect(arguments: argparse.Namespace) -> None:
    from imcl.study import grid

    _tell(arguments.project, grid.find(settings(arguments), arguments.cell))


def _tell(project: Project, cell: "Cell") -> None:
    """Collect a cell's runs, and say where the record is and how good they are."""
    from imcl.records.collect import collect
    from imcl.records.record import datasets

    record = collect(project, cell)
    accuracy = ", ".join(f"{run['final']['accuracy']:.2%}" for run in record["runs"])
    path = project.record(cell.key)
    print(f"{path}: {datasets(record)[0]['evaluation']} accuracy by seed {accuracy}")


def _run(arguments: argparse.Namespace) -> None:
    from imcl.study import grid

    loaded = settings(arguments)
    from imcl.training import runner

    options = [f"--study={loaded.study}", f"--device={arguments.device}"]
    options += [f"--threads={arguments.threads}", *(["--compile"] if arguments.compile else [])]
    cells = grid.cells(loaded)
    failed, left = runner.run(
        arguments.project,
        cells,
        options,
        jobs=arguments.jobs,
        seconds=None if arguments.minutes is None else 60 * arguments.minutes,
        grace=60 * arguments.grace,
        anchors=loaded.chosen_study.anchors,
    )
    done = len(cells) - len(failed) - len(left)
    print(f"study {loaded.study}: {done} of {len(cells)} cells done, {len(left)} left")
    if failed:
        raise ImclError(f"{len(failed)} cells failed: {', '.join(failed)}")
