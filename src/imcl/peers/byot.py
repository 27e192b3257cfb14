"""Be your own teacher: Zhang et al. (ICCV 2019, arXiv 1905.08094).

Each stage but the last gets a side branch with a classifier of its own. L = CE_deep + sum over the
shallow ones of [(1 - alpha) CE + alpha KL(p_T(deep) || p_T(shallow))] + feature_weight sum of the
squared distance between the branch's pooled features and the deepest ones; the deepest are taken
without gradient. Deviations: a side branch is one 3 x 3 convolution of stride 2 with BatchNorm and
ReLU for each stage that it lacks, in place of their bottlenecks; the squared distance is the mean
over images.
"""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from imcl.models.backbone import Backbone, conv3x3
from imcl.peers.peer import Context, Peer, Seen, Tap, cross_entropy, divergence


class OwnTeacher(Peer):
    def __init__(self, options: dict, channels: list[int], classes: int):
        super().__init__()
        self.alpha, self.temperature = options["alpha"], options["temperature"]
        self.feature_weight = options["feature_weight"]
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
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, tap: Tap
    ) -> tuple[Tensor, Any]:
        features = model.features(images, tap)
        branches = zip(self.branches, features[:-1], strict=True)
        pooled = [branch(stage).mean((2, 3)) for branch, stage in branches]
        heads = zip(self.classifiers, pooled, strict=True)
        return features[-1], (pooled, [classifier(p) for classifier, p in heads])

    def loss(self, seen: Seen) -> dict[str, Tensor]:
        pooled, shallow = seen.beside
        deep, deepest = seen.network.detach(), seen.last.mean((2, 3)).detach()
        shallow = [z.float() for z in shallow]
        hard = sum(cross_entropy(seen, z) for z in shallow)
        soft = sum(divergence(deep, z, self.temperature) for z in shallow)
        distance = sum((p.float() - deepest).square().sum(1).mean() for p in pooled)
        return {
            "cross_entropy": cross_entropy(seen, seen.logits) + (1 - self.alpha) * hard,
            "distillation": self.alpha * soft,
            "features": self.feature_weight * distance,
        }


def build(model: Backbone, options: dict, context: Context) -> OwnTeacher:
    return OwnTeacher(options, model.channels, context.classes)
