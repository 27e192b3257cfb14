"""Jinja for LaTeX: <<value>>, <%statement%>, <#comment#>. Every value is escaped."""

from pathlib import Path

import jinja2


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
}


def environment(templates: Path) -> jinja2.Environment:
    """The environment of a folder's templates; the filter `verbatim` leaves a text unescaped."""
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
        finalize=_finalize,
        autoescape=False,
    )
    latex.filters |= {"verbatim": _Verbatim, "zip": zip}
    return latex


def escape(text: str) -> str:
    """A text so that LaTeX shows it character by character."""
    return "".join(_ESCAPED.get(character, character) for character in text)


def _finalize(value: object) -> object:
    return escape(value) if isinstance(value, str) and not isinstance(value, _Verbatim) else value
