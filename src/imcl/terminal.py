"""Text and tables as wide as the reader's terminal.

A line is as wide as COLUMNS says, or else as the terminal is. Without COLUMNS, a file or a pipe has
no width: there a row of a table stays on one line, as `grep` needs it. JSON is never wrapped.
"""

import os
import sys
import textwrap
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

UNLIMITED = 10_000  # columns of a console that writes whole lines


def width(stream: TextIO) -> int | None:
    """The columns that a line may have; None if it may have any number."""
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named):
        return int(named)
    with suppress(OSError, ValueError):  # no terminal, or a stream that is no file or was closed
        return os.get_terminal_size(stream.fileno()).columns or None
    return None


def fitted(text: str, stream: TextIO | None = None) -> str:
    """A text whose lines are wrapped at spaces to the width of a stream, by default of stdout.

    What has no space, such as a path, stays whole.
    """
    columns = width(stream or sys.stdout)
    if columns is None:
        return text
    return "\n".join(
        textwrap.fill(
            line,
            columns,
            subsequent_indent=" " * (len(line) - len(line.lstrip()) + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
        if len(line) > columns
        else line
        for line in text.split("\n")
    )


def tell(text: str) -> None:
    """Print a text on stdout."""
    print(fitted(text), flush=True)


def console() -> "Console":
    """Writes on stdout: rich's text and tables, in colour where that is possible."""
    from rich.console import Console

    return Console(width=width(sys.stdout) or UNLIMITED, highlight=False)


def table(
    header: Sequence[str],
    rows: Sequence[Sequence["str | Text"]],
    *,
    right: Collection[str] = (),
    whole: Collection[str] = (),
) -> None:
    """Print a table on stdout.

    Args:
        header: the titles of the columns.
        rows: their cells; a `Text` has a colour.
        right: the columns of numbers, which are aligned on the right.
        whole: the columns that are not wrapped while others can be.
    """
    if width(sys.stdout) is None:
        from tabulate import tabulate

        align = ["right" if name in right else "left" for name in header]
        texts = [[str(cell) for cell in row] for row in rows]
        shown = tabulate(texts, header, tablefmt="plain", disable_numparse=True, colalign=align)
        print("\n".join(line.rstrip() for line in shown.split("\n")))
        return
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, header_style="bold", pad_edge=False)
    for name in header:
        made.add_column(
            Text(name),
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=name in whole,
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    console().print(made)
