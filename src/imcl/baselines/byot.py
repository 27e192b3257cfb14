"""Be your own teacher: Zhang et al. (ICCV 2019, arXiv 1905.08094).

Each stage but the last gets a side branch with a classifier of its own. L = CE_deep + sum over the
branches of [(1 - alpha) CE + alpha KL(p_T(deep) || p_T(shallow)) + feature_weight D]. D is the
squared distance between the branch's pooled features and the deepest ones, averaged over images.
No gradient flows through the deepest logits and features.

Differs from the authors' code (ArchipLab-LinfengZhang/pytorch-self-distillation-final, which has a
later form of the method): there D is the distance, not squared, between the features of the whole
batch taken as one vector; the branch's features first pass a linear layer; and the branch next to
the deepest stage has no D. A side branch there has separable convolutions and an attention map;
ours has one 3 x 3 convolution of stride 2 with BatchNorm and ReLU for each stage that it lacks.
It trains on images changed by AutoAugment and Cutout.

A re-implementation by others (luanyunteng/pytorch-be-your-own-teacher) multiplies the distillation
by T^2, and also the deepest cross-entropy by 1 - alpha. Its alpha is 0.1. Its D is a sum over
images and over those features of which one is positive, with weight 1e-6.
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
from imcl.models.backbone import Backbone, conv3x3, head, pool
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
        pooled = [pool(branch(stage)) for branch, stage in branches]
        heads = zip(self.classifiers, pooled, strict=True)
        return features[-1], (pooled, [head(classifier, p) for classifier, p in heads])

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        pooled, shallow = outputs.extra
        deep, deepest = outputs.network.detach(), pool(outputs.last).detach()
        hard = total(cross_entropy(outputs, z) for z in shallow)
        soft = total(divergence(deep, z, self.temperature) for z in shallow)
        distance = total((p - deepest).square().sum(1).mean() for p in pooled)
        return {
            "cross_entropy": cross_entropy(outputs, outputs.logits) + (1 - self.alpha) * hard,
            "distillation": self.alpha * soft,
            "features": self.feature_weight * distance,
        }


def build(model: Backbone, options: Byot, context: Context) -> OwnTeacher:
    """The method, with a side branch for each stage of the network but the last."""
    return OwnTeacher(options, model.channels, context.classes)
