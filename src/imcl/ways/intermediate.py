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


def loss(options: dict, parts: Parts) -> Tensor:
    """The variant's loss, averaged over stages (or pairs of them).

    Raises:
        ImclError: fewer than two stages to compare.
    """
    if options["variant"] != "augment" and len(parts.features) < 2:
        raise ImclError(f"ways.intermediate: variant {options['variant']!r} needs two stages")
    if options["variant"] == "relation":
        *shallow, deep = parts.features
        return _mean([relation(stage, deep) for stage in shallow])
    if options["variant"] == "attention":
        return _mean([attention(a, b) for a, b in pairwise(parts.features)])
    return _mean([agreement(stage, parts.views) for stage in parts.features])


def relation(shallow: Tensor, deep: Tensor) -> Tensor:
    """Mean squared difference of the stages' similarities between samples.

    R_s[i, j] = cos(GAP(F_s)_i, GAP(F_s)_j); mean over i != j of (R_s - R_S)^2, no gradient
    through R_S. Stages of any width compare. After Tung and Mori, "Similarity-Preserving
    Knowledge Distillation" (ICCV 2019).

    Args:
        shallow: (N, C_s, H_s, W_s), the student.
        deep: (N, C_S, H_S, W_S), the teacher.
    """
    difference = _similarities(shallow) - _similarities(deep.detach())
    off_diagonal = difference - torch.diag(difference.diagonal())
    samples = len(shallow)
    return off_diagonal.square().sum() / (samples * (samples - 1))


def attention(shallow: Tensor, deep: Tensor) -> Tensor:
    """Squared distance of the stages' normalised attention maps, mean over samples.

    A = mean_c F^2, averaged down to the smaller grid, flattened, divided by its Euclidean norm.
    After Zagoruyko and Komodakis, "Paying More Attention to Attention" (ICLR 2017). On maps of
    one position it is zero.

    Args:
        shallow: (N, C_s, H_s, W_s).
        deep: (N, C_t, H_t, W_t), of a grid no larger.
    """
    size = deep.shape[2:]
    maps = [
        F.adaptive_avg_pool2d(stage.square().mean(1), size).flatten(1) for stage in (shallow, deep)
    ]
    a, b = (F.normalize(m, dim=1) for m in maps)
    return (a - b).square().sum(1).mean()


def agreement(stage: Tensor, views: int) -> Tensor:
    """1 - cos of the pooled features of two augmentations, mean over samples and pairs of views.

    Args:
        stage: (V * B, C, H, W), the views one after another, V >= 2.
        views: V.
    """
    pooled = stage.mean((2, 3)).unflatten(0, (views, -1))
    pairs = [
        F.cosine_similarity(a, b, dim=1, eps=LEAST_NORM).mean() for a, b in combinations(pooled, 2)
    ]
    return 1 - _mean(pairs)


def _similarities(stage: Tensor) -> Tensor:
    pooled = F.normalize(stage.mean((2, 3)), dim=1, eps=LEAST_NORM)
    return pooled @ pooled.T


def _mean(values: list[Tensor]) -> Tensor:
    return sum(values) / len(values)
