"""The parts of a table, and `number`, which turns every number into text.

All numbers of tables, figures and text go through `number`, together with the records that they
come from. So each can be traced back.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from imcl.errors import ImclError
from imcl.files import at_once, write_text
from imcl.study.grid import Draw

MISSING = "–"
NOT_TRAINED = ""


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    Attributes:
        text: what is shown.
        bold: whether it is set in bold.
        value: the number behind the text, in the unit shown: a plain one, or an estimate as
            `number` takes it. None for names, settings and gaps.
        rule: how the value follows from the sources, in words.
        sources: keys of the cells whose records it comes from, or paths of files.
        name: what `imcl trace` calls it, if not by the text.
    """

    text: str
    bold: bool = False
    value: dict[str, Any] | float | None = None
    rule: str = ""
    sources: tuple[str, ...] = ()
    name: str = ""

    @property
    def mean(self) -> float | None:
        """The number, or the mean of an estimate; None where there is no number."""
        return self.value["mean"] if isinstance(self.value, dict) else self.value

    @property
    def half_width(self) -> float:
        """Half the width of the interval; 0 where there is no interval."""
        return (isinstance(self.value, dict) and self.value.get("half_width")) or 0.0


Row = list[Entry]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its files, and in `imcl trace`.
        title: what it shows, in at most three lines of the paper.
        header: titles of the columns.
        groups: blocks of rows; a rule separates them.
        labels: how many leading columns name a row.
        shown: False for the numbers of a figure or of the text, which are no table in the paper.
        align: LaTeX's columns, if labels left and numbers right do not fit.
        rules: how to read it, if it stands alone. The paper has a section for that.
        over: for each column, how its title begins if neighbours share that.
        columns: what `imcl trace` calls them, if not by their titles.
    """

    name: str
    title: str
    header: list[str]
    groups: list[list[Row]] = field(default_factory=list)
    labels: int = 2
    shown: bool = True
    align: str = ""
    rules: str = ""
    over: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)

    @property
    def caption(self) -> str:
        """What it shows and how to read it."""
        return f"{self.title} {self.rules}".strip()

    def rows(self) -> dict[str, dict[str, Entry]]:
        """Entries by row and column. A row's name is that of its labels, joined with `/`."""
        columns = (self.columns or self.header)[self.labels :]
        return {
            "/".join(entry.name or entry.text for entry in row[: self.labels]): dict(
                zip(columns, row[self.labels :], strict=True)
            )
            for group in self.groups
            for row in group
        }


def number(
    value: Mapping[str, Any] | float | None,
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
        value: a plain number, an estimate (`mean` and `half_width`) or a range (`mean`, `low` and
            `high`). Without an interval the mean is shown alone. None gives a dash.
        sources: keys of cells, or paths of files.
        rule: how the value follows from the sources, in words.
        scale: factor that gives the unit shown.
        digits: after the decimal point.
        signed: show + before numbers that are not negative.
        unit: text after the number.
        bold: whether to set it in bold.
    """
    if value is None:
        return Entry(MISSING)

    def shown(part: float, sign: str = "+" if signed else "") -> str:
        return f"{part:{sign},.{digits}f}".replace("-", "−")

    if not isinstance(value, Mapping):
        return Entry(shown(value * scale) + unit, bold, value * scale, rule, tuple(sources))
    parts = ("mean", "half_width", "std", "low", "high")
    scaled = {k: v * scale if k in parts and v is not None else v for k, v in value.items()}
    text = shown(scaled["mean"])
    if scaled.get("half_width") is not None:
        text += f" ± {shown(scaled['half_width'], '')}"
    elif scaled.get("low") is not None:
        text += f" [{shown(scaled['low'])}, {shown(scaled['high'])}]"
    return Entry(text + unit, bold, scaled, rule, tuple(sources))


def p_value(value: float | None, sources: Iterable[str], rule: str) -> Entry:
    """A p-value with three digits; smaller ones as `< 0.001`."""
    if value is not None and value < 0.001:
        return Entry("< 0.001", False, value, rule, tuple(sources))
    return number(value, sources, rule, digits=3)


def protocol(seeds: Collection[int], intervals: bool = True) -> str:
    """The sentence of a caption that says over how many seeds its numbers are means.

    Args:
        seeds: the number of seeds of each cell.
        intervals: whether intervals are shown.
    """
    if max(seeds, default=1) < 2:
        return "One seed."
    return f"Mean of n = {span(seeds)} seeds{' ± 95 % t-interval' * intervals}."


def span(counts: Collection[int]) -> str:
    """Counts in words: `3`, or `3 to 5`."""
    least, most = min(counts, default=0), max(counts, default=0)
    return f"{most}" if least == most else f"{least} to {most}"


# What follows for the intervals over the seeds from how something is drawn before training.
COVERED: dict[Draw, str] = {
    "anew": "drawn anew for each run, so intervals cover that too",
    "mixed": "drawn anew for each run in some cells, whose intervals cover that too, and the same "
    "in all runs in others, whose intervals do not",
    "same": "the same in all runs, so intervals do not cover that",
}
TRAINING_ALONE = "the same in all runs, so intervals cover the training's randomness alone"


def coverage(draws: Mapping[str, Draw]) -> str:
    """What the intervals over the seeds cover, in sentences.

    Empty if nothing is drawn before training, as with clean labels of a whole dataset.
    """
    sentences = []
    for draw, end in COVERED.items():
        *most, last = ["", *(f"the {what}" for what in draws if draws[what] == draw)]
        if last:
            listed = " and ".join([", ".join(most[1:]), last] if most[1:] else [last])
            told = TRAINING_ALONE if {*draws.values()} == {"same"} else end
            sentences.append(f"{listed.capitalize()} {'are' if most[1:] else 'is'} {told}.")
    return " ".join(sentences)


def earlier_code(changes: Mapping[str, int], records: int) -> str:
    """How many of the records were made by code that computed something else, in sentences.

    Args:
        changes: what that code did, with the number of records.
        records: how many there are.
    """
    return " ".join(
        f"{count} of {records} records were made by earlier code, in which {change}."
        for change, count in changes.items()
    )


# What Markdown would obey: emphasis, code, a column's end, strike-through, GitHub's formulas, tags,
# entities, links.
_OBEYED = re.compile(r"[\\`*|~$]|<(?=[\w/!?])|&(?=#?\w+;)|(?<!\w)_|_(?!\w)|\](?=[\[(:])")
_INSTEAD = {"<": "&lt;", "&": "&amp;"}
_ISOLATES = "\u2066\u2067\u2068"  # each reaches up to the next POP
_POP = "\u2069"


def escaped(text: str) -> str:
    """A text so that Markdown shows it character by character, on one line."""
    line = re.sub("[\u2028\u2029]", " ", text)
    return isolated(_OBEYED.sub(lambda found: _INSTEAD.get(found[0], "\\" + found[0]), line))


def isolated(text: str) -> str:
    """A text whose letters and marks from right to left cannot reorder what stands beside it."""
    kinds = {unicodedata.bidirectional(character) for character in text}
    if kinds <= {"L", "EN", "ES", "ET", "AN", "CS", "NSM", "BN", "B", "S", "WS", "ON", ""}:
        return text
    kept, opened = [], 0
    for character in text:
        opened += (character in _ISOLATES) - (character == _POP)
        if opened < 0:  # it would end the isolate around the text
            opened = 0
        else:
            kept.append(character)
    return _ISOLATES[-1] + "".join(kept) + _POP * (opened + 1)


def markdown(table: Table) -> str:
    """The table as Markdown, its caption below."""
    rows = [
        [f"**{escaped(entry.text)}**" if entry.bold else escaped(entry.text) for entry in row]
        for group in table.groups
        for row in group
    ]
    header = [escaped(title) for title in table.header]
    grid = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    return f"{grid}\n\n{escaped(table.caption)}\n"


def insert(path: Path, mark: str, table: Table) -> None:
    """Replace what is between `<!-- mark -->` and `<!-- /mark -->` in a file by a Markdown table.

    Raises:
        ImclError: the file has no such marks, or is not UTF-8 text.
    """
    try:
        with open(path, encoding="utf-8", opener=at_once) as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ImclError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    before, opened, rest = text.partition(f"<!-- {mark} -->\n")
    _, closed, after = rest.partition(f"<!-- /{mark} -->")
    if not opened or not closed:
        raise ImclError(f"{path}: needs a line <!-- {mark} --> and after it <!-- /{mark} -->")
    write_text(path, f"{before}{opened}{markdown(table)}{closed}{after}")
