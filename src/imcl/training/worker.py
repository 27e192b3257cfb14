"""Trains one cell of a study, with all its seeds, and writes its record."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from imcl.errors import ImclError
from imcl.files import locked, sweep
from imcl.progress import say
from imcl.project import Project
from imcl.records.record import Environment, Record, TrainedOn
from imcl.records.store import Store
from imcl.study.grid import Cell
from imcl.training import device, memory
from imcl.training.checkpoint import Checkpoints
from imcl.training.code import code, source_sha256
from imcl.training.data import RunData, load
from imcl.training.report import Report
from imcl.training.seed import Result, SeedRun, Task


@dataclass(frozen=True)
class RunOptions:
    """How a cell is trained on this machine.

    Attributes:
        device: "cpu", "cuda", or "auto" for the GPU if there is one.
        threads: of the CPU, for torch.
        compiled: let torch's compiler fuse the stages' operations; this rounds differently.
        checkpoint_share: the largest share of the run time to spend on checkpoints, in 0..1.
    """

    device: str = "auto"
    threads: int = 1
    compiled: bool = False
    checkpoint_share: float = 0.02


DEFAULT = RunOptions()


def train(project: Project, cell: Cell, options: RunOptions = DEFAULT) -> Record:
    """Train and evaluate every seed of a cell; write weights, then the record.

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
    store = Store(project)
    record = store.path(cell)
    lock = project.checkpoints / f".{cell.key}.lock"
    waiting = f"{cell.key}: another process trains this cell; waiting for it"
    report = Report(project, cell)
    try:
        with locked(lock, lambda: say(waiting)) as waited:
            if waited and record.exists():  # written by the process that this one waited for
                return store.read(cell, record)
            for path in (record, *(project.weights(cell.key, seed) for seed in cell.seeds)):
                sweep(path)
            with report:
                return _train(project, cell, options, report)
    except (ImclError, OSError) as error:
        if not report.started:
            report.failed_to_start(error)
        raise


def _train(project: Project, cell: Cell, options: RunOptions, report: Report) -> Record:
    target = device.choose(options.device)
    device.settle(options.threads, cell.training.precision)
    data = load(project, cell)
    first = data[cell.seeds[0]]  # the runs' data are equally large
    count = len(first.arrays.train_labels)
    if cell.training.batch_size > count:
        raise ImclError(
            f"{cell.name}: training.batch_size is {cell.training.batch_size}, but there are "
            f"{count} training images; lower it"
        )
    memory.check(cell.name, memory.of_cell(cell, first, target), target)
    environment = device.environment(target, options.threads)
    environment["compiled"] = options.compiled
    folder = project.checkpoints / cell.key
    setting = _setting(cell, data, target)
    checkpoints = Checkpoints(folder, setting, _origin(environment), options.checkpoint_share)
    task = Task(project, cell, data, target, options.compiled, checkpoints, report)
    with checkpoints.stopping():
        results = [_run(task, seed) for seed in cell.seeds]
        everything = TrainedOn.__annotations__.keys()
        record: Record = {
            "cell": cell.name,
            "digest": cell.digest,
            "config": cell.config,
            **first.told(everything - cell.drawn_per_run),
            "code": code(),
            "environment": environment,
            "runs": [{**r.run, **data[r.run["seed"]].told(cell.drawn_per_run)} for r in results],
            "cost": [result.cost for result in results],
        }
        Store(project).write(cell, record)
    checkpoints.remove()
    return record


def _setting(cell: Cell, data: dict[int, RunData], target: torch.device) -> dict[str, str]:
    """What a checkpoint must have been made with to be used."""
    return {
        "cell": cell.key,
        "dataset": _joined(each.description["sha256"] for each in data.values()),
        "noise": _joined(str(each.noise["sha256"]) for each in data.values()),
        "device": target.type,  # whose random numbers cannot be continued on another
    }


def _origin(environment: Environment) -> dict[str, str]:
    """What the exact result of a training depends on besides."""
    where = {name: str(value) for name, value in environment.items() if name != "device"}
    return {**where, "code": source_sha256()}


def _joined(hashes: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(hashes))


def _run(task: Task, seed: int) -> Result:
    """Train a seed; errors name the cell and the seed."""
    training, place = task.cell.training, f"{task.cell.name}, seed {seed}"
    try:
        return SeedRun(task, seed).run()
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
