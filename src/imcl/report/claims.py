"""Judges the claims of the abstract, which params.yaml states as data, from all records there are.

A claim is a set of comparisons: each of its methods against each of its references, in each
setting. Where the abstract is ambiguous it has several readings, and each is judged. A comparison
counts if it has the seeds, width and epochs that `claims.evidence` asks for; one that has less is
shown as an indication, and no verdict rests on it. One that counts is of full size with the width
of `claims.full_size`, on the whole dataset, and of reduced size otherwise; where both are there,
the full one is taken. A verdict says the size that it rests on: reduced, if any part of it is.
Records on held-out training images served to choose settings and are no evidence, and neither are
those of a study that says so (params.yaml: studies.NAME.evidence).
"""

from collections.abc import Iterable, Iterator
from itertools import product
from math import prod
from pathlib import Path

from imcl import grid, stats
from imcl.files import read_json
from imcl.report import BENCHES, records, render

SIGNIFICANCE = 0.05
RANKS = (None, "reduced", "full")
COSTS = ("training_parameters", "macs", "time", "memory")
VERDICTS = ("reproduced", "partly", "not reproduced", "not tested")

# Keys of a claim that hold a list, where a reading names one.
LISTS = ("methods", "noise")


def judge(params: dict, here: bool = True) -> list[dict]:
    """Every claim with its verdict, its readings and their comparisons.

    A claim's verdict is that of its readings that could be tested; where they differ it is
    `partly`.

    Args:
        params: checked parameters.
        here: a record made here goes before the committed one.
    """
    runs = list(_runs(params, here))
    benches = {
        path: read_json(path, ("settings", "environment", "rows"))
        for path in sorted(BENCHES.glob("overhead-*.json"))
    }
    judged = []
    for name, claim in params["claims"]["ledger"].items():
        readings = []
        for choice in _readings(claim):
            stated = {**claim, **{k: [v] if k in LISTS else v for k, v in choice.items()}}
            if stated["measure"] in COSTS:
                comparisons = _costs(stated, benches, params["claims"]["full_size"])
            else:
                comparisons = _errors(stated, params, runs)
            readings.append({"reading": choice, **_verdict(stated, comparisons)})
        verdicts = {r["verdict"] for r in readings} - {"not tested"}
        judged.append(
            {
                "claim": name,
                "says": claim["says"],
                "figure": claim.get("figure"),
                "verdict": _common(verdicts),
                "size": _least(r["size"] for r in readings),
                "missing": list(dict.fromkeys(m for r in readings for m in r["missing"])),
                "readings": readings,
            }
        )
    return judged


def _common(verdicts: set[str]) -> str:
    if not verdicts:
        return "not tested"
    return verdicts.pop() if len(verdicts) == 1 else "partly"


def _least(sizes: Iterable[str | None]) -> str | None:
    """The smaller of the sizes that verdicts rest on; None if there is none."""
    found = set(sizes)
    return next((size for size in ("reduced", "full") if size in found), None)


def _readings(claim: dict) -> Iterator[dict]:
    """Every combination of what the abstract leaves open."""
    open_to = claim.get("readings", {})
    for chosen in product(*open_to.values()):
        yield dict(zip(open_to, chosen, strict=True))


def _verdict(stated: dict, comparisons: list[dict]) -> dict:
    """The verdict on one reading.

    reproduced: every comparison is tested and holds. partly: some do. not reproduced: none does.
    """
    tested = [c for c in comparisons if c["state"] != "not tested"]
    holding = [c for c in tested if c["state"] == "holds"]
    if not tested:
        verdict = "not tested"
    elif len(holding) == len(comparisons):
        verdict = "reproduced"
    elif holding or any(c["state"] == "short" for c in tested):
        verdict = "partly"
    else:
        verdict = "not reproduced"
    return {
        "verdict": verdict,
        "size": _least(c["size"] for c in tested),
        "comparisons_planned": len(comparisons),
        "comparisons_tested": len(tested),
        "comparisons_holding": len(holding),
        "effect": _effect(stated, tested),
        "missing": _missing(comparisons),
        "comparisons": comparisons,
    }


def _effect(stated: dict, tested: list[dict]) -> dict | None:
    """One effect for all comparisons: their mean, seed by seed (costs: their range).

    Comparisons share seeds, and often the networks they are compared with, so their values are no
    independent ones: what the seeds alone leave open is what the interval tells.
    """
    if not tested:
        return None
    if stated["measure"] in COSTS:
        ratios = [c["effect"]["mean"] for c in tested]
        mean = sum(ratios) / len(ratios)
        return {"mean": mean, "low": min(ratios), "high": max(ratios), "n": tested[0]["n"]}
    by_seed = [dict(zip(c["seeds"], c["values"], strict=True)) for c in tested]
    shared = [seed for seed in by_seed[0] if all(seed in values for values in by_seed)]
    if not shared:
        return None
    means = [sum(values[seed] for values in by_seed) / len(by_seed) for seed in shared]
    return stats.estimate(means)._asdict()


def _missing(comparisons: list[dict]) -> list[str]:
    """What is missing, in words, each reason with all the settings that it holds for."""
    reasons: dict[str, dict] = {}
    for comparison in comparisons:
        if comparison["lacks"]:
            reasons.setdefault(comparison["lacks"], {})[tuple(comparison["setting"])] = None
    return [f"{lacks}: {_settings(list(settings))}" for lacks, settings in reasons.items()]


def _settings(settings: list[tuple]) -> str:
    """Settings in words: by their parts where every combination of these is there."""
    parts = [list(dict.fromkeys(part)) for part in zip(*settings, strict=True)]
    if len(settings) == prod(map(len, parts)):
        return "; ".join(", ".join(part) for part in parts)
    return ", ".join(" ".join(setting) for setting in settings)


def _runs(params: dict, here: bool) -> Iterator[dict]:
    """What the records of every study say, by their planned cells."""
    for study, plan in params["studies"].items():
        if not plan.get("evidence", True):
            continue
        for cell in grid.cells(params, study):
            path = records.find(cell, study, here)
            if path is None:
                continue
            record = records.read(cell, path)
            yield {
                "study": study,
                "cell": cell,
                "path": path,
                "last": [run["final"]["accuracy"] for run in record["runs"]],
                "oracle": [run["oracle"]["accuracy"] for run in record["runs"]],
            }


def _errors(stated: dict, params: dict, runs: list[dict]) -> list[dict]:
    """The comparisons of error or accuracy, Holm-corrected over those that are tested."""
    made = []
    for dataset, noise, backbone in product(
        stated["datasets"], stated["noise"], stated["backbones"]
    ):
        for method, other in product(stated["methods"], stated["against"]):
            candidates = list(
                _candidates(stated, params, runs, (dataset, noise, backbone), method, other)
            )
            chosen = max(candidates, key=lambda c: (RANKS.index(c["size"]), c["n"]), default={})
            state = "tested" if chosen and chosen["size"] else "not tested"
            made.append(
                {
                    "setting": [dataset, noise, backbone],
                    "method": method,
                    "against": other,
                    "state": state,
                    "size": None,
                    "lacks": "no records",
                    "n": 0,
                    **chosen,
                }
            )
    tested = [c for c in made if c["state"] == "tested"]
    for comparison, p in zip(tested, stats.holm([c["p"] for c in tested]), strict=True):
        effect = comparison["effect"]
        comparison["p_holm"] = p
        significant = p is not None and p < SIGNIFICANCE
        if not significant:
            comparison["state"] = "undecided"
        elif effect["mean"] < 0:
            comparison["state"] = "contradicted"
        else:
            reached = effect["mean"] + effect["half_width"] >= stated.get("figure", 0)
            comparison["state"] = "holds" if reached else "short"
    return made


def _candidates(stated, params, runs, setting, method, other) -> Iterator[dict]:
    """The comparison in each study that holds both methods on this data, or on less of it.

    In the studies' order: of equal ones the first counts.
    """
    dataset, noise, backbone = setting
    epoch = stated.get("epoch", "last")
    source = params["datasets"][dataset]["source"]
    for mine in runs:
        cell = mine["cell"]
        noise_name = cell.config["noise"]["name"]
        if (noise_name, cell.backbone, cell.method) != (noise, backbone, method):
            continue
        if cell.dataset.config["source"] != source or "validation_share" in cell.dataset.config:
            continue
        same = (mine["study"], cell.dataset.name, noise, backbone, other)
        theirs = next((r for r in runs if _place(r) == same), None)
        if theirs is None:
            continue
        values = _paired(stated, mine[epoch], theirs[epoch])
        if values is None:
            continue
        size, lacks = _size(params["claims"], cell, dataset)
        yield {
            "study": mine["study"],
            "size": size,
            "lacks": f"study {mine['study']} has {lacks}" if lacks else "",
            "seeds": cell.config["seeds"],
            "values": values,
            "n": len(values),
            "effect": stats.estimate(values)._asdict(),
            "p": stats.paired_p(values, [0.0] * len(values)),
            "cells": [cell.key, theirs["cell"].key],
            "records": [str(mine["path"]), str(theirs["path"])],
        }


def _place(run: dict) -> tuple:
    cell = run["cell"]
    noise = cell.config["noise"]["name"]
    return run["study"], cell.dataset.name, noise, cell.backbone, cell.method


def _paired(stated: dict, mine: list[float], theirs: list[float]) -> list[float] | None:
    """By seed, what is better than the reference: in points, or relative to it in percent."""
    points = [100 * (a - b) for a, b in zip(mine, theirs, strict=True)]
    if stated.get("unit", "points") == "points":
        return points
    whole = [1 - b for b in theirs] if stated["measure"] == "error" else theirs
    # Nothing is relative to an error of 0.
    return [p / w for p, w in zip(points, whole, strict=True)] if all(whole) else None


def _size(section: dict, cell: grid.Cell, dataset: str) -> tuple[str | None, str]:
    """The size of a comparison, None if it does not count; and what it lacks of full size."""
    has = {
        "seeds": len(cell.config["seeds"]),
        "width": cell.config["backbone"]["width"],
        "epochs": cell.config["training"]["epochs"],
    }
    counts = all(has[key] >= least for key, least in section["evidence"].items())
    wanted = {**section["evidence"], **section["full_size"]}
    short = [f"{k} {has[k]} of {least}" for k, least in wanted.items() if has[k] < least]
    if cell.dataset.name != dataset:
        short.append(f"{cell.dataset.name} alone")
    return ("reduced" if short else "full") if counts else None, ", ".join(short)


def _costs(stated: dict, benches: dict[Path, dict], full_size: dict) -> list[dict]:
    """The comparisons of cost, on each machine that was measured."""
    key = stated["measure"] if stated["measure"] == "training_parameters" else None
    key = key or f"{stated['measure']}_ratio"
    made = []
    for path, bench in benches.items():
        rows = {(row["backbone"], row["method"]): row for row in bench["rows"]}
        for backbone, method, other in product(
            stated["backbones"], stated["methods"], stated["against"]
        ):
            pair = [rows.get((backbone, name)) for name in (method, other)]
            comparison = {
                "setting": [bench["environment"]["device_name"], backbone],
                "method": method,
                "against": other,
                "size": None,
                "n": bench["settings"]["repeats"] if stated["measure"] == "time" else 1,
                "records": [str(path)],
            }
            if None in pair:
                made.append({**comparison, "state": "not tested", "lacks": "not measured"})
                continue
            ratio = pair[0][key] / pair[1][key]
            fits = ratio == 1 if stated.get("relation") == "equal" else ratio < 1
            width, least = pair[0]["width"], full_size["width"]
            comparison |= {
                "effect": {"mean": ratio, "half_width": None},
                "size": "full" if width >= least else "reduced",
                "lacks": "" if width >= least else f"measured at width {width} of {least}",
            }
            made.append({**comparison, "state": "holds" if fits else "contradicted"})
    return made or [
        {
            "setting": ["any machine"],
            "state": "not tested",
            "size": None,
            "lacks": "no `imcl bench overhead`",
        }
    ]


def show(judged: list[dict]) -> None:
    """Print the ledger: a line for each claim, and one for each reading of it."""
    for claim in judged:
        size = " at reduced size" if claim["size"] == "reduced" else ""
        print(f"{claim['claim']}: {claim['verdict']}{size}. {claim['says']}")
        for reading in claim["readings"]:
            choice = describe(reading["reading"])
            counts = (
                f"{reading['comparisons_holding']} hold of {reading['comparisons_tested']} tested "
                f"of {reading['comparisons_planned']}"
            )
            line = f"  {choice + ': ' if choice else ''}{reading['verdict']}, {counts}"
            effect = reading["effect"]
            if effect:
                shown = render.number(effect, (), "", digits=2)
                line += f", effect {shown.text} (n = {effect['n']})"
            print(line)
        for missing in claim["missing"]:
            print(f"  missing: {missing}")


def describe(reading: dict) -> str:
    """A reading in a few words."""
    return ", ".join(f"{key} {value}" for key, value in reading.items())
