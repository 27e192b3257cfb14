"""Checks of params.yaml that its types cannot do: names that refer to other sections.

The checks work on the raw values. They skip values of a wrong type, which `imcl.study.faults`
reports. So even a badly broken file is checked as a whole.
"""

from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

from imcl.errors import shown, unknown
from imcl.study import methods
from imcl.study.backbones import BACKBONES, CHANNELS
from imcl.study.faults import Fault, Place
from imcl.study.options import BASELINES, WAYS, OnlyLoss
from imcl.study.settings import AXES, NEEDED, Training
from imcl.study.sources import KINDS, SOURCES

Section = dict[str, dict[str, Any]]

SEARCH = "search_"  # before a study's name: its search

MOST_NETWORKS = 100_000  # in a study; with far more, its plan alone fills the memory


def faults(raw: object) -> Iterator[Fault]:
    """Every name that refers to nothing, and every contradiction between sections.

    Args:
        raw: params.yaml as it was read.
    """
    params: dict[str, Any] = raw if isinstance(raw, dict) else {}
    studies, datasets, noise, foreign = (
        _entries(params.get(key)) for key in ("studies", "datasets", "noise", "backbones")
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
    for name in foreign:
        if name in BACKBONES:
            message = f"{name!r} always means the network of this package; choose another name"
            yield Fault(("backbones", name), message)
    for name in studies:
        if name.startswith(SEARCH) and name.removeprefix(SEARCH) in studies:
            message = (
                f"this is the name of the search of {name.removeprefix(SEARCH)!r}; choose another"
            )
            yield Fault(("studies", name), message)
    too_large = [*_size_faults(studies)]
    if too_large:  # the checks below go through all cells
        yield from too_large
        return
    search = params.get("search")
    yield from _search_faults(search if isinstance(search, dict) else {})
    counts = {method: len(tried) for method, tried in _candidates(search).items()}
    known = {
        "datasets": ("dataset", list(datasets)),
        "noise": ("noise", ["clean", *noise]),
        "backbones": ("backbone", [*BACKBONES, *foreign]),
    }
    for name, study in studies.items():
        yield from _missing_faults(name, study)
        yield from _foreign_faults(name, study, foreign, datasets)
        for place, part in _parts(name, study):
            for key, (what, names) in known.items():
                yield from _unknown_items((*place, key), part.get(key), what, names)
            for index, method in enumerate(_list(part.get("methods"))):
                if isinstance(method, str) and method != methods.COMBINATIONS:
                    wrong = methods.fault(method, counts)
                    if wrong:
                        yield Fault((*place, "methods", index), wrong)
        yield from _override_faults(name, study)
        yield from _warmup_faults(name, study, params.get("training"))
        yield from _anchor_faults(name, study)
        yield from _choice_faults(name, study.get("chosen"), known)
    known["backbones"] = ("backbone", list(BACKBONES))  # the abstract claims nothing of others
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
    """What neither a block nor its study states; the width is for our backbones alone."""
    for place, block in _blocks(name, study):
        backbones = {*_names(block, "backbones")}
        needed = [*NEEDED] if not backbones or backbones & {*BACKBONES} else [*AXES, "seeds"]
        missing = [key for key in needed if key not in block]
        if missing:
            where = ", here or at the study" if "blocks" in place else ""
            yield Fault(place, f"missing: {', '.join(missing)}{where}")


def _foreign_faults(
    name: str, study: dict[str, Any], foreign: Section, datasets: Section
) -> Iterator[Fault]:
    """Cells in which a network of torchvision or timm cannot be trained."""
    for place, block in _blocks(name, study):
        others = [each for each in _names(block, "backbones") if each in foreign]
        for method in _names(block, "methods") if others else ():
            baseline = None if methods.fault(method) else methods.parse(method).baseline
            if baseline and not issubclass(BASELINES[baseline], OnlyLoss):
                message = (
                    f"{method}: {baseline} takes a backbone of this package apart "
                    f"({', '.join(BACKBONES)}), not {others[0]}; give them blocks of their own"
                )
                yield Fault((*place, "methods"), message)
        for dataset in _names(block, "datasets") if others else ():
            source = datasets.get(dataset, {}).get("source")
            size = SOURCES[source].size if isinstance(source, str) and source in SOURCES else None
            if size and size.channels != CHANNELS:
                message = (
                    f"{dataset}: its images have {size.channels} channel, but {others[0]} reads "
                    f"{CHANNELS}; take another dataset or backbone"
                )
                yield Fault((*place, "datasets"), message)


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


def _candidates(search: object) -> dict[str, list[Any]]:
    """The candidates of a search by method, as far as they are lists."""
    candidates = search.get("candidates") if isinstance(search, dict) else None
    found = candidates.items() if isinstance(candidates, dict) else ()
    return {method: tried for method, tried in found if isinstance(tried, list)}


def _search_faults(search: dict[str, Any]) -> Iterator[Fault]:
    """Candidates that are unfair or cannot be tried, and rungs that choose nothing."""
    candidates = _candidates(search)
    if candidates and "base" not in candidates:
        message = "base is missing: its training is chosen first, for all methods"
        yield Fault(("search", "candidates"), message)
    most = max(map(len, candidates.values()), default=0)
    for method, tried in candidates.items():
        place: Place = ("search", "candidates", method)
        wrong = methods.fault(method)
        if wrong or method in methods.UNSEARCHED:
            yield Fault(place, wrong or f"{method} has no settings of its own; leave it out")
            continue
        if len(tried) < most:
            message = f"{len(tried)} candidates, but other methods have {most}; give each as many"
            yield Fault(place, message)
        for index, options in enumerate(tried):
            yield from _option_faults((*place, index), method, options)
    rungs = [rung for rung in _list(search.get("rungs")) if isinstance(rung, dict)]
    left: object = most
    for index, rung in enumerate(rungs):
        kept = rung.get("keep", 1)
        if type(kept) is type(left) is int and kept > left > 0:
            message = f"keeps {kept} candidates, but there are {left} left"
            yield Fault(("search", "rungs", index, "keep"), message)
        left = kept
    if rungs and len(_list(rungs[-1].get("seeds"))) < 2:
        message = "one seed is too few to choose with; give the last rung two or more"
        yield Fault(("search", "rungs", len(rungs) - 1, "seeds"), message)
    if rungs and left != 1:
        message = "the last rung chooses, so it keeps 1; leave this out"
        yield Fault(("search", "rungs", len(rungs) - 1, "keep"), message)


def _option_faults(place: Place, method: str, options: object) -> Iterator[Fault]:
    """Options of parts that a method does not have."""
    parts = ["training"] if method == "base" else methods.parse(method).parts
    stated = options if isinstance(options, dict) else {}
    times = stated.get("times")
    factors = times if isinstance(times, dict) else {}
    for where, names in (((), stated), (("times",), factors)):
        for name in names:
            if name in {"training", *WAYS, *BASELINES} and name not in parts:
                yield Fault((*place, *where, name), f"{method} has no {name}; leave it out")


def _choice_faults(
    study: str, chosen: object, known: dict[str, tuple[str, list[str]]]
) -> Iterator[Fault]:
    """Choices for what is no cell, or of options that the cell does not have.

    The cell need not be in the study, so that a method can be left out for a while.
    """
    for name, choice in chosen.items() if isinstance(chosen, dict) else ():
        place: Place = ("studies", study, "chosen", name)
        *setting, method = str(name).split("-")
        if len(setting) != len(known):
            message = (
                f"{shown(name)} is not the name of a cell; write DATASET-NOISE-BACKBONE-METHOD"
            )
            yield Fault(place, message)
            continue
        for value, (what, names) in zip(setting, known.values(), strict=True):
            yield from _unknown(place, value, what, names)
        wrong = methods.fault(method)
        if wrong or method in methods.UNSEARCHED:
            yield Fault(place, wrong or f"{method} has no settings of its own; leave it out")
        elif isinstance(choice, dict):
            yield from _option_faults((*place, "options"), method, choice.get("options"))


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
