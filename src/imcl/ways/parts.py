"""The parts of one network that the ways compare, after one pass over a batch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from imcl.models.backbone import at_least_float32
from imcl.models.classifier import saved_hooks

NOTHING = torch.empty(0)  # in place of a statistic that no way needs


class Stages(NamedTuple):
    """The statistics of all stages' maps F_s (N, C_s, H, W) that the ways in use need.

    They are in float32 or more. Those of all stages are in one tensor, so that one operation does
    for all; where a stage has fewer channels than the widest, C, it is filled up with zeros.

    Attributes:
        channels: C_s of each stage.
        pooled: (S, N, C), each channel's mean over the positions.
        products: (S, C, C), the channels' mean products over samples and positions.
        energy: of each stage (N, H, W), the mean square over channels.
    """

    channels: list[int]
    pooled: Tensor
    products: Tensor
    energy: list[Tensor]


@dataclass(frozen=True)
class Parts:
    """The parts of a network.

    Attributes:
        logits: (K, N, classes), from the K parts of the output layer; K = 1 without way `output`.
        stages: statistics of the stages' maps. Their N = V * B samples are the V views in turn.
        kernels: the weights (O, I, k, k) of the convolutions with k > 1.
        views: V, the augmentations of each image in the batch.
        misfit: a scalar without gradient: the mean cross-entropy of the parts' logits, as a share
            of what guessing gives, log(classes); at most 1.
    """

    logits: Tensor
    stages: Stages
    kernels: list[Tensor]
    views: int
    misfit: Tensor


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of at least one tensor, always in the same order, so that it rounds the same way."""
    first, *others = terms
    return sum(others, first)


def mean(terms: Sequence[Tensor]) -> Tensor:
    """The mean of at least one tensor, added up in the same order."""
    return total(terms) / len(terms)


class Observer:
    """Takes statistics of the stages of one pass.

    Call it with each stage's map F, float (N, C, H, W), in turn; the next stage takes what it
    returns. In the backward pass the statistics' gradient is added to the map's gradient as that
    comes by. Plain autograd would keep a gradient as large as the map, for every stage, from the
    start of the backward pass.

    Args:
        needed: which statistics to take, fields of `Stages`; the others are empty.
    """

    def __init__(self, needed: frozenset[str]):
        self.needed = needed
        self._maps: list[Tensor] = []
        self._places: list[Tensor] = []

    def __call__(self, stage: Tensor) -> Tensor:
        """The same map, for the next stage."""
        if not self.needed:
            return stage
        passed, *places = _Pass.apply(stage)
        self._maps.append(stage.detach())
        self._places += places
        return passed

    def stages(self) -> Stages:
        """The statistics of the maps so far."""
        if not self.needed:
            return Stages([], NOTHING, NOTHING, [])
        channels = [stage.shape[1] for stage in self._maps]
        pooled, products, *energy = _Statistics.apply(self.needed, self._maps, *self._places)
        pooled, products = (NOTHING if found is None else found for found in (pooled, products))
        return Stages(channels, pooled, products, energy)


class _Pass(torch.autograd.Function):
    """A map, and for each of its statistics an empty place in the graph: its gradient's way back.

    The places have the statistics' shapes, but hold no numbers and take no memory.
    """

    @staticmethod
    def forward(context: Any, stage: Tensor) -> tuple[Tensor, ...]:
        # An activation checkpoint saves all again when it computes the stage again, but by then
        # nobody observes the stage. So there the map is kept beside what is saved.
        context.kept = stage.detach() if saved_hooks() else None
        if context.kept is None:
            context.save_for_backward(stage)
        context.set_materialize_grads(False)
        samples, channels, height, width = stage.shape
        empty = stage.new_empty((), dtype=torch.promote_types(stage.dtype, torch.float32))
        shapes = (samples, channels), (channels, channels), (samples, height, width)
        return stage.view_as(stage), *(empty.expand(shape) for shape in shapes)

    @staticmethod
    @once_differentiable
    def backward(
        context: Any,
        passed: Tensor | None,
        pooled: Tensor | None,
        products: Tensor | None,
        energy: Tensor | None,
    ) -> Tensor:
        (stage,) = context.saved_tensors if context.kept is None else (context.kept,)
        gradient = torch.zeros_like(stage) if passed is None else passed
        if products is not None:
            # In float32: far from zero, what comes through the products and what comes through
            # the means nearly cancel.
            gradient = at_least_float32(gradient)
        if pooled is not None:
            everywhere = pooled.to(gradient.dtype)[:, :, None, None]
            gradient = gradient.add(everywhere, alpha=1 / stage.shape[2:].numel())
        values = stage.to(gradient.dtype)
        if products is not None:
            positions = _positions(values)
            with torch.autocast(stage.device.type, enabled=False):
                mixed = torch.addmm(
                    _positions(gradient), positions, products, alpha=1 / len(positions)
                )
            samples, _, height, width = stage.shape
            gradient = mixed.view(samples, height, width, -1).permute(0, 3, 1, 2)
        if energy is not None:
            everywhere = energy.to(gradient.dtype)[:, None]
            gradient = torch.addcmul(gradient, values, everywhere, value=2 / stage.shape[1])
        return gradient.to(stage.dtype)


class _Statistics(torch.autograd.Function):
    """Takes the statistics of all maps; sends their gradients to the maps' places."""

    @staticmethod
    def forward(
        context: Any, needed: frozenset[str], maps: Sequence[Tensor], *places: Tensor
    ) -> tuple[Tensor | None, ...]:
        context.channels = [stage.shape[1] for stage in maps]
        context.set_materialize_grads(False)
        count, samples, widest = len(maps), len(maps[0]), max(context.channels)
        pooled = products = None
        energy = []
        if "pooled" in needed:
            pooled = places[0].new_zeros(count, samples, widest)
            for part, stage in zip(pooled, maps, strict=True):
                part = part[:, : stage.shape[1]]
                torch.mean(stage, (2, 3), dtype=part.dtype, out=part)
        if "products" in needed:
            products = places[0].new_zeros(count, widest, widest)
            for part, stage in zip(products, maps, strict=True):
                positions = _positions(at_least_float32(stage))
                part = part[: stage.shape[1], : stage.shape[1]]
                with torch.autocast(stage.device.type, enabled=False):  # it would round to bf16
                    part.addmm_(positions.T, positions, alpha=1 / len(positions))
        if "energy" in needed:
            energy = [at_least_float32(stage).square().mean(1) for stage in maps]
        return pooled, products, *energy

    @staticmethod
    @once_differentiable
    def backward(
        context: Any, pooled: Tensor | None, products: Tensor | None, *energy: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        # P_ij and P_ji are one product.
        both = None if products is None else products + products.mT
        places: list[Tensor | None] = []
        for index, channels in enumerate(context.channels):
            places += [
                None if pooled is None else pooled[index, :, :channels],
                None if both is None else both[index, :channels, :channels],
                energy[index] if energy else None,
            ]
        return None, None, *places


def _positions(stage: Tensor) -> Tensor:
    """(N * H * W, C): a view, in channels-last memory."""
    return stage.permute(0, 2, 3, 1).flatten(0, 2)
