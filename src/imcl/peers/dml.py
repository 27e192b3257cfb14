"""Deep mutual learning: Zhang et al. (CVPR 2018, arXiv 1706.00384).

L_i = CE_i + mean over j of KL(p_j || p_i), the other networks' predictions without gradient. Theirs
updates one network after the other; here all are updated at once. The first network is served.
"""

from typing import Any

from torch import Tensor, nn

from imcl.models.backbone import Backbone
from imcl.peers.peer import Context, Peer, Seen, Tap, cross_entropy, divergence


class Mutual(Peer):
    def __init__(self, others: list[Backbone]):
        super().__init__()
        self.others = nn.ModuleList(others)

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, tap: Tap
    ) -> tuple[Tensor, Any]:
        return model.features(images, tap)[-1], [other(images) for other in self.others]

    def loss(self, seen: Seen) -> dict[str, Tensor]:
        logits = [seen.network, *(other.float() for other in seen.beside)]
        terms = {"cross_entropy": sum(cross_entropy(seen, z) for z in logits)}
        if len(logits) > 1:
            pairs = [
                divergence(teacher.detach(), student)
                for i, student in enumerate(logits)
                for j, teacher in enumerate(logits)
                if i != j
            ]
            terms["dml"] = sum(pairs) / (len(logits) - 1)
        return terms


def build(model: Backbone, options: dict, context: Context) -> Mutual:
    return Mutual([context.another() for _ in range(options["networks"] - 1)])
