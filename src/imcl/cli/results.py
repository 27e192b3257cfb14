"""`imcl summary | claims | tables | figures | paper | report | trace`: from records to
documents."""

import argparse
import json
from pathlib import Path

from imcl.cli.commands import (
    Commands,
    Parents,
    command,
    settings,
    with_committed,
    with_json,
    with_study,
)
from imcl.errors import printable


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the commands."""
    summary = "Gather a study's records into one file."
    gather = command(commands, parents, "summary", _summary, summary)
    with_study(gather)
    with_committed(gather)
    gather.add_argument("--partial", action="store_true", help="leave out cells without a record")

    claims = command(commands, parents, "claims", _claims, "Judge the claims from all records.")
    with_committed(claims)
    with_json(claims)
    claims.add_argument(
        "--save", action="store_true", help="write results/claims.json instead of printing"
    )
    claims.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="put the table between `<!-- claims -->` and `<!-- /claims -->` in this file",
    )

    summary = "Write the tables of the summarised study, and print the accuracy tables."
    tables = command(commands, parents, "tables", _tables, summary)
    tables.add_argument("--all", action="store_true", help="print all tables")
    command(commands, parents, "figures", _figures, "Draw the figures of the summarised study.")
    command(commands, parents, "paper", _paper, "Typeset the paper from tables and figures.")
    summary = "Make the HTML report and the RO-Crate of the summarised study."
    command(commands, parents, "report", _report, summary)

    trace = command(
        commands, parents, "trace", _trace, "Show the records, seeds and code behind a number."
    )
    trace.add_argument(
        "place", metavar="TABLE:ROW:COLUMN", help="or FIGURE:ROW:COLUMN, or text:NAME:value"
    )
    with_study(trace)
    with_committed(trace)
    with_json(trace, "a JSON object")


def _summary(arguments: argparse.Namespace) -> None:
    from imcl.analysis import summary
    from imcl.study import grid

    project, loaded = arguments.project, settings(arguments)
    made = summary.write(project, loaded, arguments.committed, arguments.partial)
    path = project.summary(grid.study_key(loaded), arguments.committed)
    count = f"{len(made['cells'])} of {made['planned']} cells"
    print(f"{path}: {count} of study {made['study']}")


def _claims(arguments: argparse.Namespace) -> None:
    from imcl.analysis import claims

    project, loaded = arguments.project, settings(arguments)
    if arguments.save:
        print(claims.write(project, loaded, arguments.committed))
        return
    judged = claims.judge(project, loaded, arguments.committed)
    if arguments.json:
        print(json.dumps(judged, indent=1))
        return
    from imcl.present import claims as shown
    from imcl.present import render

    if arguments.write:
        render.insert(arguments.write, "claims", shown.table(judged))
        print(arguments.write)
    else:
        shown.show(judged)


def _tables(arguments: argparse.Namespace) -> None:
    from imcl.present import render, tables
    from imcl.present.documents import Documents

    for table in tables.write(arguments.project, Documents.read(arguments.project)):
        if arguments.all or table.name.startswith("accuracy"):
            print(*map(printable, render.markdown(table).split("\n")), sep="\n")


def _figures(arguments: argparse.Namespace) -> None:
    from imcl.present import figures
    from imcl.present.documents import Documents

    for path in figures.write(arguments.project, Documents.read(arguments.project)):
        print(path)


def _paper(arguments: argparse.Namespace) -> None:
    from imcl.present import pdf

    print(pdf.write(arguments.project))


def _report(arguments: argparse.Namespace) -> None:
    from imcl.present import crate, html
    from imcl.present.documents import Documents

    project = arguments.project
    documents = Documents.read(project)
    page = html.write(project, documents)
    print(page)
    print(crate.write(project, documents, [page, project.build / "paper.pdf"]))


def _trace(arguments: argparse.Namespace) -> None:
    from imcl.present import trace
    from imcl.present.documents import Documents

    project = arguments.project
    documents = Documents.compute(project, settings(arguments), arguments.committed)
    traced = trace.trace(project, documents, arguments.place)
    if arguments.json:
        print(json.dumps(traced, indent=1))
    else:
        trace.show(traced)
