"""Way 2, `intermediate`: consistency of the intermediate layers.

The paper's own formula is not at hand: these three forms are choices, each after a known one.
"""

from itertools import combinations, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from imcl.errors import ImclError
from imcl.ways.parts import Parts

# A shorter vector has no direction to speak of: dividing by less would blow its gradient up.
LEAST_NORM = 1e-4

# What each variant wants to know of every stage.
STATISTICS = {"relation": ("pooled",), "attention": ("energy",), "augment": ("pooled",)}


def loss(options: dict, parts: Parts) -> Tensor:
    """The variant's loss, averaged over stages (or pairs of them).

    Raises:
        ImclError: fewer than two stages to compare.
    """
    if options["variant"] != "augment" and len(parts.stages) < 2:
        raise ImclError(f"ways.intermediate: variant {options['variant']!r} needs two stages")
    if options["variant"] == "relation":
        *shallow, deep = parts.stages
        centred = options["centred"]
        return _mean([relation(stage.pooled, deep.pooled, centred) for stage in shallow])
    if options["variant"] == "attention":
        return _mean([attention(a.energy, b.energy) for a, b in pairwise(parts.stages)])
    return _mean(
        [agreement(stage.pooled, parts.views, options["centred"]) for stage in parts.stages]
    )


def relation(shallow: Tensor, deep: Tensor, centred: bool = False) -> Tensor:
    """Mean squared difference of the stages' similarities between samples.

    R_s[i, j] = cos(GAP(F_s)_i, GAP(F_s)_j); mean over i != j of (R_s - R_S)^2, no gradient
    through R_S. Stages of any width compare. After Tung and Mori, "Similarity-Preserving
    Knowledge Distillation" (ICCV 2019).

    Args:
        shallow: (N, C_s), a stage's pooled features, the student.
        deep: (N, C_S), the deepest stage's, the teacher.
        centred: subtract the batch's mean first. What comes out of a ReLU is alike for all samples
            otherwise, since it is never negative.
    """
    difference = _similarities(shallow, centred) - _similarities(deep.detach(), centred)
    off_diagonal = difference - torch.diag(difference.diagonal())
    samples = len(shallow)
    return off_diagonal.square().sum() / (samples * (samples - 1))


def attention(shallow: Tensor, deep: Tensor) -> Tensor:
    """Squared distance of the stages' normalised attention maps, mean over samples.

    A = mean_c F^2, averaged down to the smaller grid, flattened, divided by its Euclidean norm.
    After Zagoruyko and Komodakis, "Paying More Attention to Attention" (ICLR 2017). On maps of
    one position it is zero.

    Args:
        shallow: (N, H_s, W_s), a stage's mean_c F^2.
        deep: (N, H_t, W_t), the next stage's, of a grid no larger.
    """
    size = deep.shape[1:]
    maps = [F.adaptive_avg_pool2d(energy, size).flatten(1) for energy in (shallow, deep)]
    a, b = (F.normalize(m, dim=1) for m in maps)
    return (a - b).square().sum(1).mean()


def agreement(pooled: Tensor, views: int, centred: bool = False) -> Tensor:
    """1 - cos of the pooled features of two augmentations, mean over samples and pairs of views.

    Args:
        pooled: (V * B, C), a stage's pooled features, the views one after another, V >= 2.
        views: V.
        centred: subtract the mean over the batch's V * B samples first.
    """
    pooled = _centred(pooled) if centred else pooled
    pairs = [
        F.cosine_similarity(a, b, dim=1, eps=LEAST_NORM).mean()
        for a, b in combinations(pooled.unflatten(0, (views, -1)), 2)
    ]
    return 1 - _mean(pairs)


def _centred(pooled: Tensor) -> Tensor:
    return pooled - pooled.mean(0)


def _similarities(pooled: Tensor, centred: bool) -> Tensor:
    pooled = _centred(pooled) if centred else pooled
    directions = F.normalize(pooled, dim=1, eps=LEAST_NORM)
    return directions @ directions.T


def _mean(values: list[Tensor]) -> Tensor:
    return sum(values) / len(values)
