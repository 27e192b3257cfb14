"""Pair noise: class i is mistaken for class i + 1, and the last class for the first.

Source: Han et al., "Co-teaching" (NeurIPS 2018), pair flipping.
"""

import numpy as np

from imcl.data.arrays import Arrays, Labels
from imcl.noise.by_class import flip_to


def flip(arrays: Arrays, rate: float, rng: np.random.Generator) -> Labels:
    """Change a share `rate` of each class's labels to the next class; int64 (N,)."""
    classes = len(arrays.class_names)
    targets = {source: (source + 1) % classes for source in range(classes)}
    return flip_to(arrays.train_labels, targets, rate, rng)
