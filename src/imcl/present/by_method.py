"""The layout of most tables: a row for each backbone and method, columns for each noise."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from imcl.analysis.rows import SummaryRow
from imcl.analysis.summary import Summary
from imcl.present.render import (
    MISSING,
    Entry,
    Row,
    coverage,
    earlier_code,
    number,
    protocol,
)
from imcl.study.grid import merged_draws


class Column(NamedTuple):
    """A column: its title, and what it shows of a cell; None shows a dash."""

    title: str
    show: Callable[[SummaryRow], Entry | None]


def by_method(
    summary: Summary, dataset: str, columns: Sequence[Column], leading: Sequence[Column] = ()
) -> tuple[list[str], list[list[Row]]]:
    """Header and groups of a table of one dataset.

    Args:
        summary: of the study.
        dataset: its name.
        columns: shown for each noise; their titles follow the noise's name.
        leading: shown once, before them; the same for every noise.
    """
    axes = summary["axes"]
    cells = {(r["dataset"], r["noise"], r["backbone"], r["method"]): r for r in summary["cells"]}
    header = ["backbone", "method", *(column.title for column in leading)]
    header += [f"{noise} {c.title}".strip() for noise in axes["noise"] for c in columns]
    groups = []
    for backbone in axes["backbones"]:
        group = []
        for method in axes["methods"]:
            found = [cells.get((dataset, noise, backbone, method)) for noise in axes["noise"]]
            first = next(filter(None, found), None)
            line = [Entry(backbone), Entry(method)]
            line += [_shown(column, first) for column in leading]
            line += [_shown(column, cell) for cell in found for column in columns]
            group.append(line)
        groups.append(group)
    return header, groups


def metric(title: str, name: str, scale: float = 1, digits: int = 1) -> Column:
    """The column of a metric of the summary, times `scale`."""
    rule = f"mean over seeds of {name}{f' × {scale}' if scale != 1 else ''} ± 95 % t-interval"

    def show(row: SummaryRow) -> Entry:
        return number(row["estimates"][name], [row["key"]], rule, scale=scale, digits=digits)

    return Column(title, show)


def ending(summary: Summary, *datasets: str) -> str:
    """The end of a caption: over what its numbers are means, and what `covered` says."""
    return f"{protocol(len(summary['axes']['seeds']))} {covered(summary, *datasets)}".strip()


def covered(summary: Summary, *datasets: str) -> str:
    """What the intervals of datasets cover, and which records are of earlier code, in sentences."""
    draws = merged_draws(summary["draws"][name] for name in datasets)
    changes = sum((Counter(summary["earlier"][name]) for name in datasets), Counter[str]())
    records = sum(row["dataset"] in datasets for row in summary["cells"])
    told = [
        coverage(draws) if len(summary["axes"]["seeds"]) > 1 else "",
        earlier_code(changes, records),
    ]
    return " ".join(filter(None, told))


def split(summary: Summary, dataset: str) -> str:
    """The images that networks were evaluated on: `test`, or `validation` for held-out ones."""
    return summary["data"][dataset]["evaluation"]


def _shown(column: Column, cell: SummaryRow | None) -> Entry:
    return (cell and column.show(cell)) or Entry(MISSING)
