"""Generalised cross-entropy: Zhang and Sabuncu (NeurIPS 2018, arXiv 1805.07836).

L = mean (1 - p_y^q) / q: cross-entropy as q goes to 0, mean absolute error at q = 1. Deviation: no
truncation, as most who compare with it have it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from imcl.models.backbone import Backbone
from imcl.peers.peer import Context, Peer, Seen


class GeneralisedCrossEntropy(Peer):
    def __init__(self, q: float):
        super().__init__()
        self.q = q

    def loss(self, seen: Seen) -> dict[str, Tensor]:
        flat = seen.logits.flatten(0, 1)
        losses = F.cross_entropy(
            flat, seen.repeated(seen.labels, len(flat)), reduction="none"
        )  # -log p_y
        # expm1 keeps its digits where q log p_y is small.
        return {"gce": -torch.expm1(-self.q * losses).mean() / self.q}


def build(model: Backbone, options: dict, context: Context) -> GeneralisedCrossEntropy:
    return GeneralisedCrossEntropy(options["q"])
