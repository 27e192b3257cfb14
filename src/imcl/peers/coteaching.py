"""Co-teaching: Han et al. (NeurIPS 2018, arXiv 1804.06872).

Two networks of different initialisation: each learns from the share R(t) of the batch on which the
other's loss is smallest. R(t) falls from 1 to 1 - noise rate over `ramp_epochs`. The noise rate is
taken as known (the nominal one). The first network is served.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from imcl.models.backbone import Backbone
from imcl.peers.peer import Context, Peer, Seen, Tap


class CoTeaching(Peer):
    def __init__(self, other: Backbone, noise_rate: float, epochs: int, ramp_epochs: int):
        super().__init__()
        self.other = other
        self.noise_rate, self.epochs, self.ramp_epochs = noise_rate, epochs, ramp_epochs

    def kept(self, progress: float, batch: int) -> int:
        """How many of a batch's images each network learns from; at least one."""
        epoch = round(progress * self.epochs)
        forgotten = self.noise_rate * min(1.0, epoch / self.ramp_epochs)
        return max(1, int((1 - forgotten) * batch))

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, tap: Tap
    ) -> tuple[Tensor, Any]:
        return model.features(images, tap)[-1], self.other(images)

    def loss(self, seen: Seen) -> dict[str, Tensor]:
        labels = seen.labels
        losses = torch.stack(
            [
                F.cross_entropy(z, labels, reduction="none")
                for z in (seen.network, seen.beside.float())
            ]
        )
        order = losses.detach().argsort(1)[:, : self.kept(seen.progress, len(labels))]
        return {"cross_entropy": losses.gather(1, order.flip(0)).mean(1).sum()}


def build(model: Backbone, options: dict, context: Context) -> CoTeaching:
    other = context.another()
    return CoTeaching(other, context.noise_rate, context.epochs, options["ramp_epochs"])
