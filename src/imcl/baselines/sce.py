"""Symmetric cross-entropy: Wang et al. (ICCV 2019, arXiv 1908.06112).

L = alpha CE + beta RCE, RCE = -sum_k p_k log onehot_k with log 0 taken as log 1e-4, which is
(1 - p_y) log 1e4.

Differs from the authors' code (YisenWang/symmetric_cross_entropy_for_noisy_labels): there CE clips
p at 1e-7, so an image whose p_y is less sends no gradient through it; here it does. The
re-implementation HanxunH/SCELoss-Reproduce clips p in RCE instead.
"""

import math

from torch import Tensor

from imcl.baselines.baseline import BaselineMethod, Context, Outputs, cross_entropy
from imcl.models.backbone import Backbone
from imcl.study.options import Sce

LOG_OF_ZERO = math.log(1e-4)


class SymmetricCrossEntropy(BaselineMethod):
    """Trains the network on cross-entropy and reverse cross-entropy."""

    def __init__(self, options: Sce):
        super().__init__()
        self.alpha, self.beta = options.alpha, options.beta

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        probabilities = outputs.logits.flatten(0, 1).softmax(1)
        labels = outputs.repeated(outputs.labels, len(probabilities))
        right = probabilities.gather(1, labels[:, None])
        return {
            "cross_entropy": self.alpha * cross_entropy(outputs, outputs.logits),
            "reverse_cross_entropy": self.beta * (1 - right).mean() * -LOG_OF_ZERO,
        }


def build(model: Backbone, options: Sce, context: Context) -> SymmetricCrossEntropy:
    """The loss with the options' `alpha` and `beta`."""
    return SymmetricCrossEntropy(options)
