"""What a table is made of, and the one function that makes a number of it into text.

Every number of tables, figures and text comes from `number`, with the records behind it; so it can
be traced back to them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from imcl.errors import ImclError
from imcl.files import write_text

MISSING = "–"


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    text: as it is shown. bold: whether it is set so. value: what was rendered, in the unit shown.
    rule: in words, how the value follows from the sources. sources: the keys of the cells whose
    records it comes from, or paths of files.
    """

    text: str
    bold: bool = False
    value: dict | float | None = None
    rule: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table: `groups` are blocks of rows, set apart by a rule.

    The first `labels` columns say what a row is; joined by `/` they name it. `shown` is False for
    what a figure or the text shows in place of a table. `align` are LaTeX's columns, where they are
    not labels to the left and numbers to the right.
    """

    name: str
    caption: str
    header: list[str]
    groups: list[list[list[Entry]]] = field(default_factory=list)
    labels: int = 2
    shown: bool = True
    align: str = ""

    def rows(self) -> dict[str, dict[str, Entry]]:
        """The entries by the names of their row and column."""
        return {
            "/".join(entry.text for entry in row[: self.labels]): dict(
                zip(self.header[self.labels :], row[self.labels :], strict=True)
            )
            for group in self.groups
            for row in group
        }


def number(
    value: Mapping | float | None,
    sources: Iterable[str],
    rule: str,
    *,
    scale: float = 1,
    digits: int = 1,
    signed: bool = False,
    unit: str = "",
    bold: bool = False,
) -> Entry:
    """A number as the entry that shows it.

    Args:
        value: an estimate (mean with half_width), an aggregate (mean with low and high), or a plain
            number. An interval that could not be estimated is left out; None gives a dash.
        sources: keys of cells, or paths.
        rule: in words, how the value follows from the sources.
        scale: what the value is multiplied with for the unit that is shown.
        digits: after the point.
        signed: with + before what is not negative.
        unit: set after the number.
        bold: whether to set it so.
    """
    if value is None:
        return Entry(MISSING)

    def shown(part: float, sign: str = "+" if signed else "") -> str:
        return f"{part:{sign},.{digits}f}".replace("-", "−")

    if not isinstance(value, Mapping):
        scaled: dict | float = value * scale
        text = shown(scaled)
    else:
        parts = ("mean", "half_width", "std", "low", "high")
        scaled = {k: v * scale if k in parts and v is not None else v for k, v in value.items()}
        text = shown(scaled["mean"])
        if scaled.get("half_width") is not None:
            text += f" ± {shown(scaled['half_width'], '')}"
        elif scaled.get("low") is not None:
            text += f" [{shown(scaled['low'])}, {shown(scaled['high'])}]"
    return Entry(text + unit, bold, scaled, rule, tuple(sources))


def protocol(seeds: int, intervals: bool = True) -> str:
    """What the numbers of a table are, in words."""
    if seeds < 2:
        return "One seed"
    return f"Mean of n = {seeds} seeds{' ± 95 % t-interval' if intervals else ''}"


def p_value(value: float | None, sources: Iterable[str], rule: str) -> Entry:
    """A p-value, to three digits; what is smaller is said to be."""
    if value is not None and value < 0.001:
        return Entry("< 0.001", False, value, rule, tuple(sources))
    return number(value, sources, rule, digits=3)


def markdown(table: Table) -> str:
    """The table as Markdown, its caption below."""
    rows = [
        [f"**{entry.text}**" if entry.bold else entry.text for entry in row]
        for group in table.groups
        for row in group
    ]
    grid = tabulate(rows, table.header, tablefmt="github", disable_numparse=True)
    return f"{grid}\n\n{table.caption}\n"


def insert(path: Path, mark: str, table: Table) -> None:
    """Put a table, as Markdown, between `<!-- mark -->` and `<!-- /mark -->` of a file.

    Raises:
        ImclError: the file has no such marks.
    """
    text = path.read_text(encoding="utf-8")
    before, opened, rest = text.partition(f"<!-- {mark} -->\n")
    _, closed, after = rest.partition(f"<!-- /{mark} -->")
    if not opened or not closed:
        raise ImclError(f"{path}: needs a line <!-- {mark} --> and after it <!-- /{mark} -->")
    write_text(path, f"{before}{opened}{markdown(table)}{closed}{after}")
