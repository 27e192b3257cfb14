"""Way 4, `kernel`: less similarity between convolution kernels.

The paper's own formula is not available: these forms are choices. `orthogonal` is the soft
orthogonality of Bansal et al., "Can We Gain More from Orthogonality Regularizations" (NeurIPS
2018), on normalised filters. Both depend on the weights only, so their cost does not grow with the
batch.
"""

from itertools import groupby
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
    rows = sorted(map(_rows, parts.kernels), key=_shape)
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


def _shape(rows: Tensor) -> tuple[int, ...]:
    return tuple(rows.shape)


class _Products(torch.autograd.Function):
    """The products of the rows of each kernel, (K, O, O), filled up with zeros to the largest O.

    Those of kernels of one shape, which have to be neighbours, are one operation. For this they are
    copied to a stack: that saves a third of the operations, which a GPU would wait for, and costs a
    CPU a few hundredths of a step at most. The products' gradient has to be symmetric, as that of
    `squared_cosines` is.
    """

    @staticmethod
    def forward(context: Any, *kernels: Tensor) -> Tensor:
        alike = [list(group) for _, group in groupby(kernels, _shape)]
        stacks = [torch.stack(group) if len(group) > 1 else group[0][None] for group in alike]
        context.save_for_backward(*stacks)
        most = max(len(rows) for rows in kernels)
        products = kernels[0].new_zeros(len(kernels), most, most)
        for part, rows in zip(products.split([*map(len, stacks)]), stacks, strict=True):
            filters = rows.shape[1]
            part[:, :filters, :filters].baddbmm_(rows, rows.mT)
        return products

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        stacks = context.saved_tensors
        gradients: list[Tensor] = []
        for part, rows in zip(gradient.split([*map(len, stacks)]), stacks, strict=True):
            part = part[:, : rows.shape[1], : rows.shape[1]]
            with torch.autocast(rows.device.type, enabled=False):  # it would round to bf16
                # With beta=0 the first argument counts for its shape alone.
                gradients += torch.baddbmm(rows, part, rows, beta=0, alpha=2)
        return tuple(gradients)
