"""The names of methods: `base`, `control`, combinations of ways, baselines, baselines with ways.

`control` is `base` trained on as many augmentations of each image as `output` compares. It shows
how much of the gain of an `augment` variant comes from more augmentations alone.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, combinations
from typing import NamedTuple

from imcl.errors import unknown
from imcl.study.options import BASELINES, PAPER_WAYS, WAYS

COMBINATIONS = "combinations"  # in params.yaml, short for the sixteen of `combined`


class Method(NamedTuple):
    """What a method consists of: a baseline, if any, and the ways that are added."""

    baseline: str | None
    ways: tuple[str, ...]


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
    return ["base", "control", *with_ways(), *BASELINES]


def parse(name: str) -> Method:
    """The method of a name for which `fault` finds nothing."""
    first, *rest = name.split("+")
    if first in BASELINES:
        return Method(first, PAPER_WAYS if rest == ["all"] else tuple(rest))
    if name in ("base", "control"):
        return Method(None, ())
    return Method(None, PAPER_WAYS if name == "all" else (first, *rest))


def fault(name: str, trials: Iterable[str] = ()) -> str | None:
    """What is wrong with a method's name; None if nothing is.

    Args:
        name: a method as in params.yaml.
        trials: further names that may have been meant.
    """
    if name in names():
        return None
    baseline, _, ways = name.partition("+")
    if baseline not in BASELINES or ways not in with_ways():
        return unknown("method", name, [*names(), *trials])
    for way in parse(name).ways:
        reason = BASELINES[baseline].excludes(way)
        if reason:
            return f"{name}: {way} cannot be added to {baseline}, {reason}"
    return None
