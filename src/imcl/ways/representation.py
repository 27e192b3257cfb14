"""Way 3, `representation`: less similarity between the channels of a representation.

The paper's own formula is not available: this form is a choice. It is that of Cogswell et al.,
"Reducing Overfitting in Deep Networks by Decorrelating Representations" (ICLR 2016), but with
correlations instead of covariances, so that smaller activations do not lower the loss (down to a
standard deviation of 1e-4, below which a channel counts as idle).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from imcl.errors import UsageError
from imcl.study.options import Representation
from imcl.ways.cosines import squared_cosines
from imcl.ways.parts import Parts

# The least mean square to divide by: the gradient of a smaller one would explode, so such a channel
# counts as idle.
LEAST_SQUARE = 1e-8
ROUNDING = 1e-5  # relative error of a mean square summed in float32 over a batch's positions

STATISTICS = {"correlation": ("products", "pooled"), "cosine": ("products",)}


def loss(options: Representation, parts: Parts) -> Tensor:
    """The redundancy of the stages' channels, mean over stages.

    It is that of `mean_squared_off_diagonal`, computed for all stages at once.

    Raises:
        UsageError: a stage has one channel.
    """
    stages = parts.stages
    if 1 in stages.channels:
        raise UsageError(
            f"ways.representation: stage {stages.channels.index(1) + 1} has one channel, which "
            "resembles no other; leave the stage out (stages=[...]) or widen it"
        )
    products = stages.products
    least: Tensor | float = LEAST_SQUARE
    if options.variant == "correlation":
        average = stages.pooled.mean(1)  # (S, C)
        # If the mean is large, a smaller variance is only rounding error: the channel is idle.
        least = (ROUNDING * average.detach().square()).clamp(min=LEAST_SQUARE)
        products = _Covariances.apply(products, average)
    factors = [1 / (count * (count - 1) * len(products)) for count in stages.channels]
    return squared_cosines(products, least, factors)


class _Covariances(torch.autograd.Function):
    """P - m m^T of mean products P (S, C, C) and means m (S, C).

    The gradient G of the covariances has to be symmetric, as that of `squared_cosines` is: then m's
    is -2 G m. Autograd would need eight operations for it.
    """

    @staticmethod
    def forward(context: Any, products: Tensor, means: Tensor) -> Tensor:
        context.save_for_backward(means)
        return products.addcmul(means[:, :, None], means[:, None], value=-1)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        (means,) = context.saved_tensors
        columns = means[:, :, None]
        with torch.autocast(means.device.type, enabled=False):  # it would round to bf16
            # With beta=0 the first argument counts for its shape alone.
            changes = torch.baddbmm(columns, gradient, columns, beta=0, alpha=-2)
        return gradient, changes[:, :, 0]


def mean_squared_off_diagonal(products: Tensor) -> Tensor:
    """Mean over i != j of P_ij^2 / (P_ii P_jj), in 0..1.

    That is the mean squared correlation or cosine between the channels of one stage, over (N, H,
    W). A constant (or zero) channel has correlation 0 to every other.

    Args:
        products: P, (C, C): the covariances of C >= 2 channels, or their mean products.
    """
    count = len(products)
    scale = products.diagonal().clamp(min=LEAST_SQUARE).rsqrt()
    cosines = products * scale[:, None] * scale
    off_diagonal = cosines - torch.diag(cosines.diagonal())
    return off_diagonal.square().sum() / (count * (count - 1))
