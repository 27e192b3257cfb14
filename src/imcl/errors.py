"""The errors that a user can correct. The command line prints them without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class ImclError(Exception):
    """Something failed; the message says what, where and what to do. Exit code 1."""


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


def shown(value: object) -> str:
    """A value as Python writes it, cut after 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
