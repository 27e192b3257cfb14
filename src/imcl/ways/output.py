"""Way 1, `output`: consistency of the output layer.

Song and Chai, "Collaborative Learning for Deep Neural Networks" (NeurIPS 2018, arXiv 1805.11761),
let several heads teach each other by their mean softened prediction. Here the heads are parts of
one network. The paper's own formula is not available: this form is a choice.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from imcl.errors import ImclError
from imcl.models.backbone import pool
from imcl.study.options import Output
from imcl.ways.parts import Parts


def loss(options: Output, parts: Parts) -> Tensor:
    """The consistency of the parts' logits at the options' temperature, times misfit^power.

    Labels that fit badly late in training are likely to be wrong, and then consistency is worth
    more than they are. Where they fit, it would only hold the network back.
    """
    term = consistency(parts.logits, options.temperature)
    return term * parts.misfit**options.misfit_power if options.misfit_power else term


def consistency(logits: Tensor, temperature: float) -> Tensor:
    """(1/K) sum_k T^2 KL(q_k || p_T(z_k)), q_k = p_T(mean of the other parts' logits).

    No gradient flows through the targets q_k.

    Args:
        logits: (K, N, classes), K >= 2 parts.
        temperature: T > 0; p_T(z) = softmax(z / T).

    Returns:
        A scalar: nats times T^2, mean over parts and samples.
    """
    parts, samples, _ = logits.shape
    softened = logits / temperature
    fixed = softened.detach()
    others = (fixed.sum(0, keepdim=True) - fixed) / (parts - 1)
    log_q = F.log_softmax(others, dim=2)
    log_p = F.log_softmax(softened, dim=2)
    divergence = F.kl_div(log_p, log_q, reduction="sum", log_target=True)
    return divergence * (temperature**2 / (parts * samples))


def part_logits(
    options: Output,
    features: Tensor,
    classifier: Callable[[Tensor], Tensor],
    views: int,
    generator: torch.Generator | None,
) -> Tensor:
    """The logits (K, N, classes) of the K parts that the variant makes of the last stage.

    Args:
        options: which variant, and into how many parts.
        features: F_S, (V * B, D, H, W).
        classifier: from (N, D) to (N, classes).
        views: V.
        generator: the random stream of masks and splits, on the features' device.

    Raises:
        ImclError: as for `split`.
    """
    if options.variant == "augment":
        return classifier(pool(features)).unflatten(0, (views, -1))
    taken = features if options.variant == "spatial" else pool(features)
    pooled = split(options, taken, generator)
    return classifier(pooled.flatten(0, 1)).unflatten(0, (options.parts, -1))


def split(options: Output, features: Tensor, generator: torch.Generator | None) -> Tensor:
    """The pooled features (K, N, D) of the K parts that a variant other than `augment` makes.

    Args:
        options: which variant, and into how many parts.
        features: the pooled features (N, D), or for `spatial` the last map (N, D, ...).
        generator: the random stream of masks and splits, on the features' device.

    Raises:
        ImclError: `spatial` on a map with fewer positions than parts, or `channel` with fewer
            channels.
    """
    if options.variant == "spatial":
        return _spatial(features, options.parts, generator)
    if options.variant == "dropout":
        return _dropout(features, options.parts, options.dropout_rate, generator)
    return _channel(features, options.parts, generator)


def _dropout(pooled: Tensor, parts: int, rate: float, generator: torch.Generator | None) -> Tensor:
    """K dropout masks on h (N, D), one pass through the network before it: (K, N, D)."""
    shape = (parts, *pooled.shape)
    keep = torch.rand(shape, generator=generator, device=pooled.device) >= rate
    return pooled * keep / (1 - rate)


def _channel(pooled: Tensor, parts: int, generator: torch.Generator | None) -> Tensor:
    """K disjoint random groups of h's channels, rescaled to its size: (K, N, D)."""
    channels = pooled.shape[1]
    if channels < parts:
        raise ImclError(
            f"ways.output: variant 'channel' cannot split {channels} channels into {parts} parts"
        )
    order = torch.randperm(channels, generator=generator, device=pooled.device)
    group = torch.empty_like(order)
    group[order] = torch.arange(channels, device=pooled.device) % parts
    every = torch.arange(parts, device=pooled.device)
    mask = (group == every[:, None]).to(pooled.dtype)  # (K, D)
    mask = mask * (channels / mask.sum(1, keepdim=True))
    return pooled * mask[:, None]


def _spatial(features: Tensor, parts: int, generator: torch.Generator | None) -> Tensor:
    """The positions of the last map (N, D, ...) in K random parts, each averaged: (K, N, D)."""
    flat = features.flatten(2)
    positions = flat.shape[2]
    if positions < parts:
        sides = " x ".join(map(str, features.shape[2:]))
        raise ImclError(
            f"ways.output: variant 'spatial' cannot split the last {sides} map into {parts} parts; "
            "take another variant, fewer parts or larger images"
        )
    order = torch.randperm(positions, generator=generator, device=features.device)
    return torch.stack([flat[:, :, part].mean(2) for part in order.tensor_split(parts)])
