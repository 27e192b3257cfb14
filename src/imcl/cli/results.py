"""`imcl summary | claims | tables | figures | paper | report | trace`: from records to
documents."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from imcl import terminal
from imcl.cli.commands import (
    Commands,
    Parents,
    command,
    settings,
    with_committed,
    with_json,
    with_study,
)


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the commands."""
    summary = "Gather a study's records into one file."
    gather = command(
        commands, parents, "summary", _summary, summary, "summary --study cpu --partial"
    )
    with_study(gather)
    with_committed(gather)
    gather.add_argument("--partial", action="store_true", help="leave out cells without a record")

    claims = command(
        commands, parents, "claims", _claims, "Judge the claims from all records.", "claims -v"
    )
    claims.add_argument(
        "-v", "--verbose", action="store_true", help="print every reading, and what is missing"
    )
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
    claims.add_argument(
        "--brief", action="store_true", help="with --write: with less on how to read the table"
    )

    summary = "Write the tables of the summarised study, and print the accuracy tables."
    tables = command(commands, parents, "tables", _tables, summary, "tables --all")
    tables.add_argument("--all", action="store_true", help="print all tables")
    command(
        commands,
        parents,
        "figures",
        _figures,
        "Draw the figures of the summarised study.",
        "figures",
    )
    command(
        commands, parents, "paper", _paper, "Typeset the paper from tables and figures.", "paper"
    )
    summary = "Make the HTML report and the RO-Crate of the summarised study."
    command(commands, parents, "report", _report, summary, "report")

    trace = command(
        commands,
        parents,
        "trace",
        _trace,
        "Show the records, seeds and code behind a number.",
        "trace accuracy-digits:vgg16/all:clean",
    )
    trace.add_argument(
        "place", metavar="TABLE:ROW:COLUMN", help="or FIGURE:ROW:COLUMN, or text:NAME:value"
    )
    trace.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="print configuration, code, machine and hashes too",
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
    terminal.tell(f"{path}: {count} of study {made['study']}")


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
    if arguments.write:
        from imcl.present import claims as made
        from imcl.present import render

        table = made.table(judged)
        if arguments.brief:
            table = replace(table, rules=made.BRIEF)
        render.insert(arguments.write, "claims", table)
        print(arguments.write)
    else:
        from imcl.present import shown

        shown.claims(judged, arguments.verbose)


def _tables(arguments: argparse.Namespace) -> None:
    from imcl.present import shown, tables
    from imcl.present.documents import Documents

    for table in tables.write(arguments.project, Documents.read(arguments.project)):
        if arguments.all or table.name.startswith("accuracy"):
            shown.table(table)


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
        trace.show(traced, arguments.verbose)
