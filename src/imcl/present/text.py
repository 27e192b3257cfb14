"""What the paper's text says: its values, as a table that `imcl trace` finds, and its findings."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from imcl.analysis.claims import VERDICTS
from imcl.analysis.summary import Summary
from imcl.present import claims, differences, names
from imcl.present.by_method import covered
from imcl.present.documents import Documents
from imcl.present.inputs import trained
from imcl.present.render import Entry, Table, isolated, number, span
from imcl.study import methods


def table(documents: Documents) -> Table:
    """A row for each value. Those whose name starts with `Study` are LaTeX commands."""
    said = {**_study(documents), **_claims(documents), **_comparisons(documents)}
    rows = [[Entry(name), entry] for name, entry in said.items()]
    return Table("text", "What the text says.", ["name", "value"], [rows], labels=1, shown=False)


def _study(documents: Documents) -> dict[str, Entry]:
    summary = documents.summary
    axes, shown = summary["axes"], names.of(summary)
    every = [row["key"] for row in summary["cells"]]
    seeds = [len(row["seeds"]) for row in summary["cells"]]
    commits = dict.fromkeys((code["commit"] or "unknown")[:12] for code in summary["code"])
    modified = " (modified)" if any(code["modified"] for code in summary["code"]) else ""
    devices = dict.fromkeys(isolated(where["device_name"]) for where in summary["environment"])
    versions = dict.fromkeys(where["torch"] for where in summary["environment"])

    def count(value: float, rule: str) -> Entry:
        return number(value, every, rule, digits=0)

    def stated(key: str, rule: str) -> Entry:
        """A setting; where several values are in use, with the datasets that each is for."""
        values = trained(summary, key)
        if len(values) == 1 and isinstance(values[0][1], int | float):
            (_, value) = values[0]
            return Entry(_word(value), False, value, rule, tuple(every))
        parts = [
            f"{_word(value)} ({_placed(where, shown)})" if where else _word(value)
            for where, value in values
        ]
        return Entry(" or ".join(parts) or "their own")

    return {
        "Study": Entry(summary["study"]),
        "StudyDigest": Entry(summary["digest"]),
        "StudyCells": count(len(summary["cells"]), "cells that have a record"),
        "StudyPlanned": count(summary["planned"], "cells of the study"),
        "StudySeeds": Entry(span(seeds), False, max(seeds), "seeds of each cell", tuple(every)),
        "StudyDatasets": Entry("; ".join(shown.datasets.values())),
        "StudyNoise": Entry(", ".join(shown.noise.values())),
        "StudyBackbones": Entry(" and ".join(shown.backbones.values())),
        "StudyWidth": stated("width", "backbone.width"),
        "StudyEpochs": stated("epochs", "training.epochs"),
        "StudyBatchSize": stated("batch_size", "training.batch_size"),
        "StudyLearningRate": stated("learning_rate", "training.learning_rate"),
        "StudySchedule": stated("schedule", "training.schedule"),
        "StudyPrecision": stated("precision", "training.precision"),
        "StudyCommit": Entry(", ".join(commits) + modified),
        "StudyDevice": Entry("; ".join(devices)),
        "StudyTorch": Entry(", ".join(versions)),
        "StudyCovered": Entry(covered(summary, *axes["datasets"])),
        "StudyPermutation": Entry(_permutation(summary)),
        "StudyVerdicts": Entry(claims.MEANINGS),
        "StudyComparisons": Entry(claims.NUMBERS),
    }


def _placed(where: str, shown: names.Names) -> str:
    """Where a value holds, for readers: `STL-10`."""
    known = shown.datasets | shown.noise | shown.backbones
    places = [place.split("/") for place in where.split(", ")]
    return ", ".join(" ".join(known.get(part, part) for part in parts) for parts in places)


def _permutation(summary: Summary) -> str:
    """Why p-values of the permutation test are shown or not, in a sentence."""
    every = [each["base"] for each in summary["comparisons"].values()]
    if any(each["permutation_decides"] for each in every):
        return "A permutation test is shown beside the t-test."
    pairs = max((each["pairs"] for each in every), default=1)
    least = min((each["least_permutation_p"] for each in every), default=1)
    if not any(each["tested"] for each in every) or pairs < 2:
        return "One seed allows no test."
    return (
        f"With {pairs} seeds a permutation test cannot give less than p = {least:.2g}, so it "
        "cannot be significant and is not shown; significance rests on a t-test with "
        f"{pairs - 1} degree{'s' if pairs > 2 else ''} of freedom."
    )


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def _claims(documents: Documents) -> dict[str, Entry]:
    """How many claims there are, by verdict, and at reduced size."""
    judged = documents.claims
    selections = {"StudyClaims": judged}
    for verdict in VERDICTS:
        name = f"StudyClaims{verdict.title().replace(' ', '')}"
        selections[name] = [claim for claim in judged if claim["verdict"] == verdict]
    selections["StudyClaimsReduced"] = [claim for claim in judged if claim["size"] == "reduced"]
    return {
        name: number(
            len(selected),
            claims.sources([reading for claim in selected for reading in claim["readings"]]),
            "claims of the ledger",
            digits=0,
        )
        for name, selected in selections.items()
    }


def _comparisons(documents: Documents) -> dict[str, Entry]:
    """For each dataset, how many cells were compared with base, and the outcomes."""
    said = {}
    for dataset in documents.summary["axes"]["datasets"]:
        found = documents.summary["comparisons"][dataset]["base"]
        sources = [
            row["key"]
            for row in documents.summary["cells"]
            if row["dataset"] == dataset and "difference_to_base" in row
        ]
        counts = {
            "compared": found["made"],
            "higher": len(found["higher"]),
            "better": len(found["better"]),
            "worse": len(found["worse"]),
        }
        for name, count in counts.items():
            rule = f"comparisons with base that are {name}"
            said[f"{name} {dataset}"] = number(count, sources, rule, digits=0)
    return said


Outcome = Literal["gains", "loses", "undecided"]


class Effect(NamedTuple):
    """What a method changes in all settings with a label noise, for the sentences.

    Attributes:
        method: its name for readers.
        text: the difference to base with its interval.
        mean: of the difference.
        outcome: `gains` or `loses` if the interval excludes 0.
        views: augmentations of each image in a step.
    """

    method: str
    text: str
    mean: float
    outcome: Outcome
    views: int


class Finding(NamedTuple):
    """What the methods change with a label noise; without methods that lack a setting.

    `best` is the best of all methods that were trained in every setting.
    """

    noise: str
    all: Effect | None
    control: Effect | None
    default: Effect | None
    ways: list[Effect]
    baselines: list[Effect]
    best: Effect | None
    partial: list[str]


def findings(documents: Documents) -> list[Finding]:
    """What the methods change, for each label noise with which any was compared with base."""
    summary = documents.summary
    shown = names.of(summary)
    rows: dict[str, dict[str, Entry]] = {}
    for table in differences.aggregate(summary):
        for method, row in table.rows().items():
            rows.setdefault(method, {}).update(row)
    views = {row["method"]: row["views"] for row in summary["cells"]}
    best = {row["noise"]: row["method"] for row in summary["aggregate"] if row["best"]}
    found = []
    for noise in summary["axes"]["noise"]:
        effects = {
            method: _effect(shown.methods[method], row[noise], views[method])
            for method, row in rows.items()
            if noise in row and row[noise].value
        }
        if not effects:
            continue
        partial = {
            row["method"]
            for row in summary["aggregate"]
            if row["noise"] == noise and not row["complete"]
        }
        found.append(
            Finding(
                shown.noise[noise],
                effects.get("all"),
                effects.get("control"),
                effects.get("default"),
                [effect for method, effect in effects.items() if _is_way(method)],
                [effect for m, effect in effects.items() if methods.parse(m).baseline],
                effects.get(best.get(noise, "")),
                [shown.methods[m] for m in summary["axes"]["methods"] if m in partial],
            )
        )
    return found


class Advice(NamedTuple):
    """The best method for some label noises; None where none is above base by its interval.

    `text` is the difference to base, or the least and the largest of several.
    """

    noises: list[str]
    method: str | None
    text: str
    views: int


def advice(found: Sequence[Finding]) -> list[Advice]:
    """What to use with each label noise; noises with the same best method together."""
    by_method: dict[str | None, list[tuple[str, Effect | None]]] = {}
    for finding in found:
        best = finding.best if finding.best and finding.best.outcome == "gains" else None
        by_method.setdefault(best and best.method, []).append((finding.noise, best))
    told = []
    for method, those in by_method.items():
        effects = sorted((e for _, e in those if e), key=lambda e: e.mean)
        ends = [effect.text.split(" ")[0] for effect in (effects[:1] + effects[-1:])]
        text = effects[0].text if len(effects) == 1 else " to ".join(ends)
        views = max((effect.views for effect in effects), default=1)
        told.append(Advice([noise for noise, _ in those], method, text, views))
    return told


def _effect(method: str, entry: Entry, views: int) -> Effect:
    mean = entry.mean or 0.0
    clear = 0 < entry.half_width < abs(mean)
    outcome: Outcome = "undecided" if not clear else "gains" if mean > 0 else "loses"
    return Effect(method, entry.text, mean, outcome, views)


def _is_way(method: str) -> bool:
    parsed = methods.parse(method)
    return method != "default" and parsed.baseline is None and len(parsed.ways) == 1


def judged(documents: Documents) -> list[dict[str, Any]]:
    """The claims as the text tells them."""
    told = []
    for claim in documents.claims:
        first = claims.first_tested(claim)
        told.append(
            {
                "says": claim["says"].removesuffix("."),
                "verdict": claims.verdict_of(claim),
                "size": claim["size"],
                "tested": claim["verdict"] != "not tested",
                "is_cost": first["measure"] in names.COSTS,
                "found": claims.found(claim) if first["effect"] else "",
                "claimed": claim["claimed"],
                "scope": claims.scope(first),
                "setting": claims.setting(first["scope"]) if first["scope"] else "",
                "at": claims.size(first["scope"]) if first["scope"] else "",
            }
        )
    return told


def untrained(summary: Summary) -> str:
    """The planned cells without a record, in words; empty if there are none."""
    gaps, shown = summary["untrained"], names.of(summary)
    named: Mapping[str, str] = shown.datasets | shown.noise | shown.backbones
    said = [f"any method with {names.noise(name, o)}" for name, o in gaps["noise"].items()]
    if gaps["methods"]:
        said.append(f"{', '.join(map(names.method, gaps['methods']))} in any setting")
    for place, lacking in gaps["settings"].items():
        where = ", ".join(named.get(part, part) for part in place.split("/"))
        said.append(f"{', '.join(map(names.method, lacking))} ({where})")
    return "; ".join(said)
