"""All tables of a study, and the LaTeX files that show them.

Figures and text take their numbers from these tables too.
"""

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
from imcl.present.by_method import Part, all_parts, split
from imcl.present.documents import Documents
from imcl.present.names import of as named
from imcl.present.render import Table, markdown
from imcl.project import Project


def build(documents: Documents) -> list[Table]:
    """Every table, those of each dataset first."""
    summary = documents.summary
    found = [table for part in all_parts(summary) for table in of_part(documents, part)]
    if summary["aggregate"]:
        found += differences.aggregate(summary)
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
        *([differences.effects(summary, part)] if "base" in references else []),
        *(differences.table(summary, part, reference) for reference in references),
        *([gain] if gain else []),
        cells.oracle(summary, part),
        cells.calibration(summary, part),
        cells.redundancy(summary, part),
        cells.cost(summary, part),
        *drawn.tables(summary, part),
    ]


def _shown(documents: Documents, part: Part, single: bool) -> dict[str, Any]:
    """What the paper shows of a part; if it is the only one, its main tables are apart."""
    tables = of_part(documents, part)
    built = {table.name: table for table in tables if table.shown and any(table.groups)}
    main = [f"{kind}-{part.name}" for kind in ("effects", "gain")]
    main = [name for name in main if name in built] or [f"accuracy-{part.name}"]
    both = len(part.axes["noise"]) <= differences.MOST_BOTH and f"effects-{part.name}" in built
    left = [name for name in built if not (both and name == f"accuracy-{part.name}")]
    return {
        "name": part.name,
        "dataset": part.dataset,
        "title": part.title,
        "split": split(documents.summary, part.dataset),
        "noise": part.axes["noise"],
        "compared": f"difference-to-base-{part.name}" in built,
        "gain": f"gain-{part.name}" in built,
        "main": main if single else [],
        "tables": [name for name in left if not (single and name in main)],
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
    summary = documents.summary
    of_parts = all_parts(summary)
    parts = [_shown(documents, part, len(of_parts) == 1) for part in of_parts]
    single = parts[0] if len(parts) == 1 else None
    aggregates = sorted(name for name in names if name.startswith("aggregate"))
    # A wide one has several parts, which are in the appendix.
    floating = {
        "claims",
        *(single["main"] if single else aggregates if len(aggregates) == 1 else ()),
    }
    found = text.findings(documents)
    environment = latex.environment(project.templates, folder)
    template = environment.get_template("table.tex.j2")
    for table in shown:
        made = template.render(table=table, floating=table.name in floating)
        write_text(folder / f"{table.name}.tex", made)
        write_text(folder / f"{table.name}.md", markdown(table))
    values = {
        "summary": summary,
        "claims": text.judged(documents),
        "findings": found,
        "advice": text.advice(found),
        "gaps": text.untrained(summary),
        "tables": {table.name: table for table in built},
        "measured": measurements.tables(documents.measurements),
        "said": {row: entry["value"].text for row, entry in text.table(documents).rows().items()},
        "parts": parts,
        "single": single,
        "aggregates": aggregates,
        "names": named(summary),
        "options_differ": inputs.options_differ(summary),
    }
    for path in project.texts:
        write_text(path, environment.get_template(f"{path.name}.j2").render(values))
    return shown
