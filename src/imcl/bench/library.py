"""What the library adds to a loop that people write: torchvision's ResNet-18 on digits."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchvision.models import resnet18

from imcl.analysis import statistics
from imcl.bench.options import Library, Row
from imcl.collaboration import Collaboration
from imcl.data import arrays, digits
from imcl.noise import symmetric
from imcl.progress import Progress
from imcl.project import Project
from imcl.study.settings import Settings
from imcl.study.sources import DatasetOptions
from imcl.training import device as devices
from imcl.training.batches import Augmentation, Batches, Normalise

DATA = DatasetOptions(source="digits", padding=4, flip=False)
BATCH_SIZE, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 64, 0.05, 0.9, 5e-4
NOISE_SEED = 0  # gives the labels of params.yaml's n50
SHARES = (0.0, 0.5)  # of wrong labels


class Method(NamedTuple):
    """How a loop gets its loss.

    Attributes:
        views: augmentations of each image.
        ways: what `imcl.Collaboration` gets; without any, the loop takes cross-entropy itself.
    """

    views: int
    ways: Sequence[str] = ()


METHODS = {
    "plain loop": Method(1),
    "one view, output": Method(1, ["output"]),
    "one view, all": Method(1, ["all"]),
    "two views, cross-entropy": Method(2),
    "output": Method(2, ["output"]),
    "all": Method(2, ["all"]),
}


def rows(project: Project, settings: Settings, options: Library) -> list[Row]:
    """A row for each method and share of wrong labels: test accuracy by seed, compared with plain.

    All methods of a seed begin with the same weights, and see the same images in the same order.
    The first augmentation of an image is the one that the plain loop sees.
    """
    precision = settings.training.precision
    devices.settle(options.threads, precision)
    device = devices.choose(options.device)
    read = digits.read(DATA, [], Path())
    made: list[Row] = []
    total = len(SHARES) * len(METHODS) * options.seeds
    with Progress("library", total, "trainings") as progress:
        for share in SHARES:
            noisy = symmetric.flip(read, share, np.random.default_rng(NOISE_SEED))
            data = Data.of(read.relabelled(noisy), options.side, device)
            plain: list[float] | None = None
            for name, method in METHODS.items():
                found = []
                for seed in range(1, options.seeds + 1):
                    model = train(method, data, options.epochs, precision, seed)
                    found.append(data.accuracy(model, precision))
                    progress.advance(note=f"{name}, {share:.0%} wrong: {found[-1]:.2%}")
                made.append({"method": name, "wrong_labels": share, **compared(found, plain)})
                plain = plain or found  # the first method
    return made


def compared(accuracies: list[float], plain: list[float] | None) -> Row:
    """The mean over the seeds, and that of the differences to plain by seed; 95 % t-intervals."""
    own, gain = statistics.estimate(accuracies), None
    if plain is not None:
        gain = statistics.estimate([a - b for a, b in zip(accuracies, plain, strict=True)])
    return {
        "accuracy": accuracies,
        "mean": own["mean"],
        "half_width": own["half_width"],
        "gain_mean": gain and gain["mean"],
        "gain_half_width": gain and gain["half_width"],
    }


class Data(NamedTuple):
    """Images uint8 (N, side, side, 3) and labels int64 (N,), on the device."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    normalise: Normalise

    @classmethod
    def of(cls, read: arrays.Arrays, side: int, device: torch.device) -> Self:
        """Grey images, resized and with three equal channels."""
        train = enlarged(read.train_images, side)
        mean, std = arrays.statistics(train.numpy())
        return cls(
            train.to(device),
            torch.from_numpy(read.train_labels).to(device),
            enlarged(read.test_images, side).to(device),
            torch.from_numpy(read.test_labels).to(device),
            Normalise.to(mean, std, device),
        )

    def batches(self, views: int, seed: int) -> Batches:
        """The training set, shuffled and randomly cropped by streams of the seed."""
        shuffling, *streams = (
            torch.Generator(self.train_images.device).manual_seed(100 * seed + stream)
            for stream in range(1 + views)
        )
        return Batches(
            self.train_images,
            self.train_labels,
            self.normalise,
            Augmentation(DATA.padding, DATA.flip),
            batch_size=BATCH_SIZE,
            shuffling=shuffling,
            views=streams,
        )

    @torch.no_grad()
    def accuracy(self, model: nn.Module, precision: str) -> float:
        """The share of test images that the network classifies correctly."""
        device = self.test_images.device
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model.eval()(self.normalise(self.test_images))
        return (logits.argmax(1) == self.test_labels).double().mean().item()


def enlarged(images: arrays.Images, side: int) -> Tensor:
    """Grey images uint8 (N, H, W, 1) as uint8 (N, side, side, 3), by bilinear interpolation."""
    maps = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    resized = F.interpolate(maps, (side, side), mode="bilinear").round().to(torch.uint8)
    return resized.permute(0, 2, 3, 1).repeat(1, 1, 1, 3)


def train(method: Method, data: Data, epochs: int, precision: str, seed: int) -> nn.Module:
    """A network after its training: a plain loop, in which the method decides on the loss alone."""
    torch.manual_seed(seed)
    model = resnet18(num_classes=10).to(data.train_images.device)
    batches = data.batches(method.views, seed)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=LEARNING_RATE,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        nesterov=True,
    )
    schedule = CosineAnnealingLR(optimizer, epochs * len(batches))
    collaboration = Collaboration(model, method.ways) if method.ways else None
    for _ in range(epochs):
        model.train()
        for views, labels, _ in batches.epoch():
            with torch.autocast(labels.device.type, torch.bfloat16, enabled=precision == "bf16"):
                if collaboration is None:
                    logits = model(torch.cat(views))
                    loss = F.cross_entropy(logits.float(), labels.repeat(len(views)))
                else:
                    loss = collaboration(views, labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model
