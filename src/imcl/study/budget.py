"""The bill of a study: what the seeds that are missing will cost, and when they would be done.

It computes with figures that others found: what is missing, and how fast the device is.
"""

import heapq
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from typing_extensions import TypedDict

from imcl.study import cost
from imcl.study.cost import Cost
from imcl.study.grid import Cell, digest

# The anchor of --rate: images that ResNet-18 at width 64 trains in a second, of 32 x 32 pixels.
ANCHOR = ("resnet18", 64, 32, 3, 10)
DEVICES = (1, 8, 64)
# What a device is assumed to draw while it trains, in watts: an A100's limit; a core of a server.
WATTS = {"cuda": 400.0, "cpu": 10.0}

# Options of a way that change its loss, not its time.
FACTORS = {"weight", "ramp_up_steps", "misfit_power"}


class Family(NamedTuple):
    """Steps that differ only in their method."""

    backbone: str
    width: int
    side: int
    channels: int
    batch_size: int
    precision: str


class Rate(NamedTuple):
    """Multiply-adds in a second, in training and in evaluation."""

    training: float
    evaluation: float


@dataclass(frozen=True)
class Speed:
    """How fast a device is.

    Attributes:
        typical: where nothing nearer is known.
        start: seconds that a job takes before it trains.
        families: of those that were measured.
        steps: seconds of a step, of the kinds (see `kind`) that were measured.
    """

    typical: Rate
    start: float = 0.0
    families: Mapping[Family, Rate] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)

    def seconds(self, cell: Cell, seed: Cost) -> float:
        """The time to train and evaluate one seed of a cell."""
        rate = self.families.get(family(cell, seed), self.typical)
        step = self.steps.get(kind(cell, seed))
        training = seed.training / rate.training if step is None else seed.steps * step
        return training + seed.evaluation / rate.evaluation


def at_rate(images_per_second: float) -> Speed:
    """The speed of a device that trains so many images of `ANCHOR` in a second."""
    network = cost.of_network(*ANCHOR)
    rate = images_per_second * cost.of_image(network)
    return Speed(Rate(rate, rate))


def family(cell: Cell, seed: Cost) -> Family:
    """The family of a cell's steps."""
    images, training = seed.images, cell.training
    batch = min(training.batch_size, images.train)
    shape = (images.side, images.channels)
    return Family(cell.backbone, cell.width, *shape, batch, training.precision)


def kind(cell: Cell, seed: Cost) -> str:
    """What decides the time of a step: cells of a kind take equally long for it."""
    ways = {
        name: {option: value for option, value in way.used().items() if option not in FACTORS}
        for name, way in cell.ways.items()
    }
    baseline = cell.baseline and [cell.baseline[0], cell.baseline[1].model_dump()]
    return digest([*family(cell, seed), seed.images.classes, cell.views, ways, baseline])


class Missing(NamedTuple):
    """A cell whose record is missing.

    Attributes:
        cell: with all its seeds.
        seeds: how many are still to be trained.
        seed: what each of them costs; None if that is unknown.
    """

    cell: Cell
    seeds: int
    seed: Cost | None

    def jobs(self, speed: Speed) -> list[float]:
        """The seconds of each of its jobs."""
        if self.seed is None or not self.seeds:
            return []
        each = speed.seconds(self.cell, self.seed)
        if cost.one_job(self.cell):
            return [speed.start + self.seeds * each]
        return [speed.start + each] * self.seeds


class Disk(TypedDict):
    """Bytes that are to be written."""

    archives: int
    arrays: int
    labels: int
    weights: int
    records: int


class Row(TypedDict):
    """The bill of a dataset, or of the whole study.

    Attributes:
        dataset: None for the whole study.
        cells: that are missing.
        unknown: those of them whose cost is not known; they are in no other figure but `seeds`.
        seeds: that are still to be trained.
        jobs: that train them.
        seconds: of all jobs.
        longest: seconds of the longest job.
        makespan: seconds until all jobs are done, by the number of devices.
        joules: of all jobs.
        disk: bytes by what they hold.
        checkpoint: bytes of the largest checkpoint of a job that runs.
        memory: bytes of the largest job, on its device.
    """

    dataset: str | None
    cells: int
    unknown: int
    seeds: int
    jobs: int
    seconds: float
    longest: float
    makespan: dict[int, float]
    joules: float
    disk: Disk
    checkpoint: int
    memory: int


class Recorded(NamedTuple):
    """A seed that a record tells of: the device that trained it, and its seconds."""

    device: str
    seconds: float
    estimate: float


class Accuracy(TypedDict):
    """How far off the estimate is for the seeds that a device has trained.

    Attributes:
        device: as the records name it.
        seeds: how many.
        median: of estimated by recorded seconds; `least` and `most` of the same.
    """

    device: str
    seeds: int
    median: float
    least: float
    most: float


def makespan(seconds: Iterable[float], devices: int) -> float:
    """The time until all jobs are done, if each device takes the next one when it is free.

    The jobs start in their order, as `imcl run` starts them. Snakemake and SLURM start them in much
    the same order.
    """
    free = [0.0] * devices
    end = 0.0
    for each in seconds:
        done = heapq.heappop(free) + each
        heapq.heappush(free, done)
        end = max(end, done)
    return end


def rows(
    missing: Sequence[Missing],
    disk: Mapping[str, Disk],
    speed: Speed,
    watts: float,
    devices: Sequence[int] = DEVICES,
) -> list[Row]:
    """The bill of each dataset that is missing something, in the study's order; then of all.

    Args:
        missing: cells in the study's order.
        disk: by dataset.
        speed: of the device.
        watts: that the device draws while it trains.
        devices: numbers of them, for the makespan.
    """
    names = list(dict.fromkeys(one.cell.dataset.name for one in missing))
    by_dataset = [
        _row(name, [one for one in missing if one.cell.dataset.name == name], speed, watts, devices)
        for name in names
    ]
    for row, name in zip(by_dataset, names, strict=True):
        row["disk"] = _added([row["disk"], disk[name]])
    whole = _row(None, missing, speed, watts, devices)
    whole["disk"] = _added([row["disk"] for row in by_dataset])
    return [*by_dataset, whole]


def accuracy(seeds: Iterable[Recorded]) -> list[Accuracy]:
    """How far off the estimate is, by device: the ratio of estimated to recorded seconds."""
    found: list[Accuracy] = []
    for device, group in groupby(sorted(seeds), key=lambda seed: seed.device):
        ratios = [seed.estimate / seed.seconds for seed in group]
        found.append(
            {
                "device": device,
                "seeds": len(ratios),
                "median": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
            }
        )
    return found


def _row(
    dataset: str | None,
    missing: Sequence[Missing],
    speed: Speed,
    watts: float,
    devices: Sequence[int],
) -> Row:
    known = [(one, one.seed) for one in missing if one.seed is not None]
    jobs = [seconds for one in missing for seconds in one.jobs(speed)]
    disk: Disk = {
        "archives": 0,
        "arrays": 0,
        "labels": 0,
        "weights": sum(one.seeds * seed.weights_bytes for one, seed in known),
        "records": sum(one.seeds * seed.record_bytes for one, seed in known),
    }
    return {
        "dataset": dataset,
        "cells": len(missing),
        "unknown": len(missing) - len(known),
        "seeds": sum(one.seeds for one in missing),
        "jobs": len(jobs),
        "seconds": sum(jobs),
        "longest": max(jobs, default=0.0),
        "makespan": {count: makespan(jobs, count) for count in devices},
        "joules": sum(jobs) * watts,
        "disk": disk,
        "checkpoint": max((seed.checkpoint_bytes for _, seed in known), default=0),
        "memory": max((seed.device_bytes for _, seed in known), default=0),
    }


def _added(several: Iterable[Disk]) -> Disk:
    total = Disk(archives=0, arrays=0, labels=0, weights=0, records=0)
    for disk in several:
        for what in total:
            total[what] += disk[what]  # type: ignore[literal-required]  # the keys of a Disk
    return total
