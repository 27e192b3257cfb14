"""Class-wise self-knowledge distillation: Yun et al. (CVPR 2020, arXiv 2003.13964).

L = CE + weight T^2 KL(p_T(z') || p_T(z)), z' the network's own logits for another image of the same
label, without gradient.

Differs from the authors' code (alinlab/cs-kd): there the other image is drawn from all images of
the label, so it may be the image itself; here never, unless the label has no other. There the pass
for z' updates BatchNorm's running statistics; here it does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from imcl.baselines.baseline import (
    BaselineMethod,
    Context,
    Outputs,
    StageHook,
    TrainingSet,
    cross_entropy,
    divergence,
)
from imcl.models.backbone import Backbone
from imcl.study.options import Cskd


class ClassWise(BaselineMethod):
    """`generator` draws the other images and their augmentations."""

    generator: torch.Generator

    def __init__(self, options: Cskd, training_set: TrainingSet, generator: torch.Generator):
        super().__init__()
        self.weight, self.temperature = options.weight, options.temperature
        self.training_set, self.generator = training_set, generator
        labels = training_set.labels
        # All sample indices sorted by label, and the position of each image in that list.
        self.by_label = labels.argsort(stable=True)
        self.position = torch.empty_like(self.by_label)
        self.position[self.by_label] = torch.arange(len(labels), device=labels.device)
        self.counts = torch.bincount(labels)
        self.starts = self.counts.cumsum(0) - self.counts

    def partners(self, labels: Tensor, indices: Tensor) -> Tensor:
        """For each image a random other one with the same label; itself if there is no other."""
        start, count = self.starts[labels], self.counts[labels]
        drawn = torch.rand(len(labels), generator=self.generator, device=labels.device)
        step = 1 + (drawn * (count - 1)).long().clamp(max=(count - 2).clamp(min=0))
        return self.by_label[start + (self.position[indices] - start + step) % count]

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, hook: StageHook
    ) -> tuple[Tensor, Any]:
        partners = self.partners(labels, indices)
        others = self.training_set.augmented(partners, self.generator)
        with torch.no_grad(), frozen_statistics(model):
            teacher = model(others)
        return model.features(images, hook)[-1], teacher

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        student = outputs.network
        teacher = outputs.repeated(outputs.extra, len(student))
        distance = divergence(teacher, student, self.temperature)
        return {
            "cross_entropy": cross_entropy(outputs, outputs.logits),
            "cskd": self.weight * self.temperature**2 * distance,
        }


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """BatchNorm normalises by the batch, as in training, but keeps its running statistics."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def build(model: Backbone, options: Cskd, context: Context) -> ClassWise:
    """The method; it draws further images of each class from the context's training set."""
    return ClassWise(options, context.training_set, context.generator)
