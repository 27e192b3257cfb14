"""What a search for settings tried and chose, from its records (see `imcl.study.search`).

A rung depends on what the records of those before it say. So a search is followed from its start,
and goes on as far as there are records. Selection looks at the labels that a user would have, which
are noisy where training is. True labels only tell, afterwards, how good the choice was.
"""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.project import Project
from imcl.records.record import Record
from imcl.records.store import Store
from imcl.study import grid, methods, search
from imcl.study.grid import Cell
from imcl.study.options import WAYS
from imcl.study.search import Left, Race
from imcl.study.settings import Candidate, Choice, Settings, Tried


class SearchRow(TypedDict):
    """A candidate in a rung, and how good it was.

    Attributes:
        rung: its number, from 1.
        record: the path of its record, from the project's root.
        method: the method that it is tried for.
        candidate: its number in `search.candidates`, from 1.
        settings: its options in words.
        epochs: of its training.
        n: seeds.
        accuracy: share of the held-out labels that it predicts, mean over the seeds. Chosen by it.
        true_accuracy: the same of the true labels; None where the record does not tell.
        chosen: whether it won in the end.
        regret: of the winner in the last rung, the best true accuracy of that rung minus its own.
    """

    rung: int
    record: str
    dataset: str
    noise: str
    backbone: str
    method: str
    candidate: int
    settings: str
    epochs: int
    n: int
    accuracy: float
    true_accuracy: float | None
    chosen: bool
    regret: float | None


class Rung(NamedTuple):
    """A rung of a stage.

    Attributes:
        settings: choose the study that it is.
        cells: of that study.
        follows: whether its candidates follow from records. Otherwise records are missing, and the
            first candidates stand for those that will be left.
    """

    settings: Settings
    cells: list[Cell]
    follows: bool


class Search:
    """The search for the settings of a study, followed with the records that there are.

    Attributes:
        rows: of the rungs that were followed.
        choices: by cell of the study; preliminary unless `done`.
        done: whether it was followed to its end, so that the choices are final.
    """

    def __init__(self, project: Project, settings: Settings, committed: bool = False):
        """Of the study that `settings` choose; `committed`: ignore records made here.

        Raises:
            UsageError: the study cannot be searched.
        """
        search.check(settings)
        self.project, self.settings, self.committed = project, settings, committed
        self.rows: list[SearchRow] = []
        self.choices: dict[str, Choice] = {}
        self.done = False

    def rungs(self) -> Iterator[Rung]:
        """The rungs in order. Each one's records are read when the next one is asked for.

        Raises:
            ImclError: records have faults.
        """
        follows = True
        for stage in search.stages(self.settings):
            left, made = stage, list[SearchRow]()
            accuracy: dict[str, float] = {}
            for number, step in enumerate(self.settings.search.rungs):
                settings = search.rung(self.settings, number, left, self.choices)
                cells = grid.cells(settings)
                yield Rung(settings, cells, follows)
                rows = self._rows(settings.study, cells, number + 1)
                if follows:
                    made += rows.values()
                    self.rows += rows.values()
                follows = follows and len(rows) == len(cells)
                accuracy = {cell: row["accuracy"] for cell, row in rows.items()}
                ranked = {
                    race: sorted(numbers, key=lambda n: -accuracy.get(_cell(race, n), 0.0))
                    for race, numbers in left.items()
                }
                left = {race: sorted(best[: step.keep]) for race, best in ranked.items()}
            by_name = {cell.name: cell for cell in cells}
            for race, numbers in ranked.items():
                self.choices[race.cell] = self._choice(race, numbers, by_name, rows)
            if follows:
                self._mark(made, left)
        self.done = follows

    def _rows(self, study: str, cells: Sequence[Cell], rung: int) -> dict[str, SearchRow]:
        """The rows of the cells that have a record, by the cells' names."""
        store, tried = Store(self.project), [(study, cell) for cell in cells]
        return {
            cell.name: self._row(cell, record, rung, self.project.relative(path))
            for _, cell, path, record in store.existing(tried, self.committed)
        }

    def _row(self, cell: Cell, record: Record, rung: int, path: str) -> SearchRow:
        final = [run["final"] for run in record["runs"]]
        method, number = methods.candidate(cell.method)
        assert number is not None
        noisy = cell.noise is not None
        truth = [each.get("true_accuracy") if noisy else each["accuracy"] for each in final]
        known = [value for value in truth if value is not None]
        return {
            "rung": rung,
            "record": path,
            "dataset": cell.dataset.name,
            "noise": cell.noise_name,
            "backbone": cell.backbone,
            "method": method,
            "candidate": number,
            "settings": in_words(self.settings.search.candidates[method][number - 1], method),
            "epochs": cell.training.epochs,
            "n": len(final),
            "accuracy": sum(each["accuracy"] for each in final) / len(final),
            "true_accuracy": sum(known) / len(known) if len(known) == len(final) else None,
            "chosen": False,
            "regret": None,
        }

    def _choice(
        self,
        race: Race,
        ranked: Sequence[int],
        cells: dict[str, Cell],
        rows: dict[str, SearchRow],
    ) -> Choice:
        """The best of the last rung, with the weights that its factors give, and the reason."""
        candidate = self.settings.search.candidates[race.method][ranked[0] - 1]
        options = candidate.given()
        for way in candidate.times.model_fields_set:
            weight = cells[_cell(race, ranked[0])].ways[way].weight
            known = options.get(way) or WAYS[way].model_validate({})
            options[way] = known.model_copy(update={"weight": weight})
        told = [rows[name] for n in ranked[:2] if (name := _cell(race, n)) in rows]
        reason = "; next: ".join(
            f"{row['settings']} with {row['accuracy']:.1%}".replace("%", " %") for row in told
        )
        seeds = f", mean of {told[0]['n']} seeds" if told else ""
        return Choice(options=Tried(**options), reason=f"held-out labels{seeds}: {reason}")

    def _mark(self, rows: Sequence[SearchRow], left: Left) -> None:
        """Mark the winners of a stage."""
        last = len(self.settings.search.rungs)
        for row in rows:
            row["chosen"] = row["candidate"] in left[_race(row)]
        for row in (row for row in rows if row["chosen"] and row["rung"] == last):
            others = [r for r in rows if r["rung"] == last and _race(r) == _race(row)]
            truths = [r["true_accuracy"] for r in others if r["true_accuracy"] is not None]
            if row["true_accuracy"] is not None and len(truths) == len(others):
                row["regret"] = max(truths) - row["true_accuracy"]


def gather(project: Project, settings: Settings, committed: bool = False) -> list[SearchRow]:
    """A row for each candidate of the chosen study's search that has a record, rung by rung.

    Args:
        project: whose records are read.
        settings: choose the study.
        committed: use committed records alone. Otherwise a record made here comes before the
            committed one.
    """
    if not search.possible(settings):
        return []
    found = Search(project, settings, committed)
    for _ in takewhile(lambda rung: rung.follows, found.rungs()):
        pass
    return found.rows


def in_words(candidate: Candidate, method: str) -> str:
    """The options of a candidate: `weight 3`; of several parts `output weight 3, kernel × 0.1`."""
    several = len(methods.parse(method).parts) > 1
    told = [
        f"{part} {_option(key, value)}" if several else _option(key, value)
        for part, options in candidate.given().items()
        for key, value in options.model_dump(exclude_unset=True).items()
    ]
    told += [f"{way} × {factor:g}" for way, factor in candidate.times.given().items()]
    return ", ".join(told) or "as without a search"


def _option(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return key if value else f"not {key}"
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{key.replace('_', ' ')} {shown}"


def _race(row: SearchRow) -> Race:
    return Race((row["dataset"], row["noise"], row["backbone"]), row["method"])


def _cell(race: Race, number: int) -> str:
    """The name of a candidate's cell."""
    return f"{race.cell}@{number}"
