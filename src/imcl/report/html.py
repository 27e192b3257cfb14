"""The report: one HTML file that needs no network, made from a summary and its records."""

import json
from pathlib import Path

import jinja2
import vl_convert

from imcl import methods
from imcl.files import read_json, write_text
from imcl.report import BENCHES, BUILD, charts, tables
from imcl.report.render import Table
from imcl.ways import WAYS

PAGE = Path(__file__).parent / "page"
PATH = BUILD / "report.html"
POINTS = 100  # of a learning curve, at most
METRICS = ("accuracy", "nll", "ece", "channel_correlation", "kernel_cosine")


def write(summary: dict) -> Path:
    """Write paper/build/report.html.

    Raises:
        ImclError: a record that the summary names is damaged.
    """
    built = {table.name: table for table in tables.build(summary)}
    places = {row["key"]: str(place) for place, row in enumerate(summary["cells"])}
    found = [read_json(Path(row["record"]["path"]), ("runs",)) for row in summary["cells"]]
    page = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    text = page.get_template("page.html.j2").render(
        summary=summary,
        said={name: row["value"] for name, row in built["text"].rows().items()},
        built=built,
        grids=[t for t in built.values() if t.shown and t.name not in ("claims", "readings")],
        behind=lambda entry: " ".join(places[s] for s in entry.sources if s in places),
        files=lambda entry: [s for s in entry.sources if s not in places],
        values=_sortable(built["results"]),
        style=(PAGE / "style.css").read_text(encoding="utf-8"),
        script=(PAGE / "script.js").read_text(encoding="utf-8"),
        library=vl_convert.javascript_bundle(),
        data=_embedded(_data(summary, found)),
        charts=_embedded(charts.specifications()),
    )
    write_text(PATH, text)
    return PATH


def _embedded(value: object) -> str:
    """JSON that stands inside a <script>."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _sortable(table: Table) -> dict[str, list[float | None]]:
    """By row, the numbers that its entries are sorted by; None for a gap."""
    return {
        name: [e.value["mean"] if isinstance(e.value, dict) else e.value for e in row.values()]
        for name, row in table.rows().items()
    }


def _data(summary: dict, found: list[dict]) -> dict:
    """What the page draws and opens: a cell for each record, with its runs."""
    environments = summary["environment"]
    return {
        "study": summary["study"],
        "ways": list(WAYS),
        "combinations": {
            name: methods.parse(name).ways
            for name in methods.combined()[1:]
            if name in summary["axes"]["methods"]
        },
        "environments": environments,
        "cells": [
            _cell(row, record, environments)
            for row, record in zip(summary["cells"], found, strict=True)
        ],
        "noise": {
            name: [[round(100 * share, 2) for share in row] for row in noise["transition_matrix"]]
            for name, noise in summary["noise"].items()
            if "transition_matrix" in noise
        },
        "benches": [
            {"device": bench["environment"]["device_name"], "rows": bench["rows"]}
            for bench in map(read_json, sorted(BENCHES.glob("overhead-*.json")))
        ],
    }


def _cell(row: dict, record: dict, environments: list[dict]) -> dict:
    runs = record["runs"]
    epochs = [e["epoch"] for e in runs[0]["history"] if "evaluation" in e]
    kept = epochs[:: -(-len(epochs) // POINTS)]
    kept += [] if kept[-1] == epochs[-1] else [epochs[-1]]
    points = [p["accuracy"] for p in row["history"] if p["epoch"] in set(kept)]
    predictions = [run["predictions"] for run in runs if "predictions" in run]
    return {
        **{key: row[key] for key in ("cell", "key", "dataset", "noise", "backbone", "method")},
        "rate": row["realised_rate"],
        "machine": row["machine"],
        "seconds": row["training_seconds"],
        "bytes": row["peak_memory_bytes"],
        "estimates": {m: _estimate(row["estimates"][m]) for m in METRICS},
        "difference": _estimate(row["difference_to_base"]) if "difference_to_base" in row else None,
        "record": row["record"],
        "code": record["code"],
        "data": {key: record[key]["sha256"] for key in ("dataset", "noise")},
        "environment": environments.index(record["environment"]),
        "config": record["config"],
        "runs": [
            {
                "seed": run["seed"],
                **{m: run["final"][m] for m in METRICS},
                "oracle": run["oracle"]["accuracy"],
                "oracle_epoch": run["oracle"]["epoch"],
                "weights": run.get("weights_sha256", ""),
            }
            for run in runs
        ],
        "epochs": kept,
        # Accuracies in 1/10,000: of each seed, their mean, and the half-width of its interval.
        "curves": [_curve(run["history"], set(kept)) for run in runs],
        "mean": [round(1e4 * point["mean"]) for point in points],
        "half": [round(1e4 * (point["half_width"] or 0)) for point in points],
        **({"calibration": _bins(predictions)} if predictions else {}),
        **({"confusion": _confusion(predictions)} if _has_confusion(predictions) else {}),
    }


def _estimate(estimate: dict) -> list[float | None]:
    return [estimate["mean"], estimate["half_width"]]


def _curve(history: list[dict], kept: set[int]) -> list[int]:
    return [round(1e4 * e["evaluation"]["accuracy"]) for e in history if e["epoch"] in kept]


def _bins(predictions: list[dict]) -> list[list[float]]:
    """Of every bin with images: mean confidence, share of right ones (both %), and how many."""
    keys = ("count", "confidence", "correct")
    bins = len(predictions[0]["calibration"]["count"])
    sums = [
        [sum(p["calibration"][key][b] for p in predictions) for key in keys] for b in range(bins)
    ]
    return [
        [round(100 * confidence / count, 2), round(100 * correct / count, 2), count]
        for count, confidence, correct in sums
        if count
    ]


def _has_confusion(predictions: list[dict]) -> bool:
    return bool(predictions) and all("confusion" in p for p in predictions)


def _confusion(predictions: list[dict]) -> list[list[int]]:
    """Counts over all seeds."""
    matrices = [p["confusion"] for p in predictions]
    return [[sum(v) for v in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]
