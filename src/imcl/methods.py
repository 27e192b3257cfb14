"""The names of methods: `base`, `control`, combinations of ways, peers, and peers with ways."""

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

from imcl.errors import unknown
from imcl.peers import APART, PEERS
from imcl.ways import WAYS


class Method(NamedTuple):
    """A method taken apart: the peer that trains, if any, and the ways that are added."""

    peer: str | None
    ways: tuple[str, ...]


def combined() -> list[str]:
    """`base`, every combination of the ways joined by `+`, and `all`: sixteen."""
    joined = ("+".join(c) for size in range(1, len(WAYS)) for c in combinations(WAYS, size))
    return ["base", *joined, "all"]


def names() -> list[str]:
    """All methods but those that add ways to a peer, such as `multihead+kernel`.

    `control` is base trained on as many augmentations of each image as `output` compares: what the
    `augment` variants gain from seeing more, without any way.
    """
    return ["base", "control", *combined()[1:], *PEERS]


def parse(name: str) -> Method:
    """The method of a name for which `fault` finds nothing."""
    first, *rest = name.split("+")
    if first in PEERS:
        return Method(first, tuple(WAYS) if rest == ["all"] else tuple(rest))
    if name in ("base", "control"):
        return Method(None, ())
    return Method(None, tuple(WAYS) if name == "all" else (first, *rest))


def fault(name: str, trials: Iterable[str] = ()) -> str | None:
    """What is wrong with a method's name, in words; None if nothing is.

    `trials` are names that it may have been meant for.
    """
    if name in names():
        return None
    peer, _, ways = name.partition("+")
    if peer not in PEERS or ways not in combined()[1:]:
        return unknown("method", name, [*names(), *trials])
    used = parse(name).ways
    for way, reason in APART.get(peer, {}).items():
        if way in used:
            return f"{name}: {way} cannot be added to {peer}, {reason}"
    return None
