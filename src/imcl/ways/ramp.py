"""How the weight of a loss grows during training, for losses that need a half-trained network."""

import math


def ramp_up(progress: float, share: float) -> float:
    """w = exp(-5 (1 - t / r)^2) up to t = r, then 1: Laine and Aila, "Temporal Ensembling" (2017).

    Args:
        progress: t, the share of training that is done, in 0..1.
        share: r, the share of training over which the weight grows; 0 for none.
    """
    if progress >= share:
        return 1.0
    return math.exp(-5 * (1 - progress / share) ** 2)
