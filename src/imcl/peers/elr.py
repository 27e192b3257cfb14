"""Early-learning regularisation: Liu et al. (NeurIPS 2020, arXiv 2007.00151).

L = CE + weight mean log(1 - <t, p>), where t, one row for each training image, follows the
network's own predictions: t <- beta t + (1 - beta) p / sum p, p clamped to [1e-4, 1 - 1e-4],
without gradient. As in their public code t is moved before it is used.
"""

import torch
from torch import Tensor

from imcl.models.backbone import Backbone
from imcl.peers.peer import Context, Peer, Seen, cross_entropy

LEAST = 1e-4


class EarlyLearning(Peer):
    """`targets` is float32 (training images, classes), by place in the training set."""

    targets: Tensor

    def __init__(self, samples: int, classes: int, weight: float, beta: float):
        super().__init__()
        self.weight, self.beta = weight, beta
        self.register_buffer("targets", torch.zeros(samples, classes))

    def loss(self, seen: Seen) -> dict[str, Tensor]:
        flat = seen.logits.flatten(0, 1).softmax(1).clamp(LEAST, 1 - LEAST)
        with torch.no_grad():
            # One prediction for an image, however many parts or views there are of it.
            predicted = flat.unflatten(0, (-1, len(seen.labels))).mean(0)
            predicted = predicted / predicted.sum(1, keepdim=True)
            moved = self.beta * self.targets[seen.indices] + (1 - self.beta) * predicted
            self.targets[seen.indices] = moved
        agreement = (seen.repeated(moved, len(flat)) * flat).sum(1)
        return {
            "cross_entropy": cross_entropy(seen, seen.logits),
            "elr": self.weight * (1 - agreement).log().mean(),
        }


def build(model: Backbone, options: dict, context: Context) -> EarlyLearning:
    samples = len(context.batches.labels)
    return EarlyLearning(samples, context.classes, options["weight"], options["beta"])
