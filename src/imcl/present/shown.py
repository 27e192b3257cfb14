"""Prints tables and claims: on the terminal, or whole into a file or a pipe."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imcl import terminal
from imcl.analysis.claims import JudgedClaim, JudgedReading, Verdict, describe
from imcl.errors import printable
from imcl.present import names
from imcl.present.render import MISSING, Table, markdown, number

if TYPE_CHECKING:
    pass

COLOURS: dict[Verdict, str] = {
    "reproduced": "green",
    "partly": "yellow",
    "not reproduced": "red",
    "not tested": "dim",
}


def table(table: Table) -> None:
    """Print a table with its caption and an empty line below; into a pipe, as Markdown."""
    if terminal.width(sys.stdout) is None:
        print(*map(printable, markdown(table).split("\n")), sep="\n")
        return
    from rich.text import Text

    rows = [
        [Text(printable(entry.text), "bold" if entry.bold else "") for entry in row]
        for group in table.groups
        for row in group
    ]
    terminal.table(table.header, rows, right=table.header[table.labels :])
    terminal.tell(f"\n{printable(table.caption)}\n")


def claims(judged: Sequence[JudgedClaim], verbose: bool = False) -> None:
    """Print the claims as a table; `verbose`: with each of their readings, in lines."""
    if verbose:
        _show_readings(judged)
        return
    from rich.text import Text

    rows: list[list[str | Text]] = []
    for claim in judged:
        readings = claim["readings"]
        told = next((r for r in readings if r["verdict"] != "not tested"), readings[0])
        tested = f"{told['comparisons_tested']} of {told['comparisons_planned']}"
        rows.append(
            [
                printable(claim["says"]),
                Text(claim["verdict"], COLOURS[claim["verdict"]]),
                _effect(told),
                tested + (", reduced" if claim["size"] == "reduced" else ""),
            ]
        )
    header = ["claim", "verdict", "effect", "tested"]
    terminal.table(header, rows, whole=["verdict", "effect"])
    terminal.tell(
        "\nEffect: how much lower the error or higher the accuracy is, with a 95 % interval, or "
        "the ratio of costs; in the first reading that was tested. Tested: comparisons of those "
        "planned; reduced: with narrower networks or fewer images. "
        "`imcl claims -v` shows every reading, and what is missing."
    )


def _effect(reading: JudgedReading) -> str:
    """The effect of a reading with its unit; a dash if nothing was tested."""
    effect, chosen = reading["effect"], reading["reading"]
    if effect is None:
        return MISSING
    if "low" in effect:
        what = names.COSTS[chosen.get("measure", "training_parameters")]
        return f"{number(effect['mean'], (), '', digits=2).text} × {what}"
    unit = "%" if chosen.get("unit") == "relative" else "points"
    return f"{number(effect, (), '', digits=2).text} {unit}"


def _show_readings(judged: Sequence[JudgedClaim]) -> None:
    for claim in judged:
        size = " at reduced size" if claim["size"] == "reduced" else ""
        terminal.tell(f"{claim['claim']}: {claim['verdict']}{size}. {printable(claim['says'])}")
        for reading in claim["readings"]:
            choice = describe(reading["reading"])
            line = (
                f"  {choice + ': ' if choice else ''}{reading['verdict']}, "
                f"{reading['comparisons_holding']} of {reading['comparisons_tested']} tested hold, "
                f"{reading['comparisons_planned']} planned"
            )
            effect = reading["effect"]
            if effect:
                line += f", effect {number(effect, (), '', digits=2).text} (n = {effect['n']})"
            terminal.tell(line)
        for missing in claim["missing"]:
            terminal.tell(f"  missing: {printable(missing)}")
