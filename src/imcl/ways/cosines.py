"""Squared cosines between vectors, from the vectors' products."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def squared_cosines(products: Tensor, least: Tensor | float, factors: Sequence[float]) -> Tensor:
    """Sum over k of f_k times the sum over i != j of P_ij^2 / (P_ii P_jj), P = products[k].

    A vector of zeros has cosine 0 to every other, so sets of fewer vectors may be filled up.

    Args:
        products: (K, C, C), symmetric: the inner products of C vectors in each of K sets.
        least: a lower bound for each P_ii that it is divided by; a number or (K, C).
        factors: f, of the K sets.
    """
    scale = _constants(tuple(factors), products.dtype, products.device)
    loss: Tensor = _SquaredCosines.apply(products, least, scale)
    return loss


@cache
def _constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(K, 1) on the device. They are sent there once: sending waits for a GPU."""
    return torch.tensor(values, dtype=dtype, device=device)[:, None]


class _SquaredCosines(torch.autograd.Function):
    """The gradient is written by hand: autograd would need three times as many operations.

    With a_i = max(P_ii, least), the loss is the sum of D_ij P_ij over i != j, D_ij =
    f P_ij / (a_i a_j), and half of its gradient is D_ij for P_ij, and -1 / a_i sum_j D_ij P_ij
    for P_ii, or 0 if that is below `least`.
    """

    @staticmethod
    def forward(context: Any, products: Tensor, least: Tensor | float, factors: Tensor) -> Tensor:
        squares = products.diagonal(dim1=1, dim2=2)
        bounded = squares.clamp(min=least)
        half = products / (bounded / factors)[:, :, None]
        half /= bounded[:, None]
        diagonal = half.diagonal(dim1=1, dim2=2)
        diagonal.zero_()
        rows = (half * products).sum(2)
        diagonal.addcdiv_(rows * (squares >= least), bounded, value=-1)
        context.save_for_backward(half)
        return rows.sum()

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (half,) = context.saved_tensors
        return half * (2 * gradient), None, None
