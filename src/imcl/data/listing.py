"""The state of each dataset, and what is left to do before it can be used."""

from typing import Any, Literal

from typing_extensions import TypedDict

from imcl.data.description import describe
from imcl.errors import ImclError
from imcl.project import Project
from imcl.study.grid import Dataset, datasets
from imcl.study.settings import Settings


class Row(TypedDict):
    """A dataset of params.yaml.

    Attributes:
        name: as in params.yaml.
        source: where its images come from.
        state: `prepared`, `fetched` (its source is there but not converted), or `missing`.
        n_train: as in its `Description`, like n_test to sha256; None until it is prepared.
        missing: what to do next; "" if nothing.
    """

    name: str
    source: str
    state: Literal["prepared", "fetched", "missing"]
    n_train: int | None
    n_test: int | None
    mean: list[float] | None
    std: list[float] | None
    sha256: str | None
    missing: str


def rows(project: Project, settings: Settings) -> list[Row]:
    """One row for each dataset of params.yaml."""
    return [_row(project, dataset) for dataset in datasets(settings).values()]


def show(rows: list[Row]) -> None:
    """Print the rows as a table."""
    from tabulate import tabulate

    shown: list[dict[str, Any]] = [
        {
            "dataset": row["name"],
            "state": row["state"],
            "train": row["n_train"],
            "test": row["n_test"],
            "mean": _decimals(row["mean"]),
            "std": _decimals(row["std"]),
            "sha256": (row["sha256"] or "")[:12],
            "to do": row["missing"],
        }
        for row in rows
    ]
    print(tabulate(shown, headers="keys", tablefmt="plain", intfmt=",", disable_numparse=[4, 5, 6]))


def _row(project: Project, dataset: Dataset) -> Row:
    row: Row = {
        "name": dataset.name,
        "source": dataset.options.source,
        "state": "missing",
        "n_train": None,
        "n_test": None,
        "mean": None,
        "std": None,
        "sha256": None,
        "missing": "",
    }
    absent = _absent(project, dataset)
    if project.dataset(dataset.key).exists():
        try:
            made = describe(project, dataset)
        except ImclError as error:
            row["missing"] = str(error)
        else:
            row["state"] = "prepared"
            row["n_train"], row["n_test"] = made["n_train"], made["n_test"]
            row["mean"], row["std"] = made["mean"], made["std"]
            row["sha256"] = made["sha256"]
    elif absent:
        by_hand = dataset.options.path or any(a.behind_login for a in dataset.archives)
        remedy = "place" if by_hand else f"`imcl fetch {dataset.name}`:"
        row["missing"] = f"{remedy} {', '.join(absent)}"
    else:
        row["state"], row["missing"] = "fetched", f"`imcl prepare {dataset.name}`"
    return row


def _absent(project: Project, dataset: Dataset) -> list[str]:
    """The files and folders that the dataset is made from and that are not there."""
    paths = {archive.path(project.archives): archive for archive in dataset.archives}
    absent = [
        f"{path} ({archive.size / 1e6:,.0f} MB)"
        for path, archive in paths.items()
        if not path.exists()
    ]
    pictures = dataset.options.path
    if pictures and not (project.root / pictures).is_dir():
        absent.append(f"{project.root / pictures} (your pictures)")
    return absent


def _decimals(values: list[float] | None) -> str:
    return " ".join(f"{value:.4f}" for value in values or [])
