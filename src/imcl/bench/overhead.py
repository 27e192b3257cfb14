"""What each method costs beside base: parameters, multiplications, time and memory of a step."""

import random
import statistics
import time
from typing import TypedDict, get_args

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from imcl.bench.options import Overhead, Row
from imcl.progress import Progress
from imcl.project import Project
from imcl.study.backbones import BACKBONES
from imcl.study.options import BASELINES, WAYS, Way
from imcl.study.settings import Settings, Training
from imcl.training import device as devices
from imcl.training import memory
from imcl.training.batches import Augmentation, Batches, Normalise
from imcl.training.loop import Moment, Trainer
from imcl.training.network import Architecture, Method, assemble

SHAPE, CLASSES = (32, 32, 3), 10
RATE = 1e-3  # of learning: small, so that random labels do no harm
EPOCHS = 100  # of the training that a step is taken from
GPU_STEPS = 20  # of an epoch; one step alone would be mostly its start
SINGLE_PASS = {
    "output": "dropout",
    "intermediate": "relation",
    "representation": "correlation",
    "kernel": "cosine",
}


def rows(project: Project, settings: Settings, options: Overhead) -> list[Row]:
    """A row for each backbone and method; ratios are to base of the same backbone and width.

    A step is forward, backward and update of one batch of CIFAR's shape. Each repeat takes one step
    of every method, in a random order of its own, so that other load on the machine falls on all.
    On a GPU it takes a short epoch of captured steps, with their augmentation, and the mean counts.
    """
    device = devices.choose(options.device)
    devices.settle(options.threads, settings.training.precision)
    chosen = methods(settings)
    made = []
    total = len(BACKBONES) * len(chosen) * (options.repeats + 1)
    with Progress("overhead", total, "steps") as progress:
        for backbone in BACKBONES:
            architecture = Architecture(backbone, options.width, SHAPE, CLASSES)
            needed = memory.of_step(architecture, options.batch_size, copies=len(chosen))
            memory.check(f"bench overhead, {backbone}", needed, device)
            steps = {
                name: Step(architecture, method, settings.training, options.batch_size, device)
                for name, method in chosen.items()
            }
            costs = {}
            for name, step in steps.items():
                costs[name] = step.cost()
                progress.advance(note=f"{backbone} {name}")
            seconds: dict[str, list[float]] = {name: [] for name in steps}
            for repeat in range(options.repeats):
                for name in random.Random(repeat).sample(list(steps), len(steps)):
                    seconds[name].append(steps[name].seconds())
                    progress.advance(note=f"{backbone} {name}")
            median = {name: statistics.median(found) for name, found in seconds.items()}
            base = costs["base"]
            for name, cost in costs.items():
                made.append(
                    {
                        "backbone": backbone,
                        "width": options.width,
                        "batch_size": options.batch_size,
                        "method": name,
                        **cost,
                        "seconds": median[name],
                        "time_ratio": median[name] / median["base"],
                        "memory_ratio": cost["memory_bytes"] / base["memory_bytes"],
                        "macs_ratio": cost["macs"] / base["macs"],
                    }
                )
    return made


def methods(settings: Settings) -> dict[str, Method]:
    """By name: base, control, every variant of every way, all of them, and the baselines."""

    def with_variants(variants: dict[str, str]) -> Method:
        ways: dict[str, Way] = {
            name: settings.way(name).model_copy(update={"variant": variant})
            for name, variant in variants.items()
        }
        return Method(ways, epochs=EPOCHS)

    found = {"base": Method(epochs=EPOCHS), "control": Method(least_views=2, epochs=EPOCHS)}
    for name, way in WAYS.items():
        for variant in get_args(way.model_fields["variant"].annotation):
            found[f"{name}/{variant}"] = with_variants({name: variant})
    found["all/single-pass"] = with_variants(SINGLE_PASS)
    defaults = {name: way.model_fields["variant"].default for name, way in WAYS.items()}
    found["all"] = with_variants(defaults)
    for name in BASELINES:
        found[name] = Method(baseline=(name, settings.baseline(name)), epochs=EPOCHS)
    return found


class Cost(TypedDict):
    """The cost of a step.

    Attributes:
        training_parameters: that are trained.
        parameters: of the network that is kept.
        macs: multiply-adds of a step, for one image.
        memory_bytes: what is held between steps, and the most that a step needs besides.
    """

    training_parameters: int
    parameters: int
    macs: float
    memory_bytes: int


class Step:
    """One method, ready to take a step on one fixed batch, or on a GPU a short epoch of steps.

    Args:
        architecture: of the network.
        method: how it is trained.
        training: for precision, momentum and weight decay.
        batch_size: images in a batch.
        device: where it is trained.
    """

    def __init__(
        self,
        architecture: Architecture,
        method: Method,
        training: Training,
        batch_size: int,
        device: torch.device,
    ):
        generator = torch.Generator(device).manual_seed(0)
        count = batch_size * (GPU_STEPS if device.type == "cuda" else 1)
        images = torch.randint(
            256, (count, *architecture.shape), generator=generator, device=device
        )
        batches = Batches(
            images.byte(),
            torch.randint(CLASSES, (count,), generator=generator, device=device),
            Normalise.to([0.5] * 3, [0.25] * 3, device),
            Augmentation(padding=4, flip=True),
            batch_size=batch_size,
            shuffling=generator,
            views=[generator] * method.views,
        )
        self.batch = next(batches.epoch())
        training = training.model_copy(update={"learning_rate": RATE, "warmup_epochs": 0})
        self.trainer = Trainer(assemble(architecture, method, 0, batches), batches, training)
        self.trainer.collaboration.trained.train()
        self.device = device

    def __call__(self) -> None:
        self.trainer.step(self.batch, Moment(0, 0.5, RATE))

    def seconds(self) -> float:
        """The time of one step."""
        on_gpu = self.device.type == "cuda"
        devices.wait(self.device)
        begun = time.perf_counter()
        if on_gpu:
            self._epoch()
        else:
            self()
        devices.wait(self.device)
        return (time.perf_counter() - begun) / (GPU_STEPS if on_gpu else 1)

    def _epoch(self) -> None:
        self.trainer.done = 0  # so that each epoch is the first
        self.trainer.epoch()

    def cost(self) -> Cost:
        """What a step costs, apart from its time."""
        # What only the first steps make is no cost of every step.
        if self.device.type == "cuda":
            self._epoch()
        self()
        with FlopCounterMode(display=False) as counter:
            self()
        collaboration = self.trainer.collaboration
        trained = list(collaboration.trained.parameters())
        held = [*trained, *collaboration.trained.buffers(), *self.batch.views]
        bytes_held = sum(t.numel() * t.element_size() for t in held)
        momentum = sum(p.numel() * p.element_size() for p in trained)
        return {
            "training_parameters": sum(p.numel() for p in trained),
            "parameters": sum(p.numel() for p in collaboration.model.parameters()),
            "macs": counter.get_total_flops() / 2 / len(self.batch.labels),
            "memory_bytes": bytes_held + momentum + self._peak(),
        }

    def _peak(self) -> int:
        """The most that a step allocates above what is held between steps, in bytes."""
        if self.device.type == "cuda":
            devices.wait(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            self()
            devices.wait(self.device)
            return torch.cuda.max_memory_allocated(self.device) - before
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
            self()
        events = measured.profiler.kineto_results.events()
        changes = [e for e in events if e.name() == "[memory]"]
        total = most = 0
        for change in sorted(changes, key=lambda e: e.start_ns()):
            total += change.nbytes()
            most = max(most, total)
        return most
