"""Way 4, `kernel`: less similarity between convolution kernels.

The paper's own formula is not at hand: these forms are choices. `orthogonal` is the soft
orthogonality of Bansal et al., "Can We Gain More from Orthogonality Regularizations" (NeurIPS
2018), on normalised filters. Neither looks at the batch, so the cost does not grow with it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from imcl.ways.parts import Parts


def loss(options: dict, parts: Parts) -> Tensor:
    """The variant's loss, mean over the convolutions with k > 1."""
    measure = cosine if options["variant"] == "cosine" else orthogonal
    return sum(measure(kernel) for kernel in parts.kernels) / len(parts.kernels)


def cosine(kernel: Tensor) -> Tensor:
    """Mean squared off-diagonal cosine between the flattened filters, in 0..1.

    Args:
        kernel: (O, I, k, k), O >= 2 filters. One of zeros counts as unlike every other.
    """
    filters = len(kernel)
    return orthogonal(kernel) / (filters * (filters - 1))


def orthogonal(kernel: Tensor) -> Tensor:
    """||W W^T - I||_F^2 on the row-normalised matrix W (O, I k k) of the filters.

    It is O (O - 1) times `cosine`, so it wants a much smaller weight.
    """
    # In channels-last memory this order of the elements is a view; the result is the same.
    rows = F.normalize(kernel.permute(0, 2, 3, 1).flatten(1), dim=1)
    gram = rows @ rows.T
    # The diagonal is 1 by construction; subtracting it as it is spares a filter of zeros the blame.
    return (gram - torch.diag(gram.diagonal())).square().sum()
