"""What a record holds, as types: writers fill them and readers check them.

A share is a number in 0..1. A count is a whole number, at least 0. `imcl.training.evaluation`
defines accuracies, losses and redundancies.
"""

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.study.grid import CellConfig

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Metrics(TypedDict):
    """How good a network is on the evaluated images.

    Attributes:
        accuracy: share of the images that are classified correctly.
        nll: mean negative log-likelihood, in nats.
        ece: expected calibration error, in 0..1.
        roc_auc: area under the ROC curve; with two classes only.
    """

    accuracy: Share
    nll: Amount
    ece: Share
    roc_auc: NotRequired[Share]


class FinalMetrics(Metrics):
    """Those at the last epoch, and two redundancies of the trained network, both in 0..1."""

    channel_correlation: Amount
    kernel_cosine: Amount


class OracleMetrics(Metrics):
    """Those at the epoch (from 1) with the best accuracy on the evaluated images."""

    epoch: Count


class Epoch(TypedDict):
    """One epoch of a training.

    Attributes:
        epoch: from 1.
        learning_rate: that of its last step.
        loss: the mean over its steps.
        terms: the terms of the loss by name: means over its steps, not weighted.
        train_accuracy: share of the augmented images whose prediction is the label trained on.
        evaluation: metrics after the epoch, if the network was evaluated then.
    """

    epoch: Count
    learning_rate: Amount
    loss: float
    terms: dict[str, float]
    train_accuracy: Share
    evaluation: NotRequired[Metrics]


class Calibration(TypedDict):
    """For each bin of confidence: its images, the sum of their confidence, how many are right."""

    count: list[Count]
    confidence: list[Amount]
    correct: list[Count]


class Predictions(TypedDict):
    """The data of the calibration curve and the confusion matrix (true class by predicted)."""

    calibration: Calibration
    confusion: NotRequired[list[list[Count]]]


class Run(TypedDict):
    """The result of one seed."""

    seed: Count
    final: FinalMetrics
    oracle: OracleMetrics
    predictions: NotRequired[Predictions]
    parameters: Count
    training_parameters: Count
    weights_sha256: Sha256
    history: list[Epoch]


class Cost(TypedDict):
    """What one seed cost; `resumed` counts how often it resumed from a checkpoint."""

    seed: Count
    training_seconds: Amount
    evaluation_seconds: Amount
    peak_memory_bytes: Count
    resumed: NotRequired[Count]


class DatasetInfo(TypedDict):
    """The prepared data: counts of images, shape (height, width, channels), and hash."""

    name: str
    n_train: Count
    n_validation: Count
    n_test: Count
    shape: list[Count]
    sha256: Sha256
    evaluation: str


class NoiseInfo(TypedDict):
    """The labels trained on: their rates and hash. Clean ones have no hash and no matrix."""

    nominal_rate: Share
    realised_rate: Share
    sha256: Sha256 | None
    transition_matrix: NotRequired[list[list[Share]]]


class Code(TypedDict):
    """The code: its version and commit. `modified`: files differ from it. None outside git."""

    version: str
    commit: str | None
    modified: bool | None


# Not a class, since `scikit-learn` is not a Python identifier.
Environment = TypedDict(
    "Environment",
    {
        "device": str,
        "device_name": str,
        "threads": Count,
        "python": str,
        "platform": str,
        "torch": str,
        "numpy": str,
        "scikit-learn": str,
        "compiled": NotRequired[bool],
    },
)


class Migration(TypedDict):
    """A later change of a record's form that kept its numbers."""

    digest: str
    change: str


class Record(TypedDict):
    """The result of a cell: its configuration, data, code, machine, and a run for each seed."""

    cell: str
    digest: str
    config: CellConfig
    dataset: DatasetInfo
    noise: NoiseInfo
    code: Code
    environment: Environment
    runs: Annotated[list[Run], Field(min_length=1)]
    cost: Annotated[list[Cost], Field(min_length=1)]
    migrated: NotRequired[Migration]
    seal: NotRequired[str]


class Measurement(TypedDict):
    """A benchmark: its name, settings, code, machine, and a row for each thing measured.

    A row is an entry of `ROWS`, by the benchmark's name.
    """

    bench: str
    settings: dict[str, Any]
    code: Code
    environment: Environment
    rows: Annotated[list[dict[str, Any]], Field(min_length=1)]
    seal: NotRequired[str]


Above = Annotated[float, Field(gt=0)]  # also what others are divided by


class OverheadRow(TypedDict):
    """A training step of one method; the ratios are to base with the same backbone."""

    backbone: str
    width: Count
    batch_size: Count
    method: str
    training_parameters: Count
    parameters: Count
    macs: Above
    memory_bytes: Above
    seconds: Above
    time_ratio: Above
    memory_ratio: Above
    macs_ratio: Above


class LoopRow(TypedDict):
    """Training speeds, in images per second, and the ratios of ours to the others."""

    backbone: str
    width: Count
    precision: str
    batch_size: Count
    images_per_second: Above
    usual: Above
    tuned: Above
    packed: Above
    limit: Above
    ratio_to_usual: Above
    ratio_to_tuned: Above
    ratio_to_limit: Above
    packed_ratio: Above
    augmentation_share: Amount
    flops_per_image: Above
    product_flops: Above


class PipelineRow(TypedDict):
    """A study from nothing to its paper; `own_seconds` is what its cells took together."""

    study: str
    cells: Count
    networks: Count
    cores: Annotated[int, Field(ge=1)]
    wall_seconds: Above
    own_seconds: Above
    overhead_ratio: Above
    nothing_to_do_seconds: Above


class GrowthRow(TypedDict):
    """A time at one size, and how it grew compared with the size."""

    what: str
    unit: str
    size: Annotated[int, Field(ge=1)]
    seconds: Above
    ratio_to_linear: Above


class AgreementRow(TypedDict):
    """The accuracies of two training loops by seed, and whether their intervals overlap."""

    dataset: str
    backbone: str
    seeds: Count
    ours: list[Share]
    usual: list[Share]
    ours_mean: Share
    ours_half_width: Amount | None
    usual_mean: Share
    usual_half_width: Amount | None
    agree: bool


ROWS: dict[str, Any] = {
    "overhead": OverheadRow,
    "loop": LoopRow,
    "pipeline": PipelineRow,
    "growth": GrowthRow,
    "agreement": AgreementRow,
}
