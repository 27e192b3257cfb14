"""Records written by hand, in an empty project folder."""

from pathlib import Path

from imcl import grid

ROOT = Path(__file__).resolve().parent.parent

COUNTS = {"n_train": 5, "n_validation": 0, "n_test": 4}


def empty_project(folder: Path) -> None:
    """What the report reads beside records, in a folder of its own."""
    for name in ("workflow", "paper/templates", "params.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(ROOT / name)


def record(cell: grid.Cell, accuracies: list[float], **changes) -> dict:
    """A record of a cell with these accuracies by seed; `changes` replace its entries."""
    final = {"nll": 0.5, "ece": 0.1, "channel_correlation": 0.02, "kernel_cosine": 0.01}
    made = {
        "cell": cell.name,
        "digest": cell.digest,
        "config": cell.config,
        "dataset": {**COUNTS, "name": cell.dataset.name, "sha256": "ab", "evaluation": "test"},
        "noise": {"nominal_rate": 0.0, "realised_rate": 0.0, "sha256": None},
        "code": {"version": "1", "commit": "c" * 40, "modified": False},
        "environment": {"device_name": "a machine", "torch": "2"},
        "runs": [
            {
                "seed": seed,
                "final": {"accuracy": value, **final},
                "oracle": {"epoch": 1, "accuracy": value + 0.01},
                "parameters": 1234,
                "training_parameters": 2345,
                "history": [{"epoch": 1, "train_accuracy": 0.5, "evaluation": {"accuracy": value}}],
            }
            for seed, value in enumerate(accuracies, 1)
        ],
        "cost": [{"training_seconds": 2.0, "peak_memory_bytes": 100} for _ in accuracies],
    }
    return {**made, **changes}
