"""Symmetric noise: a flipped label goes to one of the other classes, uniformly.

Here the share of changed labels is exact. The code of Patrini et al. (CVPR 2017) and of Han et al.
(NeurIPS 2018) draws each label by itself, so their share varies about the rate.
"""

import numpy as np

from imcl.data.arrays import Arrays, Labels


def flip(arrays: Arrays, rate: float, rng: np.random.Generator) -> Labels:
    """Change a share of the labels; exactly the share `rate` changes.

    Args:
        arrays: the dataset, whose training labels are the clean ones.
        rate: in 0..1; round(rate * N) labels are drawn without replacement and changed.
        rng: the noise's own random stream.

    Returns:
        int64 (N,), the noisy labels.
    """
    labels, classes = arrays.train_labels, len(arrays.class_names)
    noisy = labels.copy()
    chosen = rng.choice(len(labels), size=round(rate * len(labels)), replace=False)
    shift = rng.integers(1, classes, size=len(chosen))
    noisy[chosen] = (labels[chosen] + shift) % classes
    return noisy
