"""Draws noisy labels, stores them with what they turned out to be, and loads them again."""

import hashlib
from importlib import import_module
from pathlib import Path

import numpy as np

from imcl.data.arrays import Arrays
from imcl.data.fetch import check
from imcl.errors import ImclError
from imcl.files import atomic, read_json, sha256, write_json
from imcl.noise import KINDS

DESCRIPTION = ("nominal_rate", "realised_rate", "transition_matrix", "sha256", "clean_sha256")


def inject(config: dict, arrays: Arrays, archives: list[Path], path: Path) -> dict:
    """Draw noisy labels from the clean ones, or read those that people gave.

    Args:
        config: the noise's entry in params.yaml: kind, and rate and noise_seed or labels.
        arrays: the prepared dataset, whose labels are the clean ones. Held-out images get noisy
            labels in the same draw, behind those of the training images.
        archives: the files of the kind, in the registry's order; each is checked first.
        path: where the description goes; the labels go to the same name with .npy.

    Returns:
        The description: nominal and realised rate (the share of labels that differ from the
        clean ones), transition matrix (row: true class, column: label, rows sum to 1), both of the
        training images, and SHA-256.
    """
    classes, count = len(arrays.class_names), len(arrays.train_labels)
    arrays = arrays.joined()
    labels = arrays.train_labels
    for archive, file in zip(KINDS[config["kind"]], archives, strict=True):
        check(archive, file)
    kind = import_module(f"imcl.noise.{config['kind']}")
    if archives:
        nominal = kind.RATES[config["labels"]]
        noisy = kind.read(arrays, config["labels"], archives)
    else:
        nominal = config["rate"]
        noisy = kind.flip(arrays, nominal, np.random.default_rng(config["noise_seed"]))
    file = path.with_suffix(".npy")
    with atomic(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, noisy)
    description = {
        "config": config,
        "nominal_rate": nominal,
        "realised_rate": float(np.mean(noisy[:count] != labels[:count])),
        "transition_matrix": transition_matrix(labels[:count], noisy[:count], classes).tolist(),
        "sha256": sha256(file),
        "clean_sha256": _digest(labels),
    }
    write_json(path, description)
    return description


def transition_matrix(clean: np.ndarray, noisy: np.ndarray, classes: int) -> np.ndarray:
    """The share of each true class (row) that bears each label (column), float (K, K).

    The row of a class that does not occur is zero.
    """
    counts = np.zeros((classes, classes))
    np.add.at(counts, (clean, noisy), 1)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def load(path: Path, clean: np.ndarray) -> tuple[dict, np.ndarray]:
    """The description at `path` and the noisy labels, int64 (N,), for the clean ones.

    Raises:
        ImclError: the labels changed since they were drawn, or are of another dataset.
    """
    description, file = read_json(path, DESCRIPTION), path.with_suffix(".npy")
    if not file.exists() or sha256(file) != description["sha256"]:
        raise ImclError(f"{file}: missing or changed since it was drawn; delete {path}, draw again")
    noisy = np.load(file, allow_pickle=False)
    if noisy.shape != clean.shape:
        raise ImclError(f"{file}: {len(noisy)} labels for {len(clean)} images")
    if description["clean_sha256"] != _digest(clean):
        raise ImclError(f"{file}: drawn for another dataset; delete {path}, draw again")
    return description, noisy


def _digest(labels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()
