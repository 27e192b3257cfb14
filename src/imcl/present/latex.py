"""Jinja for LaTeX: <<value>>, <%statement%>, <#comment#>. Every value is escaped.

pdflatex has no letters but Latin ones. Words in other scripts are drawn, one picture a word, so
that lines can break between them.
"""

import hashlib
import re
import unicodedata
from collections.abc import Container
from functools import cache, partial
from itertools import groupby
from pathlib import Path

import jinja2

from imcl.files import atomic
from imcl.present.render import Table


class _Verbatim(str):
    """A name of a file or label, which LaTeX reads but does not show."""


_ESCAPED = {
    "\\": r"\textbackslash{}",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # options of what stands before them
}
# Those, and the first of two that LaTeX would join, as two hyphens to a dash.
_SPECIAL = re.compile(rf"[{re.escape(''.join(_ESCAPED))}]|([-`',])(?=\1)|[!?](?=`)")
# They tell where a text from right to left ends, which TeX has its own way for.
_MARKS = re.compile("[\u061c\u200e\u200f\u2066-\u2069]")
# Sizes of letters, with the width of an em in points; small letters are wider than their size.
SIZES = (
    ("normalsize", 10.0),
    ("small", 9.25),
    ("footnotesize", 8.5),
    ("scriptsize", 7.97),
    ("tiny", 6.8),
)
# Widths of characters in em: narrow, as wide as a digit, capitals, wide.
WIDTHS = {**dict.fromkeys(" .,:;'!|/()[]fijlrt", 0.36), **dict.fromkeys("±×−–+<>=%mwMW", 0.8)}
TEXT_POINTS = 459  # the width of the paper's text
COLUMN_GAP = 4  # points on each side of a column
_FONT = "DejaVu Sans"  # comes with matplotlib; it has Hebrew, Arabic, Greek and Cyrillic
_SIZE = 10  # points, of drawn words; LaTeX scales them to the text around them


def environment(templates: Path, pictures: Path) -> jinja2.Environment:
    """The environment of a folder's templates; the filter `verbatim` leaves a text unescaped.

    Args:
        templates: the folder.
        pictures: build/tables of the paper; it receives the words that are drawn.
    """
    latex = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=partial(_finalize, pictures=pictures),
        autoescape=False,
    )
    latex.filters |= {
        "verbatim": _Verbatim,
        "columns": _columns,
        "size": _size,
        "spans": _spans,
        "titles": _titles,
    }
    return latex


def _columns(table: Table) -> str:
    """LaTeX's columns: labels left, numbers right."""
    return "l" * table.labels + "r" * (len(table.header) - table.labels)


def _spans(table: Table) -> list[tuple[str, int]]:
    """What stands over several columns' titles, each with its number of columns; else nothing."""
    spans = [(over, len([*columns])) for over, columns in groupby(table.over)]
    return spans if any(over and count > 1 for over, count in spans) else []


def _titles(table: Table) -> list[str]:
    """The columns' titles without what stands over them."""
    if not _spans(table):
        return table.header
    pairs = zip(table.header, table.over, strict=True)
    return [title.removeprefix(over).strip() for title, over in pairs]


def _size(table: Table, floating: bool) -> str:
    """The largest size of letters at which the table is no wider than the text.

    Args:
        table: without columns of a fixed width, else it has the size of the text.
        floating: whether it stands in the main part, where letters may be larger.
    """
    if table.align and floating:
        return ""
    rows = [row for group in table.groups for row in group]
    columns = [
        max([_em(title), *(_em(row[index].text, row[index].bold) for row in rows)])
        for index, title in enumerate(_titles(table))
    ]
    start = 0
    for over, count in _spans(table):  # columns are at least as wide as what stands over them
        below = sum(columns[start : start + count])
        columns[start] += max(0.0, _em(over) - below)
        start += count
    room = TEXT_POINTS - 2 * COLUMN_GAP * len(columns)
    sizes = SIZES if floating else SIZES[2:]
    size = next((size for size, em in sizes if sum(columns) * em <= room), SIZES[-1][0])
    gap = COLUMN_GAP / 2 if table.align else COLUMN_GAP
    return rf"\{size}\setlength{{\tabcolsep}}{{{gap:g}pt}}"


def _em(text: str, bold: bool = False) -> float:
    """About how wide a text is, in em."""
    widths = (WIDTHS.get(c, 0.72 if c.isupper() else 0.52) for c in text)
    return sum(widths) * (1.15 if bold else 1)


def escape(text: str, pictures: Path) -> str:
    """A text so that LaTeX shows it character by character; foreign words are drawn in a folder."""
    text = _MARKS.sub("", text)
    parts = []
    for direction, words in groupby(text.split(" "), _direction):
        if direction:
            drawn = " ".join(_drawn(word, pictures) for word in words)
            parts.append(rf"\begin{direction} {drawn}\end{direction}")
        else:
            parts.append(_SPECIAL.sub(_escaped, " ".join(words)))
    return " ".join(parts)


def _escaped(found: re.Match[str]) -> str:
    return _ESCAPED.get(found[0], f"{found[0]}{{}}")


def _direction(word: str) -> str:
    """Of a word to be drawn: L or R. Empty for words that LaTeX has letters for."""
    letters = [c for c in word if unicodedata.category(c)[0] in "LM"]
    if all(unicodedata.name(c, "").startswith("LATIN ") for c in letters):
        return ""
    if not all(ord(c) in _drawable() for c in letters):
        return ""  # LaTeX shows the numbers of its letters
    return "R" if unicodedata.bidirectional(letters[0]) in ("R", "AL") else "L"


@cache
def _drawable() -> Container[int]:
    """The characters that can be drawn, by number."""
    from matplotlib.font_manager import findfont, get_font

    return get_font(findfont(_FONT)).get_charmap()


def _drawn(word: str, pictures: Path) -> str:
    """Draw a word; return the LaTeX that shows it."""
    from matplotlib import rc_context  # which takes a second to load
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    path = pictures / f"word-{hashlib.sha256(word.encode()).hexdigest()[:16]}.pdf"
    font = FontProperties(family=_FONT, size=_SIZE)
    figure = Figure(dpi=72)  # a pixel is a point
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height, depth = renderer.get_text_width_height_descent(word, font, ismath=False)
    if not path.exists():  # a word appears in many tables
        figure.set_size_inches(width / 72, height / 72)
        figure.text(0, depth / height, word, fontproperties=font, parse_math=False)
        with rc_context({"pdf.fonttype": 42}), atomic(path) as temporary:
            figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
    size = f"height={height / _SIZE:.3f}em"
    # Without \beginL, TeX would also reverse the operators that scale the picture.
    picture = rf"\beginL\includegraphics[{size}]{{build/tables/{path.name}}}\endL"
    return rf"\raisebox{{-{depth / _SIZE:.3f}em}}{{{picture}}}"


def _finalize(value: object, pictures: Path) -> object:
    text = isinstance(value, str) and not isinstance(value, _Verbatim)
    return escape(str(value), pictures) if text else value
