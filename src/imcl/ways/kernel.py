"""Way 4, `kernel`: less similarity between convolution kernels.

The paper's own formula is not available: these forms are choices. `orthogonal` is the soft
orthogonality of Bansal et al., "Can We Gain More from Orthogonality Regularizations" (NeurIPS
2018), on normalised filters. Both depend on the weights only, so their cost does not grow with the
batch.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from imcl.study.options import Kernel
from imcl.ways.cosines import squared_cosines
from imcl.ways.parts import Parts

LEAST_NORM = 1e-12  # to divide by: a filter of zeros has cosine 0 to every other


def loss(options: Kernel, parts: Parts) -> Tensor:
    """The variant's loss, mean over the convolutions with k > 1.

    It is that of `cosine` or `orthogonal`, computed for all kernels at once: on a GPU a hundred
    small operations take longer than the products themselves.
    """
    rows = [_rows(kernel) for kernel in parts.kernels]
    pairs = [len(each) * (len(each) - 1) for each in rows]
    factors = [1 / pair if options.variant == "cosine" else 1.0 for pair in pairs]
    products = _Products.apply(*rows)
    return squared_cosines(products, LEAST_NORM**2, [f / len(rows) for f in factors])


def cosine(kernel: Tensor) -> Tensor:
    """Mean squared off-diagonal cosine between the flattened filters, in 0..1.

    Args:
        kernel: (O, I, k, k), O >= 2 filters. A filter of zeros has cosine 0 to every other.
    """
    filters = len(kernel)
    return orthogonal(kernel) / (filters * (filters - 1))


def orthogonal(kernel: Tensor) -> Tensor:
    """||W W^T - I||_F^2 on the row-normalised matrix W (O, I k k) of the filters.

    It is O (O - 1) times `cosine`, so it needs a much smaller weight.
    """
    rows = _rows(kernel)
    unit = rows / rows.norm(dim=1, keepdim=True).clamp(min=LEAST_NORM)
    return (unit @ unit.T).fill_diagonal_(0).square().sum()


def _rows(kernel: Tensor) -> Tensor:
    """The filters as rows (O, k k I). In channels-last memory this order is a view."""
    return kernel.permute(0, 2, 3, 1).flatten(1)


class _Products(torch.autograd.Function):
    """The products of the rows of each kernel, (K, O, O), filled up with zeros to the largest O.

    Their gradient has to be symmetric, as that of `squared_cosines` is.
    """

    @staticmethod
    def forward(context: Any, *kernels: Tensor) -> Tensor:
        context.save_for_backward(*kernels)
        most = max(len(rows) for rows in kernels)
        products = kernels[0].new_zeros(len(kernels), most, most)
        for part, rows in zip(products, kernels, strict=True):
            part[: len(rows), : len(rows)].addmm_(rows, rows.T)
        return products

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            # With beta=0 the first argument counts for its shape alone.
            torch.addmm(rows, part[: len(rows), : len(rows)], rows, beta=0, alpha=2)
            for part, rows in zip(gradient, context.saved_tensors, strict=True)
        )
