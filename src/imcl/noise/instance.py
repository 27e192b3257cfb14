"""Instance-dependent noise: the image decides how likely its label flips, and to which class.

Source: Xia et al., "Part-dependent Label Noise" (NeurIPS 2020), algorithm 2, and their code
(xiaoboxia/Part-dependent-label-noise, tools.py), which takes the pixels as they are, 0 to 255.

So most images have one class that all their flips go to. At a rate of 0.4, the likeliest wrong
label of a class of CIFAR-10 has a share of 0.27: the mean over the classes and 30 draws, which
range from 0.23 to 0.34. Dividing the pixels by 255 would change that by 0.001; with normalised
pixels it would be 0.10.
"""

import numpy as np
from scipy.special import softmax
from scipy.stats import truncnorm

from imcl.data.arrays import Arrays, Labels, blocks

SPREAD = 0.1  # standard deviation of the flip rate between images


def flip(arrays: Arrays, rate: float, rng: np.random.Generator) -> Labels:
    """Draw each label from its image's own distribution; int64 (N,).

    Each image's label flips with its own probability, drawn from a normal distribution around
    `rate` (standard deviation 0.1, truncated to 0..1). The class that it flips to is drawn from the
    softmax, over the other classes, of the image's pixels times a random matrix of its class.

    Args:
        arrays: the dataset, whose training labels are the clean ones.
        rate: in 0..1. Near 0 and 1 the truncation moves the mean flip rate: 0 gives 0.08.
        rng: the noise's own random stream.
    """
    labels, classes = arrays.train_labels, len(arrays.class_names)
    images = arrays.train_images.reshape(len(labels), -1)
    bounds = (0 - rate) / SPREAD, (1 - rate) / SPREAD
    q = truncnorm.rvs(*bounds, loc=rate, scale=SPREAD, size=len(labels), random_state=rng)
    noisy = labels.copy()
    for source in np.unique(labels):
        projection = rng.standard_normal((images.shape[1], classes))
        own = np.flatnonzero(labels == source)
        scores = np.concatenate([block @ projection for block in blocks(images, own)])
        scores[:, source] = -np.inf
        shares = q[own, None] * softmax(scores, axis=1)
        shares[:, source] = 1 - q[own]
        # Inverse transform sampling: one uniform number for each image.
        drawn = rng.random((len(own), 1))
        noisy[own] = (shares.cumsum(1) <= drawn).sum(1).clip(max=classes - 1)
    return noisy
