"""Way 4, `kernel`: less similarity between convolution kernels.

The paper's own formula is not available: these forms are choices. `orthogonal` is the soft
orthogonality of Bansal et al., "Can We Gain More from Orthogonality Regularizations" (NeurIPS
2018), on normalised filters. Both depend on the weights only, so their cost does not grow with the
batch.
"""

from collections.abc import Sequence
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
    stacks = _stacks(parts.kernels)
    pairs = [stack.shape[1] * (stack.shape[1] - 1) for stack in stacks for _ in stack]
    factors = [1 / pair if options.variant == "cosine" else 1.0 for pair in pairs]
    products = _Products.apply(*stacks)
    return squared_cosines(products, LEAST_NORM**2, [f / len(factors) for f in factors])


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


def _stacks(kernels: Sequence[Tensor]) -> list[Tensor]:
    """The rows of the kernels of each shape, (n, O, D)."""
    alike: dict[torch.Size, list[Tensor]] = {}
    for rows in map(_rows, kernels):
        alike.setdefault(rows.shape, []).append(rows)
    return [torch.stack(group) if len(group) > 1 else group[0][None] for group in alike.values()]


class _Products(torch.autograd.Function):
    """The products of the rows of each kernel, (K, O, O), filled with zeros up to the largest O."""

    @staticmethod
    def forward(context: Any, *stacks: Tensor) -> Tensor:
        context.save_for_backward(*stacks)
        counts, filters = zip(*(stack.shape[:2] for stack in stacks), strict=True)
        products = stacks[0].new_zeros(sum(counts), max(filters), max(filters))
        for stack, part in zip(stacks, products.split(counts), strict=True):
            size = stack.shape[1]
            part[:, :size, :size].baddbmm_(stack, stack.mT)
        return products

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        stacks = context.saved_tensors
        both = (gradient + gradient.mT).split([len(stack) for stack in stacks])
        sizes = [stack.shape[1] for stack in stacks]
        return tuple(
            torch.bmm(part[:, :size, :size], stack)
            for stack, part, size in zip(stacks, both, sizes, strict=True)
        )
