"""The data of a cell: its prepared dataset, with noisy training labels if the cell has noise."""

from dataclasses import dataclass
from typing import Self

from imcl.data import prepare
from imcl.data.arrays import Arrays, Images, Labels
from imcl.data.description import Description
from imcl.noise import inject
from imcl.project import Project
from imcl.records.record import DatasetInfo, NoiseInfo
from imcl.study.grid import Cell

MATRIX_CLASSES = 100  # with more, the transition matrix is only in the noise's own file


@dataclass(frozen=True)
class CellData:
    """The data that all seeds of a cell share.

    Attributes:
        description: of the prepared dataset.
        noise: what a record says about the training labels.
        arrays: images and labels; the training labels are the noisy ones.
    """

    description: Description
    noise: NoiseInfo
    arrays: Arrays

    @classmethod
    def load(cls, project: Project, cell: Cell) -> Self:
        """Load a cell's data.

        Raises:
            ImclError: it is not prepared, or has changed since.
        """
        description, arrays = prepare.load(project, cell.dataset)
        noise: NoiseInfo = {"nominal_rate": 0.0, "realised_rate": 0.0, "sha256": None}
        if cell.noise:
            drawn, labels = inject.load(project, cell.noise, arrays.labels)
            arrays = arrays.relabelled(labels)
            noise = {
                "nominal_rate": drawn["nominal_rate"],
                "realised_rate": drawn["realised_rate"],
                "sha256": drawn["sha256"],
            }
            if len(arrays.class_names) <= MATRIX_CLASSES:
                noise["transition_matrix"] = drawn["transition_matrix"]
        return cls(description, noise, arrays)

    @property
    def dataset(self) -> DatasetInfo:
        """What a record says of the dataset."""
        return {
            "name": self.description["name"],
            "n_train": self.description["n_train"],
            "n_validation": self.description["n_validation"],
            "n_test": self.description["n_test"],
            "shape": self.description["shape"],
            "sha256": self.description["sha256"],
            "evaluation": self.arrays.evaluation,
        }

    @property
    def evaluated(self) -> tuple[Images, Labels]:
        """The images that networks are evaluated on: held-out ones if there are any."""
        arrays = self.arrays
        if arrays.validation_images is None or arrays.validation_labels is None:
            return arrays.test_images, arrays.test_labels
        return arrays.validation_images, arrays.validation_labels
