"""All tables of a study, and the LaTeX files that show them.

Figures and text take their numbers from these tables too.
"""

from collections.abc import Iterator
from typing import Any

from imcl.analysis.rows import DIFFERENCES
from imcl.files import write_text
from imcl.present import (
    cells,
    claims,
    differences,
    drawn,
    gains,
    inputs,
    latex,
    measurements,
    search,
    text,
)
from imcl.present.by_method import Part, all_parts, covered, parts
from imcl.present.documents import Documents
from imcl.present.render import Table, markdown
from imcl.project import Project


def build(documents: Documents) -> list[Table]:
    """Every table, those of each dataset first."""
    summary = documents.summary
    found = [table for part in all_parts(summary) for table in of_part(documents, part)]
    if summary["aggregate"]:
        found.append(differences.aggregate(summary))
    if summary["search"]:
        found.append(search.table(summary["search"]))
    return [
        *found,
        *measurements.tables(documents.measurements),
        inputs.data(summary),
        inputs.settings(summary),
        claims.table(documents.claims),
        claims.readings_table(documents.claims),
        drawn.results(summary),
        text.table(documents),
    ]


def of_part(documents: Documents, part: Part) -> list[Table]:
    """The tables of a dataset, or of a part of it."""
    summary = documents.summary
    references = [reference for reference in DIFFERENCES if reference in part.axes["methods"]]
    gain = gains.table(summary, part)
    return [
        cells.accuracy(summary, part),
        *(differences.table(summary, part, reference) for reference in references),
        *([gain] if gain else []),
        cells.oracle(summary, part),
        cells.calibration(summary, part),
        cells.redundancy(summary, part),
        cells.cost(summary, part),
        *drawn.tables(summary, part),
    ]


def _shown(documents: Documents, dataset: str) -> Iterator[dict[str, Any]]:
    """What the paper shows of each part of a dataset."""
    for part in parts(documents.summary, dataset):
        there = part.axes["methods"]
        lines = drawn.lines(there)
        yield {
            "name": part.name,
            "title": part.title,
            "noise": part.axes["noise"],
            "compared": "base" in there,
            "tables": [table.name for table in of_part(documents, part) if table.shown],
            "combinations": drawn.combinations(there),
            "not_drawn": [name for name in there if name not in lines],
        }


def write(project: Project, documents: Documents) -> list[Table]:
    """Write each shown table as tables/NAME.tex and tables/NAME.md, and the text's .tex files.

    Tables of another study are deleted.

    Returns:
        The shown tables.
    """
    built = build(documents)
    shown = [table for table in built if table.shown]
    folder = project.build / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    names = {table.name for table in shown}
    for old in folder.iterdir():
        if old.stem not in names:
            old.unlink()
    environment = latex.environment(project.templates, folder)
    template = environment.get_template("table.tex.j2")
    for table in shown:
        write_text(folder / f"{table.name}.tex", template.render(table=table))
        write_text(folder / f"{table.name}.md", markdown(table))
    summary = documents.summary
    values = {
        "summary": summary,
        "cells": {row["key"]: row for row in summary["cells"]},
        "claims": documents.claims,
        "tables": {table.name: table for table in built},
        "measured": measurements.tables(documents.measurements),
        "said": {row: entry["value"].text for row, entry in text.table(documents).rows().items()},
        "parts": {
            dataset: [*_shown(documents, dataset)] for dataset in summary["axes"]["datasets"]
        },
        "options_differ": inputs.options_differ(summary),
        "covered": {name: covered(summary, name) for name in summary["axes"]["datasets"]},
    }
    for name in ("numbers", "results", "discussion"):
        rendered = environment.get_template(f"{name}.tex.j2").render(values)
        write_text(project.build / f"{name}.tex", rendered)
    return shown
