"""Deep mutual learning: Zhang et al. (CVPR 2018, arXiv 1706.00384).

L_i = CE_i + mean over j of KL(p_j || p_i), the other networks' predictions without gradient. The
first network is evaluated.

Differs from the authors' code (YingZhangDUT/Deep-Mutual-Learning): there the divergences from the
other networks are added up, not averaged, which is the same for two networks. There the networks
are updated in turn, each on a batch of its own; here all at once on the same batch. There 1e-8 is
added inside the logarithm, and the labels are smoothed by 0.1.
"""

from typing import Any

from torch import Tensor, nn

from imcl.baselines.baseline import (
    BaselineMethod,
    Context,
    Outputs,
    StageHook,
    cross_entropy,
    divergence,
)
from imcl.models.backbone import Backbone
from imcl.study.options import Dml
from imcl.ways.parts import total


class Mutual(BaselineMethod):
    """`others` are the networks besides the first."""

    def __init__(self, others: list[Backbone]):
        super().__init__()
        self.others = nn.ModuleList(others)

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, hook: StageHook
    ) -> tuple[Tensor, Any]:
        return model.features(images, hook)[-1], [other(images) for other in self.others]

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        logits = [outputs.network, *outputs.extra]
        terms = {"cross_entropy": total(cross_entropy(outputs, z) for z in logits)}
        if len(logits) > 1:
            pairs = [
                divergence(teacher.detach(), student)
                for i, student in enumerate(logits)
                for j, teacher in enumerate(logits)
                if i != j
            ]
            terms["dml"] = total(pairs) / (len(logits) - 1)
        return terms


def build(model: Backbone, options: Dml, context: Context) -> Mutual:
    """The method, with as many further networks as the options ask for."""
    return Mutual([context.another() for _ in range(options.networks - 1)])
