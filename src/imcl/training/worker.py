"""Trains the seeds of a cell, each to a file of its own, and collects them into the record."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Self

import torch

from imcl.errors import ImclError, Stopped
from imcl.files import is_locked, locked, sha256, sweep
from imcl.progress import say
from imcl.project import Project
from imcl.records.collect import collect, kept, unfinished
from imcl.records.record import Environment, Record
from imcl.records.store import Store
from imcl.study.cost import of_seed
from imcl.study.grid import Cell
from imcl.training import device, memory, places
from imcl.training.checkpoint import Checkpoints
from imcl.training.code import source_sha256
from imcl.training.data import RunData, load
from imcl.training.report import Report
from imcl.training.seed import SeedRun, Task


@dataclass(frozen=True)
class RunOptions:
    """How a cell is trained on this machine.

    Attributes:
        device: "cpu", "cuda", or "auto" for the GPU if there is one.
        threads: of the CPU, for torch.
        compiled: let torch's compiler fuse the operations of our backbones' stages; this rounds
            differently.
        deterministic: take only algorithms of a GPU that repeat to the bit.
        checkpoint_share: the largest share of the run time to spend on checkpoints, in 0..1.
        again: train finished seeds again.
        gpu_for: the study that needs a GPU; only "cpu" trains it without one.
    """

    device: str = "auto"
    threads: int = 1
    compiled: bool = False
    deterministic: bool = True
    checkpoint_share: float = 0.02
    again: bool = False
    gpu_for: str | None = None


DEFAULT = RunOptions()


class StoppedLate(Stopped):
    """A signal came after the last step of the last seed, which was finished instead."""


def train(project: Project, cell: Cell, options: RunOptions = DEFAULT) -> Record:
    """Train every seed of a cell that is not finished, then collect them into its record.

    On the same machine with the same number of threads, everything in the record except `cost` is
    the same to the bit, even if the run was stopped: it resumes from its last checkpoint.

    Args:
        project: where the data is and the results go.
        cell: what to train; its dataset and noise are already prepared.
        options: of this machine.

    Raises:
        ImclError: data is missing or changed, the loss is not finite, or memory or disk is full.
        Stopped: a signal asked for it.
    """
    if not options.again and (record := kept(project, cell)):
        return record
    todo = cell if options.again else unfinished(project, cell)
    if todo:
        train_runs(project, todo, options)
    return collect(project, cell)


def train_runs(project: Project, cell: Cell, options: RunOptions = DEFAULT) -> None:
    """Train all seeds of a cell, each to a file of its own; arguments and errors as for `train`.

    Several processes share the seeds: each takes one that no other is training, or else waits. One
    that another process has finished meanwhile is not trained again.

    Raises:
        StoppedLate: a signal asked to stop, but all seeds are finished.
    """
    with ExitStack() as held:
        place = cache(lambda: _Place.made(project, cell, options, held))
        left = cell.runs
        while left:
            free = (run for run in left if not is_locked(project.lock(run.run_key)))
            run = next(free, left[0])
            left.remove(run)
            asked = _train(project, run, options, place)
            if asked is not None:
                raise (Stopped if left else StoppedLate)(asked)


def _train(
    project: Project, run: Cell, options: RunOptions, place: Callable[[], "_Place"]
) -> int | None:
    """Train a run while no other process does, unless one has finished it meanwhile.

    Returns:
        The signal that asked to stop, but came so late that the run was finished instead.
    """
    report = Report(project, run)
    waiting = f"{report.title}: another process trains it; waiting for it"
    try:
        with locked(project.lock(run.run_key), lambda: say(waiting)):
            if not options.again and not Store(project).lacks(run):
                return None
            for path in (project.run(run.run_key), project.weights(run.run_key)):
                sweep(path)
            with report:
                task = place().task(run, report)
                with task.checkpoints.stopping():
                    _run(task)
                return task.checkpoints.asked
    except (ImclError, OSError) as error:
        if not report.started:
            report.failed_to_start(error)
        raise


@dataclass(frozen=True)
class _Place:
    """What the runs of a cell share in one process."""

    project: Project
    options: RunOptions
    data: dict[int, RunData]
    device: torch.device
    environment: Environment
    params_sha256: str

    @classmethod
    def made(cls, project: Project, cell: Cell, options: RunOptions, held: ExitStack) -> Self:
        """For the seeds of a cell; ImclError if they cannot be trained.

        A GPU is shared with other trainings until `held` ends.
        """
        params = sha256(project.params)
        target = device.choose(options.device, options.gpu_for)
        device.settle(options.threads, cell.training.precision, options.deterministic)
        data = load(project, cell)
        first = data[cell.seeds[0]]  # the runs' data are equally large
        count = len(first.arrays.train_labels)
        if cell.training.batch_size > count:
            raise ImclError(
                f"{cell.name}: training.batch_size is {cell.training.batch_size}, but there are "
                f"{count} training images; lower it"
            )
        memory.check(cell.name, memory.of_cell(cell, first, target), target)
        if target.type == "cuda":
            cost = of_seed(cell)
            waiting = f"{cell.name}: waits until a GPU has enough memory left"
            gpu = places.place(
                device.gpus(), cost.device_bytes if cost else 0, lambda: say(waiting)
            )
            torch.cuda.set_device(held.enter_context(gpu).index)
        environment = device.environment(target, options.threads)
        environment["compiled"] = options.compiled and not cell.foreign
        if target.type == "cuda":
            # What torchvision and timm use need not repeat, whatever is asked of the convolutions.
            environment["deterministic"] = options.deterministic and not cell.foreign
        if cell.foreign:
            source = cell.foreign.options.source
            environment[source] = version(source)
        return cls(project, options, data, target, environment, params)

    def task(self, run: Cell, report: Report) -> Task:
        """The training of a run."""
        data = self.data[run.seeds[0]]
        setting = {  # that a checkpoint must have been made with to be used
            "run": run.run_key,
            "dataset": data.description["sha256"],
            "noise": str(data.noise["sha256"]),
            "device": self.device.type,  # whose random numbers cannot be continued on another
        }
        # What the exact result of a training depends on besides.
        where = {name: str(value) for name, value in self.environment.items() if name != "device"}
        origin = {**where, "code": source_sha256()}
        folder = self.project.checkpoints / run.run_key
        checkpoints = Checkpoints(folder, setting, origin, self.options.checkpoint_share)
        place = (self.device, self.environment, self.params_sha256)
        return Task(self.project, run, data, *place, checkpoints, report)


def _run(task: Task) -> None:
    """Train a run; errors name the cell and the seed."""
    training, place = task.run.training, task.report.title
    try:
        SeedRun(task).run()
    except ImclError as error:
        raise ImclError(f"{place}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not device.is_out_of_memory(error):
            raise
        raise ImclError(
            f"{place}: out of memory on the {task.device.type}. Lower training.batch_size "
            f"(now {training.batch_size}), or set training.precision to bf16 "
            f"(now {training.precision})"
        ) from None
