"""Symmetric noise whose replacement may be the true class, as in DivideMix and ELR."""

import numpy as np

from imcl.data.arrays import Arrays, Labels


def flip(arrays: Arrays, rate: float, rng: np.random.Generator) -> Labels:
    """Redraw a share of the labels from all classes.

    About rate * (1 - 1 / classes) of them change: at 50 % on 10 classes, 45 %.

    Args:
        arrays: the dataset, whose training labels are the clean ones.
        rate: in 0..1; round(rate * N) labels are drawn without replacement and redrawn.
        rng: the noise's own random stream.

    Returns:
        int64 (N,), the noisy labels.

    Source: Li et al., "DivideMix" (ICLR 2020), section 4.1; Liu et al., "ELR" (NeurIPS 2020).
    """
    labels, classes = arrays.train_labels, len(arrays.class_names)
    noisy = labels.copy()
    chosen = rng.choice(len(labels), size=round(rate * len(labels)), replace=False)
    noisy[chosen] = rng.integers(0, classes, size=len(chosen))
    return noisy
