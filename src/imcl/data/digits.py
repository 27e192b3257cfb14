"""scikit-learn's digits: 1,797 grey 8 x 8 pictures of handwritten digits, part of the package."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from imcl.data.arrays import Arrays
from imcl.study.sources import DatasetOptions

TEST_SHARE = 0.2  # the set has no official split; this one is stratified, with a fixed seed


def read(options: DatasetOptions, archives: list[Path], scratch: Path) -> Arrays:
    """1,437 training and 360 test images; their grey values 0..16 are scaled to 0..255."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    train_x, test_x, train_y, test_y = train_test_split(
        images,
        digits.target.astype(np.int64),
        test_size=TEST_SHARE,
        stratify=digits.target,
        random_state=0,
    )
    return Arrays(train_x, train_y, test_x, test_y, tuple(str(n) for n in digits.target_names))
