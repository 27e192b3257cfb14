"""How fast this machine trains: a few steps of each kind that a study takes, on random images."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch

from imcl.models.foreign import Blueprint
from imcl.progress import Progress
from imcl.study import budget, cost
from imcl.study.budget import Family, Rate, Speed
from imcl.study.cost import Cost
from imcl.study.grid import Cell
from imcl.training import device as devices
from imcl.training import evaluation
from imcl.training.batches import Augmentation, Batches, Normalise
from imcl.training.loop import Trainer
from imcl.training.network import Architecture, Method, assemble

LIMIT = 40.0  # seconds of measuring
SAMPLE = 0.15  # seconds of an epoch that is measured
REPEATS = 3  # epochs, of which the median counts
LONGEST_STEP = 1.0  # seconds; where a step takes longer, its multiply-adds tell
# Where a step would take longer, a family is measured with a smaller batch.
MOST_MACS = 16e9
GPU_STEPS, MOST_STEPS = 60, 100


class Work(NamedTuple):
    """Seeds of a cell whose speed is wanted."""

    cell: Cell
    seed: Cost
    seeds: int

    @property
    def macs(self) -> float:
        return self.seeds * self.seed.macs


Key = TypeVar("Key", Family, str)


def measure(
    works: Sequence[Work],
    others: Sequence[Work],
    device: torch.device,
    threads: int = 1,
    start: float = cost.START_SECONDS,
) -> tuple[Speed, str]:
    """The speed of a device, and in words what was measured.

    Each family of `works` is measured, the largest first, then as many kinds of steps as there is
    time for, then the same of `others`. On a CPU the seconds are those of the
    CPU, so that other load does not count.

    Args:
        works: cells whose speed is wanted.
        others: cells whose speed is good to know too.
        device: to train on.
        threads: of the CPU.
        start: seconds that a job takes before it trains.
    """
    until = time.monotonic() + LIMIT
    rates: dict[Family, Rate] = {}
    steps: dict[str, float] = {}
    groups = [
        (_largest(group, budget.family), _largest(group, budget.kind)) for group in (works, others)
    ]
    total = sum(len(families) + len(kinds) for families, kinds in groups)
    with Progress("measuring", total, "kinds of steps") as progress:
        for families, kinds in groups:
            for family, work in families.items():
                left = until - time.monotonic()
                if family not in rates and (not rates or left > LIMIT / 3):
                    rates[family] = _family(work, device, threads)
                progress.advance()
            typical = _mean(rates)
            for kind, work in kinds.items():
                rate = rates.get(budget.family(work.cell, work.seed), typical)
                step = work.seed.training / work.seed.steps / rate.training
                needed = 2 * REPEATS * step * _steps(step, device)
                left = until - time.monotonic()
                if kind not in steps and step < LONGEST_STEP and needed < left:
                    steps[kind] = _kind(work, rate, device, threads)
                progress.advance()
    networks, wanted = groups[0]
    told = f"{len(networks.keys() & rates.keys())} of {len(networks)} networks, "
    told += f"{len(wanted.keys() & steps.keys())} of {len(wanted)} kinds of steps"
    told += "" if wanted.keys() <= steps.keys() else ", the others by their multiply-adds"
    return Speed(_mean(rates), start, rates, steps), told


def _largest(works: Sequence[Work], key: Callable[[Cell, Cost], Key]) -> dict[Key, Work]:
    """The largest work of each family or kind, the largest first."""
    found: dict[Key, Work] = {}
    for work in sorted(works, key=lambda work: -work.macs):
        found.setdefault(key(work.cell, work.seed), work)
    return found


def _family(work: Work, device: torch.device, threads: int) -> Rate:
    """The rate of a plain network on one view, with as large a batch as is quick."""
    images = work.seed.images
    network = cost.of_backbone(work.cell, images)
    each = cost.of_image(network)
    most = math.inf if device.type == "cuda" else MOST_MACS
    batch = int(max(2, min(_batch(work), most / each)))
    guess = batch * each / (cost.GPU_RATE if device.type == "cuda" else cost.CORE_RATE)
    seconds = _step(work, Method(epochs=1), batch, guess, device, threads)
    count = int(max(2, min(evaluation.BATCH, images.evaluated, most / network.macs)))
    spent = _evaluation(work, count, device, threads)
    return Rate(batch * each / seconds, count * network.macs / spent)


def _kind(work: Work, rate: Rate, device: torch.device, threads: int) -> float:
    """The seconds of a step as the cell takes it."""
    cell = work.cell
    method = Method(cell.ways, cell.baseline, cell.views, noise_rate=0.5, epochs=1)
    guess = work.seed.training / work.seed.steps / rate.training
    return _step(work, method, _batch(work), guess, device, threads)


def _step(
    work: Work, method: Method, batch: int, guess: float, device: torch.device, threads: int
) -> float:
    """The seconds of a step, `guess` before they are known."""
    training = work.cell.training.model_copy(
        update={"batch_size": batch, "epochs": 1, "warmup_epochs": 0, "learning_rate": 1e-9}
    )
    devices.settle(threads, training.precision)
    steps = _steps(guess, device)
    images = _images(work, steps * batch, device)
    generator = torch.Generator(device).manual_seed(0)
    options = work.cell.dataset.options
    batches = Batches(
        images,
        torch.randint(work.seed.images.classes, (len(images),), generator=generator, device=device),
        _normalise(work, device),
        Augmentation(options.padding, options.flip),
        batch_size=batch,
        shuffling=generator,
        views=[generator] * method.views,
    )
    collaboration = assemble(_architecture(work), method, 0, batches)
    trainer = Trainer(collaboration, batches, training)

    def first_epoch() -> None:
        trainer.done = 0
        trainer.epoch()

    return _seconds(first_epoch, device) / steps


def _steps(guess: float, device: torch.device) -> int:
    """The steps of an epoch that is measured, of so many seconds each."""
    # On a GPU a few steps would be mostly the start of the epoch.
    least = GPU_STEPS if device.type == "cuda" else 1
    return max(least, min(MOST_STEPS, int(SAMPLE / guess)))


def _evaluation(work: Work, count: int, device: torch.device, threads: int) -> float:
    """The seconds that so many images take."""
    precision = work.cell.training.precision
    devices.settle(threads, precision)
    images = _images(work, count, device)
    batches = Batches(
        images,
        torch.zeros(count, dtype=torch.int64, device=device),
        _normalise(work, device),
        Augmentation(0, False),
        batch_size=count,
        shuffling=torch.Generator(device),
        views=[],
    )
    model = assemble(_architecture(work), Method(), 0, batches).model
    normalise = batches.normalise
    return _seconds(lambda: evaluation.predict(model, images, normalise, precision), device)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """The median time of a few runs after a first one."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    found = []
    for _ in range(1 + REPEATS):
        devices.wait(device)
        begun = clock()
        run()
        devices.wait(device)
        found.append(clock() - begun)
    return max(statistics.median(found[1:]), 1e-9)


def _mean(rates: dict[Family, Rate]) -> Rate:
    """The harmonic mean: of as much work of each family."""
    training, evaluated = zip(*rates.values(), strict=True)
    return Rate(statistics.harmonic_mean(training), statistics.harmonic_mean(evaluated))


def _batch(work: Work) -> int:
    return budget.family(work.cell, work.seed).batch_size


def _architecture(work: Work) -> Architecture:
    images = work.seed.images
    shape = (images.side, images.side, images.channels)
    foreign = work.cell.foreign
    backbone = Blueprint(foreign.options) if foreign else work.cell.backbone
    return Architecture(backbone, work.cell.width, shape, images.classes)


def _images(work: Work, count: int, device: torch.device) -> torch.Tensor:
    images = work.seed.images
    shape = (count, images.side, images.side, images.channels)
    generator = torch.Generator(device).manual_seed(0)
    return torch.randint(256, shape, generator=generator, device=device, dtype=torch.uint8)


def _normalise(work: Work, device: torch.device) -> Normalise:
    channels = work.seed.images.channels
    return Normalise.to([0.5] * channels, [0.25] * channels, device)
