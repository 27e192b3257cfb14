"""Collaborative learning with several heads: Song and Chai (NeurIPS 2018, arXiv 1805.11761).

L = sum_h [beta CE(z_h) + (1 - beta) J(q_h, z_h)], J(q, z) = -sum q log p_T(z), q_h = p_T(mean of
the other heads' logits) without gradient. The heads form a tree that splits before each of the last
two stages; at a split the forward pass is the identity and the gradient is divided by the number of
children: their intermediate-level representation sharing. Public code multiplies J by T^2, the text
does not: `t_squared`. Head 0 is served.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcl.models.backbone import Backbone
from imcl.peers.peer import Context, Peer, Seen, Tap, cross_entropy


class Split(torch.autograd.Function):
    """The identity, whose gradient is divided by the number of children."""

    @staticmethod
    def forward(context, x: Tensor, children: int) -> Tensor:
        context.children = children
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient / context.children, None


class MultiHead(Peer):
    """`branches`: the children at the two splits. Of each further head's network only its last
    stage and classifier are kept, and of the first one below each child its last but one stage."""

    def __init__(self, options: dict, another):
        super().__init__()
        self.branches = tuple(options["branches"])
        self.beta, self.temperature = options["beta"], options["temperature"]
        self.scale = options["temperature"] ** 2 if options["t_squared"] else 1.0
        children, heads_each = self.branches
        further = [another() for _ in range(children * heads_each - 1)]
        self.middle = nn.ModuleList(
            further[i * heads_each - 1].stages[-2] for i in range(1, children)
        )
        self.last = nn.ModuleList(network.stages[-1] for network in further)
        self.classifiers = nn.ModuleList(network.classifier for network in further)

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, tap: Tap
    ) -> tuple[Tensor, Any]:
        logits = []
        *trunk, middle, last = model.stages
        for stage in trunk:
            images = tap(stage(images))
        children, heads_each = self.branches
        shared = Split.apply(images, children)
        for child, stage in enumerate([middle, *self.middle]):
            inner = stage(shared)
            if child == 0:
                inner = tap(inner)
            inner = Split.apply(inner, heads_each)
            for head in range(child * heads_each, (child + 1) * heads_each):
                if head == 0:
                    served = tap(last(inner))
                else:
                    pooled = self.last[head - 1](inner).mean((2, 3))
                    logits.append(self.classifiers[head - 1](pooled))
        return served, logits

    def loss(self, seen: Seen) -> dict[str, Tensor]:
        further = [z.float() for z in seen.beside]
        hard = cross_entropy(seen, seen.logits) + sum(cross_entropy(seen, z) for z in further)
        terms = {"cross_entropy": self.beta * hard}
        if further:
            logits = torch.stack([seen.network, *further])
            others = (logits.sum(0, keepdim=True) - logits).detach() / len(further)
            targets = F.softmax(others / self.temperature, dim=2)
            predicted = F.log_softmax(logits / self.temperature, dim=2)
            soft = -(targets * predicted).sum(2).mean(1).sum()
            terms["multihead"] = (1 - self.beta) * self.scale * soft
        return terms


def build(model: Backbone, options: dict, context: Context) -> MultiHead:
    return MultiHead(options, context.another)
