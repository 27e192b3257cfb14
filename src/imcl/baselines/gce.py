"""Generalised cross-entropy: Zhang and Sabuncu (NeurIPS 2018, arXiv 1805.07836).

L = mean (1 - p_y^q) / q: cross-entropy as q goes to 0, mean absolute error at q = 1.

Differs from the authors' code: they published none. Their paper also has a truncated form, as in
the re-implementation AlanChou/Truncated-Loss: from epoch 40 on, images with p_y below 0.5 are left
out, chosen anew every ten epochs. Ours has no truncation; most papers that compare with it leave it
out too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from imcl.baselines.baseline import BaselineMethod, Context, Outputs
from imcl.models.backbone import Backbone
from imcl.study.options import Gce


class GeneralisedCrossEntropy(BaselineMethod):
    """Trains the network on (1 - p_y^q) / q alone."""

    def __init__(self, options: Gce):
        super().__init__()
        self.q = options.q

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        flat = outputs.logits.flatten(0, 1)
        labels = outputs.repeated(outputs.labels, len(flat))
        losses = F.cross_entropy(flat, labels, reduction="none")  # -log p_y
        # expm1 stays accurate where q log p_y is small.
        return {"gce": -torch.expm1(-self.q * losses).mean() / self.q}


def build(model: Backbone, options: Gce, context: Context) -> GeneralisedCrossEntropy:
    """The loss with the options' `q`."""
    return GeneralisedCrossEntropy(options)
