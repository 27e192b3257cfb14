"""R-Drop: Liang et al. (NeurIPS 2021, arXiv 2106.14448).

L = CE_1 + CE_2 + alpha (KL(p_1 || p_2) + KL(p_2 || p_1)) / 2 over two dropout passes, each term a
mean over images. `reduction: mean` halves the two cross-entropies. The backbones have no dropout,
so one dropout layer comes before the classifier in training. Everything before that layer is the
same in both passes, so it runs once.

Differs from the authors' code (dropreg/R-Drop): that for images (vit_src) adds the cross-entropies
up, as `reduction: sum` does, but it neither halves the two divergences nor averages them over the
batch of B images: the same alpha weighs them 2 B times as much. Its network is a transformer with
dropout of 0.1 in every layer. The sketch in its README halves both the cross-entropies and the
divergences.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from imcl.baselines.baseline import BaselineMethod, Context, Outputs, cross_entropy, divergence
from imcl.models.backbone import Backbone, pool
from imcl.study.options import Rdrop


class RDrop(BaselineMethod):
    """`generator` draws the masks."""

    generator: torch.Generator

    def __init__(self, options: Rdrop, generator: torch.Generator):
        super().__init__()
        self.alpha, self.dropout_rate = options.alpha, options.dropout_rate
        self.passes = 2 if options.reduction == "sum" else 1
        self.generator = generator

    def part_logits(self, last: Tensor, classify: Callable[[Tensor], Tensor]) -> Tensor:
        pooled = pool(last)
        drawn = torch.rand((2, *pooled.shape), generator=self.generator, device=pooled.device)
        kept = pooled * (drawn >= self.dropout_rate) / (1 - self.dropout_rate)
        return classify(kept.flatten(0, 1)).unflatten(0, (2, -1))

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        first, second = outputs.logits
        both = divergence(first, second) + divergence(second, first)
        return {
            "cross_entropy": self.passes * cross_entropy(outputs, outputs.logits),
            "rdrop": self.alpha * both / 2,
        }


def build(model: Backbone, options: Rdrop, context: Context) -> RDrop:
    """The method; its dropout draws from the context's stream."""
    return RDrop(options, context.generator)
