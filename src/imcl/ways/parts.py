"""What a way may look at: the parts of one network after one pass over a batch."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """The parts of a network, in float32.

    Attributes:
        logits: (K, N, classes), from the K parts of the output layer; K = 1 without way `output`.
        features: the stages' maps F_s, each (V * B, C_s, H_s, W_s), the V views one after another.
        kernels: the weights (O, I, k, k) of the convolutions with k > 1.
        views: V, the augmentations of each image in the batch.
    """

    logits: Tensor
    features: list[Tensor]
    kernels: list[Tensor]
    views: int
