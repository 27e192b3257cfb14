"""The options of the measurements: name, default, bounds and meaning, stated once."""

import os
from typing import Annotated, Any, Literal

from pydantic import Field

from imcl.study.spec import COMMIT, BatchSize, Device, Options, Threads, Width

CORES = os.cpu_count() or 1

Count = Annotated[int, Field(ge=1, le=10_000)]
Precision = Literal["float32", "tf32", "bf16"]


class Bench(Options):
    """A measurement. The docstring of each is its help."""


class OnDevice(Bench):
    """A measurement in this process, on a device of its choice."""

    device: Device = Field("auto", description="where to train")
    threads: Threads = Field(CORES, description="CPU threads")


class OnCores(Bench):
    """A measurement of whole runs of Snakemake."""

    cores: Threads = Field(CORES, description="cores for Snakemake")


class Overhead(OnDevice):
    """What each method costs compared with base."""

    width: Width = Field(64, description="channels of the first stage")
    batch_size: BatchSize = Field(128, description="images in a batch")
    repeats: Count = Field(7, description="steps of each method, of which the median counts")


class Loop(OnDevice):
    """Speed of our trainer, of a usual training loop, and the machine's limit."""

    widths: list[Width] = Field([64, 16], description="channels of the first stage")
    precisions: list[Precision] = Field(
        ["float32", "bf16"], description="number formats to train in"
    )
    batch_size: BatchSize = Field(128, description="images in a batch")
    steps: Count = Field(
        4,
        description="steps in an epoch at width 64; narrower networks take more, a GPU ten times "
        "as many",
    )
    repeats: Count = Field(5, description="epochs of each loop, of which the median counts")
    compile: bool = Field(False, description="run our trainer with torch's compiler")


class Change(Bench):
    """Speed of our trainer on the CPU, before and after a change of its code."""

    before: Annotated[str, Field(pattern=COMMIT)] = Field(
        description="the hash of a commit of this repository", examples=["41bbe59"]
    )
    turns: Count = Field(3, description="runs of each code, of which the median counts")
    threads: Threads = Field(CORES, description="CPU threads")
    widths: list[Width] = Field([64, 16], description="channels of the first stage")
    precisions: list[Precision] = Field(["bf16"], description="number formats to train in")
    batch_size: BatchSize = Field(128, description="images in a batch")
    steps: Count = Field(4, description="steps in an epoch, as of `imcl bench loop`")
    repeats: Count = Field(3, description="epochs of each loop in a run")


class Steps(OnDevice):
    """What a training step of each method asks of the device: counts, not times."""

    width: Width = Field(64, description="channels of the first stage")
    batch_size: BatchSize = Field(32, description="images in a batch")


class Pipeline(OnCores):
    """A study's wall time compared with the time that its cells spend in training."""


class Growth(OnCores):
    """How times grow with the number of cells, with the data and with the seeds."""

    sizes: list[Annotated[int, Field(ge=10, le=10_000)]] = Field(
        [100, 1000, 10000], description="numbers of cells, ascending"
    )


class Agreement(OnDevice):
    """Whether the trainer and the usual loop train equally good networks."""

    dataset: str = Field("cifar10_5k", description="a prepared dataset of params.yaml")
    width: Width = Field(8, description="channels of the first stage")
    epochs: Count = Field(12, description="epochs in each training")
    seeds: Annotated[int, Field(ge=2, le=1000)] = Field(5, description="seeds for each network")


class Library(OnDevice):
    """What the library's defaults gain in a plain loop: torchvision's ResNet-18 on digits."""

    epochs: Count = Field(14, description="epochs in each training")
    seeds: Annotated[int, Field(ge=1, le=1000)] = Field(3, description="seeds for each method")
    side: Annotated[int, Field(ge=8, le=256)] = Field(
        64, description="height and width that the images are resized to, in pixels"
    )


BENCHES: dict[str, type[Bench]] = {
    "overhead": Overhead,
    "loop": Loop,
    "change": Change,
    "steps": Steps,
    "pipeline": Pipeline,
    "growth": Growth,
    "agreement": Agreement,
    "library": Library,
}

Row = dict[str, Any]  # of a measurement; its keys are those of the bench
