"""Deep mutual learning: Zhang et al. (CVPR 2018, arXiv 1706.00384).

L_i = CE_i + mean over j of KL(p_j || p_i), the other networks' predictions without gradient.
Deviation: the paper updates one network after the other, we update all at once. The first network
is evaluated.
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
        logits = [outputs.network, *(other.float() for other in outputs.extra)]
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
    return Mutual([context.another() for _ in range(options.networks - 1)])
