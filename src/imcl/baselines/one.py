"""ONE, on-the-fly native ensemble: Lan et al. (NeurIPS 2018, arXiv 1806.04606).

Branches of the last stage share the stages before it. A gate on the last shared features gives the
weights g of the teacher's logits z_e = sum g_i z_i. L = sum_i CE_i + CE_e + ramp T^2 sum_i
KL(p_T(z_e) || p_T(z_i)), no gradient through the teacher in the last term. The gate is a linear
layer on the pooled features, BatchNorm, ReLU and softmax. Branch 0 is evaluated.

Differs from the authors' code (Lan1991Xu/ONE_NeurIPS2018): there 1e-7 is added to the teacher's
probabilities, and the ramp takes 80 epochs; here it takes the same share of the training.
"""

from typing import Any

import torch
from torch import Tensor, nn

from imcl.baselines.baseline import (
    BaselineMethod,
    Context,
    Outputs,
    StageHook,
    cross_entropy,
    divergence,
)
from imcl.models.backbone import Backbone, head, pool
from imcl.study.options import One
from imcl.ways.parts import total
from imcl.ways.ramp import ramp_up


class NativeEnsemble(BaselineMethod):
    """`channels`: of the last shared stage. The `further` networks provide the other branches."""

    def __init__(self, options: One, channels: int, further: list[Backbone]):
        super().__init__()
        self.temperature, self.ramp_up = options.temperature, options.ramp_up
        self.last = nn.ModuleList(network.stages[-1] for network in further)
        self.classifiers = nn.ModuleList(network.classifier for network in further)
        branches = len(further) + 1
        self.gate = nn.Sequential(
            nn.Linear(channels, branches), nn.BatchNorm1d(branches), nn.ReLU(), nn.Softmax(1)
        )

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, hook: StageHook
    ) -> tuple[Tensor, Any]:
        *_, shared, evaluated = model.features(images, hook)
        branches = zip(self.last, self.classifiers, strict=True)
        logits = [head(classifier, pool(last(shared))) for last, classifier in branches]
        return evaluated, (head(self.gate, pool(shared)), logits)

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        gate, further = outputs.extra
        logits = torch.stack([outputs.network, *further])
        teacher = (gate.T[..., None] * logits).sum(0)
        hard = cross_entropy(outputs, outputs.logits)
        hard = hard + sum(cross_entropy(outputs, z) for z in logits[1:])
        soft = total(divergence(teacher.detach(), z, self.temperature) for z in logits)
        ramp = ramp_up(outputs.progress, self.ramp_up)
        return {
            "cross_entropy": hard + cross_entropy(outputs, teacher),
            "one": ramp * self.temperature**2 * soft,
        }


def build(model: Backbone, options: One, context: Context) -> NativeEnsemble:
    """The method, with a copy of the last stage for each further branch, and their gate."""
    further = [context.another() for _ in range(options.branches - 1)]
    return NativeEnsemble(options, model.channels[-2], further)
