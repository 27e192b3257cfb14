"""Asymmetric noise: a class is mistaken for one that looks like it.

CIFAR-10: truck for automobile, bird for airplane, deer for horse, cat and dog for each other
(Patrini et al., CVPR 2017), so a rate of 40 % changes 20 % of all labels. CIFAR-100: each class for
the next one in its superclass, in a circle.

So their paper says. Their noise.py takes the classes 0 to 4, 5 to 9 and so on for superclasses,
which needs them sorted by superclass; here the dataset names the superclass of each class.
"""

from itertools import pairwise

import numpy as np

from imcl.data.arrays import Arrays, Labels
from imcl.errors import ImclError
from imcl.noise.by_class import flip_to

CIFAR10 = {
    "truck": "automobile",
    "bird": "airplane",
    "deer": "horse",
    "cat": "dog",
    "dog": "cat",
}


def flip(arrays: Arrays, rate: float, rng: np.random.Generator) -> Labels:
    """Change a share `rate` of the labels of each class that has a target; int64 (N,).

    Raises:
        ImclError: the dataset has neither CIFAR-10's classes nor superclasses.
    """
    names = arrays.class_names
    targets: dict[int, int] = {}
    if arrays.superclasses:
        for superclass in set(arrays.superclasses):
            members = [c for c, s in enumerate(arrays.superclasses) if s == superclass]
            if len(members) > 1:
                targets |= dict(pairwise([*members, members[0]]))
    elif {*CIFAR10, *CIFAR10.values()} <= set(names):
        targets = {names.index(a): names.index(b) for a, b in CIFAR10.items()}
    else:
        raise ImclError(
            "asymmetric noise is defined for CIFAR-10's classes and for datasets with "
            "superclasses; use kind: pair instead"
        )
    return flip_to(arrays.train_labels, targets, rate, rng)
