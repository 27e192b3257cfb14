"""Co-teaching: Han et al. (NeurIPS 2018, arXiv 1804.06872).

Two networks with different initial weights: each learns from the share R(t) of the batch on which
the other's loss is smallest. R(t) falls from 1 to 1 - noise rate over `ramp_epochs`. The noise rate
is taken as known: it is the share of the labels trained on that are wrong, not the nominal rate
that they were drawn with. The first network is evaluated.

Differs from the authors' code (bhanML/Co-teaching): there the forgotten share of the noise rate is
1/9 in the first epoch, 2/9 in the second and full from the ninth on; ours is 0, 1/10 ... and full
from the eleventh on. There the mean loss of the images that are kept is divided by their number
once more. They train with Adam, where this changes little; with SGD it would divide the step size
by about the batch size, so we leave it out. There the noise rate is the nominal one.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from imcl.baselines.baseline import BaselineMethod, Context, Outputs, StageHook
from imcl.models.backbone import Backbone
from imcl.study.options import Coteaching


class CoTeaching(BaselineMethod):
    """`other` is the second network."""

    def __init__(self, other: Backbone, noise_rate: float, epochs: int, ramp_epochs: int):
        super().__init__()
        self.other = other
        self.noise_rate, self.epochs, self.ramp_epochs = noise_rate, epochs, ramp_epochs

    def kept(self, progress: float | Tensor, batch: int) -> Tensor:
        """How many of a batch's images each network learns from; at least one."""
        epoch = (torch.as_tensor(progress, dtype=torch.float64) * self.epochs).round()
        forgotten = self.noise_rate * (epoch / self.ramp_epochs).clamp(max=1)
        return ((1 - forgotten) * batch).floor().clamp(min=1)

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, hook: StageHook
    ) -> tuple[Tensor, Any]:
        return model.features(images, hook)[-1], self.other(images)

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        labels = outputs.labels
        losses = torch.stack(
            [F.cross_entropy(z, labels, reduction="none") for z in (outputs.network, outputs.extra)]
        )
        kept = self.kept(outputs.progress, len(labels)).to(losses)
        ranks = losses.detach().argsort(1).argsort(1).flip(0)  # of each image for the other network
        return {"cross_entropy": (losses * (ranks < kept)).sum() / kept}


def build(model: Backbone, options: Coteaching, context: Context) -> CoTeaching:
    """The method, with a second network; the context tells the noise rate and the epochs."""
    other = context.another()
    return CoTeaching(other, context.noise_rate, context.epochs, options.ramp_epochs)
