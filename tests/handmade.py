"""Records written by hand, in a project folder of their own."""

from pathlib import Path
from typing import Any

import yaml

from imcl.files import write_json
from imcl.project import Project
from imcl.records.record import Environment, Metrics, NoiseInfo, Record
from imcl.records.seal import sealed
from imcl.study.grid import Cell

ROOT = Path(__file__).resolve().parent.parent


def empty_project(folder: Path) -> Project:
    """A project without data and results; its templates are the checkout's."""
    for name in ("workflow", "paper/templates"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    text = yaml.safe_dump(parameters(), sort_keys=False)
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return Project(folder)


def parameters() -> dict[str, Any]:
    """The checkout's params.yaml as parsed YAML, which a test can change and check.

    Without what searches have chosen and with two seeds in `quick`, so that no test depends on it.
    """
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    raw: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)
    for study in raw["studies"].values():
        study.pop("chosen", None)
    raw["studies"]["quick"]["seeds"] = [1, 2]
    return raw


ENVIRONMENT: Environment = {
    "device": "cpu",
    "device_name": "a machine",
    "threads": 1,
    "python": "3.12",
    "platform": "Linux",
    "torch": "2",
    "numpy": "2",
    "scikit-learn": "1",
}


def record(cell: Cell, accuracies: list[float], **changes: Any) -> Record:
    """The sealed record of a cell with these accuracies by seed; `changes` replace its entries."""
    made: Record = {
        "cell": cell.name,
        "digest": cell.digest,
        "config": cell.config,
        "dataset": {
            "name": cell.dataset.name,
            "n_train": 5,
            "n_validation": 0,
            "n_test": 4,
            "shape": [8, 8, 1],
            "sha256": "ab" * 32,
            "evaluation": "test",
        },
        "noise": _noise(cell),
        "code": {"version": "1", "commit": "c" * 40, "modified": False},
        "environment": {**ENVIRONMENT},
        "runs": [
            {
                "seed": seed,
                "final": {
                    **_metrics(accuracy),
                    "channel_correlation": 0.02,
                    "kernel_cosine": 0.01,
                },
                "oracle": {**_metrics(accuracy + 0.01), "epoch": 1},
                "parameters": 1234,
                "training_parameters": 2345,
                "weights_sha256": "0" * 64,
                "history": [
                    {
                        "epoch": 1,
                        "learning_rate": 0.1,
                        "loss": 1.0,
                        "terms": {},
                        "train_accuracy": 0.5,
                        "evaluation": _metrics(accuracy),
                    }
                ],
            }
            for seed, accuracy in zip(cell.seeds, accuracies, strict=True)
        ],
        "cost": [
            {
                "seed": seed,
                "training_seconds": 2.0,
                "evaluation_seconds": 1.0,
                "peak_memory_bytes": 100,
            }
            for seed in cell.seeds
        ],
    }
    for key in sorted(cell.drawn_per_run):
        told: Any = made.pop(key)  # type: ignore[misc]  # a name of TrainedOn
        for index, run in enumerate(made["runs"]):
            run[key] = {**told, "sha256": f"{index:02d}" * 32}  # type: ignore[literal-required]
    return sealed({**made, **changes})


def write(project: Project, cell: Cell, record: Record, study: str | None = None) -> Path:
    """Write a record, sealed anew: as made here, or into the committed ones of `study`."""
    name = f"{cell.key}.json"
    path = (project.committed_records(study) if study else project.records) / name
    write_json(path, sealed(record))
    return path


def _metrics(accuracy: float) -> Metrics:
    return {"accuracy": accuracy, "nll": 0.5, "ece": 0.1}


def _noise(cell: Cell) -> NoiseInfo:
    if cell.noise is None:
        return {"nominal_rate": 0.0, "realised_rate": 0.0, "sha256": None}
    rate = cell.noise.options.rate or 0.5
    return {
        "nominal_rate": rate,
        "realised_rate": rate,
        "sha256": "ef" * 32,
        "transition_matrix": [[1 - rate, rate], [0.0, 1.0]],
    }
