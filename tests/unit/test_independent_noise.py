"""Every kind of noise beside a second form of it, written anew from the papers in float64.

A kind is a table of probabilities: the row is the true class, the column the noisy label. In the
second forms each table is written out. Ours changes an exact share of the labels, where the papers
draw each label by itself, so tables are compared on enough labels: `instance` alone has a table for
each image, and is compared label by label with the same random numbers.
"""

import math
from dataclasses import replace
from importlib import import_module
from statistics import NormalDist

import numpy as np
import pytest

from imcl.data.arrays import Arrays
from imcl.study.sources import KINDS

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer"]
CIFAR10 += ["dog", "frog", "horse", "ship", "truck"]

# People gave the labels of `human`; all others are drawn.
DRAWN = sorted(KINDS.keys() - {"human"})


def dataset(count: int, classes: list[str], superclasses: tuple[int, ...] = ()) -> Arrays:
    """`count` random images of each class, 2 x 2 in three colours."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(classes)), count)
    images = rng.integers(256, size=(len(labels), 2, 2, 3)).astype(np.uint8)
    return Arrays(images, labels, images[:1], labels[:1], tuple(classes), superclasses)


def flip(kind: str, arrays: Arrays, rate: float, seed: int = 0) -> np.ndarray:
    return import_module(f"imcl.noise.{kind}").flip(arrays, rate, np.random.default_rng(seed))


def shares(arrays: Arrays, noisy: np.ndarray) -> np.ndarray:
    """Of each true class (row), the share of each label (column)."""
    classes = range(len(arrays.class_names))
    return np.array(
        [[np.mean(noisy[arrays.train_labels == a] == b) for b in classes] for a in classes]
    )


# the papers' tables -----------------------------------------------------------------------------


def symmetric(classes: int, rate: float) -> np.ndarray:
    """Patrini et al. (CVPR 2017): a flipped label goes to each other class alike."""
    table = np.full((classes, classes), rate / (classes - 1))
    np.fill_diagonal(table, 1 - rate)
    return table


def symmetric_inclusive(classes: int, rate: float) -> np.ndarray:
    """Li et al. (ICLR 2020), section 4.1: a chosen label becomes any class, its own too."""
    return (1 - rate) * np.eye(classes) + rate / classes


def pair(classes: int, rate: float) -> np.ndarray:
    """Han et al. (NeurIPS 2018), figure 1: each class is mistaken for the next one."""
    return (1 - rate) * np.eye(classes) + rate * np.roll(np.eye(classes), 1, axis=1)


def asymmetric_cifar10(rate: float) -> np.ndarray:
    """Patrini et al. (CVPR 2017), section 5."""
    table = np.eye(10)
    for a, b in [
        ("truck", "automobile"),
        ("bird", "airplane"),
        ("deer", "horse"),
        ("cat", "dog"),
        ("dog", "cat"),
    ]:
        table[CIFAR10.index(a)] *= 1 - rate
        table[CIFAR10.index(a), CIFAR10.index(b)] = rate
    return table


def asymmetric_cifar100(rate: float) -> np.ndarray:
    """Patrini et al. (CVPR 2017), section 5: the next class of the five in a superclass, in a
    circle. Here class i is in superclass i % 20, so the next one is 20 classes on."""
    return (1 - rate) * np.eye(100) + rate * np.roll(np.eye(100), 20, axis=1)


def instance(arrays: Arrays, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Xia et al. (NeurIPS 2020), algorithm 2: each image's probabilities, and its drawn label."""
    rng, normal = np.random.default_rng(seed), NormalDist(rate, 0.1)
    low, high = normal.cdf(0), normal.cdf(1)
    # Line 1: a flip rate for each image, normal around the rate, but in 0..1.
    q = [normal.inv_cdf(low + u * (high - low)) for u in rng.random(len(arrays.train_labels))]
    table, noisy = np.zeros((len(q), len(arrays.class_names))), np.zeros(len(q), int)
    for y in range(len(arrays.class_names)):
        # Line 2: a matrix for each class, pixels by classes.
        w = rng.standard_normal((12, len(arrays.class_names)))
        for i in np.flatnonzero(arrays.train_labels == y):
            # Lines 4 and 5: the softmax leaves the class itself out.
            scores = arrays.train_images[i].ravel().astype(float) @ w  # of pixels 0 to 255
            others = [c for c in range(len(scores)) if c != y]
            top = max(scores[c] for c in others)
            weights = {c: math.exp(scores[c] - top) for c in others}
            # Lines 6 and 7.
            for c in others:
                table[i, c] = q[i] * weights[c] / sum(weights.values())
            table[i, y] = 1 - q[i]
            # Line 8: a label from these probabilities, by one uniform number.
            u = rng.random()
            noisy[i] = next(c for c in range(len(scores)) if u < table[i, : c + 1].sum())
    return table, noisy


# compared ---------------------------------------------------------------------------------------


def test_every_kind_that_is_drawn_is_here():
    assert DRAWN == ["asymmetric", "instance", "pair", "symmetric", "symmetric_inclusive"]


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("form", [symmetric, symmetric_inclusive])
def test_kinds_that_go_to_any_class(form, classes, rate):
    arrays = dataset(5000, [str(c) for c in range(classes)])
    found, expected = shares(arrays, flip(form.__name__, arrays, rate)), form(classes, rate)
    # Five standard errors of a share of 5,000 labels; shares of 0 and 1 must be exact.
    assert (abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / 5000) + 1e-12).all()


def test_symmetric_noise_has_its_rate_exactly_and_the_inclusive_kind_less():
    arrays = dataset(5000, CIFAR10)
    wrong = {k: np.mean(flip(k, arrays, 0.5) != arrays.train_labels) for k in DRAWN[-2:]}
    assert wrong["symmetric"] == 0.5
    assert wrong["symmetric_inclusive"] == pytest.approx(0.5 * 9 / 10, abs=0.01)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4, 1.0])
@pytest.mark.parametrize(
    ("kind", "classes", "superclasses", "form"),
    [
        ("pair", CIFAR10, (), lambda rate: pair(10, rate)),
        ("pair", ["a", "b", "c"], (), lambda rate: pair(3, rate)),
        ("asymmetric", CIFAR10, (), asymmetric_cifar10),
        (
            "asymmetric",
            [str(c) for c in range(100)],
            tuple(c % 20 for c in range(100)),
            asymmetric_cifar100,
        ),
    ],
    ids=["pair of 10", "pair of 3", "CIFAR-10", "CIFAR-100"],
)
def test_kinds_that_go_to_one_class(kind, classes, superclasses, form, rate):
    arrays = dataset(20, classes, superclasses)  # so each rate is a whole number of labels
    np.testing.assert_allclose(shares(arrays, flip(kind, arrays, rate)), form(rate), atol=1e-12)


@pytest.mark.parametrize("divisor", [1, 128])
@pytest.mark.parametrize("rate", [0.05, 0.4, 0.9])
def test_instance_noise_label_by_label(rate, divisor):
    """Pixels up to 255 give an image one likely wrong class; those of 0 and 1 give it several."""
    arrays = dataset(60, CIFAR10[:4])
    arrays = replace(arrays, train_images=arrays.train_images // divisor)
    table, noisy = instance(arrays, rate, seed=3)
    np.testing.assert_allclose(table.sum(1), 1)
    np.testing.assert_array_equal(flip("instance", arrays, rate, seed=3), noisy)
