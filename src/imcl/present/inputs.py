"""The tables of a study's data and of its settings."""

from collections.abc import Iterator, Mapping
from typing import Any

from imcl.analysis.summary import Summary
from imcl.present.render import MISSING, Entry, Row, Table, number


def data(summary: Summary) -> Table:
    """A row for each dataset and for each of its noisy labels."""
    rows = []
    for name, dataset in summary["data"].items():
        cells = [row for row in summary["cells"] if row["dataset"] == name]
        sources = [row["key"] for row in cells]
        sizes = [
            number(dataset["n_train"] or None, sources, "dataset.n_train", digits=0),
            number(dataset["n_validation"] or None, sources, "dataset.n_validation", digits=0),
            number(dataset["n_test"] or None, sources, "dataset.n_test", digits=0),
        ]
        no_rates = [Entry(MISSING), Entry(MISSING)]
        rows.append([Entry(name), Entry("clean"), *sizes, *no_rates, _hash(summary, name)])
        for key, noise in summary["noise"].items():
            of, label = key.split(" ")
            if of == name:
                noisy = [row["key"] for row in cells if row["noise"] == label]
                rates = [
                    number(noise[rate], noisy, f"noise.{rate}", scale=100, digits=2, unit=" %")
                    for rate in ("nominal_rate", "realised_rate")
                ]
                rows.append([Entry(name), Entry(label), *sizes, *rates, _hash(summary, key)])
    header = ["dataset", "noise", "training", "validation", "test"]
    header += ["nominal rate", "realised rate", "SHA-256"]
    caption = (
        "Data and labels: number of images, nominal and realised noise rate, and the hash of the "
        "data or, in rows with noise, of the noisy labels."
    )
    if any(len(hashes) > 1 for hashes in summary["hashes"].values()):
        caption += " If each run draws its own, rates are means over the runs."
    return Table("data", caption, header, [rows])


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
    groups += [_group(name, options) for name, options in summary["datasets"].items()]
    groups += [_group(name, options) for name, options in summary["noises"].items()]
    training = summary["trained"][0]["training"] if summary["trained"] else {}
    groups.append(
        [row for key in training for row in _by_setting("training", key, trained(summary, key))]
    )
    for way, by_noise in summary["ways_by_noise"].items():
        groups.append([_setting(way, *item) for item in _options_by_noise(by_noise)])
    groups += [_group(name, options) for name, options in summary["baselines"].items()]
    for trial, parts in summary["trials"].items():
        own = {f"{part}.{key}": v for part, options in parts.items() for key, v in options.items()}
        groups.append(_group(trial, own))
    caption = "Every setting of the study. All of them are choices of this reproduction."
    return Table("settings", caption, ["part", "setting", "value"], groups)


def trained(summary: Summary, key: str) -> dict[str, Any]:
    """How networks are trained: the value of `width`, `seeds` or an option of the training.

    By where it holds: datasets, or settings as DATASET/NOISE/BACKBONE; "" if it holds everywhere.
    """
    where: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for each in summary["trained"]:
        value = {**each["training"], "width": each["width"], "seeds": each["seeds"]}[key]
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        values[text] = text if isinstance(value, list) else value
        where.setdefault(text, []).extend(each["settings"])
    if len(where) < 2:
        return dict(zip([""], values.values(), strict=False))
    every = [setting for settings in where.values() for setting in settings]
    return {_places(settings, every): values[text] for text, settings in where.items()}


def _places(settings: list[str], every: list[str]) -> str:
    """Settings in words, by their datasets where all settings of a dataset are among them."""
    places = []
    for dataset in dict.fromkeys(setting.partition("/")[0] for setting in settings):
        mine, all_of_it = (
            [setting for setting in of if setting.startswith(f"{dataset}/")]
            for of in (settings, every)
        )
        places += [dataset] if {*mine} == {*all_of_it} else mine
    return ", ".join(places)


def options_differ(summary: Summary) -> bool:
    """Whether a way's options depend on the noise, among the noises that are shown."""
    for by_noise in summary["ways_by_noise"].values():
        used = [by_noise[noise] for noise in summary["axes"]["noise"] if noise in by_noise]
        if any(options != used[0] for options in used):
            return True
    return False


def _options_by_noise(by_noise: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, object]]:
    """A way's options. Where the value depends on the noise, the noise is named."""
    for key in dict.fromkeys(key for options in by_noise.values() for key in options):
        values = {noise: options[key] for noise, options in by_noise.items() if key in options}
        for value in dict.fromkeys(values.values()):
            noises = [noise for noise, other in values.items() if other == value]
            of_all = len(noises) == len(by_noise)
            yield key if of_all else f"{key} ({', '.join(noises)})", value


def _by_setting(part: str, key: str, values: Mapping[str, Any]) -> Iterator[Row]:
    for where, value in values.items():
        yield _setting(part, f"{key} ({where})" if where else key, value)


def _group(part: str, options: Mapping[str, Any]) -> list[Row]:
    return [_setting(part, key, value) for key, value in options.items()]


def _setting(part: str, key: str, value: object) -> Row:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return [Entry(part), Entry(key), Entry(text)]
