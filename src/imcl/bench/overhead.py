"""What each method costs beside base: parameters, multiplications, time and memory of a step."""

import random
import statistics
import time

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from imcl import experiment, machine
from imcl.batches import Batches
from imcl.models import BACKBONES
from imcl.peers import PEERS
from imcl.progress import Progress
from imcl.train import SGD
from imcl.ways import DEFAULTS, WAYS

SIDE, CLASSES = 32, 10
SINGLE_PASS = {
    "output": "dropout",
    "intermediate": "relation",
    "representation": "correlation",
    "kernel": "cosine",
}


def rows(
    params: dict,
    width: int,
    batch_size: int,
    repeats: int,
    device: torch.device,
    threads: int,
) -> list[dict]:
    """A row for each backbone and method; ratios are to base of the same backbone and width.

    A step is forward, backward and update of one batch of CIFAR's shape. Each repeat takes one step
    of every method, in an order drawn anew, so that what else the machine does falls on all.
    """
    machine.settle(threads, params["training"]["precision"])
    chosen = _methods()
    made = []
    with Progress("overhead", len(BACKBONES) * len(chosen) * (repeats + 1), "steps") as progress:
        for backbone in BACKBONES:
            steps = {
                name: _Step(params, backbone, width, batch_size, device, *parts)
                for name, parts in chosen.items()
            }
            costs = {}
            for name, step in steps.items():
                costs[name] = step.cost()
                progress.advance(note=f"{backbone} {name}")
            seconds: dict[str, list[float]] = {name: [] for name in steps}
            for repeat in range(repeats):
                for name in random.Random(repeat).sample(list(steps), len(steps)):
                    seconds[name].append(steps[name].seconds())
                    progress.advance(note=f"{backbone} {name}")
            base = {**costs["base"], "seconds": statistics.median(seconds["base"])}
            for name in steps:
                cost, median = costs[name], statistics.median(seconds[name])
                made.append(
                    {
                        "backbone": backbone,
                        "width": width,
                        "batch_size": batch_size,
                        "method": name,
                        **cost,
                        "seconds": median,
                        "time_ratio": median / base["seconds"],
                        "memory_ratio": cost["memory_bytes"] / base["memory_bytes"],
                        "macs_ratio": cost["macs"] / base["macs"],
                    }
                )
    return made


def _methods() -> dict[str, tuple[str | None, dict[str, str], int]]:
    """By name: the peer, the ways with their variants, and the least number of views."""
    found: dict = {"base": (None, {}, 1), "control": (None, {}, 2)}
    for way, variants in WAYS.items():
        found |= {f"{way}/{variant}": (None, {way: variant}, 1) for variant in variants}
    found["all/single-pass"] = (None, SINGLE_PASS, 1)
    found["all"] = (None, {way: options["variant"] for way, options in DEFAULTS.items()}, 1)
    return found | {peer: (peer, {}, 1) for peer in PEERS}


class _Step:
    """One method, ready to take a step on one fixed batch."""

    def __init__(self, params, backbone, width, batch, device, peer, variants, views):
        ways = {way: {**params["ways"][way], "variant": v} for way, v in variants.items()}
        augmented = [o for o in ways.values() if o["variant"] == "augment"]
        self.precision = params["training"]["precision"]
        config = {
            "backbone": {"name": backbone, "width": width},
            "ways": ways,
            "views": max([views, *(o.get("parts", 2) for o in augmented)]),
            "training": {"epochs": 100},
            **({"peer": {"name": peer, **params["peers"][peer]}} if peer else {}),
        }
        generator = torch.Generator(device).manual_seed(0)
        drawn = {"generator": generator, "device": device}
        batches = Batches(
            torch.randint(256, (batch, SIDE, SIDE, 3), **drawn).byte(),
            torch.randint(CLASSES, (batch,), **drawn),
            mean=torch.full((3,), 0.5, device=device),
            std=torch.full((3,), 0.25, device=device),
            padding=4,
            flip=True,
            batch_size=batch,
            shuffling=generator,
            augmentation=[generator] * config["views"],
        )
        self.views, self.labels, self.indices = next(iter(batches.epoch()))
        self.collaboration = experiment.assemble(config, 0, [SIDE, SIDE, 3], CLASSES, batches)
        self.collaboration.trained.train()
        training = params["training"]
        self.optimizer = SGD(
            self.collaboration.trained, training["momentum"], training["weight_decay"]
        )
        self.device = device

    def __call__(self) -> None:
        images = self.views if len(self.views) > 1 else self.views[0]
        bf16 = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            step = self.collaboration(images, self.labels, 0.5, self.indices)
        step.loss.backward()
        self.optimizer.step(1e-3)

    def seconds(self) -> float:
        """The time of one step."""
        machine.wait(self.device)
        begun = time.perf_counter()
        self()
        machine.wait(self.device)
        return time.perf_counter() - begun

    def cost(self) -> dict:
        """Parameters in training and when served, multiply-adds of a step for an image, bytes."""
        self()  # what is made at the first step alone is no cost of every step
        with FlopCounterMode(display=False) as counter:
            self()
        trained = list(self.collaboration.trained.parameters())
        held = [*trained, *self.collaboration.trained.buffers(), *self.views]
        bytes_held = sum(t.numel() * t.element_size() for t in held)
        momentum = sum(p.numel() * p.element_size() for p in trained)
        return {
            "training_parameters": sum(p.numel() for p in trained),
            "parameters": sum(p.numel() for p in self.collaboration.model.parameters()),
            "macs": counter.get_total_flops() / 2 / len(self.labels),
            "memory_bytes": bytes_held + momentum + self._peak(),
        }

    def _peak(self) -> int:
        """The most that a step allocates above what is held between steps, in bytes."""
        if self.device.type == "cuda":
            machine.wait(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            self()
            machine.wait(self.device)
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
