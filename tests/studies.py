"""A small study with records by hand, for tests of its tables, figures and texts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from handmade import ROOT, empty_project, parameters, record, write

from imcl.files import write_json
from imcl.present import tables
from imcl.present.documents import Documents
from imcl.present.render import Table
from imcl.project import Project
from imcl.records.record import Record
from imcl.records.seal import sealed
from imcl.study import grid
from imcl.study.grid import Cell
from imcl.study.load import checked
from imcl.study.settings import Settings

# Accuracy by seed. kernel: +1, +2, +3 points, t = 3.46, p = 0.074; output: +10, +11, +10 points,
# t = 31, p = 0.001, and the best.
ACCURACY = {"base": [0.80, 0.82, 0.84], "kernel": [0.81, 0.84, 0.87], "output": [0.90, 0.93, 0.94]}


@dataclass
class Study:
    """A study of three methods in an empty project.

    A test changes `raw`, which is params.yaml, and then writes records.
    """

    project: Project
    raw: dict[str, Any]

    @classmethod
    def make(cls, folder: Path) -> "Study":
        study = cls(empty_project(folder), parameters())
        study.plan |= {
            "noise": ["clean"],
            "backbones": ["resnet18"],
            "methods": list(ACCURACY),
            "seeds": [1, 2, 3],
        }
        return study

    @property
    def plan(self) -> dict[str, Any]:
        return self.raw["studies"]["quick"]

    @plan.setter
    def plan(self, plan: dict[str, Any]) -> None:
        self.raw["studies"]["quick"] = plan

    @property
    def settings(self) -> Settings:
        return checked(self.raw, self.project.params)

    @property
    def cells(self) -> list[Cell]:
        return grid.cells(self.settings)

    def write(
        self,
        accuracy: Mapping[str, Sequence[float]] | Callable[[Cell], Sequence[float] | None],
        change: Callable[[Cell, Record], object] = lambda cell, record: None,
    ) -> None:
        """Write the records.

        Args:
            accuracy: by seed: by method, or of a cell; a cell for which it gives None has none.
            change: edits each record.
        """
        of = accuracy if callable(accuracy) else lambda cell: accuracy.get(cell.method)
        for cell in self.cells:
            values = of(cell)
            if values is not None:
                made = record(cell, list(values))
                change(cell, made)
                write(self.project, cell, made)

    def save(self) -> None:
        """Write params.yaml, for commands."""
        self.project.params.unlink()
        self.project.params.write_text(yaml.safe_dump(self.raw, sort_keys=False), encoding="utf-8")

    def documents(self, committed: bool = False) -> Documents:
        return Documents.compute(self.project, self.settings, committed)

    def tables(self) -> dict[str, Table]:
        """Every table by name."""
        return by_name(self.documents())

    def written(self, name: str) -> str:
        """Write all tables; return one of the files written to paper/build, on one line."""
        tables.write(self.project, self.documents())
        return " ".join((self.project.build / name).read_text(encoding="utf-8").split())


MARKUP = (
    "[x](http://a.b) ![y](z) *b* _e_ `c` </script><script>alert(1)</script> <!-- /claims --> &lt; "
    "a_b & 5 % of $5 and $x$ #1 ~~{~^}~~ \\frac\\ | -- `` <b>"
)
# With an override that nothing ends, and an end of an isolate that nothing began.
RIGHT_TO_LEFT = "שלום עולם: \u202eevil\u202c abc \u2069\u202e العربية"
HOSTILE = f"{MARKUP} {RIGHT_TO_LEFT}"


def hostile(folder: Path) -> Study:
    """A study with records and measurements whose texts mean something to the documents' languages.

    They are in the claims, and in the names of machines, folders and what was measured.
    """
    study = Study.make(folder)
    study.plan["datasets"] = ["mine"]
    study.raw["datasets"]["mine"] = {
        "source": "folder",
        "path": HOSTILE,
        "side": 8,
        "padding": 1,
        "flip": False,
    }
    first, second, *_ = study.raw["claims"]["ledger"].values()
    first["says"], second["says"] = f"* {HOSTILE}", RIGHT_TO_LEFT
    study.write(ACCURACY, lambda cell, made: made["environment"].update(device_name=HOSTILE))
    for bench in ("growth", "overhead"):
        path = ROOT / f"paper/results/bench/{bench}-cpu.json"
        measurement = json.loads(path.read_text(encoding="utf-8"))
        measurement["environment"]["device_name"] = HOSTILE
        for row in measurement["rows"]:
            if "what" in row:
                row |= {"what": f"$\\oops$ {row['what']} {RIGHT_TO_LEFT}", "unit": MARKUP}
        write_json(study.project.measurements / path.name, sealed(measurement))
    return study


def by_name(documents: Documents) -> dict[str, Table]:
    return {table.name: table for table in tables.build(documents)}


def rows_of(table: Table) -> dict[str, list[str]]:
    """For each method, the texts after backbone and method; bold ones in stars."""
    return {
        row[1].text: [f"**{e.text}**" if e.bold else e.text for e in row[2:]]
        for group in table.groups
        for row in group
    }
