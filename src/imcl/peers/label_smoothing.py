"""Label smoothing: Szegedy et al., "Rethinking the Inception Architecture" (CVPR 2016).

The target is (1 - s) onehot + s / classes. torch's own; no deviation.
"""

from torch import Tensor

from imcl.models.backbone import Backbone
from imcl.peers.peer import Context, Peer, Seen, cross_entropy


class LabelSmoothing(Peer):
    def __init__(self, smoothing: float):
        super().__init__()
        self.smoothing = smoothing

    def loss(self, seen: Seen) -> dict[str, Tensor]:
        smoothed = cross_entropy(seen, seen.logits, label_smoothing=self.smoothing)
        return {"cross_entropy": smoothed}


def build(model: Backbone, options: dict, context: Context) -> LabelSmoothing:
    return LabelSmoothing(options["smoothing"])
