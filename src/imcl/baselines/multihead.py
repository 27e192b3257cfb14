"""Collaborative learning with several heads: Song and Chai (NeurIPS 2018, arXiv 1805.11761).

L = sum_h [beta CE(z_h) + (1 - beta) J(q_h, z_h)], J(q, z) = -sum q log p_T(z), q_h = p_T(mean of
the other heads' logits) without gradient. The heads form a tree that splits before each of the last
two stages. At a split the forward pass is the identity and the gradient is divided by the number of
children: their intermediate-level representation sharing. Head 0 is evaluated.

Differs from the authors' code: they published none that we know of. A re-implementation
(DefangChen/OKDDip-AAAI2020) splits once, before the last stage. It weighs each cross-entropy by 1
and the imitation by a ramp-up, and multiplies the imitation by T^2, which the paper's text does
not; `t_squared` chooses between them.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcl.baselines.baseline import BaselineMethod, Context, Outputs, StageHook, cross_entropy
from imcl.models.backbone import Backbone, head, pool
from imcl.study.options import Multihead


class Split(torch.autograd.Function):
    """The identity, whose gradient is divided by the number of children."""

    @staticmethod
    def forward(context: Any, x: Tensor, children: int) -> Tensor:
        """`x` itself, of any shape."""
        context.children = children
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient of `x`, of its shape."""
        return gradient / context.children, None


class MultiHead(BaselineMethod):
    """A tree of heads over the network's first stages.

    Each head except head 0 has its own last stage and classifier. Each child except the first has
    its own second-to-last stage, which the heads under it share.

    Args:
        options: of the baseline; `branches` are the children at the two splits.
        another: makes a further network, whose stages and classifier a head takes.
    """

    def __init__(self, options: Multihead, another: Callable[[], Backbone]):
        super().__init__()
        self.branches = tuple(options.branches)
        self.beta, self.temperature = options.beta, options.temperature
        self.scale = options.temperature**2 if options.t_squared else 1.0
        children, heads_each = self.branches
        further = [another() for _ in range(children * heads_each - 1)]
        self.middle = nn.ModuleList(
            further[i * heads_each - 1].stages[-2] for i in range(1, children)
        )
        self.last = nn.ModuleList(network.stages[-1] for network in further)
        self.classifiers = nn.ModuleList(network.classifier for network in further)

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, hook: StageHook
    ) -> tuple[Tensor, Any]:
        logits = []
        *trunk, middle, last = model.stages
        for stage in trunk:
            images = hook(stage(images))
        children, heads_each = self.branches
        shared = Split.apply(images, children)
        for child, stage in enumerate([middle, *self.middle]):
            inner = stage(shared)
            if child == 0:
                inner = hook(inner)
            inner = Split.apply(inner, heads_each)
            for number in range(child * heads_each, (child + 1) * heads_each):
                if number == 0:
                    evaluated = hook(last(inner))
                else:
                    pooled = pool(self.last[number - 1](inner))
                    logits.append(head(self.classifiers[number - 1], pooled))
        return evaluated, logits

    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        further = outputs.extra
        hard = cross_entropy(outputs, outputs.logits)
        hard = hard + sum(cross_entropy(outputs, z) for z in further)
        terms = {"cross_entropy": self.beta * hard}
        if further:
            logits = torch.stack([outputs.network, *further])
            others = (logits.sum(0, keepdim=True) - logits).detach() / len(further)
            targets = F.softmax(others / self.temperature, dim=2)
            predicted = F.log_softmax(logits / self.temperature, dim=2)
            soft = -(targets * predicted).sum(2).mean(1).sum()
            terms["multihead"] = (1 - self.beta) * self.scale * soft
        return terms


def build(model: Backbone, options: Multihead, context: Context) -> MultiHead:
    """The method, with the further heads that the options ask for."""
    return MultiHead(options, context.another)
