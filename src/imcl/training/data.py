"""The data of a cell's runs: its prepared dataset, with noisy training labels if it has noise."""

from collections.abc import Collection
from dataclasses import dataclass

from imcl.data import prepare
from imcl.data.arrays import Arrays, Images, Labels
from imcl.data.description import Description
from imcl.noise import inject
from imcl.project import Project
from imcl.records.record import Circumstances, DatasetInfo, NoiseInfo
from imcl.study.grid import Cell, Data, Dataset

MATRIX_CLASSES = 100  # with more, the transition matrix is only in the noise's own file


@dataclass(frozen=True)
class RunData:
    """The data of one run. All runs of a cell share it, unless some is drawn for each run.

    Attributes:
        description: of the prepared dataset.
        noise: what a record says about the training labels.
        arrays: images and labels; those of training and held-out images are the noisy ones.
        true_labels: of the held-out images, if there are any and their labels are noisy.
    """

    description: Description
    noise: NoiseInfo
    arrays: Arrays
    true_labels: Labels | None = None

    def told(self, keys: Collection[str]) -> Circumstances:
        """What a record says of the dataset, the noise or both."""
        told: Circumstances = {}
        if "dataset" in keys:
            told["dataset"] = self.dataset
        if "noise" in keys:
            told["noise"] = self.noise
        return told

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


def load(project: Project, cell: Cell) -> dict[int, RunData]:
    """The data of each run of a cell, by seed; each file is read and checked once.

    Raises:
        ImclError: some is not prepared, or has changed since.
    """
    datasets: dict[Dataset, tuple[Description, Arrays]] = {}
    loaded: dict[Data, RunData] = {}
    for data in cell.all_data:
        if data.dataset not in datasets:
            datasets[data.dataset] = prepare.load(project, data.dataset)
        loaded[data] = _labelled(project, data, *datasets[data.dataset])
    return {seed: loaded[cell.data(seed)] for seed in cell.seeds}


def _labelled(project: Project, data: Data, description: Description, arrays: Arrays) -> RunData:
    """A prepared dataset with the labels of a run."""
    noise: NoiseInfo = {"nominal_rate": 0.0, "realised_rate": 0.0, "sha256": None}
    true_labels = None
    if data.noise:
        true_labels = arrays.validation_labels
        drawn, labels = inject.load(project, data.noise, arrays.labels)
        arrays = arrays.relabelled(labels)
        noise = {
            "nominal_rate": drawn["nominal_rate"],
            "realised_rate": drawn["realised_rate"],
            "sha256": drawn["sha256"],
        }
        if len(arrays.class_names) <= MATRIX_CLASSES:
            noise["transition_matrix"] = drawn["transition_matrix"]
    return RunData(description, noise, arrays, true_labels)
