"""The errors that a user can correct. The command line prints them without a traceback."""

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches


class ImclError(Exception):
    """Something failed; the message says what, where and what to do. Exit code 1.

    A message may quote a file's name or content. So what a terminal would obey becomes an escape.
    """

    def __init__(self, message: str):
        super().__init__("\n".join(map(printable, message.split("\n"))))


class UsageError(ImclError):
    """The command or params.yaml is wrong; nothing ran. Exit code 2."""


class Stopped(BaseException):
    """A signal ended the run; finished work is stored. Exit code 128 plus the signal's number."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


MOST_KNOWN = 32  # names in one message


def unknown(what: str, value: object, known: Iterable[str]) -> str:
    """A message about an unknown name, with the nearest known name or a list of them.

    >>> unknown("method", "outptu", ["base", "output"])
    "unknown method 'outptu'; did you mean 'output'?"
    """
    known = list(known)
    near = get_close_matches(str(value), known, n=1, cutoff=0.5)
    rest = len(known) - MOST_KNOWN
    listed = known if rest <= 0 else [*known[:MOST_KNOWN], f"... and {rest} more"]
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(listed) or 'none'}"
    return f"unknown {what} {shown(value)}; {hint}"


def printable(text: str) -> str:
    """A text, with escapes in place of what a terminal would not print or would obey.

    Names of files may hold anything.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def is_plain(text: str) -> bool:
    """Whether a text has no control characters and no bytes that are not Unicode."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def shown(value: object) -> str:
    """A value as Python writes it, cut after 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
