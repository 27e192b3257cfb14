"""How fast the trainer is, beside the usual loop and beside the machine's limit."""

import math
import multiprocessing
import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from imcl.bench.options import Loop, Row
from imcl.bench.usual import Pictures, UsualLoop
from imcl.data.arrays import Images, Labels
from imcl.progress import Progress
from imcl.project import Project
from imcl.study.backbones import BACKBONES
from imcl.study.settings import Settings, Training
from imcl.study.spec import PER_GPU
from imcl.training import device as devices
from imcl.training import memory
from imcl.training.batches import Augmentation, Batches, Normalise
from imcl.training.loop import Moment, Trainer
from imcl.training.network import Architecture, Method, assemble, build

SHAPE, CLASSES = (32, 32, 3), 10
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
AUGMENTATION = Augmentation(padding=4, flip=True)
TIMES_ON_GPU = 10  # as many steps in an epoch, since there they are so short
PRODUCT_SIDE = {"cpu": 2048, "cuda": 8192}


def rows(project: Project, settings: Settings, options: Loop) -> list[Row]:
    """A row for each backbone, width and precision.

    Each repeat trains one short epoch in every loop, in a random order of its own, so that other
    load on the machine falls on all; medians count. The first repeat is a warm-up and does not. The
    usual loop is in float32, whatever the precision.

    Returns:
        images_per_second, and those of the `usual` and `tuned` loops and of the `limit`: the
        measured rate of matrix products over the operations that an image takes; their ratios;
        `packed`: of one single-threaded network for each core at the same time, or of several on a
        GPU, all together; and augmentation_share: of a step's time.
    """
    made = []
    # usual, and for each precision: ours, tuned, packed, augmentation, product
    loops = 1 + 5 * len(options.precisions)
    total = len(BACKBONES) * len(options.widths) * (options.repeats + 1) * loops
    with Progress("loop", total, "measurements") as progress:
        for backbone in BACKBONES:
            for width in options.widths:
                workload = workload_of(settings, options, backbone, width)
                needed = memory.of_step(workload.architecture, workload.batch_size)
                needed += workload.size * math.prod(SHAPE)
                device = devices.choose(options.device)
                memory.check(f"bench loop, {backbone} at width {width}", needed, device)
                race = Race(workload, options)
                made += race.run(progress)
    return made


class Workload(NamedTuple):
    """What all loops of a row share: network, how many images, and settings."""

    architecture: Architecture
    size: int
    training: Training

    @property
    def batch_size(self) -> int:
        return self.training.batch_size

    def images(self) -> tuple[Images, Labels]:
        drawn = np.random.default_rng(0)
        images = drawn.integers(256, size=(self.size, *SHAPE), dtype=np.uint8)
        return images, drawn.integers(CLASSES, size=self.size)

    def trainer(self, precision: str, device: torch.device, compiled: bool) -> Trainer:
        images, labels = self.images()
        stream = torch.Generator(device).manual_seed(0)
        batches = Batches(
            torch.from_numpy(images).to(device),
            torch.from_numpy(labels).to(device),
            Normalise.to(MEAN, STD, device),
            AUGMENTATION,
            batch_size=self.batch_size,
            shuffling=stream,
            views=[stream],
        )
        method = Method(epochs=self.training.epochs)
        collaboration = assemble(self.architecture, method, 0, batches)
        if compiled:
            devices.compile_stages(collaboration.model)
        training = self.training.model_copy(update={"precision": precision})
        return Trainer(collaboration, batches, training)

    def usual(self, precision: str, device: torch.device, tuned: bool) -> UsualLoop:
        torch.manual_seed(0)
        model = build(*self.architecture).to(device)
        pictures = Pictures(*self.images(), MEAN, STD, AUGMENTATION)
        training = self.training.model_copy(update={"precision": precision})
        return UsualLoop(model, pictures, training, device, tuned=tuned)

    def flops(self, precision: str, device: torch.device) -> float:
        """Floating-point operations of a step, two for a multiply-add, for one image."""
        trainer = self.trainer(precision, device, compiled=False)
        batch = next(trainer.batches.epoch())
        with FlopCounterMode(display=False) as counter:
            trainer.step(batch, Moment(0, 0.0, 1e-3))
        return counter.get_total_flops() / len(batch.labels)


def workload_of(settings: Settings, options: Loop, backbone: str, width: int) -> Workload:
    """Narrower networks train on more images, in proportion."""
    on_gpu = devices.choose(options.device).type == "cuda"
    steps = options.steps * (TIMES_ON_GPU if on_gpu else 1)
    size = options.batch_size * max(steps, steps * 64 // width)
    changes = {
        "epochs": 100,
        "warmup_epochs": 0,
        "learning_rate": 1e-3,
        "batch_size": options.batch_size,
    }
    training = settings.training.model_copy(update=changes)
    return Workload(Architecture(backbone, width, SHAPE, CLASSES), size, training)


Runner = tuple[str, str]  # a loop, and the precision that it runs in


class Race:
    """All loops on one workload, ready to run."""

    def __init__(self, workload: Workload, options: Loop):
        self.workload, self.options = workload, options
        device = devices.choose(options.device)
        size = workload.size
        usual = workload.usual("float32", device, tuned=False)
        self.rates: dict[Runner, Callable[[], float]] = {
            ("usual", "float32"): lambda: size / usual.epoch()
        }
        self.flops: dict[str, float] = {}
        self.packs: list[Packed] = []
        for precision in options.precisions:
            devices.settle(options.threads, precision)
            self._add(precision, device)

    def _add(self, precision: str, device: torch.device) -> None:
        """The loops in one precision."""
        workload, compiled = self.workload, self.options.compile
        trainer = workload.trainer(precision, device, compiled)
        tuned = workload.usual(precision, device, tuned=True)
        packed = Packed(workload, precision, device, compiled)
        self.flops[precision] = workload.flops(precision, device)
        self.packs.append(packed)
        self.rates |= {
            ("ours", precision): lambda: workload.size / epoch_seconds(trainer),
            ("tuned", precision): lambda: workload.size / tuned.epoch(),
            ("packed", precision): packed.images_per_second,
            ("augmentation", precision): lambda: workload.size / _augmenting(trainer),
            ("product", precision): lambda: _product_rate(device, precision),
        }

    def run(self, progress: Progress) -> list[Row]:
        """A row for each precision."""
        found: dict[Runner, list[float]] = {runner: [] for runner in self.rates}
        network = self.workload.architecture
        try:
            for repeat in range(self.options.repeats + 1):
                for runner in random.Random(repeat).sample(list(self.rates), len(self.rates)):
                    devices.settle(self.options.threads, runner[1])
                    value = self.rates[runner]()
                    if repeat:  # the first is a warm-up
                        found[runner].append(value)
                    note = f"{network.backbone} width {network.width} {' '.join(runner)}"
                    progress.advance(note=note)
        finally:
            for pack in self.packs:
                pack.close()
        median = {runner: statistics.median(values) for runner, values in found.items()}
        return [self._row(precision, median) for precision in self.options.precisions]

    def _row(self, precision: str, median: Mapping[Runner, float]) -> Row:
        ours, usual = median["ours", precision], median["usual", "float32"]
        tuned, packed = median["tuned", precision], median["packed", precision]
        limit = median["product", precision] / self.flops[precision]
        return {
            "backbone": self.workload.architecture.backbone,
            "width": self.workload.architecture.width,
            "precision": precision,
            "batch_size": self.workload.batch_size,
            "images_per_second": ours,
            "usual": usual,
            "tuned": tuned,
            "packed": packed,
            "limit": limit,
            "ratio_to_usual": ours / usual,
            "ratio_to_tuned": ours / tuned,
            "ratio_to_limit": ours / limit,
            "packed_ratio": packed / ours,
            "augmentation_share": ours / median["augmentation", precision],
            "flops_per_image": self.flops[precision],
            "product_flops": median["product", precision],
        }


def epoch_seconds(trainer: Trainer) -> float:
    """The time of a short epoch."""
    devices.wait(trainer.device)
    begun = time.perf_counter()
    trainer.done = 0  # so that each measured epoch is the first
    trainer.epoch()
    devices.wait(trainer.device)
    return time.perf_counter() - begun


def _augmenting(trainer: Trainer) -> float:
    devices.wait(trainer.device)
    begun = time.perf_counter()
    for _ in trainer.batches.epoch():
        pass
    devices.wait(trainer.device)
    return time.perf_counter() - begun


def _product_rate(device: torch.device, precision: str) -> float:
    """FLOP/s of the product of two large square matrices."""
    side = PRODUCT_SIDE[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    left @ right
    devices.wait(device)
    begun = time.perf_counter()
    for _ in range(8):
        left @ right
    devices.wait(device)
    return 8 * 2 * side**3 / (time.perf_counter() - begun)


class Packed:
    """Processes, each with a network in one thread: one for each core, or several on a GPU."""

    def __init__(self, workload: Workload, precision: str, device: torch.device, compiled: bool):
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        # Ctrl-C is for this process, which ends its children: they start with it blocked. The
        # tracker that their start needs would unblock it, so it runs before.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for _ in range(PER_GPU if device.type == "cuda" else os.cpu_count() or 1):
                here, there = context.Pipe()
                process = context.Process(
                    target=_train_when_told,
                    args=(there, workload, precision, device, compiled),
                    daemon=True,
                )
                process.start()
                there.close()
                self.pipes.append(here)
                self.processes.append(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for pipe in self.pipes:
            pipe.recv()  # it is ready

    def images_per_second(self) -> float:
        """Of all together."""
        for pipe in self.pipes:
            pipe.send(True)
        return sum(pipe.recv() for pipe in self.pipes)

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(False)
        for process in self.processes:
            process.join()


def _train_when_told(
    pipe: Connection, workload: Workload, precision: str, device: torch.device, compiled: bool
) -> None:
    devices.settle(1, precision)
    trainer = workload.trainer(precision, device, compiled)
    with suppress(EOFError, BrokenPipeError):  # the process that asks was ended
        pipe.send(True)
        while pipe.recv():
            pipe.send(workload.size / epoch_seconds(trainer))
