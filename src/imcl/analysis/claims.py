"""Judges the claims of the abstract from the records of all studies.

params.yaml states the claims as data. A claim is a set of comparisons: each of its methods with
each of its references, in each setting. Where the abstract leaves something open, the claim has
several readings, and each is judged.

A comparison counts if it has the seeds, width and epochs that `claims.evidence` asks for. One with
less is shown, but no verdict rests on it. A comparison is of full size if it has the width of
`claims.full_size` and the whole dataset, otherwise of reduced size; if both exist, the full one
counts. A verdict is of reduced size if any of its comparisons is.

Two kinds of records do not count: those on held-out training images, since the settings were chosen
with them, and those of studies with `evidence: false` (params.yaml: studies.NAME.evidence).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.analysis import statistics
from imcl.errors import ImclError
from imcl.files import read_as, write_json
from imcl.project import Project
from imcl.records.record import Measurement, changed_since
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.grid import Draw
from imcl.study.settings import Claim, Settings
from imcl.study.settings import Claims as ClaimSettings

Verdict = Literal["reproduced", "partly", "not reproduced", "not tested"]
State = Literal["holds", "short", "contradicted", "undecided", "not tested"]
Size = Literal["reduced", "full"]

VERDICTS: tuple[Verdict, ...] = ("reproduced", "partly", "not reproduced", "not tested")
COSTS = ("training_parameters", "macs", "time", "memory")
RANKS: tuple[Size | None, ...] = (None, "reduced", "full")

Named = dict[str, dict[str, Any]]  # options by the name of what they belong to

# What a claim may leave open, the outermost first: its readings come in this order.
OPEN = ("methods", "measure", "noise", "unit", "epoch")


class Effect(TypedDict):
    """How much better a method is than its reference; for a cost, its ratio to the reference.

    Errors and accuracies have `half_width` and `std`, as an Estimate; the ratios of a reading have
    `low` and `high`, the least and the largest. `n` counts seeds; for a cost, timed steps.
    """

    mean: float
    half_width: NotRequired[float | None]
    std: NotRequired[float | None]
    low: NotRequired[float]
    high: NotRequired[float]
    n: NotRequired[int]


class ClaimComparison(TypedDict):
    """A method against a reference in one setting.

    Attributes:
        setting: dataset, noise and backbone; of a cost, machine and backbone.
        state: `holds`: significant in the claimed direction, and its interval reaches the claimed
            figure; `short`: significant, but its interval ends below the figure; `contradicted`:
            significant in the other direction; `undecided`: not significant. A cost holds or is
            contradicted, without a test.
        size: None if the comparison does not count.
        lacks: what it lacks to be of full size, in words; empty if nothing.
        n: seeds; of a cost, timed steps.
        study: the study that the records belong to. This and all below only if there are records.
        values: by seed, in points or relative in percent; above 0 is better than the reference.
        p: of the paired t-test.
        p_holm: p after Holm's correction over the comparisons of the reading that count.
        width: of the networks.
        data: the options of the dataset, by its name; of a cost, empty.
        noise: the options of the label noise, by its name; None for clean labels.
        draws: `Cell.draws` of both.
        earlier: by the path of each record of earlier code, what the code computes differently.
        cells: the keys of method and reference.
        records: the paths of their records, or of the measurement, from the project's root.
    """

    setting: list[str]
    state: State
    size: Size | None
    lacks: str
    method: NotRequired[str]
    against: NotRequired[str]
    n: NotRequired[int]
    study: NotRequired[str]
    seeds: NotRequired[list[int]]
    values: NotRequired[list[float]]
    effect: NotRequired[Effect]
    p: NotRequired[float | None]
    p_holm: NotRequired[float | None]
    width: NotRequired[int]
    data: NotRequired[Named]
    noise: NotRequired[dict[str, dict[str, Any] | None]]
    draws: NotRequired[dict[str, Draw]]
    earlier: NotRequired[dict[str, str]]
    cells: NotRequired[list[str]]
    records: NotRequired[list[str]]


class Scope(TypedDict):
    """What the comparisons of a reading that count were made with.

    Attributes:
        data: the options of the datasets, by name.
        noise: those of the label noises; None for clean labels.
        backbones: in the claim's order.
        machines: of costs.
        widths: of the networks; `full_width` is the published one.
        n: the numbers of seeds; of costs, of timed steps.
    """

    data: Named
    noise: dict[str, dict[str, Any] | None]
    backbones: list[str]
    machines: list[str]
    widths: list[int]
    full_width: int
    n: list[int]


class JudgedReading(TypedDict):
    """One reading of a claim.

    Attributes:
        reading: what was chosen of what the claim leaves open.
        measure: error, accuracy or one of COSTS, as this reading has it; so is `unit`.
        verdict: reproduced: every comparison is tested and holds; partly: some do; not reproduced:
            none does; not tested: no comparison counts.
        size: the smallest of its comparisons that count; None if none counts.
        scope: of its comparisons that count; `effect` too. None if there is none.
        missing: what it lacks to be of full size, in words.
    """

    reading: dict[str, str]
    measure: str
    unit: str
    verdict: Verdict
    size: Size | None
    comparisons_planned: int
    comparisons_tested: int
    comparisons_holding: int
    scope: Scope | None
    effect: Effect | None
    missing: list[str]
    comparisons: list[ClaimComparison]


class JudgedClaim(TypedDict):
    """A claim with its verdict: that of the readings that could be tested; `partly` if they differ.

    `figure` is the number that the abstract states, in percent; `claimed` what an effect has to be.
    """

    claim: str
    says: str
    figure: float | None
    claimed: str
    verdict: Verdict
    size: Size | None
    missing: list[str]
    readings: list[JudgedReading]


class ClaimsFile(TypedDict):
    """results/claims.json: the claims, and whether they rest on committed records alone."""

    committed: bool
    claims: list[JudgedClaim]


_FILE = TypeAdapter(ClaimsFile)


class Pair(NamedTuple):
    """A method and its reference, in one setting."""

    dataset: str
    noise: str
    backbone: str
    method: str
    against: str

    @property
    def setting(self) -> list[str]:
        return [self.dataset, self.noise, self.backbone]


@dataclass(frozen=True)
class Statement:
    """A claim in one reading: nothing is left open."""

    measure: str
    unit: str
    epoch: str
    methods: list[str]
    against: list[str]
    datasets: list[str]
    noise: list[str]
    backbones: list[str]
    figure: float
    equal: bool

    def pairs(self) -> Iterator[Pair]:
        """What a claim about errors or accuracies compares."""
        settings = product(self.datasets, self.noise, self.backbones)
        for setting, method, other in product(settings, self.methods, self.against):
            yield Pair(*setting, method, other)


@dataclass(frozen=True)
class Result:
    """The accuracies of a cell by seed, at the `last` epoch and at the `oracle` epoch.

    `record` is the path of its record; `earlier`: what the code computes differently since.
    """

    cell: grid.Cell
    record: str
    earlier: str | None
    accuracy: dict[str, dict[int, float]]


# Study, dataset, noise, backbone and method.
Results = dict[tuple[str, str, str, str, str], Result]


def judge(project: Project, settings: Settings, committed: bool = False) -> list[JudgedClaim]:
    """Every claim with its verdict, its readings and their comparisons.

    Args:
        project: whose records and measurements are read.
        settings: state the claims and plan the studies.
        committed: use committed records alone. Otherwise a record made here comes before the
            committed one.
    """
    results = _results(project, settings, committed)
    measurements = {
        project.relative(path): measurement
        for path, measurement in Store(project).measurements("overhead").items()
    }
    judged: list[JudgedClaim] = []
    for name, claim in settings.claims.ledger.items():
        readings = []
        for reading in _readings(claim):
            statement, width = _statement(claim, reading), settings.claims.full_size.width
            if statement.measure in COSTS:
                comparisons = _costs(statement, measurements, width)
            else:
                comparisons = _errors(statement, settings, results)
            readings.append(_judged(reading, statement, comparisons, width))
        judged.append(
            {
                "claim": name,
                "says": claim.says,
                "figure": claim.figure,
                "claimed": _claimed(claim, readings[0]["measure"] in COSTS),
                "verdict": _common(reading["verdict"] for reading in readings),
                "size": _least(reading["size"] for reading in readings),
                "missing": list(dict.fromkeys(m for r in readings for m in r["missing"])),
                "readings": readings,
            }
        )
    return judged


def write(project: Project, settings: Settings, committed: bool = False) -> Path:
    """Write results/claims.json; return its path. The arguments are those of `judge`."""
    path = project.claims(committed)
    found: ClaimsFile = {
        "committed": committed,
        "claims": judge(project, settings, committed),
    }
    write_json(path, found)
    return path


def read(project: Project, committed: bool = False) -> list[JudgedClaim]:
    """The claims as they were judged last.

    Raises:
        ImclError: they were not judged yet, or the file is damaged.
    """
    path = project.claims(committed)
    if not path.exists():
        command = "imcl claims --save" + " --committed" * committed
        raise ImclError(f"{path}: missing; run `{command}` first")
    return read_as(path, _FILE)["claims"]


def describe(reading: Mapping[str, str]) -> str:
    """A reading in a few words: `unit points, epoch last`."""
    return ", ".join(f"{key} {value}" for key, value in reading.items())


# Readings and verdicts -------------------------------------------------------------------------


def _readings(claim: Claim) -> Iterator[dict[str, str]]:
    """Every combination of what the claim leaves open."""
    given = claim.readings.model_dump(exclude_none=True) if claim.readings else {}
    left = {key: given[key] for key in OPEN if key in given}
    for chosen in product(*left.values()):
        yield dict(zip(left, chosen, strict=True))


def _claimed(claim: Claim, cost: bool) -> str:
    if cost:
        return "1" if claim.relation == "equal" else "below 1"
    return f"{claim.figure:g}" if claim.figure else "above 0"


def _statement(claim: Claim, reading: Mapping[str, str]) -> Statement:
    return Statement(
        measure=reading.get("measure") or str(claim.measure),
        unit=reading.get("unit", "points"),
        epoch=reading.get("epoch", "last"),
        methods=[reading["methods"]] if "methods" in reading else claim.methods or [],
        against=claim.against,
        datasets=claim.datasets or [],
        noise=[reading["noise"]] if "noise" in reading else claim.noise or [],
        backbones=claim.backbones,
        figure=claim.figure or 0.0,
        equal=claim.relation == "equal",
    )


def _judged(
    reading: dict[str, str],
    statement: Statement,
    comparisons: list[ClaimComparison],
    full_width: int,
) -> JudgedReading:
    tested = [c for c in comparisons if c["state"] != "not tested"]
    holding = [c for c in tested if c["state"] == "holds"]
    verdict: Verdict
    if not tested:
        verdict = "not tested"
    elif len(holding) == len(comparisons):
        verdict = "reproduced"
    elif holding or any(c["state"] == "short" for c in tested):
        verdict = "partly"
    else:
        verdict = "not reproduced"
    return {
        "reading": reading,
        "measure": statement.measure,
        "unit": statement.unit,
        "verdict": verdict,
        "size": _least(c["size"] for c in tested),
        "comparisons_planned": len(comparisons),
        "comparisons_tested": len(tested),
        "comparisons_holding": len(holding),
        "scope": _scope(tested, statement.measure in COSTS, full_width) if tested else None,
        "effect": _range(tested) if statement.measure in COSTS else _mean_by_seed(tested),
        "missing": _missing(comparisons),
        "comparisons": comparisons,
    }


def _scope(tested: list[ClaimComparison], costs: bool, full_width: int) -> Scope:
    """Of comparisons that count."""
    data: Named = {}
    noise: dict[str, dict[str, Any] | None] = {}
    for comparison in tested:
        data |= comparison["data"]
        noise |= comparison["noise"]
    return {
        "data": data,
        "noise": noise,
        "backbones": list(dict.fromkeys(c["setting"][-1] for c in tested)),
        "machines": list(dict.fromkeys(c["setting"][0] for c in tested)) if costs else [],
        "widths": sorted({c["width"] for c in tested}),
        "full_width": full_width,
        "n": sorted({c["n"] for c in tested}),
    }


def _common(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a claim from those of its readings."""
    found = set(verdicts) - {"not tested"}
    if not found:
        return "not tested"
    return found.pop() if len(found) == 1 else "partly"


def _least(sizes: Iterable[Size | None]) -> Size | None:
    """The smaller of the sizes; None if there is none."""
    return min((size for size in sizes if size), key=RANKS.index, default=None)


def _mean_by_seed(tested: list[ClaimComparison]) -> Effect | None:
    """The mean of the comparisons for each seed that all of them have, with its interval.

    Comparisons share seeds, and often the networks of the reference, so their values are not
    independent. So the interval covers only the variation between seeds.
    """
    if not tested:
        return None
    by_seed = [dict(zip(c["seeds"], c["values"], strict=True)) for c in tested]
    shared = [seed for seed in by_seed[0] if all(seed in values for values in by_seed)]
    if not shared:
        return None
    means = [sum(values[seed] for values in by_seed) / len(by_seed) for seed in shared]
    return {**statistics.estimate(means)}


def _range(tested: list[ClaimComparison]) -> Effect | None:
    """The mean, the least and the largest of the ratios of costs."""
    if not tested:
        return None
    ratios = [c["effect"]["mean"] for c in tested]
    mean = sum(ratios) / len(ratios)
    return {"mean": mean, "low": min(ratios), "high": max(ratios), "n": tested[0]["n"]}


def _missing(comparisons: list[ClaimComparison]) -> list[str]:
    """What is missing, in words: each reason with all the settings that it holds for."""
    reasons: dict[str, list[tuple[str, ...]]] = {}
    for comparison in comparisons:
        if comparison["lacks"]:
            reasons.setdefault(comparison["lacks"], []).append(tuple(comparison["setting"]))
    return [
        f"{lacks}: {_settings(list(dict.fromkeys(settings)))}"
        for lacks, settings in reasons.items()
    ]


def _settings(settings: list[tuple[str, ...]]) -> str:
    """Settings in words: by their parts if they are all combinations of these, else one by one."""
    parts = [list(dict.fromkeys(part)) for part in zip(*settings, strict=True)]
    if len(settings) == prod(map(len, parts)):
        return "; ".join(", ".join(part) for part in parts)
    return ", ".join(" ".join(setting) for setting in settings)


# Errors and accuracies -------------------------------------------------------------------------


def _results(project: Project, settings: Settings, committed: bool) -> Results:
    """The accuracies of all studies that count as evidence, in the studies' order."""
    planned = [
        (study, cell)
        for study, plan in settings.studies.items()
        if plan.evidence
        for cell in grid.cells(settings, study)
    ]
    found: Results = {}
    for study, cell, path, record in Store(project).existing(planned, committed):
        place = (study, cell.dataset.name, cell.noise_name, cell.backbone, cell.method)
        found[place] = Result(
            cell,
            project.relative(path),
            changed_since(record),
            {
                "last": {run["seed"]: run["final"]["accuracy"] for run in record["runs"]},
                "oracle": {run["seed"]: run["oracle"]["accuracy"] for run in record["runs"]},
            },
        )
    return found


def _errors(statement: Statement, settings: Settings, results: Results) -> list[ClaimComparison]:
    """The comparisons of error or accuracy, Holm-corrected over those that count."""
    made: list[ClaimComparison] = []
    for pair in statement.pairs():
        none: ClaimComparison = {
            "setting": pair.setting,
            "method": pair.method,
            "against": pair.against,
            "state": "not tested",
            "size": None,
            "lacks": "no records",
            "n": 0,
        }
        found = _candidates(statement, pair, settings, results)
        made.append(max(found, key=lambda c: (RANKS.index(c["size"]), c["n"]), default=none))
    tested = [c for c in made if c["size"]]
    for comparison, p in zip(tested, statistics.holm([c["p"] for c in tested]), strict=True):
        comparison["p_holm"] = p
        comparison["state"] = _state(comparison["effect"], p, statement.figure)
    return made


def _state(effect: Effect, p: float | None, figure: float) -> State:
    if p is None or p >= statistics.SIGNIFICANCE:
        return "undecided"
    if effect["mean"] < 0:
        return "contradicted"
    return "holds" if effect["mean"] + (effect["half_width"] or 0) >= figure else "short"


def _candidates(
    statement: Statement, pair: Pair, settings: Settings, results: Results
) -> Iterator[ClaimComparison]:
    """The comparison in each study that has both methods on this dataset, or on a part of it.

    In the studies' order: of equal ones the first counts.
    """
    source = settings.datasets[pair.dataset].source
    for (study, subset, *place), mine in results.items():
        options = mine.cell.dataset.options
        if place != [pair.noise, pair.backbone, pair.method] or options.source != source:
            continue
        theirs = results.get((study, subset, pair.noise, pair.backbone, pair.against))
        if theirs is None or options.validation_share is not None:
            continue
        by_seed = _better_by(statement, mine, theirs)
        if not by_seed:
            continue
        values = list(by_seed.values())
        size, lacks = _size(settings.claims, mine.cell, pair.dataset, len(values))
        yield {
            "setting": pair.setting,
            "method": pair.method,
            "against": pair.against,
            "state": "not tested",
            "size": size,
            "lacks": f"study {study} has {lacks}" if lacks else "",
            "n": len(values),
            "study": study,
            "seeds": list(by_seed),
            "values": values,
            "effect": {**statistics.estimate(values)},
            "p": statistics.paired_p(values, [0.0] * len(values)),
            "width": mine.cell.width,
            "data": {mine.cell.dataset.name: mine.cell.dataset.config},
            "noise": {pair.noise: mine.cell.noise.config if mine.cell.noise else None},
            "draws": grid.merged_draws([mine.cell.draws, theirs.cell.draws]),
            "earlier": {r.record: r.earlier for r in (mine, theirs) if r.earlier},
            "cells": [mine.cell.key, theirs.cell.key],
            "records": [mine.record, theirs.record],
        }


def _better_by(statement: Statement, mine: Result, theirs: Result) -> dict[int, float]:
    """By seed, how much better than the reference: in points, or relative to it in percent.

    Empty where they share no seed, or where it would be relative to an error or accuracy of 0.
    """
    own, reference = mine.accuracy[statement.epoch], theirs.accuracy[statement.epoch]
    points = {seed: 100 * (own[seed] - reference[seed]) for seed in own if seed in reference}
    if statement.unit == "points":
        return points
    error = statement.measure == "error"
    whole = {seed: 1 - reference[seed] if error else reference[seed] for seed in points}
    return {seed: points[seed] / whole[seed] for seed in points} if all(whole.values()) else {}


def _size(
    claims: ClaimSettings, cell: grid.Cell, dataset: str, seeds: int
) -> tuple[Size | None, str]:
    """The size of a comparison, None if it does not count; and what it lacks to be of full size."""
    has = {"seeds": seeds, "width": cell.width, "epochs": cell.training.epochs}
    evidence = claims.evidence.model_dump()
    counts = all(has[key] >= least for key, least in evidence.items())
    wanted = {**evidence, **claims.full_size.model_dump()}
    short = [f"{key} {has[key]} of {least}" for key, least in wanted.items() if has[key] < least]
    if cell.dataset.name != dataset:
        short.append(f"only {cell.dataset.name}")
    size: Size = "reduced" if short else "full"
    return size if counts else None, ", ".join(short)


# Costs -----------------------------------------------------------------------------------------


def _costs(
    statement: Statement, measurements: Mapping[str, Measurement], full_width: int
) -> list[ClaimComparison]:
    """The comparisons of cost, on each machine that was measured."""
    key = statement.measure
    if key != "training_parameters":
        key += "_ratio"
    made: list[ClaimComparison] = []
    for path, measurement in measurements.items():
        rows = {(row["backbone"], row["method"]): row for row in measurement["rows"]}
        for backbone, method, other in product(
            statement.backbones, statement.methods, statement.against
        ):
            comparison: ClaimComparison = {
                "setting": [measurement["environment"]["device_name"], backbone],
                "method": method,
                "against": other,
                "state": "not tested",
                "size": None,
                "lacks": "not measured",
                "n": measurement["settings"]["repeats"] if statement.measure == "time" else 1,
                "records": [path],
            }
            mine, theirs = rows.get((backbone, method)), rows.get((backbone, other))
            if mine and theirs:
                ratio, width = mine[key] / theirs[key], mine["width"]
                fits = ratio == 1 if statement.equal else ratio < 1
                full = width >= full_width
                comparison |= {"width": width, "data": {}, "noise": {}}
                comparison["effect"] = {"mean": ratio, "half_width": None}
                comparison["state"] = "holds" if fits else "contradicted"
                comparison["size"] = "full" if full else "reduced"
                comparison["lacks"] = "" if full else f"measured at width {width} of {full_width}"
            made.append(comparison)
    return made or [
        {
            "setting": ["any machine"],
            "state": "not tested",
            "size": None,
            "lacks": "no measurement by `imcl bench overhead`",
        }
    ]
