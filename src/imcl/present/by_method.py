"""The layout of most tables: a row for each backbone and method, columns for each noise."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from imcl.analysis.rows import Axes, SummaryRow
from imcl.analysis.summary import Summary
from imcl.present import names
from imcl.present.render import (
    MISSING,
    NOT_TRAINED,
    Entry,
    Row,
    Table,
    coverage,
    earlier_code,
    number,
    protocol,
)
from imcl.study.grid import merged_draws

MOST_NOISES = 4  # of one table or figure; with more, its columns get too narrow


class Column(NamedTuple):
    """A column: its title, and what it shows of a cell; None shows a dash."""

    title: str
    show: Callable[[SummaryRow], Entry | None]


class Part(NamedTuple):
    """What one table shows: a dataset with all its noises, or with those of one kind if many.

    Attributes:
        dataset: its name.
        kind: of the noises, such as `clean` or `symmetric`; "" if the table shows all of them.
        axes: the names that have records in this part.
        names: of the study, for readers.
    """

    dataset: str
    kind: str
    axes: Axes
    names: names.Names

    @property
    def name(self) -> str:
        """The end of the names of its tables and figures."""
        return f"{self.dataset}-{self.kind}" if self.kind else self.dataset

    @property
    def title(self) -> str:
        """What it shows, in words."""
        shown = self.names.datasets[self.dataset]
        return f"{shown}, {self.kind.replace('_', ' ')} labels" if self.kind else shown

    def rows(self, summary: Summary) -> list[SummaryRow]:
        """The cells in it."""
        return [
            row
            for row in summary["cells"]
            if row["dataset"] == self.dataset and row["noise"] in self.axes["noise"]
        ]


class Layout(NamedTuple):
    """These attributes of a table."""

    header: list[str]
    groups: list[list[Row]]
    over: list[str]
    columns: list[str]

    def table(self, name: str, title: str, rules: str) -> Table:
        """The table with this layout."""
        return Table(
            name,
            title,
            self.header,
            self.groups,
            rules=rules,
            over=self.over,
            columns=self.columns,
        )


def all_parts(summary: Summary) -> list[Part]:
    """The parts of all datasets."""
    return [part for dataset in summary["axes"]["datasets"] for part in parts(summary, dataset)]


def parts(summary: Summary, dataset: str) -> list[Part]:
    """A dataset as one part, or, with many noises, in parts by their kind."""
    cells = [row for row in summary["cells"] if row["dataset"] == dataset]
    shown = names.of(summary)
    there = {row["noise"] for row in cells}
    noises = [noise for noise in summary["axes"]["noise"] if noise in there]
    if len(noises) <= MOST_NOISES:
        return [Part(dataset, "", _axes(summary, dataset, noises), shown)]
    kinds: dict[str, list[str]] = {}
    for noise in noises:
        kind = summary["noises"][noise]["kind"] if noise != "clean" else noise
        kinds.setdefault(kind, []).append(noise)
    found = []
    for kind, those in kinds.items():
        for start in range(0, len(those), MOST_NOISES):
            number = f"{start // MOST_NOISES + 1}" if len(those) > MOST_NOISES else ""
            axes = _axes(summary, dataset, those[start : start + MOST_NOISES])
            found.append(Part(dataset, f"{kind}{number}", axes, shown))
    return found


def by_method(
    summary: Summary,
    part: Part,
    columns: Sequence[Column],
    leading: Sequence[Column] = (),
) -> Layout:
    """The layout of a table, without rows that show no number.

    Args:
        summary: of the study.
        part: what the table shows.
        columns: shown for each noise; their titles follow the noise's name.
        leading: shown once, before them; the same for every noise.
    """
    axes, shown = part.axes, part.names
    cells = {(r["noise"], r["backbone"], r["method"]): r for r in part.rows(summary)}
    first = ["backbone", "method", *(column.title for column in leading)]
    over = [shown.noise[noise] for noise in axes["noise"] for _ in columns]
    titles = [column.title for _ in axes["noise"] for column in columns]
    groups = []
    for backbone in axes["backbones"]:
        group = []
        for method in axes["methods"]:
            found = [cells.get((noise, backbone, method)) for noise in axes["noise"]]
            any_cell = next(filter(None, found), None)
            line = [
                Entry(shown.backbones[backbone], name=backbone),
                Entry(shown.methods[method], name=method),
            ]
            numbers = [_shown(column, any_cell) for column in leading]
            numbers += [_shown(column, cell) for cell in found for column in columns]
            if any(entry.value is not None for entry in numbers):
                group.append([*line, *numbers])
        groups.append(group)
    return Layout(
        first + [f"{noise} {title}".strip() for noise, title in zip(over, titles, strict=True)],
        [group for group in groups if group],
        [""] * len(first) + over,
        first + [f"{noise} {c.title}".strip() for noise in axes["noise"] for c in columns],
    )


def metric(title: str, name: str, scale: float = 1, digits: int = 1) -> Column:
    """The column of a metric of the summary, times `scale`."""
    rule = f"mean over seeds of {name}{f' × {scale}' if scale != 1 else ''} ± 95 % t-interval"

    def show(row: SummaryRow) -> Entry:
        return number(row["estimates"][name], [row["key"]], rule, scale=scale, digits=digits)

    return Column(title, show)


def seeds(summary: Summary, *datasets: str) -> str:
    """The end of a title: over how many seeds its numbers are means."""
    return protocol(seeds_of(summary, *datasets))


def _axes(summary: Summary, dataset: str, noises: list[str]) -> Axes:
    """The names that have records on a dataset with some noises, in the study's order."""
    rows = [r for r in summary["cells"] if r["dataset"] == dataset and r["noise"] in noises]
    backbones, methods = {row["backbone"] for row in rows}, {row["method"] for row in rows}
    axes = summary["axes"]
    return {
        "datasets": [dataset],
        "noise": noises,
        "backbones": [name for name in axes["backbones"] if name in backbones],
        "methods": [name for name in axes["methods"] if name in methods],
        "seeds": sorted({seed for row in rows for seed in row["seeds"]}),
    }


def seeds_of(summary: Summary, *datasets: str) -> list[int]:
    """The number of seeds of each cell on these datasets."""
    return [len(row["seeds"]) for row in summary["cells"] if row["dataset"] in datasets]


def covered(summary: Summary, *datasets: str) -> str:
    """What the intervals of datasets cover, and which records are of earlier code, in sentences."""
    draws = merged_draws(summary["draws"][name] for name in datasets)
    changes = sum((Counter(summary["earlier"][name]) for name in datasets), Counter[str]())
    records = sum(row["dataset"] in datasets for row in summary["cells"])
    told = [
        coverage(draws) if max(seeds_of(summary, *datasets), default=1) > 1 else "",
        earlier_code(changes, records),
    ]
    return " ".join(filter(None, told))


def split(summary: Summary, dataset: str) -> str:
    """The images that networks were evaluated on: `test`, or `validation` for held-out ones."""
    return summary["data"][dataset]["evaluation"]


def _shown(column: Column, cell: SummaryRow | None) -> Entry:
    return (column.show(cell) or Entry(MISSING)) if cell else Entry(NOT_TRAINED)
