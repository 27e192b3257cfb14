"""The names of methods: `base`, `control`, combinations of ways, baselines, baselines with ways.

`control` is `base` trained on as many augmentations of each image as `output` compares. It shows
how much of the gain of an `augment` variant comes from more augmentations alone.

`default` is what the library does if nobody chooses anything. Neither params.yaml nor a search
changes its ways.

`output@2` is `output` with the second candidate that params.yaml lists in `search.candidates`.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, combinations
from typing import NamedTuple

from imcl.errors import unknown
from imcl.study.options import BASELINES, DEFAULT, PAPER_WAYS, WAYS

UNSEARCHED = ("control", "default")  # they have no settings of their own
COMBINATIONS = "combinations"  # in params.yaml, short for the sixteen of `combined`


class Method(NamedTuple):
    """What a method consists of: a baseline, if any, and the ways that are added."""

    baseline: str | None
    ways: tuple[str, ...]

    @property
    def parts(self) -> list[str]:
        """The names of its baseline and its ways."""
        return [*([self.baseline] if self.baseline else []), *self.ways]


def combined() -> list[str]:
    """`base`, every combination of the paper's ways joined by `+`, and `all`: sixteen."""
    smaller = range(1, len(PAPER_WAYS))
    joined = ("+".join(c) for size in smaller for c in combinations(PAPER_WAYS, size))
    return ["base", *joined, "all"]


def listed(value: object) -> object:
    """The methods of params.yaml as a list; `combinations` may stand alone."""
    return [COMBINATIONS] if value == COMBINATIONS else value


def expanded(stated: Sequence[str]) -> list[str]:
    """Methods with the combinations in place of the word for them, each once."""
    several = ([name] if name != COMBINATIONS else combined() for name in stated)
    return list(dict.fromkeys(chain.from_iterable(several)))


def with_ways() -> list[str]:
    """Every combination of ways: first those of the paper's, then those with a further way."""
    further = [
        "+".join(c)
        for size in range(1, len(WAYS) + 1)
        for c in combinations(WAYS, size)
        if not set(c) <= set(PAPER_WAYS)
    ]
    return [*combined()[1:], *further]


def names() -> list[str]:
    """All methods except baselines with ways, such as `multihead+kernel`."""
    return ["base", *UNSEARCHED, *with_ways(), *BASELINES]


def candidate(name: str) -> tuple[str, int | None]:
    """A method's name without the number of its candidate, and this number, if it has one."""
    whole, _, number = name.partition("@")
    return whole, int(number) if number else None


def parse(name: str) -> Method:
    """The method of a name for which `fault` finds nothing."""
    name, _ = candidate(name)
    first, *rest = name.split("+")
    if first in BASELINES:
        return Method(first, PAPER_WAYS if rest == ["all"] else tuple(rest))
    if name == "default":
        return Method(None, tuple(DEFAULT))
    if name in ("base", "control"):
        return Method(None, ())
    return Method(None, PAPER_WAYS if name == "all" else (first, *rest))


def fault(name: str, candidates: Mapping[str, int] | None = None) -> str | None:
    """What is wrong with a method's name; None if nothing is.

    Args:
        name: a method as in params.yaml.
        candidates: of each method that the search tries, how many; without them, a name cannot
            have the number of one.
    """
    whole, at, number = name.partition("@")
    if at and candidates is not None:
        count = candidates.get(whole, 0)
        if number in map(str, range(1, count + 1)):
            return None
        return f"{name}: search.candidates has {count or 'no'} candidates for {whole}"
    if name in names():
        return None
    baseline, _, ways = name.partition("+")
    if baseline not in BASELINES or ways not in with_ways():
        return unknown("method", name, names())
    for way in parse(name).ways:
        reason = BASELINES[baseline].excludes(way)
        if reason:
            return f"{name}: {way} cannot be added to {baseline}, {reason}"
    return None
