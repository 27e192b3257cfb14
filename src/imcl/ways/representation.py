"""Way 3, `representation`: less similarity between the channels of a representation.

The paper's own formula is not available: this form is a choice. It is that of Cogswell et al.,
"Reducing Overfitting in Deep Networks by Decorrelating Representations" (ICLR 2016), but with
correlations instead of covariances, so that smaller activations do not lower the loss (down to a
standard deviation of 1e-4, below which a channel counts as idle).
"""

import torch
from torch import Tensor

from imcl.study.options import Representation
from imcl.ways.parts import Parts, mean

# The least mean square to divide by: the gradient of a smaller one would explode, so such a channel
# counts as idle.
LEAST_SQUARE = 1e-8
ROUNDING = 1e-5  # relative error of a mean square summed in float32 over a batch's positions

STATISTICS = {"correlation": ("products", "pooled"), "cosine": ("products",)}


def loss(options: Representation, parts: Parts) -> Tensor:
    """The redundancy of the stages' channels, mean over stages."""
    centred = options.variant == "correlation"
    return mean(
        [
            redundancy(stage["products"], stage["pooled"].mean(0) if centred else None)
            for stage in parts.stages
        ]
    )


def redundancy(products: Tensor, average: Tensor | None = None) -> Tensor:
    """Mean squared off-diagonal correlation (or cosine) between the channels over (N, H, W).

    Args:
        products: (C, C), the mean products of C >= 2 channels.
        average: (C,), the channels' means, for correlations; without it cosines.

    Returns:
        A scalar in 0..1. A constant (or zero) channel has correlation 0 to every other.
    """
    if average is None:
        return mean_squared_off_diagonal(products)
    # If the mean is large, a smaller variance is only rounding error: the channel counts as idle.
    least = (ROUNDING * average.square()).clamp(min=LEAST_SQUARE).detach()
    return mean_squared_off_diagonal(products - torch.outer(average, average), least)


def mean_squared_off_diagonal(products: Tensor, least: Tensor | None = None) -> Tensor:
    """Mean over i != j of P_ij^2 / (P_ii P_jj).

    Args:
        products: P, (C, C), the mean products of C >= 2 channels (covariances if centred).
        least: (C,), a lower bound for each channel's P_ii; LEAST_SQUARE if not given.
    """
    count = len(products)
    least = torch.full_like(products[0], LEAST_SQUARE) if least is None else least
    scale = products.diagonal().maximum(least).rsqrt()
    cosines = products * scale[:, None] * scale
    off_diagonal = cosines - torch.diag(cosines.diagonal())
    return off_diagonal.square().sum() / (count * (count - 1))
