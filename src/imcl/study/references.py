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
from imcl.study.faults import Fault, Place
from imcl.study.settings import BACKBONES, Training
from imcl.study.sources import KINDS, SOURCES

Section = dict[str, dict[str, Any]]

AXES = ("datasets", "noise", "backbones", "methods")
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
        for key, (what, names) in known.items():
            yield from _unknown_items(("studies", name, key), study.get(key), what, names)
        for index, method in enumerate(_list(study.get("methods"))):
            if isinstance(method, str) and method not in trials:
                wrong = methods.fault(method, trials)
                if wrong:
                    yield Fault(("studies", name, "methods", index), wrong)
        yield from _override_faults(name, study)
        yield from _warmup_faults(name, study, params.get("training"))
        yield from _anchor_faults(name, study)
    yield from _claim_faults(params.get("claims"), known)


def _size_faults(studies: Section) -> Iterator[Fault]:
    """Studies of more networks than a machine can plan."""
    for name, study in studies.items():
        count = prod(len(_list(study.get(key))) for key in (*AXES, "seeds"))
        if count > MOST_NETWORKS:
            message = f"{count:,} networks are too many; a study may have {MOST_NETWORKS:,}"
            yield Fault(("studies", name), message)


def _override_faults(name: str, study: dict[str, Any]) -> Iterator[Fault]:
    """Overrides of the ways for noise that the study does not have."""
    noises = [noise for noise in _list(study.get("noise")) if isinstance(noise, str)]
    ways = study.get("ways")
    if noises and isinstance(ways, dict):
        for noise in ways:
            yield from _unknown(
                ("studies", name, "ways", noise), noise, "noise of the study", noises
            )


def _warmup_faults(name: str, study: dict[str, Any], common: object) -> Iterator[Fault]:
    """A warm-up that takes all epochs of the study."""
    own = study.get("training", {})
    if not isinstance(own, dict):
        return
    training = {**dict(Training()), **(common if isinstance(common, dict) else {}), **own}
    warmup, epochs = training["warmup_epochs"], training["epochs"]
    if type(warmup) is type(epochs) is int and warmup >= epochs:
        message = f"warmup_epochs {warmup} must be less than epochs, which is {epochs}"
        yield Fault(("studies", name, "training"), message)


def _anchor_faults(name: str, study: dict[str, Any]) -> Iterator[Fault]:
    """Anchors that are not cells of their study."""
    axes = [_list(study.get(key)) for key in AXES]
    anchors = study.get("anchors")
    for anchor in anchors if isinstance(anchors, dict) and all(axes) else ():
        parts = anchor.split("-")
        if len(parts) != len(axes) or not all(map(list.__contains__, axes, parts)):
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
        study = studies.get(rung, {})
        for axes in product(_list(study.get("methods")), _list(study.get("noise"))):
            if all(isinstance(name, str) for name in axes):
                tried.add(axes)
        for name in _list(study.get("datasets")):
            dataset = datasets.get(name) if isinstance(name, str) else None
            if dataset is not None and "validation_share" not in dataset:
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
