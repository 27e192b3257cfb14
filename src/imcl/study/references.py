"""Checks of params.yaml that its types cannot do: names that refer to other sections.

The checks work on the raw values. They skip values of a wrong type, which `imcl.study.faults`
reports. So even a badly broken file is checked as a whole.
"""

from collections.abc import Iterable, Iterator
from itertools import product
from math import prod
from typing import Any

from imcl.errors import shown, unknown
from imcl.study import methods
from imcl.study.backbones import BACKBONES
from imcl.study.faults import Fault, Place
from imcl.study.settings import AXES, NEEDED, Training
from imcl.study.sources import KINDS, SOURCES

Section = dict[str, dict[str, Any]]

MOST_NETWORKS = 100_000  # in a study; with far more, its plan alone fills the memory


def faults(raw: object) -> Iterator[Fault]:
    """Every name that refers to nothing, and every contradiction between sections.

    Args:
        raw: params.yaml as it was read.
    """
    params: dict[str, Any] = raw if isinstance(raw, dict) else {}
    studies, datasets, noise, trials = (
        _entries(params.get(key)) for key in ("studies", "datasets", "noise", "trials")
    )
    if studies:
        yield from _unknown(("study",), params.get("study"), "study", studies)
    for name, entry in datasets.items():
        yield from _unknown(("datasets", name, "source"), entry.get("source"), "source", SOURCES)
    for name, entry in noise.items():
        if name == "clean":
            message = "'clean' always means the true labels; choose another name"
            yield Fault(("noise", name), message)
        yield from _unknown(("noise", name, "kind"), entry.get("kind"), "kind of noise", KINDS)
    for name in trials:
        if methods.fault(name) is None:
            yield Fault(("trials", name), f"{name!r} is a method already; choose another name")
    too_large = [*_size_faults(studies)]
    if too_large:  # the checks below go through all cells
        yield from too_large
        return
    yield from _search_faults(params.get("search"), studies, datasets, trials)
    known = {
        "datasets": ("dataset", list(datasets)),
        "noise": ("noise", ["clean", *noise]),
        "backbones": ("backbone", list(BACKBONES)),
    }
    for name, study in studies.items():
        yield from _missing_faults(name, study)
        for place, part in _parts(name, study):
            for key, (what, names) in known.items():
                yield from _unknown_items((*place, key), part.get(key), what, names)
            for index, method in enumerate(_list(part.get("methods"))):
                if isinstance(method, str) and method not in (*trials, methods.COMBINATIONS):
                    wrong = methods.fault(method, trials)
                    if wrong:
                        yield Fault((*place, "methods", index), wrong)
        yield from _override_faults(name, study)
        yield from _warmup_faults(name, study, params.get("training"))
        yield from _anchor_faults(name, study)
    yield from _claim_faults(params.get("claims"), known)


def _parts(name: str, study: dict[str, Any]) -> list[tuple[Place, dict[str, Any]]]:
    """A study and its blocks as they are written, each with its place."""
    place: Place = ("studies", name)
    blocks = [
        ((*place, "blocks", index), block)
        for index, block in enumerate(_list(study.get("blocks")))
        if isinstance(block, dict)
    ]
    return [(place, study), *blocks]


def _blocks(name: str, study: dict[str, Any]) -> list[tuple[Place, dict[str, Any]]]:
    """The blocks of a study with what they take over; a study without blocks is one.

    Overrides, which add to those of the study, are only the block's own.
    """
    whole, *blocks = _parts(name, study)
    return [
        (place, {**{key: study[key] for key in NEEDED if key in study}, **block})
        for place, block in blocks
    ] or [whole]


def _names(block: dict[str, Any], key: str) -> list[str]:
    """The names on an axis of a block, with the combinations written out."""
    if key != "methods":
        return [name for name in _list(block.get(key)) if isinstance(name, str)]
    stated = _list(methods.listed(block.get(key)))
    return methods.expanded([name for name in stated if isinstance(name, str)])


def _missing_faults(name: str, study: dict[str, Any]) -> Iterator[Fault]:
    """What neither a block nor its study states."""
    for place, block in _blocks(name, study):
        missing = [key for key in NEEDED if key not in block]
        if missing:
            where = ", here or at the study" if "blocks" in place else ""
            yield Fault(place, f"missing: {', '.join(missing)}{where}")


def _size_faults(studies: Section) -> Iterator[Fault]:
    """Studies of more networks than a machine can plan."""
    for name, study in studies.items():
        count = sum(
            prod(len(_names(block, key)) for key in AXES) * len(_list(block.get("seeds")))
            for _, block in _blocks(name, study)
        )
        if count > MOST_NETWORKS:
            message = f"{count:,} networks are too many; a study may have {MOST_NETWORKS:,}"
            yield Fault(("studies", name), message)


def _override_faults(name: str, study: dict[str, Any]) -> Iterator[Fault]:
    """Overrides of the ways for noise that the study, or the block, does not have."""
    blocks = dict(_blocks(name, study))
    every = dict.fromkeys(noise for block in blocks.values() for noise in _names(block, "noise"))
    for place, part in _parts(name, study):
        of_block = "blocks" in place
        noises = _names(blocks[place], "noise") if of_block else list(every)
        ways = part.get("ways")
        if noises and isinstance(ways, dict):
            what = f"noise of the {'block' if of_block else 'study'}"
            for noise in ways:
                yield from _unknown((*place, "ways", noise), noise, what, noises)


def _warmup_faults(name: str, study: dict[str, Any], common: object) -> Iterator[Fault]:
    """A warm-up that takes all epochs of a block."""
    given = [common, study.get("training")]
    for place, block in _blocks(name, study):
        training = dict(Training())
        for options in (*given, block.get("training")):
            training |= options if isinstance(options, dict) else {}
        warmup, epochs = training["warmup_epochs"], training["epochs"]
        if type(warmup) is type(epochs) is int and warmup >= epochs:
            message = f"warmup_epochs {warmup} must be less than epochs, which is {epochs}"
            yield Fault((*place, "training"), message)


def _anchor_faults(name: str, study: dict[str, Any]) -> Iterator[Fault]:
    """Anchors that are not cells of their study."""
    axes = [[_names(block, key) for key in AXES] for _, block in _blocks(name, study)]
    anchors = study.get("anchors")
    known = all(all(of_block) for of_block in axes)
    for anchor in anchors if isinstance(anchors, dict) and known else ():
        parts = anchor.split("-")
        if not any(
            len(parts) == len(names) and all(map(list.__contains__, names, parts)) for names in axes
        ):
            message = (
                f"{shown(anchor)} is not a cell of the study; write DATASET-NOISE-BACKBONE-METHOD"
            )
            yield Fault(("studies", name, "anchors"), message)


def _search_faults(
    search: object, studies: Section, datasets: Section, trials: Section
) -> Iterator[Fault]:
    """Rungs that are not studies on held-out images, and choices that no rung tried."""
    if not isinstance(search, dict):
        return
    tried: set[tuple[str, str]] = set()
    for index, rung in enumerate(_list(search.get("rungs"))):
        if not isinstance(rung, str):
            continue
        place: Place = ("search", "rungs", index)
        yield from _unknown(place, rung, "study", studies)
        for _, block in _blocks(rung, studies.get(rung, {})):
            tried.update(product(_names(block, "methods"), _names(block, "noise")))
            for name in _names(block, "datasets"):
                if name in datasets and "validation_share" not in datasets[name]:
                    message = f"study {rung!r} would choose settings on the test images of {name}; "
                    yield Fault(place, message + "use a dataset with validation_share")
    chosen = search.get("chosen")
    for part, entries in chosen.items() if isinstance(chosen, dict) else ():
        for index, entry in enumerate(_list(entries)):
            place = ("search", "chosen", part, index, "method")
            trial = entry.get("method") if isinstance(entry, dict) else None
            yield from _unknown(place, trial, "trial", trials)
            if isinstance(trial, str) and trial in trials:
                noise = entry.get("noise")
                if part not in trials[trial]:
                    yield Fault(place, f"trial {trial!r} does not set {part}")
                elif isinstance(noise, str) and (trial, noise) not in tried:
                    message = f"no study in search.rungs has trial {trial!r} with {noise} labels"
                    yield Fault(place, message)


def _claim_faults(claims: object, known: dict[str, tuple[str, list[str]]]) -> Iterator[Fault]:
    """Claims that refer to nothing or leave out what they need.

    A claim about cost may name any method, since the benches have variants of their own.
    """
    for name, claim in _entries(claims.get("ledger") if isinstance(claims, dict) else None).items():
        place = ("claims", "ledger", name)
        readings = claim.get("readings")
        readings = readings if isinstance(readings, dict) else {}
        stated = claim | readings
        about_errors = stated.get("measure") in ("error", "accuracy")
        needed = ("measure", "methods", *(("datasets", "noise") if about_errors else ()))
        missing = [key for key in needed if key not in stated]
        if missing:
            yield Fault(place, f"missing: {', '.join(missing)}, here or under readings")
        for at, part in ((place, claim), ((*place, "readings"), readings)):
            for key, (what, names) in known.items():
                yield from _unknown_items((*at, key), part.get(key), what, names)
            for key in ("methods", "against") if about_errors else ():
                for index, method in enumerate(_list(part.get(key))):
                    wrong = methods.fault(method) if isinstance(method, str) else None
                    if wrong:
                        yield Fault((*at, key, index), wrong)


def _entries(section: object) -> Section:
    """The entries of a section that are mappings, as all should be."""
    entries = section.items() if isinstance(section, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _unknown(place: Place, value: object, what: str, known: Iterable[str]) -> Iterator[Fault]:
    if isinstance(value, str) and value not in known:
        yield Fault(place, unknown(what, value, known))


def _unknown_items(place: Place, values: object, what: str, known: list[str]) -> Iterator[Fault]:
    for index, value in enumerate(_list(values)):
        yield from _unknown((*place, index), value, what, known)
