"""Gathers the records of a study into one summary: every figure that the report shows.

The records are those of the planned cells, never a glob: what was removed from params.yaml stays
on disk and out of the tables.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from imcl import grid, methods, stats
from imcl.data.prepare import DESCRIPTION
from imcl.errors import ImclError
from imcl.files import read_json, write_json, write_text
from imcl.report import CURVES, METRICS, SUMMARY

SIGNIFICANCE = 0.05
LEAST_SEEDS = 3  # to call a difference significant
RECORD = ("cell", "digest", "config", "dataset", "noise", "code", "environment", "runs", "cost")


def write(params: dict, partial: bool = False) -> dict:
    """Write the summary, metrics/ (for `dvc metrics`) and curves.csv (for `dvc plots`).

    The summary of another study is deleted, since tables and figures show one study.

    Args:
        params: checked parameters.
        partial: leave out cells without a record instead of refusing.

    Raises:
        ImclError: a record is missing, damaged, or of other data than the others.
    """
    cells = grid.cells(params)
    records = _read(cells, partial)
    summary = summarise(params, cells, records)
    for folder in (SUMMARY, METRICS):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
    for row in summary["cells"]:
        write_json(METRICS / f"{row['cell']}.json", _headline(row))
    write_text(CURVES, _curves(records))
    write_json(path(params), summary)
    return summary


def path(params: dict) -> Path:
    """Where the chosen study's summary goes."""
    return SUMMARY / f"{params['study']}-{grid.study_digest(grid.cells(params))}.json"


def read() -> dict:
    """The summary that was written last.

    Raises:
        ImclError: there is none, or it is damaged.
    """
    found = sorted(SUMMARY.glob("*.json"))
    if not found:
        raise ImclError(f"{SUMMARY}: no summary is there; run `imcl summary` first")
    needed = ("study", "axes", "cells", "data", "noise", "ways", "training")
    return read_json(found[-1], needed)


def summarise(params: dict, cells: Sequence[grid.Cell], records: dict[str, dict]) -> dict:
    """The summary of a study from the records by cell name."""
    rows = [_row(cell, records[cell.name]) for cell in cells if cell.name in records]
    _compare(rows, "base")
    _compare([row for row in rows if row["views"] > 1], "control")
    used = {way for cell in cells for way in methods.parse(cell.method).ways}
    plan = params["studies"][params["study"]]
    return {
        "study": params["study"],
        "digest": grid.study_digest(cells),
        "planned": len(cells),
        "axes": {key: plan[key] for key in ("datasets", "noise", "backbones", "methods", "seeds")},
        "width": plan["width"],
        "training": cells[0].config["training"],
        "ways": {way: _way_options(cells, way) for way in params["ways"] if way in used},
        "peers": {c.peer: params["peers"][c.peer] for c in cells if c.peer},
        "code": _distinct(record["code"] for record in records.values()),
        "environment": _distinct(record["environment"] for record in records.values()),
        "data": {r["dataset"]["name"]: r["dataset"] for r in records.values()},
        "noise": {
            f"{cell.dataset.name} {cell.noise.name}": {
                **cell.noise.config,
                **records[cell.name]["noise"],
            }
            for cell in cells
            if cell.noise and cell.name in records
        },
        "cells": rows,
    }


def _read(cells: Sequence[grid.Cell], partial: bool) -> dict[str, dict]:
    missing = [cell.name for cell in cells if not cell.record.exists()]
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
        record = _read_record(cell)
        for what, value in (
            (("dataset", cell.dataset.name), record["dataset"]["sha256"]),
            (("noise", cell.dataset.name, cell.config["noise"]["name"]), record["noise"]["sha256"]),
        ):
            first, seen = hashes.setdefault(what, (cell.record, value))
            if seen != value:
                raise ImclError(
                    f"{cell.record} and {first} are of different data "
                    f"({' '.join(what)}); delete the one that is out of date"
                )
        records[cell.name] = record
    return records


def _read_record(cell: grid.Cell) -> dict:
    record = read_json(cell.record, RECORD)
    if not record["digest"] == cell.digest == grid.digest(record["config"]):
        raise ImclError(f"{cell.record}: damaged or changed by hand; delete it and run again")
    return record


def _row(cell: grid.Cell, record: dict) -> dict:
    """Values by seed and their estimates, for each metric."""
    runs = record["runs"]
    values = {metric: [run["final"][metric] for run in runs] for metric in runs[0]["final"]}
    values["oracle_accuracy"] = [run["oracle"]["accuracy"] for run in runs]
    return {
        "cell": cell.name,
        "digest": cell.digest,
        "dataset": cell.dataset.name,
        "noise": cell.config["noise"]["name"],
        "backbone": cell.backbone,
        "method": cell.method,
        "realised_rate": record["noise"]["realised_rate"],
        "parameters": runs[0]["parameters"],
        "training_parameters": runs[0]["training_parameters"],
        "views": cell.config["views"],
        "training_seconds": sum(c["training_seconds"] for c in record["cost"]) / len(runs),
        "peak_memory_bytes": record["cost"][0]["peak_memory_bytes"],
        "values": values,
        "estimates": {metric: stats.estimate(v)._asdict() for metric, v in values.items()},
        "history": _mean_history(runs),
    }


def _compare(rows: list[dict], reference: str) -> None:
    """Add to each row its accuracy difference to `reference`, paired by seed.

    The p-values are Holm-corrected over the comparisons of a dataset: those of one table. With
    fewer than three seeds nothing is called significant.
    """
    references = {_setting(row): row for row in rows if row["method"] == reference}
    families: dict[str, list[dict]] = {}
    for row in rows:
        other = references.get(_setting(row))
        if other is None or row is other:
            continue
        mine, theirs = row["values"]["accuracy"], other["values"]["accuracy"]
        difference = stats.estimate([a - b for a, b in zip(mine, theirs, strict=True)])
        entry = {**difference._asdict(), "p": stats.paired_p(mine, theirs)}
        row[f"difference_to_{reference}"] = entry
        families.setdefault(row["dataset"], []).append(entry)
    for family in families.values():
        for entry, p in zip(family, stats.holm([entry["p"] for entry in family]), strict=True):
            entry["p_holm"] = p
            enough = entry["n"] >= LEAST_SEEDS
            entry["significant"] = enough and p is not None and p < SIGNIFICANCE


def _setting(row: dict) -> tuple:
    return row["dataset"], row["noise"], row["backbone"]


def _distinct(values: Iterable[dict]) -> list[dict]:
    """The values in order, each once."""
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())


def _way_options(cells: Sequence[grid.Cell], way: str) -> dict:
    return next(c.config["ways"][way] for c in cells if way in c.config["ways"])


def _mean_history(runs: list[dict]) -> list[dict]:
    """Epoch by epoch, means over the seeds; accuracy where it was evaluated."""
    history = []
    for entries in zip(*(run["history"] for run in runs), strict=True):
        point = {"epoch": entries[0]["epoch"]}
        point["train_accuracy"] = sum(e["train_accuracy"] for e in entries) / len(entries)
        if "evaluation" in entries[0]:
            point["accuracy"] = sum(e["evaluation"]["accuracy"] for e in entries) / len(entries)
        history.append(point)
    return history


def _headline(row: dict) -> dict:
    """What `dvc metrics` shows of a cell: accuracy in percent, the difference in points."""
    estimates = row["estimates"]
    shown = {"accuracy": round(100 * estimates["accuracy"]["mean"], 3)}
    if "difference_to_base" in row:
        shown["difference"] = round(100 * row["difference_to_base"]["mean"], 3)
    return shown | {name: round(estimates[name]["mean"], 4) for name in ("nll", "ece")}


def _curves(records: dict[str, dict]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["dataset", "noise", "backbone", "method", "epoch", "train_accuracy", "accuracy"]
    )
    for record in records.values():
        config = record["config"]
        names = [config["dataset"]["name"], config["noise"]["name"], config["backbone"]["name"]]
        for point in _mean_history(record["runs"]):
            if "accuracy" in point:
                writer.writerow([*names, config["method"], *point.values()])
    return text.getvalue()
