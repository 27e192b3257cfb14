"""Early-learning regularisation: Liu et al. (NeurIPS 2020, arXiv 2007.00151).

L = CE + weight mean log(1 - t . p). The target t has one row for each training image and follows
the network's own predictions: t <- beta t + (1 - beta) p / sum p, p clamped to [1e-4, 1 - 1e-4],
without gradient. t is updated before it is used.

Differs from the authors' code (shengliu66/ELR): only together with a way that sees each image
several times, which theirs does not: then p in the update of t is the mean over these. For
asymmetric noise on CIFAR-10 they set weight 1 and beta 0.9.
"""

import torch
from torch import Tensor

from imcl.baselines.baseline import BaselineMethod, Context, Outputs, cross_entropy
from imcl.models.backbone import Backbone
from imcl.study.options import Elr

LEAST = 1e-4


class EarlyLearning(BaselineMethod):
    """`targets` is float32 (training images, classes), by sample index."""

    targets: Tensor

    def __init__(self, options: Elr, samples: int, classes: int):
        super().__init__()
        self.weight, self.beta = options.weight, options.beta
        self.register_buffer("targets", torch.zeros(samples, classes))

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        flat = outputs.logits.flatten(0, 1).softmax(1).clamp(LEAST, 1 - LEAST)
        with torch.no_grad():
            # One prediction for each image: the mean over its parts or views.
            predicted = flat.unflatten(0, (-1, len(outputs.labels))).mean(0)
            predicted = predicted / predicted.sum(1, keepdim=True)
            updated = self.beta * self.targets[outputs.indices] + (1 - self.beta) * predicted
            self.targets[outputs.indices] = updated
        agreement = (outputs.repeated(updated, len(flat)) * flat).sum(1)
        return {
            "cross_entropy": cross_entropy(outputs, outputs.logits),
            "elr": self.weight * (1 - agreement).log().mean(),
        }


def build(model: Backbone, options: Elr, context: Context) -> EarlyLearning:
    """The method, with a row of targets for each image of the context's training set."""
    return EarlyLearning(options, len(context.training_set.labels), context.classes)
