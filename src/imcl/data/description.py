"""The description of a prepared dataset, dataset.json."""

from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.errors import ImclError
from imcl.files import read_as
from imcl.project import Project
from imcl.study.grid import Dataset


class Description(TypedDict):
    """A prepared dataset.

    Attributes:
        name: as in params.yaml.
        config: the options that params.yaml sets.
        n_train: images to train on; `n_validation` are held out, `n_test` are the test set.
        shape: height, width and channels of an image.
        superclasses: the superclass of each class, if the source has them.
        mean: each channel's mean over the training images, with pixels in 0..1.
        std: each channel's standard deviation, likewise.
        archives: the SHA-256 of each file of the source, by name.
        arrays: the SHA-256 of each array's file, by the array's name.
        sha256: the SHA-256 of the list that `sha256sum` would print of the arrays' files.
    """

    name: str
    config: dict[str, Any]
    n_train: int
    n_validation: int
    n_test: int
    shape: list[int]
    class_names: list[str]
    superclasses: list[int]
    mean: list[float]
    std: list[float]
    archives: dict[str, str]
    arrays: dict[str, str]
    sha256: str


_ADAPTER = TypeAdapter(Description)


def describe(project: Project, dataset: Dataset) -> Description:
    """The description of a prepared dataset.

    Raises:
        ImclError: the dataset is not prepared, or its description is damaged.
    """
    path = project.dataset(dataset.key)
    try:
        return read_as(path, _ADAPTER)
    except FileNotFoundError:
        words = " ".join(dataset.words)
        raise ImclError(f"{path}: missing; run `imcl prepare {words}` first") from None
