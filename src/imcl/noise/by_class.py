"""What class-dependent kinds of noise share: each class has one class that it is taken for."""

import numpy as np


def flip_to(
    labels: np.ndarray, targets: dict[int, int], rate: float, rng: np.random.Generator
) -> np.ndarray:
    """Give a share of each class's labels the class's target, all from the clean labels.

    Args:
        labels: int64 (N,), clean.
        targets: the class that a class is taken for; a class without one keeps its labels.
        rate: in 0..1; of a class with n labels, round(rate * n) are drawn and changed.
        rng: the noise's own random stream.

    Returns:
        int64 (N,), the noisy labels.
    """
    noisy = labels.copy()
    for source, target in sorted(targets.items()):
        own = np.flatnonzero(labels == source)
        noisy[rng.choice(own, size=round(rate * len(own)), replace=False)] = target
    return noisy
