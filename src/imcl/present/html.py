"""The HTML report: one file that needs no network."""

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2

from imcl.analysis.rows import Difference, SummaryRow, setting
from imcl.analysis.statistics import Estimate
from imcl.analysis.summary import Summary
from imcl.files import write_text
from imcl.present import answer, names, tables, words
from imcl.present.by_method import covered
from imcl.present.claims import MEANINGS
from imcl.present.documents import Documents
from imcl.present.render import Entry, isolated
from imcl.project import Project
from imcl.records.record import Environment, Record, Run, code_of, datasets, environment_of, noises
from imcl.records.store import Store
from imcl.study.options import WAYS

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("plot.js", "charts.js", "page.js")
POINTS = 100  # of a learning curve, at most
SHOWN = ("base", "control", *WAYS, "all")  # the methods that the charts show first
METRICS = (
    "accuracy",
    "nll",
    "ece",
    "channel_correlation",
    "kernel_cosine",
    "lost_since_best",
)


def write(project: Project, documents: Documents) -> Path:
    """Write paper/build/report.html.

    Raises:
        ImclError: a record that the summary names is damaged.
    """
    summary = documents.summary
    built = {table.name: table for table in tables.build(documents)}
    index = {row["key"]: str(number) for number, row in enumerate(summary["cells"])}
    rules: dict[str, int] = {}

    def behind(entry: Entry) -> str:
        """The cells behind an entry, as their numbers in the page's data."""
        return " ".join(index[source] for source in entry.sources if source in index)

    def rule(entry: Entry) -> int:
        """The number of an entry's rule in the page's data."""
        return rules.setdefault(entry.rule, len(rules))

    page = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page.filters["isolated"] = isolated
    style = page.get_template("style.css").render(colours=words.COLOURS)
    script = "".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    body = page.get_template("body.html.j2").render(
        summary=summary,
        lead=answer.lead(documents.claims),
        cards=answer.cards(documents.claims),
        verdicts=MEANINGS,
        said={name: row["value"] for name, row in built["text"].rows().items()},
        built=built,
        grids=[t for t in built.values() if t.shown and t.name not in ("claims", "readings")],
        behind=behind,
        rule=rule,
        covered=covered(summary, *summary["axes"]["datasets"]),
        shown=_names(summary),
        meanings=words.MEANINGS,
        places={word: f"word-{number}" for number, word in enumerate(words.MEANINGS)},
        looks=words.looks(summary["axes"]["methods"]),
    )
    text = page.get_template("page.html.j2").render(
        study=summary["study"],
        body=body,
        style=style,
        script=script,
        hash_of=_hash,
        data=_embedded(_data(project, documents) | {"rules": list(rules)}),
    )
    path = project.build / "report.html"
    write_text(path, text)
    return path


def _hash(text: str) -> str:
    """The hash by which a Content-Security-Policy allows a script or a style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(value: object) -> str:
    """JSON that is safe inside a <script>."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _names(summary: Summary) -> dict[str, dict[str, str]]:
    """What is shown for each name of the study."""
    shown = names.of(summary)
    return {
        "dataset": shown.datasets,
        "noise": shown.noise,
        "backbone": shown.backbones,
        "method": shown.methods,
    }


def _data(project: Project, documents: Documents) -> dict[str, Any]:
    """What the page's script draws and opens."""
    summary, store = documents.summary, Store(project)
    sources = {name: options["source"] for name, options in summary["datasets"].items()}
    return {
        "names": _names(summary),
        "looks": words.looks(summary["axes"]["methods"]),
        "start": _start(summary),
        "answer": [row._asdict() for row in answer.rows(documents.claims)],
        "classes": {
            name: words.CLASSES[source]
            for name, source in sources.items()
            if source in words.CLASSES
        },
        "environments": [
            {k: isolated(v) if isinstance(v, str) else v for k, v in environment.items()}
            for environment in summary["environment"]
        ],
        "cells": [
            _cell(row, store.open(project.root / row["record"]["path"]), summary["environment"])
            for row in summary["cells"]
        ],
        "noise": {
            name: [[round(100 * share, 2) for share in row] for row in noise["transition_matrix"]]
            for name, noise in summary["noise"].items()
            if "transition_matrix" in noise
        },
        "benches": [
            {"device": measurement["environment"]["device_name"], "rows": measurement["rows"]}
            for _, measurement in sorted(documents.measurements.items())
            if measurement["bench"] == "overhead"
        ],
    }


def _start(summary: Summary) -> dict[str, Any]:
    """What the charts show first: the setting with most methods, with the noisiest labels."""
    methods = Counter(setting(row) for row in summary["cells"])
    rates = {setting(row): row["realised_rate"] for row in summary["cells"]}
    dataset, noise, backbone = max(methods, key=lambda place: (methods[place], rates[place]))
    there = summary["axes"]["methods"]
    return {
        "dataset": dataset,
        "noise": noise,
        "backbone": backbone,
        "methods": [name for name in there if name in SHOWN] or there[: len(SHOWN)],
    }


def _cell(row: SummaryRow, record: Record, environments: list[Environment]) -> dict[str, Any]:
    """A cell with its runs. Accuracies of a run's curve are whole numbers, in units of 1/10,000."""
    runs = record["runs"]
    epochs = [epoch["epoch"] for epoch in runs[0]["history"] if "evaluation" in epoch]
    kept = epochs[:: -(-len(epochs) // POINTS)]
    kept += [] if kept[-1] == epochs[-1] else [epochs[-1]]
    points = [p["accuracy"] for p in row["history"] if p["epoch"] in set(kept) and "accuracy" in p]
    difference, cost = row.get("difference_to_base"), row.get("cost_to_base")
    cell = {
        "key": row["key"],
        "dataset": row["dataset"],
        "noise": row["noise"],
        "backbone": row["backbone"],
        "method": row["method"],
        "rate": row["realised_rate"],
        "cost": cost and {"time": cost["time"], "memory": cost["memory"]},
        "estimates": {name: _interval(row["estimates"][name]) for name in METRICS},
        "difference": difference and _interval(difference),
        "differences": difference and [difference["seeds"], difference["values"]],
        "significant": difference is not None and difference["significant"],
        "record": row["record"],
        "code": list({str(code): code for code in (code_of(record, r) for r in runs)}.values()),
        "data": {
            "dataset": ", ".join(data["sha256"] for data in datasets(record)),
            "noise": ", ".join(filter(None, (noise["sha256"] for noise in noises(record)))) or None,
        },
        "environments": sorted({environments.index(environment_of(record, r)) for r in runs}),
        "config": record["config"],
        "runs": [_run(run) for run in runs],
        "epochs": kept,
        "curves": [_curve(run, set(kept)) for run in runs],
        "mean": [round(point["mean"], 6) for point in points],
        "half": [half and round(half, 6) for half in (point["half_width"] for point in points)],
    }
    if "calibration" in row:
        cell["calibration"] = [
            [round(bin["confidence"], 4), round(bin["correct"], 4), bin["count"]]
            for bin in row["calibration"]
        ]
    if "confusion" in row:
        cell["confusion"] = row["confusion"]
    return cell


def _run(run: Run) -> dict[str, Any]:
    return {
        "seed": run["seed"],
        "accuracy": run["final"]["accuracy"],
        "nll": run["final"]["nll"],
        "ece": run["final"]["ece"],
        "channel_correlation": run["final"]["channel_correlation"],
        "kernel_cosine": run["final"]["kernel_cosine"],
        "oracle": run["oracle"]["accuracy"],
        "oracle_epoch": run["oracle"]["epoch"],
        "weights": run["weights_sha256"],
    }


def _curve(run: Run, kept: set[int]) -> list[int]:
    return [
        round(1e4 * epoch["evaluation"]["accuracy"])
        for epoch in run["history"]
        if epoch["epoch"] in kept and "evaluation" in epoch
    ]


def _interval(estimate: Estimate | Difference) -> list[float | None]:
    return [estimate["mean"], estimate["half_width"]]
