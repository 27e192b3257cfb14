"""Way 2, `intermediate`: consistency of the intermediate layers.

The paper's own formula is not available: these three forms are choices, each based on a known one.
"""

from itertools import combinations, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from imcl.errors import ImclError
from imcl.study.options import Intermediate
from imcl.ways.parts import Parts, mean

# The least norm to divide by. A shorter vector has no reliable direction, and its gradient would
# explode.
LEAST_NORM = 1e-4

STATISTICS = {"relation": ("pooled",), "attention": ("energy",), "augment": ("pooled",)}


def loss(options: Intermediate, parts: Parts) -> Tensor:
    """The variant's loss, mean over stages (or pairs of them).

    Raises:
        ImclError: `relation` or `attention` with fewer than two stages.
    """
    variant, centred, stages = options.variant, options.centred, parts.stages
    if variant != "augment" and len(stages) < 2:
        raise ImclError(f"ways.intermediate: variant {variant!r} needs two stages")
    if variant == "relation":
        *shallow, deep = (stage["pooled"] for stage in stages)
        return mean([relation(pooled, deep, centred) for pooled in shallow])
    if variant == "attention":
        return mean([attention(a["energy"], b["energy"]) for a, b in pairwise(stages)])
    return mean([agreement(stage["pooled"], parts.views, centred) for stage in stages])


def relation(shallow: Tensor, deep: Tensor, centred: bool = False) -> Tensor:
    """Mean squared difference between the stages' similarities of samples.

    R_s[i, j] = cos(GAP(F_s)_i, GAP(F_s)_j); mean over i != j of (R_s - R_S)^2, no gradient
    through R_S. The stages may have different widths. After Tung and Mori, "Similarity-Preserving
    Knowledge Distillation" (ICCV 2019).

    Args:
        shallow: (N, C_s), a stage's pooled features, the student.
        deep: (N, C_S), the deepest stage's, the teacher.
        centred: subtract the batch's mean first. Without it all samples are alike after a ReLU,
            whose outputs are never negative.
    """
    difference = _similarities(shallow, centred) - _similarities(deep.detach(), centred)
    off_diagonal = difference - torch.diag(difference.diagonal())
    samples = len(shallow)
    return off_diagonal.square().sum() / (samples * (samples - 1))


def attention(shallow: Tensor, deep: Tensor) -> Tensor:
    """Squared distance of the stages' normalised attention maps, mean over samples.

    A = mean_c F^2, averaged down to the smaller grid, flattened, divided by its Euclidean norm.
    After Zagoruyko and Komodakis, "Paying More Attention to Attention" (ICLR 2017). For maps
    with one position it is zero.

    Args:
        shallow: (N, H_s, W_s), a stage's mean_c F^2.
        deep: (N, H_t, W_t), the next stage's, whose grid is not larger.
    """
    size = (deep.shape[1], deep.shape[2])
    maps = [F.adaptive_avg_pool2d(energy, size).flatten(1) for energy in (shallow, deep)]
    a, b = (F.normalize(m, dim=1) for m in maps)
    return (a - b).square().sum(1).mean()


def agreement(pooled: Tensor, views: int, centred: bool = False) -> Tensor:
    """1 - cos of the pooled features of two augmentations, mean over samples and pairs of views.

    Args:
        pooled: (V * B, C), a stage's pooled features, the V >= 2 views in turn.
        views: V.
        centred: subtract the mean over the batch's V * B samples first.
    """
    pooled = _centred(pooled) if centred else pooled
    pairs = [
        F.cosine_similarity(a, b, dim=1, eps=LEAST_NORM).mean()
        for a, b in combinations(pooled.unflatten(0, (views, -1)), 2)
    ]
    return 1 - mean(pairs)


def _centred(pooled: Tensor) -> Tensor:
    return pooled - pooled.mean(0)


def _similarities(pooled: Tensor, centred: bool) -> Tensor:
    pooled = _centred(pooled) if centred else pooled
    directions = F.normalize(pooled, dim=1, eps=LEAST_NORM)
    return directions @ directions.T
