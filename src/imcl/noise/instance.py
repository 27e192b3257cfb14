"""Instance-dependent noise: the image decides how likely its label flips, and to which class.

Source: Xia et al., "Part-dependent Label Noise" (NeurIPS 2020), algorithm 2. Our choice: pixels are
normalised with the training set's mean and standard deviation.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import truncnorm

from imcl.data.arrays import Arrays, Images, Labels, statistics

SPREAD = 0.1  # standard deviation of the flip rate between images
BATCH = 10_000


def flip(arrays: Arrays, rate: float, rng: np.random.Generator) -> Labels:
    """Draw each label from its image's own distribution; int64 (N,).

    Each image's label flips with its own probability, drawn from a normal distribution around
    `rate` (standard deviation 0.1, truncated to 0..1). The class that it flips to is drawn from the
    softmax, over the other classes, of the image times a random matrix of its class.
    """
    labels, classes = arrays.train_labels, len(arrays.class_names)
    images = arrays.train_images.reshape(len(labels), -1)
    bounds = (0 - rate) / SPREAD, (1 - rate) / SPREAD
    q = truncnorm.rvs(*bounds, loc=rate, scale=SPREAD, size=len(labels), random_state=rng)
    mean, std = _statistics(arrays.train_images)
    noisy = labels.copy()
    for source in range(classes):
        projection = rng.standard_normal((images.shape[1], classes))
        own = np.flatnonzero(labels == source)
        for chosen in np.split(own, range(BATCH, len(own), BATCH)):
            pixels = (images[chosen] - mean) / std
            scores = pixels @ projection
            scores[:, source] = -np.inf
            share = q[chosen, None] * softmax(scores, axis=1)
            share[:, source] = 1 - q[chosen]
            # Inverse transform sampling: one uniform number for each image.
            drawn = rng.random((len(chosen), 1))
            picked = (share.cumsum(1) < drawn).sum(1)
            noisy[chosen] = picked.clip(max=classes - 1)
    return noisy


def _statistics(images: Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel, repeated for each pixel of a flat image."""
    mean, std = (255 * np.array(values) for values in statistics(images))
    repeats = images.shape[1] * images.shape[2]
    return np.tile(mean, repeats), np.tile(np.maximum(std, 1e-6), repeats)
