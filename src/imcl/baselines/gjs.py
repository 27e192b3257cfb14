"""Generalised Jensen-Shannon divergence: Englesson and Azizpour (NeurIPS 2021, arXiv 2105.04522).

L = [pi KL(y || m) + (1 - pi) / V sum_v KL(p_v || m)] / Z with y the one-hot label, p_v the
prediction for augmentation v, m = pi y + (1 - pi) / V sum_v p_v and Z = -(1 - pi) log(1 - pi). With
one augmentation, pi near 0 gives cross-entropy and pi near 1 half the mean absolute error.

Differs from the authors' code (ErikEnglesson/GJS): there the two augmentations are strong ones
(RandAugment and Cutout); here they are those of all methods. There the logarithms clip p at 1e-7,
so a prediction of less sends no gradient through them; here it does.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from imcl.baselines.baseline import BaselineMethod, Context, Outputs
from imcl.models.backbone import Backbone
from imcl.study.options import Gjs


class GeneralisedJensenShannon(BaselineMethod):
    """Trains the network on the divergence alone, between two augmentations and the label."""

    def __init__(self, options: Gjs):
        super().__init__()
        self.pi, self.views = options.pi, options.views

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        pi, labels = self.pi, outputs.labels
        log_p = outputs.network.unflatten(0, (-1, len(labels))).log_softmax(2)  # (V, B, classes)
        p = log_p.exp()
        y = F.one_hot(labels, p.shape[2])
        m = pi * y + (1 - pi) * p.mean(0)
        # A prediction of 0 has a mean of 0 only where its logarithm does not count.
        log_m = m.clamp(min=torch.finfo(m.dtype).tiny).log()
        to_label = -log_m.gather(1, labels[:, None]).squeeze(1)  # y log y is 0
        to_predictions = (p * (log_p - log_m)).sum(2).mean(0)
        divergence = pi * to_label + (1 - pi) * to_predictions
        return {"gjs": divergence.mean() / (-(1 - pi) * math.log1p(-pi))}


def build(model: Backbone, options: Gjs, context: Context) -> GeneralisedJensenShannon:
    """The loss with the options' `pi`."""
    return GeneralisedJensenShannon(options)
