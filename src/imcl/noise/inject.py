"""Makes noisy labels, stores them with a description, and loads them again."""

import hashlib
import io
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imcl.data import prepare
from imcl.data.arrays import Arrays, Labels
from imcl.data.fetch import check
from imcl.errors import ImclError
from imcl.files import sha256, write_bytes, write_json
from imcl.noise.description import Description, describe
from imcl.project import Project
from imcl.study.grid import Noise
from imcl.study.sources import NoiseOptions


def inject(project: Project, noise: Noise) -> Description:
    """Draw noisy labels from the clean ones, or read those that people gave, and store them.

    Held-out images get noisy labels in the same draw, after those of the training images. The
    labels are stored beside their description, as .npy.

    Raises:
        ImclError: the dataset is not prepared or has changed, or the file with people's labels is
            damaged or not the official one.
    """
    _, arrays = prepare.load(project, noise.dataset)
    archives = [archive.path(project.archives) for archive in noise.archives]
    for archive, path in zip(noise.archives, archives, strict=True):
        check(archive, path)
    clean, count = arrays.labels, len(arrays.train_labels)
    nominal, noisy = _labels(noise.options, arrays.joined(), archives)
    file = _file(project, noise)
    buffer = io.BytesIO()
    np.save(buffer, noisy)
    write_bytes(file, buffer.getbuffer())
    matrix = transition_matrix(clean[:count], noisy[:count], len(arrays.class_names))
    description: Description = {
        "config": noise.config,
        "nominal_rate": nominal,
        "realised_rate": float(np.mean(noisy[:count] != clean[:count])),
        "transition_matrix": matrix.tolist(),
        "sha256": sha256(file),
        "clean_sha256": _digest(clean),
    }
    write_json(file.with_suffix(".json"), description)
    return description


def load(project: Project, noise: Noise, clean: Labels) -> tuple[Description, Labels]:
    """The description and the noisy labels, int64 (N,), for the clean labels.

    Raises:
        ImclError: the labels are missing, have changed since they were drawn, or belong to another
            dataset.
    """
    description, file = describe(project, noise), _file(project, noise)
    remedy = f"delete {file.with_suffix('.json')} and draw the labels again"
    if not file.exists() or sha256(file) != description["sha256"]:
        raise ImclError(f"{file}: missing or changed since it was drawn; {remedy}")
    noisy: Labels = np.load(file, allow_pickle=False)
    if noisy.shape != clean.shape:
        raise ImclError(f"{file}: {len(noisy)} labels for {len(clean)} images; {remedy}")
    if description["clean_sha256"] != _digest(clean):
        raise ImclError(f"{file}: drawn for another dataset; {remedy}")
    return description, noisy


def transition_matrix(clean: Labels, noisy: Labels, classes: int) -> NDArray[np.float64]:
    """The share of each true class (row) that has each label (column), float (K, K).

    The row of a class without images is zero.
    """
    counts = np.zeros((classes, classes))
    np.add.at(counts, (clean, noisy), 1)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def _labels(options: NoiseOptions, arrays: Arrays, archives: list[Path]) -> tuple[float, Labels]:
    """The nominal rate and the noisy labels of all images."""
    kind = import_module(f"imcl.noise.{options.kind}")
    if archives:
        return kind.RATES[options.labels], kind.read(arrays, options.labels, archives)
    assert options.rate is not None  # KINDS requires it
    assert isinstance(options.noise_seed, int)  # a run's own, if each draws its labels
    return options.rate, kind.flip(arrays, options.rate, np.random.default_rng(options.noise_seed))


def _file(project: Project, noise: Noise) -> Path:
    return project.noise(noise.dataset.key, noise.key).with_suffix(".npy")


def _digest(labels: Labels) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()
