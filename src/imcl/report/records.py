"""Where the records of a study lie, and their reading."""

from collections.abc import Sequence
from pathlib import Path

from imcl import grid
from imcl.data.prepare import DESCRIPTION
from imcl.errors import ImclError
from imcl.files import read_json

COMMITTED = Path("paper/results")  # STUDY/records: of finished studies, in git

FIELDS = ("cell", "digest", "config", "dataset", "noise", "code", "environment", "runs", "cost")


def committed(study: str) -> Path:
    """The folder of a study's committed records."""
    return COMMITTED / study / "records"


def find(cell: grid.Cell, study: str, here: bool = True) -> Path | None:
    """The record of a cell: the one made here if `here`, else the committed one, else None."""
    if here and cell.record.exists():
        return cell.record
    path = committed(study) / cell.record.name
    return path if path.exists() else None


def read(cell: grid.Cell, path: Path) -> dict:
    """The record of a cell.

    Raises:
        ImclError: it is damaged, or of another configuration.
    """
    record = read_json(path, FIELDS)
    if not record["digest"] == cell.digest == grid.digest(record["config"]):
        raise ImclError(f"{path}: damaged or changed by hand; delete it and run again")
    return record


def read_all(
    cells: Sequence[grid.Cell], paths: dict[str, Path], partial: bool = False
) -> dict[str, dict]:
    """The records of the cells by name.

    Args:
        cells: whose records are wanted.
        paths: where the record of each cell is, or would be, by the cell's name.
        partial: leave out cells without a record instead of refusing.

    Raises:
        ImclError: a record is missing, damaged, or of other data than the others.
    """
    missing = [cell.name for cell in cells if not paths[cell.name].exists()]
    if missing and not partial:
        raise ImclError(
            f"{len(missing)} of {len(cells)} cells have no record yet ({missing[0]}, ...); run "
            "`snakemake --cores all`, or add --partial to go on without them"
        )
    records: dict[str, dict] = {}
    hashes: dict[tuple, tuple] = {}
    for dataset in {cell.dataset.name: cell.dataset for cell in cells}.values():
        if dataset.path.exists():  # or the records came without their data
            prepared = read_json(dataset.path, DESCRIPTION)["sha256"]
            hashes["dataset", dataset.name] = dataset.path, prepared
    for cell in cells:
        if cell.name in missing:
            continue
        path = paths[cell.name]
        record = read(cell, path)
        for what, value in (
            (("dataset", cell.dataset.name), record["dataset"]["sha256"]),
            (("noise", cell.dataset.name, cell.config["noise"]["name"]), record["noise"]["sha256"]),
        ):
            first, seen = hashes.setdefault(what, (path, value))
            if seen != value:
                raise ImclError(
                    f"{path} and {first} are of different data "
                    f"({' '.join(what)}); delete the one that is out of date"
                )
        records[cell.name] = record
    return records
