"""The answer to the question whether the claims hold: in sentences, and as the first picture."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from imcl.analysis.claims import (
    COSTS,
    VERDICTS,
    ClaimComparison,
    Effect,
    JudgedClaim,
    JudgedReading,
)
from imcl.present import names
from imcl.present.render import isolated, number

MOST_COMPARISONS = 4  # of a claim in the picture; of more, their mean is shown


class Shown(NamedTuple):
    """A row of the picture.

    Attributes:
        claim: what the abstract says.
        label: what is compared, in a few words.
        unit: `points`, `%` of the reference, or `times` the reference.
        mean: of the effect; None if nothing was tested.
        low: the lower end of its interval, or the least ratio.
        high: the upper end, or the largest ratio.
        claimed: the figure that the abstract states.
        size: `full` or `reduced`; None if nothing was tested.
        state: of the comparison, or the verdict of the reading.
    """

    claim: str
    label: str
    unit: str
    mean: float | None
    low: float | None
    high: float | None
    claimed: float | None
    size: str | None
    state: str


class Card(NamedTuple):
    """A claim: what the abstract says, what was found, and its verdict."""

    claim: JudgedClaim
    said: str
    found: str


def lead(judged: Sequence[JudgedClaim]) -> str:
    """The verdict in sentences."""
    by_verdict = {v: sum(claim["verdict"] == v for claim in judged) for v in VERDICTS}
    counts = [f"{count} {verdict}" for verdict, count in by_verdict.items() if count]
    told = [f"Of the abstract’s {len(judged)} claims, we find {', '.join(counts)}."]
    for claim in judged:
        effect = _told(claim)["effect"]
        if claim["figure"] is not None and effect:
            found = number(effect, (), "", signed=True).text
            told.append(
                f"Claimed: “{isolated(claim['says'])}” Found: {found} "
                f"{_unit(claim, _told(claim))}, at {claim['size']} size."
            )
    reduced = sum(claim["size"] == "reduced" for claim in judged)
    if reduced:
        told.append(f"{reduced} of the verdicts rest on narrower networks or fewer images.")
    return " ".join(told)


def cards(judged: Sequence[JudgedClaim]) -> list[Card]:
    """A card for each claim."""
    return [Card(claim, isolated(claim["says"]), _found(claim)) for claim in judged]


def _found(claim: JudgedClaim) -> str:
    tested = [reading for reading in claim["readings"] if reading["effect"]]
    if not tested:
        return "Not tested yet."
    unit = _unit(claim, tested[0])
    whole = sum(reading["verdict"] == "reproduced" for reading in tested)
    if unit == "times":
        means = [reading["effect"]["mean"] for reading in tested if reading["effect"]]
        low, high = f"{min(means):.2f}", f"{max(means):.2f}"
        ratio = low if low == high else f"{low} to {high}"
        count = f"; {whole} of {len(tested)} costs are" if len(tested) > 1 else ","
        held = "as claimed" if whole or len(tested) > 1 else "not as claimed"
        return f"{ratio} times the reference{count} {held}."
    effect = number(tested[0]["effect"], (), "", signed=True).text
    where = f", where {claim['figure']:g} is claimed" if claim["figure"] is not None else ""
    counts = f"{tested[0]['comparisons_holding']} of {tested[0]['comparisons_tested']}"
    return (
        f"{effect} {unit}{where}. {counts} comparisons hold as the claim is read first; "
        f"{whole} of {len(tested)} readings hold in full."
    )


def rows(judged: Sequence[JudgedClaim]) -> list[Shown]:
    """The rows of the picture, claim by claim."""
    return [row for claim in judged for row in _of_claim(claim)]


def _of_claim(claim: JudgedClaim) -> Iterator[Shown]:
    tested = [reading for reading in claim["readings"] if reading["effect"]]
    if not tested:
        reading = claim["readings"][0]
        yield _row(claim, reading, "not tested", None, None, "not tested")
    elif _unit(claim, tested[0]) == "times":
        for reading in tested:
            chosen = (value.rpartition("/")[-1] for value in reading["reading"].values())
            words = [names.COSTS.get(value, value) for value in chosen]
            label = ", ".join(words) or "parameters"
            yield _row(
                claim, reading, label, reading["effect"], reading["size"], reading["verdict"]
            )
    else:
        counting = [c for c in tested[0]["comparisons"] if c["size"] and "effect" in c]
        if len(counting) > MOST_COMPARISONS:
            states = {comparison["state"] for comparison in counting}
            state = states.pop() if len(states) == 1 else "undecided"
            counting, label = [], f"mean of {len(counting)} comparisons"
            yield _row(claim, tested[0], label, tested[0]["effect"], tested[0]["size"], state)
        several = len({tuple(c["setting"]) for c in counting}) > 1
        for each in counting:
            label = _compared(each, several)
            yield _row(claim, tested[0], label, each["effect"], each["size"], each["state"])


def _compared(comparison: ClaimComparison, several: bool) -> str:
    """A comparison in words; its network too, if the claim is about several settings."""
    where = f", {names.backbone(comparison['setting'][-1])}" if several else ""
    return f"{comparison['method']} − {comparison['against']}{where}"


def _row(
    claim: JudgedClaim,
    reading: JudgedReading,
    label: str,
    effect: Effect | None,
    size: str | None,
    state: str,
) -> Shown:
    low = high = None
    if effect:
        half = effect.get("half_width") or 0.0
        low = effect.get("low", effect["mean"] - half)
        high = effect.get("high", effect["mean"] + half)
    return Shown(
        isolated(claim["says"]),
        label,
        _unit(claim, reading),
        effect and effect["mean"],
        low,
        high,
        claim["figure"],
        size,
        state,
    )


def _told(claim: JudgedClaim) -> JudgedReading:
    """The reading whose numbers are told: the first that could be tested."""
    readings = claim["readings"]
    return next((each for each in readings if each["effect"]), readings[0])


def _unit(claim: JudgedClaim, reading: JudgedReading) -> str:
    effect = reading["effect"]
    if reading["reading"].get("measure") in COSTS or (effect and "low" in effect):
        return "times"
    return "points" if reading["reading"].get("unit", "points") == "points" else "%"
