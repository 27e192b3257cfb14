"""Shared by the class-dependent kinds of noise: each class is mistaken for one other class.

Here the share of changed labels is exact. The code of Patrini et al. (CVPR 2017) and of Han et al.
(NeurIPS 2018) draws each label by itself, so their share varies about the rate.
"""

import numpy as np

from imcl.data.arrays import Labels


def flip_to(
    labels: Labels, targets: dict[int, int], rate: float, rng: np.random.Generator
) -> Labels:
    """Change a share of each class's labels to the class's target, all from the clean labels.

    Args:
        labels: int64 (N,), clean.
        targets: the class that each class is mistaken for; a class without one keeps its labels.
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
