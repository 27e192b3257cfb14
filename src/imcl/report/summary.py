"""Gathers the records of a study into one summary: every figure that the report shows.

The records are those of the planned cells, never a glob: what was removed from params.yaml stays
on disk and out of the tables.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from imcl import grid, stats
from imcl.errors import ImclError
from imcl.files import read_json, sha256, write_json, write_text
from imcl.report import CURVES, METRICS, SUMMARY, ablation, claims, records

SIGNIFICANCE = 0.05
LEAST_SEEDS = 3  # to call a difference significant

# What cells are compared with, and the least views of each image that such a cell sees.
REFERENCES = {"base": 1, "control": 2}


def write(params: dict, partial: bool = False, folder: Path = grid.RECORDS) -> dict:
    """Write the summary, metrics/ (for `dvc metrics`) and curves.csv (for `dvc plots`).

    The summary of another study is deleted, since tables and figures show one study.

    Args:
        params: checked parameters.
        partial: leave out cells without a record instead of refusing.
        folder: where the records are; if it is not `grid.RECORDS`, where they are made, claims and
            the search for the settings are read from committed records alone.

    Raises:
        ImclError: a record is missing, damaged, or of other data than the others.
    """
    cells = grid.cells(params)
    paths = {cell.name: folder / cell.record.name for cell in cells}
    found = records.read_all(cells, paths, partial)
    summary = summarise(params, cells, found, paths, folder == grid.RECORDS)
    for made in (SUMMARY, METRICS):
        made.mkdir(parents=True, exist_ok=True)
        for old in made.iterdir():
            old.unlink()
    for row in summary["cells"]:
        write_json(METRICS / f"{row['cell']}.json", _headline(row))
    write_text(CURVES, _curves(found))
    write_json(path(params, folder), summary)
    return summary


def path(params: dict, folder: Path = grid.RECORDS) -> Path:
    """Where the chosen study's summary goes: another place for records from another folder."""
    origin = "" if folder == grid.RECORDS else "-committed"
    return SUMMARY / f"{params['study']}-{grid.study_digest(grid.cells(params))}{origin}.json"


def current(params: dict, here: bool = True) -> dict:
    """The summary of the chosen study as its records are now.

    Args:
        params: checked parameters.
        here: a record made here goes before the committed one; else committed ones alone.

    Raises:
        ImclError: the study has no records.
    """
    cells = grid.cells(params)
    study = params["study"]
    folder = grid.RECORDS if here else records.committed(study)
    paths = {c.name: records.find(c, study, here) or folder / c.record.name for c in cells}
    found = records.read_all(cells, paths, partial=True)
    if not found:
        missing = f"study {study!r} has no records in"
        if not here:
            raise ImclError(f"{missing} {records.committed(study)}")
        raise ImclError(
            f"{missing} {grid.RECORDS} or {records.committed(study)}; run "
            f"`snakemake --cores all --config study={study}`"
        )
    return summarise(params, cells, found, paths, here)


def read() -> dict:
    """The summary that was written last.

    Raises:
        ImclError: there is none, or it is damaged.
    """
    found = sorted(SUMMARY.glob("*.json"))
    if not found:
        raise ImclError(f"{SUMMARY}: no summary is there; run `imcl summary` first")
    needed = (
        *("study", "axes", "cells", "comparisons", "data", "datasets", "noise", "noises"),
        *("ways_by_noise", "trials", "training"),
        *("ablation", "chosen", "claims"),
    )
    return read_json(found[-1], needed)


def summarise(
    params: dict,
    cells: Sequence[grid.Cell],
    found: dict[str, dict],
    paths: dict[str, Path],
    here: bool = True,
) -> dict:
    """The summary of a study.

    Args:
        params: checked parameters.
        cells: all that the study plans.
        found: the records, by cell name.
        paths: their files, by cell name.
        here: for claims and the search for the settings, a record made here goes before the
            committed one.
    """
    rows = [_row(cell, found[cell.name], paths[cell.name]) for cell in cells if cell.name in found]
    for reference, least in REFERENCES.items():
        _compare([row for row in rows if row["views"] >= least], reference)
    trials = {c.method: params["trials"][c.method] for c in cells if c.method in params["trials"]}
    ways: dict[str, dict] = {way: {} for way in params["ways"]}
    for cell in cells:
        for way, options in cell.config["ways"].items() if cell.method not in trials else ():
            ways[way][cell.config["noise"]["name"]] = options
    plan = params["studies"][params["study"]]
    axes = {key: plan[key] for key in ("datasets", "noise", "backbones", "methods", "seeds")}
    data = {record["dataset"]["name"]: record["dataset"] for record in found.values()}
    for axis in ("datasets", "noise", "backbones", "methods"):  # what has records, in its order
        there = {row[axis.removesuffix("s")] for row in rows}
        axes[axis] = [name for name in axes[axis] if name in there]
    return {
        "study": params["study"],
        "digest": grid.study_digest(cells),
        "planned": len(cells),
        "axes": axes,
        "width": plan["width"],
        "training": {**params["training"], **plan.get("training", {})},
        "ways_by_noise": {way: by_noise for way, by_noise in ways.items() if by_noise},
        "trials": trials,
        "peers": {c.peer: params["peers"][c.peer] for c in cells if c.peer},
        "code": _distinct(record["code"] for record in found.values()),
        "environment": _distinct(record["environment"] for record in found.values()),
        "datasets": {c.dataset.name: c.dataset.config for c in cells if c.name in found},
        "noises": {c.noise.name: c.noise.config for c in cells if c.noise and c.name in found},
        "data": data,
        "noise": {
            f"{cell.dataset.name} {cell.noise.name}": {
                **cell.noise.config,
                **found[cell.name]["noise"],
            }
            for cell in cells
            if cell.noise and cell.name in found
        },
        "cells": rows,
        "comparisons": _comparisons(cells, rows),
        "aggregate": _aggregate(rows, plan["noise"]),
        "ablation": ablation.gather(params, here),
        "chosen": ablation.chosen(params, plan, ways),
        "claims": claims.judge(params, here),
    }


def _row(cell: grid.Cell, record: dict, path: Path) -> dict:
    """Values by seed and their estimates, for each metric."""
    runs = record["runs"]
    values = {metric: [run["final"][metric] for run in runs] for metric in runs[0]["final"]}
    values["error"] = [1 - run["final"]["accuracy"] for run in runs]
    values["oracle_accuracy"] = [run["oracle"]["accuracy"] for run in runs]
    values["lost_since_best"] = [
        run["oracle"]["accuracy"] - run["final"]["accuracy"] for run in runs
    ]
    values["train_accuracy"] = [run["history"][-1]["train_accuracy"] for run in runs]
    return {
        "cell": cell.name,
        "key": cell.key,
        "digest": cell.digest,
        "record": {"path": str(path), "sha256": sha256(path)},
        "commit": record["code"]["commit"],
        "dataset": cell.dataset.name,
        "noise": cell.config["noise"]["name"],
        "backbone": cell.backbone,
        "method": cell.method,
        "realised_rate": record["noise"]["realised_rate"],
        "parameters": runs[0]["parameters"],
        "training_parameters": runs[0]["training_parameters"],
        "views": cell.config["views"],
        "machine": record["environment"]["device_name"],
        "training_seconds": sum(c["training_seconds"] for c in record["cost"]) / len(runs),
        "peak_memory_bytes": record["cost"][0]["peak_memory_bytes"],
        "values": values,
        "estimates": {metric: stats.estimate(v)._asdict() for metric, v in values.items()},
        "history": _mean_history(runs),
    }


def _compare(rows: list[dict], reference: str) -> None:
    """Add to each row its accuracy difference to `reference`, paired by seed.

    The p-values, of the paired t-test and of the permutation test, are Holm-corrected over the
    comparisons of a dataset: those of one table. With fewer than three seeds nothing is called
    significant.
    """
    references = {_setting(row): row for row in rows if row["method"] == reference}
    families: dict[str, list[dict]] = {}
    for row in rows:
        other = references.get(_setting(row))
        if other is None or row is other:
            continue
        mine, theirs = row["values"]["accuracy"], other["values"]["accuracy"]
        differences = [a - b for a, b in zip(mine, theirs, strict=True)]
        entry = {
            **stats.estimate(differences)._asdict(),
            "values": differences,
            "with": other["key"],
            "p": stats.paired_p(mine, theirs),
            "permutation_p": stats.permutation_p(mine, theirs),
        }
        row[f"difference_to_{reference}"] = entry
        families.setdefault(row["dataset"], []).append(entry)
    for family in families.values():
        for test in ("p", "permutation_p"):
            corrected = stats.holm([entry[test] for entry in family])
            for entry, p in zip(family, corrected, strict=True):
                entry[f"{test}_holm"] = p
        for entry in family:
            p = entry["p_holm"]
            entry["significant"] = entry["n"] >= LEAST_SEEDS and p is not None and p < SIGNIFICANCE


def _comparisons(cells: Sequence[grid.Cell], rows: list[dict]) -> dict[str, dict]:
    """Of each dataset and reference how many comparisons are planned, made, and have a p-value."""
    counts: dict[str, dict] = {}
    for dataset in dict.fromkeys(cell.dataset.name for cell in cells):
        for reference, least in REFERENCES.items():
            mine = [c for c in cells if c.dataset.name == dataset and c.config["views"] >= least]
            beside = sum(cell.method == reference for cell in mine)
            key = f"difference_to_{reference}"
            made = [row[key] for row in rows if row["dataset"] == dataset and key in row]
            counts.setdefault(dataset, {})[reference] = {
                "planned": len(mine) - beside if beside else 0,
                "made": len(made),
                "tested": sum(entry["p"] is not None for entry in made),
            }
    return counts


def _aggregate(rows: list[dict], noises: list[str]) -> list[dict]:
    """Of each method its differences to base over datasets and backbones, by noise and over all."""
    made = []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [r for r in rows if r["method"] == method and "difference_to_base" in r]
        for noise in [*noises, "all"]:
            chosen = [row for row in mine if noise in (row["noise"], "all")]
            if chosen:
                settings = [row["difference_to_base"]["values"] for row in chosen]
                made.append(
                    {
                        "method": method,
                        "noise": noise,
                        "settings": sorted("/".join(_setting(row)) for row in chosen),
                        **stats.interquartile_mean(settings)._asdict(),
                        "cells": [
                            *(row["key"] for row in chosen),
                            *(row["difference_to_base"]["with"] for row in chosen),
                        ],
                    }
                )
    return made


def _setting(row: dict) -> tuple:
    return row["dataset"], row["noise"], row["backbone"]


def _distinct(values: Iterable[dict]) -> list[dict]:
    """The values in order, each once."""
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())


def _mean_history(runs: list[dict]) -> list[dict]:
    """Epoch by epoch, means over the seeds; an estimate of accuracy where it was evaluated."""
    history = []
    for entries in zip(*(run["history"] for run in runs), strict=True):
        point = {"epoch": entries[0]["epoch"]}
        point["train_accuracy"] = sum(e["train_accuracy"] for e in entries) / len(entries)
        if "evaluation" in entries[0]:
            values = [e["evaluation"]["accuracy"] for e in entries]
            point["accuracy"] = stats.estimate(values)._asdict()
        history.append(point)
    return history


def _headline(row: dict) -> dict:
    """What `dvc metrics` shows of a cell: accuracy in percent, the difference in points."""
    estimates = row["estimates"]
    shown = {"accuracy": round(100 * estimates["accuracy"]["mean"], 3)}
    if "difference_to_base" in row:
        shown["difference"] = round(100 * row["difference_to_base"]["mean"], 3)
    return shown | {name: round(estimates[name]["mean"], 4) for name in ("nll", "ece")}


def _curves(found: dict[str, dict]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["dataset", "noise", "backbone", "method", "epoch", "train_accuracy", "accuracy"]
    )
    for record in found.values():
        config = record["config"]
        names = [config["dataset"]["name"], config["noise"]["name"], config["backbone"]["name"]]
        for point in _mean_history(record["runs"]):
            if "accuracy" in point:
                shares = [point["train_accuracy"], point["accuracy"]["mean"]]
                writer.writerow([*names, config["method"], point["epoch"], *shares])
    return text.getvalue()
