"""Label smoothing: Szegedy et al., "Rethinking the Inception Architecture" (CVPR 2016).

The target is (1 - s) onehot + s / classes. torch computes it.

Differs from the authors' code: in nothing.
"""

from torch import Tensor

from imcl.baselines.baseline import BaselineMethod, Context, Outputs, cross_entropy
from imcl.models.backbone import Backbone
from imcl.study.options import LabelSmoothing


class SmoothedCrossEntropy(BaselineMethod):
    """Trains the network on cross-entropy with smoothed labels."""

    def __init__(self, options: LabelSmoothing):
        super().__init__()
        self.smoothing = options.smoothing

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"cross_entropy": cross_entropy(outputs, outputs.logits, self.smoothing)}


def build(model: Backbone, options: LabelSmoothing, context: Context) -> SmoothedCrossEntropy:
    """The loss with the options' `smoothing`."""
    return SmoothedCrossEntropy(options)
