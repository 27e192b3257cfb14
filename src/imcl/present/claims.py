"""The claims of the abstract with their verdicts, as tables."""

from collections import Counter
from collections.abc import Sequence

from imcl.analysis.claims import JudgedClaim, JudgedReading, Scope, describe
from imcl.present import names
from imcl.present.render import (
    MISSING,
    Entry,
    Row,
    Table,
    coverage,
    earlier_code,
    number,
    span,
)
from imcl.study.grid import merged_draws

COUNTS = ("holding", "tested", "planned")
MEANINGS = (
    "Reproduced: every comparison is tested and holds, in each reading that could be tested. "
    "Partly: some hold, or are significant but below the claimed figure. Not reproduced: neither. "
    "Not tested: no comparison has the seeds, width and epochs that params.yaml requires. Size: "
    "reduced if the networks are narrower than the published ones or trained on part of the "
    "dataset."
)
BRIEF = (
    "The method is all four ways together, against plain training, unless the claim says "
    "otherwise. Each effect is the mean over the comparisons, with a 95 % interval over the seeds; "
    "a cost is the mean ratio over networks and machines. Each comparison is judged alone: it "
    "holds if it is significant after a correction for their number, and its interval reaches the "
    "claimed figure. A reading settles what the abstract leaves open: points or percent, the last "
    "or the best epoch, which cost."
)
NUMBERS = (
    "Planned: all comparisons that the claim implies. Tested: those with enough seeds, width and "
    "epochs. Holding: those that are significant in the claimed direction (paired by seed, p < "
    "0.05 after Holm's correction over the comparisons tested in this reading) and whose interval "
    "reaches the claimed figure. Effect: how much the error falls or the accuracy rises, in points "
    "or in percent of the reference; mean over the tested comparisons, with a 95 % t-interval over "
    "the n seeds that they share. Costs are compared without a test: a comparison holds if the "
    "ratio to the reference is below 1, or exactly 1 for the claim that nothing is duplicated. "
    "Effect of a cost: mean ratio [smallest, largest] over backbones and machines; n: timed "
    "steps in each median, or 1 if no time is measured."
)


# The units of effects, in words.
UNITS = {"points": "points", "relative": "%"}


def table(judged: Sequence[JudgedClaim]) -> Table:
    """A row for each claim, with the numbers of one of its readings."""
    rows = []
    for claim in judged:
        told = first_tested(claim)
        verdict = Entry(
            verdict_of(claim),
            sources=sources(claim["readings"]),
            rule="from the verdicts of its readings",
        )
        rows.append([Entry(claim["says"]), verdict, effect(claim), Entry(scope(told))])
    title = (
        "What the abstract claims, and our verdicts over all readings of it, from the records of "
        "all studies. The numbers are those of the first reading that could be tested."
    )
    header = ["claim", "verdict", "effect (claimed)", "scope"]
    align = "@{}L{43mm}L{27mm}L{38mm}L{41mm}@{}"
    rules = f"{MEANINGS} {_numbers_mean(judged)}"
    groups = [[row] for row in rows]
    return Table("claims", title, header, groups, labels=1, align=align, rules=rules)


def first_tested(claim: JudgedClaim) -> JudgedReading:
    """The reading whose numbers stand for the claim: the first that could be tested, if any."""
    readings = claim["readings"]
    return next((r for r in readings if r["verdict"] != "not tested"), readings[0])


def verdict_of(claim: JudgedClaim) -> str:
    """The verdict in words, with the size if that is reduced."""
    verdict = "partly reproduced" if claim["verdict"] == "partly" else claim["verdict"]
    return verdict + ", at reduced size" * (claim["size"] == "reduced")


def effect(claim: JudgedClaim) -> Entry:
    """What was found, beside what was claimed."""
    told = first_tested(claim)
    claimed = f"({claim['claimed']})"
    if told["effect"] is None:
        return Entry(claimed)
    text = f"{found(claim)} {claimed}"
    if told["measure"] not in names.COSTS:  # whose ratios say themselves whether they hold
        text += f"; holds in {_counts(told)} comparisons"
        best = max(claim["readings"], key=lambda reading: reading["comparisons_holding"])
        if best["comparisons_holding"] > told["comparisons_holding"]:
            text += f", in another reading in {_counts(best)}"
    return Entry(
        text,
        value={**told["effect"]},
        rule="over the comparisons of the reading; see the caption",
        sources=sources([told]),
    )


def _counts(reading: JudgedReading) -> str:
    return f"{reading['comparisons_holding']} of {reading['comparisons_tested']}"


def found(claim: JudgedClaim) -> str:
    """The effect of a claim that was tested; of a cost, in each of its measures."""
    told = first_tested(claim)
    if told["measure"] not in names.COSTS:
        text = number(told["effect"], (), "", digits=2, signed=True).text
        return f"{text} {UNITS[told['unit']]}"
    ratios = [
        f"{reading['effect']['mean']:.2f} × {names.COSTS[reading['measure']]}"
        for reading in claim["readings"]
        if reading["effect"] and reading["reading"].get("methods") == told["reading"].get("methods")
    ]
    return ", ".join(ratios)


def scope(reading: JudgedReading) -> str:
    """What the comparisons of a reading were made with, in words; of an untested, what it needs."""
    if reading["scope"] is None and reading["measure"] in names.COSTS:
        return "not measured"
    if reading["scope"] is None:
        needs = dict.fromkeys(c["setting"][0] for c in reading["comparisons"])
        return f"no records of {', '.join(names.SOURCES.get(name, name) for name in needs)}"
    return f"{setting(reading['scope'])}; {size(reading['scope'])}"


def setting(found: Scope) -> str:
    """The labels and networks of a scope, in words."""
    noises = [names.noise(*each) for each in found["noise"].items()]
    return ", ".join([*noises, *map(names.backbone, found["backbones"])])


def size(found: Scope) -> str:
    """The images, width and seeds of a scope, in words; of a cost, the machine."""
    width = " and ".join(map(str, found["widths"]))
    full = "" if found["widths"] == [found["full_width"]] else f" of {found['full_width']}"
    data = ", ".join(names.dataset(*each) for each in found["data"].items())
    seeds = "" if found["machines"] else f"n = {span(found['n'])} seeds"
    return "; ".join(filter(None, [data, f"width {width}{full}", *found["machines"], seeds]))


def readings_table(judged: Sequence[JudgedClaim]) -> Table:
    """A row for each reading that could be tested, a group for each claim."""
    groups = [
        [
            [
                Entry(claim["claim"].replace("_", " "), name=claim["claim"]),
                Entry(_words(reading) or MISSING, name=describe(reading["reading"])),
                Entry(
                    reading["verdict"],
                    sources=sources([reading]),
                    rule="from the states of its comparisons",
                ),
                *_numbers(reading),
            ]
            for reading in claim["readings"]
            if reading["effect"]
        ]
        for claim in judged
    ]
    title = (
        "Each reading of each claim that could be tested: comparisons holding, tested and planned, "
        "and the mean effect over those tested."
    )
    header = ["claim", "reading", "verdict", *COUNTS, "effect", "n"]
    return Table("readings", title, header, groups, align="lllrrrrr", rules=_numbers_mean(judged))


def _words(reading: JudgedReading) -> str:
    """A reading for readers: `50 % wrong labels, points, last epoch`."""
    words = {
        "last": "last epoch",
        "oracle": "best epoch",
        **names.COSTS,
    }
    if reading["scope"]:
        words |= {name: names.noise(name, o) for name, o in reading["scope"]["noise"].items()}
    return ", ".join(words.get(value, value) for value in reading["reading"].values())


def sources(readings: Sequence[JudgedReading]) -> tuple[str, ...]:
    """The files of records and measurements that readings were judged from."""
    comparisons = (c for reading in readings for c in reading["comparisons"])
    return tuple(dict.fromkeys(path for c in comparisons for path in c.get("records", [])))


def _numbers_mean(judged: Sequence[JudgedClaim]) -> str:
    """What the numbers mean, and of those comparisons that count, what their intervals cover."""
    comparisons = (c for claim in judged for r in claim["readings"] for c in r["comparisons"])
    counting = [c for c in comparisons if c["size"] and "cells" in c]  # not those of costs
    draws = merged_draws(c["draws"] for c in counting)
    changes = dict(change for c in counting for change in c["earlier"].items())
    records = {path for c in counting for path in c["records"]}
    told = [NUMBERS, coverage(draws), earlier_code(Counter(changes.values()), len(records))]
    return " ".join(filter(None, told))


def _numbers(reading: JudgedReading) -> Row:
    """The counts of a reading's comparisons, their effect, and its n."""
    behind, effect = sources([reading]), reading["effect"]
    counts = (
        reading["comparisons_holding"],
        reading["comparisons_tested"],
        reading["comparisons_planned"],
    )
    return [
        *(
            number(count, behind, f"comparisons {name}", digits=0)
            for name, count in zip(COUNTS, counts, strict=True)
        ),
        number(effect, behind, "over the comparisons of the reading; see the caption", digits=2),
        number(effect and effect["n"], behind, "n", digits=0),
    ]
