"""How the weight of a loss grows during training, for losses that need a half-trained network."""

import math
from typing import overload

from torch import Tensor


@overload
def ramp_up(progress: float, share: float) -> float: ...
@overload
def ramp_up(progress: Tensor, share: float) -> Tensor | float: ...
def ramp_up(progress: float | Tensor, share: float) -> float | Tensor:
    """w = exp(-5 (1 - t / r)^2) up to t = r, then 1: Laine and Aila, "Temporal Ensembling" (2017).

    Args:
        progress: t, the share of training that is done, in 0..1; a number, or a scalar on a
            device, so that a step that is captured there does not hold it as a constant.
        share: r, the share of training over which the weight grows; 0 for none.
    """
    if share == 0:
        return 1.0
    if isinstance(progress, Tensor):
        return (-5 * (1 - progress / share).clamp(min=0).square()).exp()
    if progress >= share:
        return 1.0
    return math.exp(-5 * (1 - progress / share) ** 2)
