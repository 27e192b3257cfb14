"""Be your own teacher: Zhang et al. (ICCV 2019, arXiv 1905.08094).

Each stage but the last gets a side branch with a classifier of its own. L = CE_deep + sum over the
branches of [(1 - alpha) CE + alpha KL(p_T(deep) || p_T(shallow)) + feature_weight D]. D is the
squared distance between the branch's pooled features and the deepest ones, without gradient
through the deepest logits and features. Deviations: D is averaged over images; instead of their
bottlenecks, a side branch has one 3 x 3 convolution of stride 2 with BatchNorm and ReLU for each
stage that it lacks.
"""

from itertools import pairwise
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
from imcl.models.backbone import Backbone, conv3x3
from imcl.study.options import Byot
from imcl.ways.parts import total


class OwnTeacher(BaselineMethod):
    """`channels` are those of the network's stages."""

    def __init__(self, options: Byot, channels: list[int], classes: int):
        super().__init__()
        self.alpha, self.temperature = options.alpha, options.temperature
        self.feature_weight = options.feature_weight
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(
                    layer
                    for inputs, outputs in pairwise(channels[stage:])
                    for layer in (conv3x3(inputs, outputs, 2), nn.BatchNorm2d(outputs), nn.ReLU())
                )
            )
            for stage in range(len(channels) - 1)
        )
        self.classifiers = nn.ModuleList(nn.Linear(channels[-1], classes) for _ in self.branches)

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, hook: StageHook
    ) -> tuple[Tensor, Any]:
        features = model.features(images, hook)
        branches = zip(self.branches, features[:-1], strict=True)
        pooled = [branch(stage).mean((2, 3)) for branch, stage in branches]
        heads = zip(self.classifiers, pooled, strict=True)
        return features[-1], (pooled, [classifier(p) for classifier, p in heads])

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        pooled, shallow = outputs.extra
        deep, deepest = outputs.network.detach(), outputs.last.mean((2, 3)).detach()
        shallow = [z.float() for z in shallow]
        hard = total(cross_entropy(outputs, z) for z in shallow)
        soft = total(divergence(deep, z, self.temperature) for z in shallow)
        distance = total((p.float() - deepest).square().sum(1).mean() for p in pooled)
        return {
            "cross_entropy": cross_entropy(outputs, outputs.logits) + (1 - self.alpha) * hard,
            "distillation": self.alpha * soft,
            "features": self.feature_weight * distance,
        }


def build(model: Backbone, options: Byot, context: Context) -> OwnTeacher:
    return OwnTeacher(options, model.channels, context.classes)
