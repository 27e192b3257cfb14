"""What is stored with noisy labels."""

from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.errors import ImclError
from imcl.files import read_as
from imcl.project import Project
from imcl.study.grid import Noise


class Description(TypedDict):
    """The noisy labels that were made.

    Attributes:
        config: the options that params.yaml sets.
        nominal_rate: in 0..1, as params.yaml or the labels' authors state it.
        realised_rate: the share of training images whose label differs from the clean one.
        transition_matrix: of the training images, (K, K): the share of each true class (row) that
            has each label (column).
        sha256: of the labels' file.
        clean_sha256: of the clean labels that these were made from.
    """

    config: dict[str, Any]
    nominal_rate: float
    realised_rate: float
    transition_matrix: list[list[float]]
    sha256: str
    clean_sha256: str


_ADAPTER = TypeAdapter(Description)


def describe(project: Project, noise: Noise) -> Description:
    """The description of noisy labels.

    Raises:
        ImclError: the labels are not made yet, or their description is damaged.
    """
    path = project.noise(noise.dataset.key, noise.key)
    try:
        return read_as(path, _ADAPTER)
    except FileNotFoundError:
        words = " ".join(noise.words)
        raise ImclError(f"{path}: missing; run `imcl noise {words}` first") from None
