"""What is known of each dataset, and what is missing before it can be used."""

from pathlib import Path

from imcl import grid
from imcl.data import SOURCES
from imcl.data.prepare import DESCRIPTION
from imcl.errors import ImclError
from imcl.files import read_json

KNOWN = ("n_train", "n_test", "mean", "std", "sha256")


def rows(params: dict) -> list[dict]:
    """One row for each dataset of params.yaml.

    `state` is prepared, fetched (its files are there, not yet converted) or missing; what stands in
    the description is None until it is prepared; `missing` says what to do next, "" for nothing.
    """
    return [_row(dataset) for dataset in grid.datasets(params).values()]


def show(rows: list[dict]) -> None:
    """Print the rows as a table."""
    from tabulate import tabulate

    shown = [
        {
            "dataset": row["name"],
            "state": row["state"],
            "train": row["n_train"],
            "test": row["n_test"],
            "mean": _decimals(row["mean"]),
            "std": _decimals(row["std"]),
            "sha256": (row["sha256"] or "")[:12],
            "missing": row["missing"],
        }
        for row in rows
    ]
    print(tabulate(shown, headers="keys", tablefmt="plain", intfmt=",", disable_numparse=[4, 5, 6]))


def _row(dataset: grid.Dataset) -> dict:
    row = {"name": dataset.name, "source": dataset.config["source"], "state": "missing"}
    row |= dict.fromkeys(KNOWN) | {"missing": ""}
    absent = [
        f"{archive.path(grid.ARCHIVES)} ({archive.size / 1e6:,.0f} MB)"
        for archive in SOURCES[row["source"]]
        if not archive.path(grid.ARCHIVES).exists()
    ]
    if "path" in dataset.config and not Path(dataset.config["path"]).is_dir():
        absent.append(f"{dataset.config['path']} (your pictures)")
    if dataset.path.exists():
        try:
            made = read_json(dataset.path, DESCRIPTION)
        except ImclError as error:
            row["missing"] = str(error)
        else:
            row |= {"state": "prepared"} | {key: made[key] for key in KNOWN}
    elif absent:
        by_hand = any(archive.behind_login for archive in SOURCES[row["source"]])
        remedy = "place" if by_hand or "path" in dataset.config else f"`imcl fetch {dataset.name}`:"
        row["missing"] = f"{remedy} {', '.join(absent)}"
    else:
        row |= {"state": "fetched", "missing": f"`imcl prepare {dataset.name}`"}
    return row


def _decimals(values: list[float] | None) -> str:
    return " ".join(f"{value:.4f}" for value in values or [])
