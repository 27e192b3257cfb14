"""How the weight of a loss grows during training, for losses that need a half-trained network."""

import math
from typing import overload

from torch import Tensor


@overload
def ramp_up(done: float, length: float) -> float: ...
@overload
def ramp_up(done: Tensor, length: float) -> Tensor | float: ...
def ramp_up(done: float | Tensor, length: float) -> float | Tensor:
    """w = exp(-5 (1 - t / r)^2) up to t = r, then 1: Laine and Aila, "Temporal Ensembling" (2017).

    Args:
        done: t, the steps, or the share of training, that are done; a number, or a scalar on a
            device, so that a step that is captured there does not hold it as a constant.
        length: r, in the same unit, over which the weight grows; 0 for none.
    """
    if length == 0:
        return 1.0
    if isinstance(done, Tensor):
        return (-5 * (1 - done / length).clamp(min=0).square()).exp()
    if done >= length:
        return 1.0
    return math.exp(-5 * (1 - done / length) ** 2)
