"""`imcl train | run`: train one cell, or a whole study without Snakemake or DVC."""

import argparse

from imcl.cli.commands import Commands, Parents, command, number, settings, with_study
from imcl.errors import ImclError
from imcl.study.spec import MOST_THREADS

MOST_MINUTES = 10_000_000  # 19 years


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the commands."""
    threads, minutes = number(int, 1, MOST_THREADS), number(float, 0, MOST_MINUTES)
    summary = "Train and evaluate one cell with all its seeds."
    train = command(commands, parents, "train", _train, summary)
    train.add_argument("cell", help="name of a cell, as `imcl plan` prints it")
    train.add_argument(
        "--checkpoint-share",
        type=number(float, 0, 1),
        default=0.02,
        metavar="SHARE",
        help="largest share of the run time for checkpoints (default: 0.02)",
    )
    summary = "Train the cells of a study in their order, without Snakemake or DVC."
    run = command(commands, parents, "run", _run, summary)
    run.add_argument(
        "--jobs", type=threads, default=1, help="cells to train at a time (default: 1)"
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
    from imcl.study import grid

    cell = grid.find(settings(arguments), arguments.cell)
    from imcl.records.record import datasets
    from imcl.training import worker

    options = worker.RunOptions(
        arguments.device, arguments.threads, arguments.compile, arguments.checkpoint_share
    )
    record = worker.train(arguments.project, cell, options)
    accuracy = ", ".join(f"{run['final']['accuracy']:.2%}" for run in record["runs"])
    path = arguments.project.record(cell.key)
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
