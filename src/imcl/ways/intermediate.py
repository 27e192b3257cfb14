"""Way 2, `intermediate`: consistency of the intermediate layers.

The paper's own formula is not available: these three forms are choices, each based on a known one.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from imcl.errors import ImclError, UsageError
from imcl.study.options import Intermediate
from imcl.ways.parts import Parts, mean, total

# The least norm to divide by. A shorter vector has no reliable direction, and its gradient would
# explode.
LEAST_NORM = 1e-4
LEAST_ENERGY = 1e-12  # the same for an attention map

STATISTICS = {"relation": ("pooled",), "attention": ("energy",), "augment": ("pooled",)}


def loss(options: Intermediate, parts: Parts) -> Tensor:
    """The variant's loss, mean over stages (or pairs of them).

    Raises:
        ImclError: `relation` or `attention` with fewer than two stages, or `attention` where no
            two stages have several positions.
    """
    variant, centred, stages = options.variant, options.centred, parts.stages
    if variant != "augment" and len(stages.channels) < 2:
        raise ImclError(f"ways.intermediate: variant {variant!r} needs two stages")
    if variant == "attention":
        if all(deep[0].numel() == 1 for deep in stages.energy[1:]):
            raise UsageError(
                "ways.intermediate: variant 'attention' compares where stages look, and no stage "
                "after the first has more than one position; take 'relation', or larger images"
            )
        return mean([attention(shallow, deep) for shallow, deep in pairwise(stages.energy)])
    if variant == "relation":
        return relation(stages.pooled[:-1], stages.pooled[-1], centred)
    return agreement(stages.pooled, parts.views, centred)


def relation(shallow: Tensor, deep: Tensor, centred: bool = False) -> Tensor:
    """Mean squared difference between the stages' similarities of samples.

    R_s[i, j] = cos(GAP(F_s)_i, GAP(F_s)_j); mean over s and i != j of (R_s - R_S)^2, no gradient
    through R_S. The stages may have different widths. After Tung and Mori, "Similarity-Preserving
    Knowledge Distillation" (ICCV 2019). For one sample it is zero.

    Args:
        shallow: (..., N, C), pooled features of one stage or several, the students.
        deep: (N, C_S), the deepest stage's, the teacher.
        centred: subtract the batch's mean first. Without it all samples are alike after a ReLU,
            whose outputs are never negative.
    """
    difference = _similarities(shallow, centred) - _similarities(deep.detach(), centred)
    samples = len(deep)
    different = 1 - torch.eye(samples, dtype=deep.dtype, device=deep.device)
    pairs = max(difference.numel() // samples * (samples - 1), 1)  # one image has no pairs
    return (difference * different).square().sum() / pairs


def attention(shallow: Tensor, deep: Tensor) -> Tensor:
    """Squared distance of the stages' normalised attention maps, mean over samples.

    A = mean_c F^2, averaged down to the smaller grid, flattened, divided by its Euclidean norm.
    After Zagoruyko and Komodakis, "Paying More Attention to Attention" (ICLR 2017). For maps
    with one position it is zero.

    Args:
        shallow: (N, H_s, W_s), a stage's mean_c F^2.
        deep: (N, H_t, W_t), the next stage's, whose grid is not larger.
    """
    pooled = F.adaptive_avg_pool2d(shallow, (deep.shape[1], deep.shape[2]))
    a, b = (_Directions.apply(energy.flatten(1), LEAST_ENERGY, False) for energy in (pooled, deep))
    return (a - b).square().sum() / len(deep)


def agreement(pooled: Tensor, views: int, centred: bool = False) -> Tensor:
    """1 - cos of the pooled features of two augmentations, mean over samples and pairs of views.

    Args:
        pooled: (..., V * B, C), pooled features of one stage or several, the V >= 2 views in turn.
        views: V.
        centred: subtract the mean over the batch's V * B samples first.
    """
    each = _directions(pooled, centred).unflatten(-2, (views, -1)).unbind(-3)
    # The sum of all pairs' products at once: each view times the sum of those before it.
    pairs = views * (views - 1) // 2
    cosines = total(total(each[:v]) * each[v] for v in range(1, views))
    factor = pooled.shape[-1] / (pairs * cosines.numel())
    return torch.add(1, cosines.sum(), alpha=-factor)


def _similarities(pooled: Tensor, centred: bool) -> Tensor:
    directions = _directions(pooled, centred)
    return directions @ directions.mT


def _directions(pooled: Tensor, centred: bool) -> Tensor:
    """The samples' features (..., N, C) at length 1, first minus their mean if `centred`."""
    directions: Tensor = _Directions.apply(pooled, LEAST_NORM, centred)
    return directions


class _Directions(torch.autograd.Function):
    """x / max(|x|, least) of vectors x, (..., N, C), first minus the mean of the N if centred.

    The gradient is written by hand: autograd would need twice as many operations.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, least: float, centred: bool) -> Tensor:
        x = x - x.mean(-2, keepdim=True) if centred else x
        norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        bounded = norms.clamp(min=least)
        directions = x / bounded
        context.save_for_backward(directions, norms, bounded)
        context.centred = centred
        return directions

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        directions, norms, bounded = context.saved_tensors
        # A change along x changes only its length, which is divided out, unless it is too short.
        along = (directions * gradient).sum(-1, keepdim=True) * (norms == bounded)
        gradient = gradient.addcmul(directions, along, value=-1) / bounded
        if context.centred:
            gradient = gradient - gradient.mean(-2, keepdim=True)
        return gradient, None, None
