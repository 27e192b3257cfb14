"""Whether the trainer and the usual loop train networks that are equally good."""

from typing import NamedTuple

import torch
from torch import nn

from imcl.analysis import statistics
from imcl.bench.options import Agreement, Row
from imcl.bench.usual import Pictures, UsualLoop
from imcl.data import prepare
from imcl.data.arrays import Arrays
from imcl.errors import ImclError
from imcl.progress import Progress
from imcl.project import Project
from imcl.study import grid
from imcl.study.backbones import BACKBONES
from imcl.study.settings import Settings, Training
from imcl.training import device as devices
from imcl.training import evaluation, memory
from imcl.training.batches import Augmentation, Batches, Normalise
from imcl.training.loop import fit
from imcl.training.network import Architecture, Method, assemble, build
from imcl.training.optimizer import learning_rate


def rows(project: Project, settings: Settings, options: Agreement) -> list[Row]:
    """A row for each backbone: test accuracy of base by seed in both loops, and their difference.

    Raises:
        ImclError: the dataset is not prepared.
    """
    dataset = grid.datasets(settings, [options.dataset])[options.dataset].of_run(1)
    path = project.dataset(dataset.key)
    if not path.exists():
        raise ImclError(f"{path}: missing; run `imcl prepare {' '.join(dataset.words)}` first")
    description, arrays = prepare.load(project, dataset)
    changes = {"epochs": options.epochs, "warmup_epochs": min(2, options.epochs - 1)}
    training = settings.training.model_copy(update=changes)
    devices.settle(options.threads, training.precision)
    device, classes = devices.choose(options.device), len(description["class_names"])
    made = []
    with Progress("agreement", len(BACKBONES) * options.seeds, "seeds") as progress:
        for backbone in BACKBONES:
            architecture = Architecture(backbone, options.width, description["shape"], classes)
            needed = memory.of_step(architecture, training.batch_size)
            memory.check(f"bench agreement, {backbone}", needed, device)
            contest = Contest(
                architecture,
                training,
                Augmentation(dataset.options.padding, dataset.options.flip),
                description,
                arrays,
                device,
            )
            ours, usual = [], []
            for seed in range(1, options.seeds + 1):
                ours.append(contest.ours(seed))
                usual.append(contest.usual(seed))
                progress.advance(note=f"{backbone}: ours {ours[-1]:.2%}, usual {usual[-1]:.2%}")
            made.append({"dataset": dataset.name, "backbone": backbone, **compared(ours, usual)})
    return made


def compared(ours: list[float], usual: list[float]) -> Row:
    """Both means with their 95 % intervals, and whether the intervals overlap."""
    mine, theirs = statistics.estimate(ours), statistics.estimate(usual)
    apart = abs(mine["mean"] - theirs["mean"])
    return {
        "seeds": len(ours),
        "ours": ours,
        "usual": usual,
        "ours_mean": mine["mean"],
        "ours_half_width": mine["half_width"],
        "usual_mean": theirs["mean"],
        "usual_half_width": theirs["half_width"],
        "agree": apart <= (mine["half_width"] or 0) + (theirs["half_width"] or 0),
    }


class Contest(NamedTuple):
    """Both loops on the same network, data and settings."""

    architecture: Architecture
    training: Training
    augmentation: Augmentation
    description: prepare.Description
    arrays: Arrays
    device: torch.device

    def ours(self, seed: int) -> float:
        """The test accuracy after a training in our loop."""
        batches = Batches(
            torch.from_numpy(self.arrays.train_images).to(self.device),
            torch.from_numpy(self.arrays.train_labels).to(self.device),
            self._normalise(),
            self.augmentation,
            batch_size=self.training.batch_size,
            shuffling=torch.Generator(self.device).manual_seed(2 * seed),
            views=[torch.Generator(self.device).manual_seed(2 * seed + 1)],
        )
        method = Method(epochs=self.training.epochs)
        collaboration = assemble(self.architecture, method, seed, batches)
        fit(collaboration, batches, self.training, lambda epoch, state: None)
        return self._accuracy(collaboration.model)

    def usual(self, seed: int) -> float:
        """The test accuracy after a training in the usual loop, in float32."""
        torch.manual_seed(seed)
        model = build(*self.architecture).to(self.device)
        mean, std = self.description["mean"], self.description["std"]
        pictures = Pictures(
            self.arrays.train_images, self.arrays.train_labels, mean, std, self.augmentation
        )
        loop = UsualLoop(model, pictures, self.training, self.device, tuned=False, seed=seed)
        steps = len(loop.loader)
        for epoch in range(self.training.epochs):
            first = epoch * steps
            loop.epoch([learning_rate(first + step, steps, self.training) for step in range(steps)])
        return self._accuracy(model)

    def _normalise(self) -> Normalise:
        return Normalise.to(self.description["mean"], self.description["std"], self.device)

    def _accuracy(self, model: nn.Module) -> float:
        images = torch.from_numpy(self.arrays.test_images).to(self.device)
        logits = evaluation.predict(model, images, self._normalise(), self.training.precision)
        labels = torch.from_numpy(self.arrays.test_labels)
        return evaluation.metrics(logits, labels)["accuracy"]
