"""Symmetric noise: a flipped label goes to one of the other classes, uniformly."""

import numpy as np


def flip(labels: np.ndarray, classes: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Change a share of the labels; `rate` is the share that really changes.

    Args:
        labels: int64 (N,), clean, in 0..classes-1.
        classes: the number of classes.
        rate: in 0..1; round(rate * N) labels are drawn without replacement and changed.
        rng: the noise's own random stream.

    Returns:
        int64 (N,), the noisy labels.
    """
    noisy = labels.copy()
    chosen = rng.choice(len(labels), size=round(rate * len(labels)), replace=False)
    shift = rng.integers(1, classes, size=len(chosen))
    noisy[chosen] = (labels[chosen] + shift) % classes
    return noisy
