"""Way 4, `kernel`: less similarity between convolution kernels.

The paper's own formula is not available: these forms are choices. `orthogonal` is the soft
orthogonality of Bansal et al., "Can We Gain More from Orthogonality Regularizations" (NeurIPS
2018), on normalised filters. Both depend on the weights only, so their cost does not grow with the
batch.
"""

from typing import Any

import torch
from torch import Tensor

from imcl.study.options import Kernel
from imcl.ways.parts import Parts, mean

LEAST_NORM = 1e-12  # to divide by: a filter of zeros has cosine 0 to every other


def loss(options: Kernel, parts: Parts) -> Tensor:
    """The variant's loss, mean over the convolutions with k > 1."""
    measure = cosine if options.variant == "cosine" else orthogonal
    return mean([measure(kernel) for kernel in parts.kernels])


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
    # In channels-last memory this order of the elements is a view; the result is the same.
    loss: Tensor = _OffDiagonal.apply(kernel.permute(0, 2, 3, 1).flatten(1))
    return loss


class _OffDiagonal(torch.autograd.Function):
    """Sum over i != j of the squared cosines of rows (O, D).

    The gradient is written by hand: autograd would keep a normalised copy of every kernel, and
    multiply matrices three times instead of twice.
    """

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        norms = rows.norm(dim=1, keepdim=True).clamp(min=LEAST_NORM)
        unit = rows / norms
        gram = (unit @ unit.T).fill_diagonal_(0)
        context.save_for_backward(rows, norms, gram)
        return gram.square().sum()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        rows, norms, gram = context.saved_tensors
        unit = rows / norms
        towards = gram @ unit
        # A change along a row changes only its length, and the length does not count.
        towards -= unit * (unit * towards).sum(1, keepdim=True)
        return towards.mul_(4 * gradient / norms)
