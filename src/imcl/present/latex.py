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
    latex.filters |= {"verbatim": _Verbatim, "zip": zip}
    return latex


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
