"""The tables of a study's data and of its settings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from imcl.analysis.summary import Summary, Used
from imcl.present import names
from imcl.present.render import MISSING, Entry, Row, Table, number

Placed = tuple[str, Any]  # where a value holds, in words, and the value


def data(summary: Summary) -> Table:
    """A row for each dataset and for each of its noisy labels."""
    rows, shown = [], names.of(summary)
    for name, dataset in summary["data"].items():
        cells = [row for row in summary["cells"] if row["dataset"] == name]
        sources = [row["key"] for row in cells]
        sizes = [
            number(dataset["n_train"] or None, sources, "dataset.n_train", digits=0),
            number(dataset["n_validation"] or None, sources, "dataset.n_validation", digits=0),
            number(dataset["n_test"] or None, sources, "dataset.n_test", digits=0),
        ]
        no_rates = [Entry(MISSING), Entry(MISSING)]
        label = Entry(shown.datasets[name], name=name)
        clean = Entry(shown.noise.get("clean", "clean labels"), name="clean")
        rows.append([label, clean, *sizes, *no_rates, _hash(summary, name)])
        for key, info in summary["noise"].items():
            of, labels = key.split(" ")
            if of == name:
                noisy = [row["key"] for row in cells if row["noise"] == labels]
                rates = [
                    number(info[rate], noisy, f"noise.{rate}", scale=100, digits=2, unit=" %")
                    for rate in ("nominal_rate", "realised_rate")
                ]
                noise = Entry(shown.noise[labels], name=labels)
                rows.append([label, noise, *sizes, *rates, _hash(summary, key)])
    header = ["dataset", "labels", "training", "validation", "test"]
    header += ["nominal rate", "realised rate", "SHA-256"]
    title = (
        "Data and labels: number of images, nominal and realised noise rate, and the hash of the "
        "data or, in rows with noise, of the noisy labels."
    )
    if any(len(hashes) > 1 for hashes in summary["hashes"].values()):
        title += " If each run draws its own, rates are means over the runs."
    return Table("data", title, header, [rows])


def _hash(summary: Summary, key: str) -> Entry:
    """The hash of data or labels; the report lists all of them if each run draws its own."""
    hashes = summary["hashes"][key]
    return Entry((hashes[0] or "")[:12] if len(hashes) == 1 else f"{len(hashes)} draws")


def settings(summary: Summary) -> Table:
    """A row for each setting, grouped by what it belongs to."""
    groups = [
        [*_by_setting("study", "seeds", trained(summary, "seeds"))],
        [*_by_setting("backbone", "width", trained(summary, "width"))],
    ]
    groups += [_group(name, options) for name, options in summary["backbones"].items()]
    groups += [_group(name, options) for name, options in summary["datasets"].items()]
    groups += [_group(name, options) for name, options in summary["noises"].items()]
    training = summary["trained"][0]["training"] if summary["trained"] else {}
    groups.append(
        [row for key in training for row in _by_setting("training", key, trained(summary, key))]
    )
    for way, used in summary["ways"].items():
        groups.append([row for item in _options(used) for row in _by_setting(way, *item)])
    groups += [_group(name, options) for name, options in summary["baselines"].items()]
    groups.append(_own("default", summary["default"]))
    groups += [_own(cell, choice["options"]) for cell, choice in summary["chosen"].items()]
    title = (
        "Every setting of the study, as params.yaml names it. All are choices of this reproduction."
    )
    if summary["chosen"]:
        title += " What the search chose for a cell, at the end, comes before what is said above."
    return Table("settings", title, ["part", "setting", "value"], [*filter(None, groups)])


def trained(summary: Summary, key: str) -> list[Placed]:
    """How networks are trained: the values of `width`, `seeds` or an option of the training.

    Networks of torchvision and timm have no width.
    """
    values = []
    for each in summary["trained"]:
        if key == "width" and not each["width"]:
            continue
        seeds = ", ".join(map(str, each["seeds"]))
        value = {**each["training"], "width": each["width"], "seeds": seeds}[key]
        values.append((value, each["settings"]))
    return _placed(values, {setting for _, settings in values for setting in settings})


def options_differ(summary: Summary) -> bool:
    """Whether a way's options depend on the setting."""
    return bool(summary["chosen"]) or any(len(used) > 1 for used in summary["ways"].values())


def _options(used: Sequence[Used]) -> Iterator[tuple[str, list[Placed]]]:
    """The names of a way's options, each with its values."""
    every = {setting for each in used for setting in each["settings"]}
    for key in dict.fromkeys(key for each in used for key in each["options"]):
        values = [(e["options"][key], e["settings"]) for e in used if key in e["options"]]
        yield key, _placed(values, every)


def _placed(values: Iterable[tuple[Any, list[str]]], every: set[str]) -> list[Placed]:
    """Values with where they hold; a value that holds in every setting has no place."""
    where: dict[str, tuple[Any, list[str]]] = {}
    for value, settings in values:
        where.setdefault(str(value), (value, []))[1].extend(settings)
    return [
        ("" if len(where) == 1 and {*settings} == every else _places({*settings}, every), value)
        for value, settings in where.values()
    ]


def _places(settings: set[str], every: set[str]) -> str:
    """Settings in as few words as tell them from the others: datasets, noises, or both."""
    for parts in (slice(0, 1), slice(1, 2), slice(0, 2), slice(0, 3)):
        names = {"/".join(setting.split("/")[parts]) for setting in settings}
        if settings == {s for s in every if "/".join(s.split("/")[parts]) in names}:
            break
    return ", ".join(sorted(names))


def _by_setting(part: str, key: str, values: Iterable[Placed]) -> Iterator[Row]:
    for where, value in values:
        yield _setting(part, f"{key} ({where})" if where else key, value)


def _group(part: str, options: Mapping[str, Any]) -> list[Row]:
    return [_setting(part, key, value) for key, value in options.items()]


def _own(part: str, options: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """The options of several ways or baselines that one method has."""
    return _group(part, {f"{of}.{key}": v for of, own in options.items() for key, v in own.items()})


def _setting(part: str, key: str, value: object) -> Row:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return [Entry(part), Entry(key), Entry(text)]
