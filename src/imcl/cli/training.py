"""`imcl train | collect | run | merge | share`: train a cell or its seeds, or a study without an
engine, and exchange records with other machines."""

import argparse
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from imcl import terminal
from imcl.cli.commands import Commands, Parents, command, number, settings, with_study
from imcl.errors import ImclError, UsageError, printable, unknown
from imcl.project import Project
from imcl.study.spec import MOST_SEED, MOST_THREADS

if TYPE_CHECKING:
    from imcl.records.record import Record
    from imcl.study.grid import Cell

DEVICES = ("auto", "cpu", "cuda")
MOST_MINUTES = 10_000_000  # 19 years
PER_GPU = 4  # one network alone leaves a GPU idle between its operations


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the commands."""
    threads, minutes = number(int, 1, MOST_THREADS), number(float, 0, MOST_MINUTES)
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
    run.add_argument("--jobs", type=threads, help="processes that train at a time (default: 1)")
    run.add_argument(
        "--gpus",
        metavar="all|0,1,...",
        help="use these GPUs, each for --per-gpu processes at a time, in place of --jobs",
    )
    run.add_argument(
        "--per-gpu",
        type=threads,
        metavar="N",
        help=f"processes for each of --gpus, if its memory lets them (default: {PER_GPU})",
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
            choices=DEVICES,
            help="where to train (default: IMCL_DEVICE, or auto: the GPU if there is one, else the "
            "CPU unless the study needs a GPU)",
        )
        sub.add_argument("--threads", type=threads, default=1, help="CPU threads (default: 1)")
        sub.add_argument(
            "--compile",
            action="store_true",
            help="use torch's compiler; only for a GPU, since it is slower on a CPU",
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


def _device(arguments: argparse.Namespace) -> str:
    """The device that the command or the environment names."""
    named: str = arguments.device or os.environ.get("IMCL_DEVICE") or "auto"
    if named not in DEVICES:
        raise UsageError(f"IMCL_DEVICE={named}: {unknown('device', named, DEVICES)}")
    return named


def _train(arguments: argparse.Namespace) -> None:
    from imcl.records import collect
    from imcl.study import grid

    project = arguments.project
    loaded, device = settings(arguments), _device(arguments)
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
            device,
            arguments.threads,
            arguments.compile,
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
    from imcl.study import grid

    loaded, device = settings(arguments), _device(arguments)
    from imcl.study.snapshot import Snapshot
    from imcl.training import runner

    if loaded.gpu_for and device == "auto":
        from imcl.training.device import require_gpu  # imports torch, which takes seconds

        require_gpu(f"{loaded.gpu_for} needs a GPU")  # instead of each cell
    project = Snapshot.of(arguments.project).write()  # for cells that wait while it is edited
    jobs = _jobs(arguments)
    options = [f"--study={loaded.study}", f"--device={device}"]
    options += [f"--threads={arguments.threads}", *(["--compile"] if arguments.compile else [])]
    cells = grid.cells(loaded)
    failed, left = runner.run(
        project,
        cells,
        options,
        jobs=jobs,
        seconds=None if arguments.minutes is None else 60 * arguments.minutes,
        grace=60 * arguments.grace,
        anchors=loaded.chosen_study.anchors,
    )
    done = len(cells) - len(failed) - len(left)
    terminal.tell(f"study {loaded.study}: {done} of {len(cells)} cells done, {len(left)} left")
    if failed:
        raise ImclError(f"{len(failed)} cells failed: {', '.join(failed)}")


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
