"""Class-wise self-knowledge distillation: Yun et al. (CVPR 2020, arXiv 2003.13964).

L = CE + weight T^2 KL(p_T(z') || p_T(z)), z' the network's own logits for another image of the same
label, without gradient. Deviation: that pass leaves BatchNorm's running statistics alone; their
public code lets it move them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from imcl.batches import Batches
from imcl.models.backbone import Backbone
from imcl.peers.peer import Context, Peer, Seen, Tap, cross_entropy, divergence


class ClassWise(Peer):
    def __init__(self, options: dict, batches: Batches, generator: torch.Generator):
        super().__init__()
        self.weight, self.temperature = options["weight"], options["temperature"]
        self.batches, self.generator = batches, generator
        # The images of each label one after another, and where each image stands among them.
        self.by_label = batches.labels.argsort(stable=True)
        self.place = torch.empty_like(self.by_label)
        self.place[self.by_label] = torch.arange(len(self.place), device=self.place.device)
        self.counts = torch.bincount(batches.labels)
        self.starts = self.counts.cumsum(0) - self.counts

    def partners(self, labels: Tensor, indices: Tensor) -> Tensor:
        """For each image another one of its label, drawn evenly; itself where it is alone."""
        start, count = self.starts[labels], self.counts[labels]
        drawn = torch.rand(len(labels), generator=self.generator, device=labels.device)
        step = 1 + (drawn * (count - 1)).long().clamp(max=(count - 2).clamp(min=0))
        return self.by_label[start + (self.place[indices] - start + step) % count]

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, tap: Tap
    ) -> tuple[Tensor, Any]:
        others = self.batches.augmented(self.partners(labels, indices), self.generator)
        with torch.no_grad(), still(model):
            teacher = model(others)
        return model.features(images, tap)[-1], teacher

    def loss(self, seen: Seen) -> dict[str, Tensor]:
        student = seen.network
        teacher = seen.repeated(seen.beside.float(), len(student))
        distance = divergence(teacher, student, self.temperature)
        return {
            "cross_entropy": cross_entropy(seen, seen.logits),
            "cskd": self.weight * self.temperature**2 * distance,
        }


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """BatchNorm normalises by the batch, as in training, and keeps its running statistics."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def build(model: Backbone, options: dict, context: Context) -> ClassWise:
    return ClassWise(options, context.batches, context.generator)
