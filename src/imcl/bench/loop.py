"""How fast the trainer is, beside the loop that people write and beside the machine's limit."""

import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from imcl import experiment, machine
from imcl.batches import Batches
from imcl.bench.usual import Pictures, UsualLoop
from imcl.models import BACKBONES
from imcl.progress import Progress
from imcl.train import Trainer

SIDE, CLASSES, PADDING = 32, 10, 4
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PRODUCT_SIDE = {"cpu": 2048, "cuda": 8192}


def rows(
    params: dict,
    widths: Iterable[int],
    precisions: Iterable[str],
    batch_size: int,
    steps: int,
    repeats: int,
    device: torch.device,
    threads: int,
    compile: bool,
) -> list[dict]:
    """A row for each backbone, width and precision.

    Each repeat trains one short epoch in every loop, in an order drawn anew, so that what else the
    machine does falls on all; medians count.

    Args:
        params: checked parameters; of them momentum and weight decay.
        widths: of the backbones.
        precisions: of our trainer, the tuned loop and the limit; the usual loop is in float32.
        batch_size: images.
        steps: of an epoch at width 64; narrower networks take more in proportion.
        repeats: epochs of each loop, after one that does not count.
        device: for all of them.
        threads: of the CPU, where one network trains alone.
        compile: whether our trainer's stages go through torch's compiler.

    Returns:
        images_per_second, and those of the `usual` and `tuned` loops and of the `limit`: the
        measured rate of matrix products over the operations that an image takes; their ratios;
        `packed`: of one single-threaded network for each core at once, all together; and
        augmentation_share: of a step's time.
    """
    precisions, widths = list(precisions), list(widths)
    made = []
    # usual, and for each precision: ours, tuned, packed, augmentation, product
    total = len(BACKBONES) * len(widths) * (repeats + 1) * (1 + 5 * len(precisions))
    with Progress("loop", total, "measurements") as progress:
        for backbone in BACKBONES:
            for width in widths:
                count = batch_size * max(steps, steps * 64 // width)
                shape = _Shape(backbone, width, batch_size, count, params["training"])
                made += _rows(shape, precisions, repeats, device, threads, compile, progress)
    return made


class _Shape:
    """What all loops of a row share: network, data and settings."""

    def __init__(self, backbone: str, width: int, batch_size: int, count: int, training: dict):
        self.backbone, self.width, self.batch_size, self.count = backbone, width, batch_size, count
        self.training = {**training, "epochs": 100, "warmup_epochs": 0, "learning_rate": 1e-3}
        self.config = {
            "backbone": {"name": backbone, "width": width},
            "ways": {},
            "views": 1,
            "training": self.training,
        }
        self.training["batch_size"] = batch_size

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        drawn = np.random.default_rng(0)
        images = drawn.integers(256, size=(self.count, SIDE, SIDE, 3), dtype=np.uint8)
        return images, drawn.integers(CLASSES, size=self.count)

    def trainer(self, precision: str, device: torch.device, compiled: bool) -> Trainer:
        images, labels = self.images()
        stream = torch.Generator(device).manual_seed(0)
        batches = Batches(
            torch.from_numpy(images).to(device),
            torch.from_numpy(labels).to(device),
            mean=torch.tensor(MEAN, device=device),
            std=torch.tensor(STD, device=device),
            padding=PADDING,
            flip=True,
            batch_size=self.batch_size,
            shuffling=stream,
            augmentation=[stream],
        )
        shape = [SIDE, SIDE, 3]
        collaboration = experiment.assemble(self.config, 0, shape, CLASSES, batches)
        if compiled:
            machine.compile_stages(collaboration.model)
        return Trainer(collaboration, batches, {**self.training, "precision": precision})

    def usual(self, precision: str, device: torch.device, tuned: bool) -> UsualLoop:
        torch.manual_seed(0)
        return UsualLoop(
            experiment.build(self.config, [SIDE, SIDE, 3], CLASSES).to(device),
            Pictures(*self.images(), MEAN, STD, PADDING, flip=True),
            batch_size=self.batch_size,
            tuned=tuned,
            precision=precision,
            momentum=self.training["momentum"],
            weight_decay=self.training["weight_decay"],
            device=device,
        )


def _rows(shape: _Shape, precisions, repeats, device, threads, compiled, progress) -> list[dict]:
    usual = shape.usual("float32", device, tuned=False)
    measures: dict[tuple, Callable[[], float]] = {
        ("usual", "float32"): lambda: shape.count / usual.epoch()
    }
    flops, packs = {}, []
    for precision in precisions:
        machine.settle(threads, precision)
        trainer = shape.trainer(precision, device, compiled)
        flops[precision] = _flops(shape, precision, device)
        tuned = shape.usual(precision, device, tuned=True)
        packs.append(_Packed(shape, precision, device, compiled))
        measures |= {
            ("ours", precision): lambda t=trainer: shape.count / _seconds(t, device),
            ("tuned", precision): lambda t=tuned: shape.count / t.epoch(),
            ("packed", precision): packs[-1].images_per_second,
            ("augmentation", precision): lambda t=trainer: shape.count / _augmenting(t, device),
            ("product", precision): lambda p=precision: _product_rate(device, p),
        }
    found: dict[tuple, list[float]] = {key: [] for key in measures}
    try:
        for repeat in range(repeats + 1):
            for key in random.Random(repeat).sample(list(measures), len(measures)):
                machine.settle(threads, key[1])
                value = measures[key]()
                if repeat:  # the first is a warm-up
                    found[key].append(value)
                progress.advance(note=f"{shape.backbone} width {shape.width} {' '.join(key)}")
    finally:
        for pack in packs:
            pack.close()
    median = {key: statistics.median(values) for key, values in found.items()}
    return [_row(shape, precision, median, flops[precision]) for precision in precisions]


def _row(shape: _Shape, precision: str, median: dict[tuple, float], flops: float) -> dict:
    ours, usual = median["ours", precision], median["usual", "float32"]
    tuned, packed = median["tuned", precision], median["packed", precision]
    limit = median["product", precision] / flops
    return {
        "backbone": shape.backbone,
        "width": shape.width,
        "precision": precision,
        "batch_size": shape.batch_size,
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
        "flops_per_image": flops,
        "product_flops": median["product", precision],
    }


def _seconds(trainer: Trainer, device: torch.device) -> float:
    machine.wait(device)
    begun = time.perf_counter()
    trainer.epoch(0)
    machine.wait(device)
    return time.perf_counter() - begun


def _augmenting(trainer: Trainer, device: torch.device) -> float:
    machine.wait(device)
    begun = time.perf_counter()
    for _ in trainer.batches.epoch():
        pass
    machine.wait(device)
    return time.perf_counter() - begun


def _flops(shape: _Shape, precision: str, device: torch.device) -> float:
    """Floating-point operations of a step, two for a multiply-add, for one image."""
    trainer = shape.trainer(precision, device, compiled=False)
    views, labels, indices = next(iter(trainer.batches.epoch()))
    with FlopCounterMode(display=False) as counter:
        trainer.step(views, labels, indices, 0.0, 1e-3)
    return counter.get_total_flops() / len(labels)


def _product_rate(device: torch.device, precision: str) -> float:
    """FLOP/s of the product of two large square matrices."""
    side = PRODUCT_SIDE[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    left @ right
    machine.wait(device)
    begun = time.perf_counter()
    for _ in range(8):
        left @ right
    machine.wait(device)
    return 8 * 2 * side**3 / (time.perf_counter() - begun)


class _Packed:
    """A process for each core, each with a network of its own in one thread."""

    def __init__(self, shape: _Shape, precision: str, device: torch.device, compiled: bool):
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for _ in range(os.cpu_count() or 1):
            here, there = context.Pipe()
            process = context.Process(
                target=_train_when_told,
                args=(there, shape, precision, device, compiled),
                daemon=True,
            )
            process.start()
            there.close()
            self.pipes.append(here)
            self.processes.append(process)
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


def _train_when_told(pipe, shape: _Shape, precision: str, device, compiled: bool) -> None:
    machine.settle(1, precision)
    trainer = shape.trainer(precision, device, compiled)
    pipe.send(True)
    while pipe.recv():
        pipe.send(shape.count / _seconds(trainer, device))
