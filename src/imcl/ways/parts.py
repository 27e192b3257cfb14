"""The parts of one network that the ways compare, after one pass over a batch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from imcl.models.backbone import at_least_float32, pool


class Statistics(TypedDict, total=False):
    """The statistics of a stage's map F (N, C, H, W) that the ways in use need, in float32 or more.

    Attributes:
        pooled: (N, C), each channel's mean over the positions.
        products: (C, C), the channels' mean products over samples and positions.
        energy: (N, H, W), the mean square over channels.
    """

    pooled: Tensor
    products: Tensor
    energy: Tensor


@dataclass(frozen=True)
class Parts:
    """The parts of a network.

    Attributes:
        logits: (K, N, classes), from the K parts of the output layer; K = 1 without way `output`.
        stages: statistics of each stage's map. Its N = V * B samples are the V views in turn.
        kernels: the weights (O, I, k, k) of the convolutions with k > 1.
        views: V, the augmentations of each image in the batch.
    """

    logits: Tensor
    stages: list[Statistics]
    kernels: list[Tensor]
    views: int


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of at least one tensor, always in the same order, so that it rounds the same way."""
    first, *others = terms
    return sum(others, first)


def mean(terms: Sequence[Tensor]) -> Tensor:
    """The mean of at least one tensor, added up in the same order."""
    return total(terms) / len(terms)


def observe(stage: Tensor, needed: frozenset[str]) -> tuple[Tensor, Statistics]:
    """The map, which the next stage takes, and statistics of it.

    In the backward pass the statistics' gradient is added to the map's gradient. Plain autograd
    would keep a gradient as large as the map, for every stage, from the start of the backward pass.

    Args:
        stage: F, float (N, C, H, W).
        needed: keys of Statistics.
    """
    if not needed:
        return stage, Statistics()
    passed, pooled, products, energy = _Observe.apply(stage, needed)
    statistics = Statistics()
    if pooled is not None:
        statistics["pooled"] = pooled
    if products is not None:
        statistics["products"] = products
    if energy is not None:
        statistics["energy"] = energy
    return passed, statistics


class _Observe(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, stage: Tensor, needed: frozenset[str]) -> tuple[Tensor | None, ...]:
        context.save_for_backward(stage)
        context.set_materialize_grads(False)
        pooled = pool(stage) if "pooled" in needed else None
        products = energy = None
        values = stage if needed == {"pooled"} else at_least_float32(stage)
        if "products" in needed:
            positions = _positions(values)
            with torch.autocast(stage.device.type, enabled=False):  # it would round them to bf16
                products = positions.T @ positions / len(positions)
        if "energy" in needed:
            energy = values.square().mean(1)
        return stage.view_as(stage), pooled, products, energy

    @staticmethod
    @once_differentiable
    def backward(
        context: Any,
        passed: Tensor | None,
        pooled: Tensor | None,
        products: Tensor | None,
        energy: Tensor | None,
    ) -> tuple[Tensor, None]:
        (stage,) = context.saved_tensors
        gradient = torch.zeros_like(stage) if passed is None else passed
        if products is not None:
            # In float32: far from zero, what comes through the products and what comes through
            # the means nearly cancel.
            gradient = at_least_float32(gradient)
        if pooled is not None:
            share = pooled / stage.shape[2:].numel()
            gradient = gradient + share.to(gradient.dtype)[:, :, None, None]
        values = stage.to(gradient.dtype)
        if products is not None:
            positions = _positions(values)
            both = (products + products.T) / len(positions)
            with torch.autocast(stage.device.type, enabled=False):
                mixed = torch.addmm(_positions(gradient), positions, both)
            samples, _, height, width = stage.shape
            gradient = mixed.view(samples, height, width, -1).permute(0, 3, 1, 2)
        if energy is not None:
            share = 2 / stage.shape[1] * energy
            gradient = torch.addcmul(gradient, values, share.to(gradient.dtype)[:, None])
        return gradient.to(stage.dtype), None


def _positions(stage: Tensor) -> Tensor:
    """(N * H * W, C): a view, in channels-last memory."""
    return stage.permute(0, 2, 3, 1).flatten(0, 2)
