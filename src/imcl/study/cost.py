"""What the seeds of a cell cost, from its settings alone: no torch, no data, no measurement.

Only a network of torchvision or timm is built and passed through once, on torch's meta device.

For the rules and for `imcl run`:

    one_job(cell)                          whether one process trains all seeds of the cell
    memory_mb(cell, attempt, gpu)          memory to ask for, in MB, for a job of the cell
    runtime_minutes(cell, attempt, gpu)    time to ask for, in minutes, for a job of the cell

`of_seed` gives the figures behind them. All count what one seed needs; `one_job` decides how many
seeds a job has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from imcl.errors import ImclError
from imcl.study import foreign
from imcl.study.backbones import BACKBONES, Stage
from imcl.study.grid import Cell, Dataset
from imcl.study.sources import SOURCES, Size

BYTES = 4  # of a number in float32

# What a step costs besides its multiply-adds: launching the operations of a network, and reading
# and writing maps that are too small to keep a core busy.
STEP_SECONDS = 0.01
# Multiply-adds in a second of one CPU core that trains, as in the committed records.
CORE_RATE = 50e9
# The same of a GPU, for `runtime_minutes`: ResNet-18 with 23,800 images a second, as airbench
# trains it on an A100, and a third of that, since other GPUs and methods are slower.
GPU_RATE = 23_800 * 1.664e9 / 3

# A process needs 2 to 4 s to import torch, read its data and start. One for each seed costs at most
# 3 % where a seed takes two minutes, and it makes the longest job shorter by the number of seeds.
# Below that, one process trains all seeds of a cell. The limit counts time on a CPU core on
# every machine, so that a study has the same jobs everywhere. On a GPU such seeds take seconds.
START_SECONDS = 3.0
SHORT_SECONDS = 120

# Memory of a process besides what its network needs: Python and torch, the evaluation of a batch,
# and with CUDA its libraries.
PROCESS_BYTES = 1_300_000_000
CUDA_BYTES = 4_000_000_000
# What frameworks keep besides the maps and weights that are counted: workspaces, freed blocks.
SLACK = 2.0

# Where the size of a dataset is unknown.
UNKNOWN_MB, UNKNOWN_MINUTES = 16_000, 24 * 60


class Images(NamedTuple):
    """The images of a dataset, after its subset is drawn and a share of it held out.

    Attributes:
        train: to train on.
        evaluated: to evaluate on.
        side: of an image, in pixels.
        channels: of an image.
        classes: how many.
    """

    train: int
    evaluated: int
    side: int
    channels: int
    classes: int

    @property
    def bytes(self) -> int:
        """Of an image."""
        return self.side**2 * self.channels


class Network(NamedTuple):
    """A backbone for images of a size.

    Attributes:
        stages: its convolutions; none of a network of torchvision or timm.
        macs: multiply-adds of one image's forward pass.
        weights: how many.
        maps: numbers that the backward pass reads, for one image.
    """

    stages: Sequence[Stage]
    macs: int
    weights: int
    maps: int


@dataclass(frozen=True)
class Cost:
    """What one seed of a cell costs. Multiply-adds are those of convolutions and classifiers.

    The losses of the ways come on top: up to a sixth of the multiply-adds of the network.

    Attributes:
        images: of the dataset.
        steps: of the training.
        trained: images in all steps, each augmentation counted.
        training: multiply-adds of the training.
        evaluated: images in all evaluations.
        evaluation: multiply-adds of the evaluations.
        step_bytes: weights, gradients, momentum and maps of a step.
        image_bytes: of all images that it trains and evaluates on.
        weights_bytes: of the file of its weights.
        checkpoint_bytes: of its checkpoint.
        record_bytes: of its part of the record.
    """

    images: Images
    steps: int
    trained: int
    training: float
    evaluated: int
    evaluation: float
    step_bytes: int
    image_bytes: int
    weights_bytes: int
    checkpoint_bytes: int
    record_bytes: int

    @property
    def macs(self) -> float:
        return self.training + self.evaluation

    def seconds(self, rate: float, step_seconds: float = 0.0) -> float:
        """The time on a device.

        Args:
            rate: multiply-adds in a second.
            step_seconds: what each step costs besides.
        """
        return self.macs / rate + self.steps * step_seconds

    @property
    def device_bytes(self) -> int:
        """An upper bound of the memory that it needs on its device: the GPU's, or the process's."""
        return int(PROCESS_BYTES + self.image_bytes + SLACK * self.step_bytes)

    def process_bytes(self, gpu: bool) -> int:
        """An upper bound of the memory of the process that trains it, on a GPU or a CPU."""
        return CUDA_BYTES + self.image_bytes if gpu else self.device_bytes


def one_job(cell: Cell) -> bool:
    """Whether one process trains all seeds of a cell, because a seed takes less than two minutes.

    It depends on the settings alone, so every command on every machine decides alike. Where the
    size of the dataset is not known, each seed is its own job: nothing is lost but the start of
    some processes.
    """
    cost = of_seed(cell)
    return cost is not None and cost.seconds(CORE_RATE, STEP_SECONDS) < SHORT_SECONDS


def memory_mb(cell: Cell, attempt: int = 1, gpu: bool = True) -> int:
    """MB of the machine's memory to ask for, a rough upper bound; each attempt half as much again.

    Args:
        cell: whose seeds the job trains, one after the other.
        attempt: of the job, from 1.
        gpu: whether it trains on one, where the maps of a step are in the GPU's memory.
    """
    cost = of_seed(cell)
    first = UNKNOWN_MB if cost is None else cost.process_bytes(gpu) / 1e6
    return math.ceil(first * (1 + attempt) / 2)


def runtime_minutes(cell: Cell, attempt: int = 1, gpu: bool = True) -> int:
    """Minutes to ask for, twice what a job should take and half an hour; each attempt as much more.

    Args:
        cell: whose seeds the job trains: all of them if `one_job`, else one.
        attempt: of the job, from 1.
        gpu: whether it runs on one, or on one CPU core.
    """
    cost = of_seed(cell)
    if cost is None:
        return UNKNOWN_MINUTES * attempt
    seeds = len(cell.seeds) if one_job(cell) else 1
    seconds = cost.seconds(GPU_RATE if gpu else CORE_RATE, STEP_SECONDS)
    return math.ceil(30 + 2 * seeds * seconds / 60) * attempt


def of_seed(cell: Cell) -> Cost | None:
    """What one seed of a cell costs.

    None if that is not known: neither its source nor a manifest tells the size of its dataset, or
    its network cannot be built here.
    """
    images = of_dataset(cell.dataset)
    if images is None:
        return None
    try:
        network = of_backbone(cell, images)
    except ImclError:  # the training tells why
        return None
    training = cell.training
    batch = min(training.batch_size, images.train)
    steps = training.epochs * (images.train // batch)
    trained = steps * batch * cell.views
    evaluations = min(training.evaluations, training.epochs)
    evaluated = images.evaluated * (evaluations + 2)  # and for its predictions and redundancy
    copies = cell.baseline[1].copies if cell.baseline else 1
    number = BYTES // 2 if training.precision == "bf16" else BYTES
    weights = copies * network.weights * BYTES
    extra = cell.baseline[1].extra(network.stages) if cell.baseline else 0
    return Cost(
        images=images,
        steps=steps,
        trained=trained,
        training=trained * of_image(network, extra),
        evaluated=evaluated,
        evaluation=evaluated * network.macs,
        step_bytes=3 * weights + batch * cell.views * copies * network.maps * number,
        image_bytes=(images.train + images.evaluated) * images.bytes,
        weights_bytes=network.weights * BYTES,
        checkpoint_bytes=2 * weights,
        record_bytes=_record_bytes(cell, images, evaluations),
    )


def of_image(network: Network, extra: float = 0) -> float:
    """Multiply-adds of one augmentation of an image in a training step.

    The backward pass takes twice as many as the forward pass: for the weights and for the maps. The
    first convolution needs no gradient of the image.

    Args:
        network: that is trained.
        extra: multiply-adds of the forward pass through what a baseline adds.
    """
    first = network.stages[0].convolutions[0].macs if network.stages else 0
    return 3 * (network.macs + extra) - first


def of_backbone(cell: Cell, images: Images) -> Network:
    """The network of a cell.

    Raises:
        ImclError: it is of torchvision or timm and cannot be built.
    """
    if cell.foreign is None:
        return of_network(cell.backbone, cell.width, *images[2:])
    made = foreign.measured(cell.foreign.options, images.side, images.classes)
    return Network([], *made)


@lru_cache
def of_network(backbone: str, width: int, side: int, channels: int, classes: int) -> Network:
    """A backbone for images of a size."""
    stages = BACKBONES[backbone](side, channels, width)
    convolutions = [convolution for stage in stages for convolution in stage.convolutions]
    classifier = stages[-1].channels * classes
    return Network(
        stages=stages,
        macs=sum(c.macs for c in convolutions) + classifier,
        weights=sum(c.weights + 2 * c.outputs for c in convolutions) + classifier + classes,
        maps=sum(c.inputs * c.before**2 + c.outputs * c.side**2 for c in convolutions),
    )


def of_dataset(dataset: Dataset) -> Images | None:
    """The images of a dataset; None if its source does not tell, or your pictures are not here."""
    options, size = dataset.options, _size(dataset)
    if size is None:
        return None
    train, evaluated = size.train, size.test
    if options.fold is not None and size.fold is not None:
        train = size.fold
    train = min(train, options.train_size or train)
    if options.validation_share is not None:
        evaluated = round(options.validation_share * train)
        train -= evaluated
    # Of too few, `prepare` says so; an estimate need not.
    train, evaluated = max(train, 1), max(evaluated, 1)
    return Images(train, evaluated, size.side, size.channels, size.classes)


def _size(dataset: Dataset) -> Size | None:
    side, counts = dataset.options.side, dataset.counts
    if side is None or counts is None:
        return SOURCES[dataset.options.source].size
    return Size(counts.train, counts.test, side, 3, counts.classes)


def _record_bytes(cell: Cell, images: Images, evaluations: int) -> int:
    """About the size of a seed's part of a record: its history, confusion matrix and the rest."""
    epochs, classes = cell.training.epochs, images.classes
    return 4_000 + 250 * epochs + 150 * evaluations + (8 * classes**2 if classes <= 20 else 0)
