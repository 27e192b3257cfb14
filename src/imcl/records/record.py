"""What a record holds, as types: writers fill them and readers check them.

A share is a number in 0..1. A count is a whole number, at least 0. `imcl.training.evaluation`
defines accuracies, losses and redundancies. No number is so large that a sum or a ratio of some
could become infinite, and no text holds a control character.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.study.grid import CellConfig
from imcl.study.spec import fault, validated

LARGEST = 1e30

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Amount = Annotated[float, Field(ge=0, le=LARGEST)]
LINE = r"^\P{Cc}*$"
Line = Annotated[str, Field(pattern=LINE)]
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
    """Those at the last epoch, and two redundancies of the trained network, both in 0..1.

    Attributes:
        true_accuracy: share of the held-out images whose true label is predicted, where the labels
            that `accuracy` counts are noisy. No setting is chosen by it.
    """

    true_accuracy: NotRequired[Share]
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
    loss: Number
    terms: dict[Line, Number]
    train_accuracy: Share
    evaluation: NotRequired[Metrics]


def _square(matrix: list[list[Any]]) -> list[list[Any]]:
    if any(len(row) != len(matrix) for row in matrix):
        raise PydanticCustomError("square", "is not a square matrix")
    return matrix


Square = AfterValidator(_square)


class Bins(TypedDict):
    """For each bin of confidence: its images, the sum of their confidence, how many are right."""

    count: list[Count]
    confidence: list[Amount]
    correct: list[Count]


def _even(bins: Bins) -> Bins:
    if len({len(values) for values in (bins["count"], bins["confidence"], bins["correct"])}) > 1:
        raise PydanticCustomError("even", "has lists of different lengths")
    return bins


Calibration = Annotated[Bins, AfterValidator(_even)]


class Predictions(TypedDict):
    """The data of the calibration curve and the confusion matrix (true class by predicted)."""

    calibration: Calibration
    confusion: NotRequired[Annotated[list[list[Count]], Square]]


class DatasetInfo(TypedDict):
    """The prepared data: counts of images, shape (height, width, channels), and hash."""

    name: Line
    n_train: Count
    n_validation: Count
    n_test: Count
    shape: list[Count]
    sha256: Sha256
    evaluation: Literal["test", "validation"]


class NoiseInfo(TypedDict):
    """The labels trained on: their rates and hash. Clean ones have no hash and no matrix."""

    nominal_rate: Share
    realised_rate: Share
    sha256: Sha256 | None
    transition_matrix: NotRequired[Annotated[list[list[Share]], Square]]


class Code(TypedDict):
    """The code: its version and commit. `modified`: files differ from it. None outside git."""

    version: Line
    commit: Line | None
    modified: bool | None


# Not a class, since `scikit-learn` is not a Python identifier.
Environment = TypedDict(
    "Environment",
    {
        "device": Line,
        "device_name": Line,
        "threads": Count,
        "python": Line,
        "platform": Line,
        "torch": Line,
        "numpy": Line,
        "scikit-learn": Line,
        "compiled": NotRequired[bool],
        "deterministic": NotRequired[bool],
        # The library that the network is of.
        "torchvision": NotRequired[Line],
        "timm": NotRequired[Line],
    },
)


class Circumstances(TypedDict, total=False):
    """What a run was made of and with.

    An entry is in the record if it holds for all runs, else in each run: data and labels that were
    drawn for each run, code and environment that differ between the runs.
    """

    dataset: DatasetInfo
    noise: NoiseInfo
    code: Code
    environment: Environment


class Elsewhere(TypedDict):
    """The first epochs of a run, trained on another machine or by other code.

    From there on, the run need not equal one that was never interrupted to the bit.

    Attributes:
        epochs: how many; one that was begun there is not counted.
        differs: by name, what was different there: of the environment, or `code`, a hash of it.
    """

    epochs: Count
    differs: dict[str, str]


class Run(Circumstances):
    """The result of one seed; `elsewhere` is there if a part of it was trained elsewhere."""

    seed: Count
    final: FinalMetrics
    oracle: OracleMetrics
    predictions: NotRequired[Predictions]
    parameters: Count
    training_parameters: Count
    weights_sha256: Sha256
    history: Annotated[list[Epoch], Field(min_length=1)]
    elsewhere: NotRequired[list[Elsewhere]]


class Cost(TypedDict):
    """What one seed cost; `resumed` counts how often it resumed from a checkpoint."""

    seed: Count
    training_seconds: Amount
    evaluation_seconds: Amount
    peak_memory_bytes: Count
    resumed: NotRequired[Count]


class Migration(TypedDict):
    """A later change of a record that kept its numbers.

    Attributes:
        digest: the one that the record had before.
        change: what is different in the record.
        earlier: what the code computes differently since, if that is why the digest changed.
    """

    digest: Line
    change: Line
    earlier: NotRequired[Line]


class Record(Circumstances):
    """The result of a cell: its configuration, data, code, machine, and a run for each seed.

    `params_sha256` names the file that its jobs read `config` from, or several if it was edited
    between the seeds. All that counts of them is in `config`.
    """

    cell: Line
    digest: Line
    config: CellConfig
    params_sha256: NotRequired[Annotated[list[Sha256], Field(min_length=1)]]
    runs: Annotated[list[Run], Field(min_length=1)]
    cost: Annotated[list[Cost], Field(min_length=1)]
    migrated: NotRequired[Migration]
    seal: NotRequired[str]


def changed_since(record: Record) -> str | None:
    """What the code computes differently since the record was made, as it says itself."""
    return record.get("migrated", {}).get("earlier")


def datasets(record: Record) -> list[DatasetInfo]:
    """The data of a record's runs: one entry if all have the same, else one for each run."""
    return (
        [record["dataset"]] if "dataset" in record else [run["dataset"] for run in record["runs"]]
    )


def noises(record: Record) -> list[NoiseInfo]:
    """The labels of a record's runs, as `datasets`."""
    return [record["noise"]] if "noise" in record else [run["noise"] for run in record["runs"]]


def trained_on(record: Record, run: Run) -> tuple[DatasetInfo, NoiseInfo]:
    """The data and the labels of one run of a record."""
    dataset = run["dataset"] if "dataset" in run else record["dataset"]
    noise = run["noise"] if "noise" in run else record["noise"]
    return dataset, noise


def code_of(record: Record, run: Run) -> Code:
    """The code that made a run of a record."""
    return run["code"] if "code" in run else record["code"]


def environment_of(record: Record, run: Run) -> Environment:
    """The machine that made a run of a record."""
    return run["environment"] if "environment" in run else record["environment"]


def _told_once(record: object, validate: ValidatorFunctionWrapHandler) -> Any:
    """Each circumstance is told of the record or of each of its runs, but not of both."""
    stated = record if isinstance(record, dict) else {}
    runs = stated.get("runs")
    faults = []
    for key in Circumstances.__annotations__:
        told = [
            isinstance(run, dict) and key in run for run in (runs if isinstance(runs, list) else ())
        ]
        kind = "extra_forbidden" if key in stated else "missing"
        if key not in stated and not any(told):
            faults.append(fault((key,), kind, kind))
        else:
            wrong = [index for index, there in enumerate(told) if there == (key in stated)]
            faults += [fault(("runs", index, key), kind, kind) for index in wrong]
    return validated(record, validate, faults)


# A record as a validator must know it.
CheckedRecord = Annotated[Record, WrapValidator(_told_once)]


class Measurement(TypedDict):
    """A benchmark: its name, settings, code, machine, and a row for each thing measured.

    A row is an entry of `ROWS`, by the benchmark's name.
    """

    bench: Line
    settings: dict[str, Any]
    code: Code
    environment: Environment
    rows: Annotated[list[dict[str, Any]], Field(min_length=1)]
    seal: NotRequired[str]


Above = Annotated[float, Field(ge=1 / LARGEST, le=LARGEST)]  # also what others are divided by


class OverheadRow(TypedDict):
    """A training step of one method; the ratios are to base with the same backbone."""

    backbone: Line
    width: Count
    batch_size: Count
    method: Line
    training_parameters: Annotated[Count, Field(ge=1)]
    parameters: Count
    macs: Above
    memory_bytes: Above
    seconds: Above
    time_ratio: Above
    memory_ratio: Above
    macs_ratio: Above


class LoopRow(TypedDict):
    """Training speeds, in images per second, and the ratios of ours to the others."""

    backbone: Line
    width: Count
    precision: Line
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


class ChangeRow(TypedDict):
    """Training speeds in images per second before and after a change, and how near a limit."""

    backbone: Line
    width: Count
    precision: Line
    before: Above
    after: Above
    ratio: Above
    before_to_limit: Above
    after_to_limit: Above
    convolution_share: Share
    bound: Above


class StepsRow(TypedDict):
    """What a training step of one method asks of the device; the ratios are to base."""

    backbone: Line
    method: Line
    views: Annotated[int, Field(ge=1)]
    operations: Annotated[int, Field(ge=1)]
    allocated_bytes: Annotated[int, Field(ge=1)]
    waits: Count
    captures: Count
    operations_ratio: Above
    bytes_ratio: Above


class PipelineRow(TypedDict):
    """A study from nothing to its paper; `own_seconds` is what its cells took together."""

    study: Line
    cells: Count
    networks: Count
    cores: Annotated[int, Field(ge=1)]
    wall_seconds: Above
    own_seconds: Above
    overhead_ratio: Above
    nothing_to_do_seconds: Above


class GrowthRow(TypedDict):
    """A time at one size, and how it grew compared with the size."""

    what: Line
    unit: Line
    size: Annotated[int, Field(ge=1)]
    seconds: Above
    ratio_to_linear: Above


class AgreementRow(TypedDict):
    """The accuracies of two training loops by seed, and whether their intervals overlap."""

    dataset: Line
    backbone: Line
    seeds: Count
    ours: list[Share]
    usual: list[Share]
    ours_mean: Share
    ours_half_width: Amount | None
    usual_mean: Share
    usual_half_width: Amount | None
    agree: bool


Points = Annotated[float, Field(ge=-1, le=1)]  # a difference of shares


class LibraryRow(TypedDict):
    """A method's test accuracy by seed, and what it gains over the plain loop, by seed."""

    method: Line
    wrong_labels: Share
    accuracy: Annotated[list[Share], Field(min_length=1)]
    mean: Share
    half_width: Amount | None
    gain_mean: Points | None
    gain_half_width: Amount | None


class OverheadSettings(TypedDict):
    """Those that documents tell of. A measurement has others too, as those of all benches have."""

    width: Count
    batch_size: Count
    precision: Line
    repeats: Count


class LoopSettings(TypedDict):
    batch_size: Count
    repeats: Count


class ChangeSettings(TypedDict):
    before: Line
    batch_size: Count
    turns: Count


class StepsSettings(TypedDict):
    width: Count
    batch_size: Count
    precision: Line


class AgreementSettings(TypedDict):
    width: Count
    epochs: Count
    precision: Line
    seeds: Count


class LibrarySettings(TypedDict):
    epochs: Count
    side: Count
    precision: Line
    seeds: Count


SETTINGS: dict[str, Any] = {
    "overhead": OverheadSettings,
    "loop": LoopSettings,
    "change": ChangeSettings,
    "steps": StepsSettings,
    "agreement": AgreementSettings,
    "library": LibrarySettings,
}

ROWS: dict[str, Any] = {
    "overhead": OverheadRow,
    "loop": LoopRow,
    "change": ChangeRow,
    "steps": StepsRow,
    "pipeline": PipelineRow,
    "growth": GrowthRow,
    "agreement": AgreementRow,
    "library": LibraryRow,
}
