"""The claims of the abstract with their verdicts, as tables."""

from collections import Counter
from collections.abc import Sequence

from imcl.analysis.claims import JudgedClaim, JudgedReading, describe
from imcl.present.render import MISSING, Entry, Row, Table, coverage, earlier_code, number
from imcl.study.grid import merged_draws

COUNTS = ("holding", "tested", "planned")
MEANINGS = (
    "Reproduced: every comparison is tested and holds, in each reading that could be tested. "
    "Partly: some hold, or are significant but below the claimed figure. Not reproduced: neither. "
    "Not tested: no comparison has the seeds, width and epochs that params.yaml requires. Size: "
    "reduced if the networks are narrower than the published ones or trained on part of the "
    "dataset."
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


def table(judged: Sequence[JudgedClaim]) -> Table:
    """A row for each claim, with the numbers of one of its readings."""
    rows = []
    for claim in judged:
        readings = claim["readings"]
        told = next((r for r in readings if r["verdict"] != "not tested"), readings[0])
        own = f" ({told['verdict']})" if told["verdict"] != claim["verdict"] else ""
        verdict = Entry(
            claim["verdict"], sources=sources(readings), rule="from the verdicts of its readings"
        )
        rows.append(
            [
                Entry(claim["says"]),
                verdict,
                Entry(claim["size"] or MISSING),
                Entry((describe(told["reading"]) or MISSING) + own),
                *_numbers(told),
                Entry("; ".join(claim["missing"]) or MISSING),
            ]
        )
    caption = (
        f"What the abstract claims, judged from the records of all studies. {MEANINGS} The last "
        "column says what is missing for full size. The numbers are those of the first reading "
        "that could be tested; its own verdict is in brackets if it differs from the claim's. "
        f"{_numbers_mean(judged)}"
    )
    header = ["claim", "verdict", "size", "reading", *COUNTS, "effect", "n", "missing"]
    align = "L{38mm}llL{28mm}rrrrrL{58mm}"
    return Table("claims", caption, header, [rows], labels=1, align=align)


def readings_table(judged: Sequence[JudgedClaim]) -> Table:
    """A row for each reading of each claim."""
    groups = [
        [
            [
                Entry(claim["claim"]),
                Entry(describe(reading["reading"]) or MISSING),
                Entry(
                    reading["verdict"],
                    sources=sources([reading]),
                    rule="from the states of its comparisons",
                ),
                Entry(reading["size"] or MISSING),
                *_numbers(reading),
            ]
            for reading in claim["readings"]
        ]
        for claim in judged
    ]
    caption = f"Each reading of each claim. {_numbers_mean(judged)}"
    header = ["claim", "reading", "verdict", "size", *COUNTS, "effect", "n"]
    return Table("readings", caption, header, groups, align="llllrrrrr")


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
