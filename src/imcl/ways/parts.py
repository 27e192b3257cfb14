"""What a way may look at: the parts of one network after one pass over a batch."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Statistics(NamedTuple):
    """What is known of a stage's map F (N, C, H, W), in float32 or more; None if no way wants it.

    Attributes:
        pooled: (N, C), each channel's mean over the positions.
        products: (C, C), the channels' mean products over samples and positions.
        energy: (N, H, W), the mean square over channels.
    """

    pooled: Tensor | None
    products: Tensor | None
    energy: Tensor | None


@dataclass(frozen=True)
class Parts:
    """The parts of a network.

    Attributes:
        logits: (K, N, classes), from the K parts of the output layer; K = 1 without way `output`.
        stages: of the stages' maps, their N = V * B samples being the V views one after another.
        kernels: the weights (O, I, k, k) of the convolutions with k > 1.
        views: V, the augmentations of each image in the batch.
    """

    logits: Tensor
    stages: list[Statistics]
    kernels: list[Tensor]
    views: int


def tap(stage: Tensor, wanted: frozenset[str]) -> tuple[Tensor, Statistics]:
    """The statistics of a stage's map, and the map to go on with in its place.

    What flows back from the statistics waits for what flows back through the map and is added to it
    then. Autograd by itself would hold a gradient of the size of every stage from the beginning of
    the backward pass on.

    Args:
        stage: F, float (N, C, H, W).
        wanted: fields of Statistics.
    """
    if not wanted:
        return stage, Statistics(None, None, None)
    passed, *found = _Tap.apply(stage, wanted)
    return passed, Statistics(*found)


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(context, stage: Tensor, wanted: frozenset[str]):
        context.save_for_backward(stage)
        context.set_materialize_grads(False)
        values = stage if stage.dtype == torch.float64 else stage.float()
        pooled = values.mean((2, 3)) if "pooled" in wanted else None
        products = None
        if "products" in wanted:
            positions = _positions(values)
            products = positions.T @ positions / len(positions)
        energy = values.square().mean(1) if "energy" in wanted else None
        return stage.view_as(stage), pooled, products, energy

    @staticmethod
    @once_differentiable
    def backward(context, passed, pooled, products, energy):
        (stage,) = context.saved_tensors
        gradient = torch.zeros_like(stage) if passed is None else passed
        if pooled is not None:
            share = pooled / stage.shape[2:].numel()
            gradient = gradient + share.to(stage.dtype)[:, :, None, None]
        if products is not None:
            positions = _positions(stage)
            both = ((products + products.T) / len(positions)).to(stage.dtype)
            mixed = torch.addmm(_positions(gradient), positions, both)
            samples, _, height, width = stage.shape
            gradient = mixed.view(samples, height, width, -1).permute(0, 3, 1, 2)
        if energy is not None:
            share = 2 / stage.shape[1] * energy
            gradient = torch.addcmul(gradient, stage, share.to(stage.dtype)[:, None])
        return gradient, None


def _positions(stage: Tensor) -> Tensor:
    """(N * H * W, C): a view, in channels-last memory."""
    return stage.permute(0, 2, 3, 1).flatten(0, 2)
