"""The charts of the HTML report, as Vega-Lite specifications.

Altair builds and checks them. The page's script provides the data under the name `rows`, for the
setting that the reader chooses; each chart's docstring names the fields of a row. Every row has
`form` too: a copy of the field that gives the colour, for shapes and dashes. With one field for
both, Vega would merge their legends.
"""

from typing import Any

import altair as alt

from imcl.study.options import WAYS

HEIGHT = 300
TOP = alt.Legend(orient="top", title=None, labelLimit=260, symbolOpacity=1)


def specifications() -> dict[str, dict[str, Any]]:
    """The charts by name, which is the id of their section in the page."""
    charts = {
        "curves": curves(),
        "noise": noise(),
        "cost": cost(),
        "redundancy": redundancy(),
        "calibration": calibration(),
        "confusion": matrix("predicted class", "images"),
        "transition": matrix("label", "% of the class"),
        "combinations": combinations(),
    }
    return {name: chart.to_dict() for name, chart in charts.items()}


def _rows() -> alt.Chart:
    return alt.Chart(alt.NamedData(name="rows"), height=HEIGHT, width="container")


def curves() -> alt.TopLevelMixin:
    """Rows: label (of the cell), epoch; accuracy (%): mean, low, high."""
    base = _rows().encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1)),
        color=alt.Color("label:N", legend=TOP, sort=None),
    )
    band = base.mark_area(opacity=0.12).encode(y=_percent("low"), y2="high:Q")
    line = base.mark_line(strokeWidth=2).encode(
        y=_percent("mean"), strokeDash=alt.StrokeDash("form:N", legend=None, sort=None)
    )
    points = base.mark_circle(opacity=0, size=120).encode(
        y=_percent("mean"),
        tooltip=["label:N", "epoch:Q", _two("mean"), _two("low"), _two("high")],
    )
    return alt.layer(band, line, points)


def noise() -> alt.TopLevelMixin:
    """Rows: method, rate (realised, %); accuracy (%): mean, low, high."""
    base = _rows().encode(
        x=alt.X("rate:Q", title="realised noise rate (%)"),
        color=alt.Color("method:N", legend=TOP, sort=None),
    )
    bars = base.mark_rule(opacity=0.5).encode(y=_percent("low"), y2="high:Q")
    lines = base.mark_line(strokeWidth=2).encode(
        y=_percent("mean"), strokeDash=alt.StrokeDash("form:N", legend=None, sort=None)
    )
    points = base.mark_point(filled=True, size=50).encode(
        y=_percent("mean"),
        shape=alt.Shape("form:N", legend=None, sort=None),
        tooltip=["method:N", _two("rate"), _two("mean"), _two("low"), _two("high")],
    )
    return alt.layer(bars, lines, points)


def cost() -> alt.TopLevelMixin:
    """Rows: method, backbone, cost (relative to base); points above base: mean, low, high."""
    base = _rows().encode(x=alt.X("cost:Q", title="cost relative to base", scale=_near()))
    zero = alt.Chart(alt.NamedData(name="zero")).mark_rule(strokeDash=[4, 4]).encode(y=alt.datum(0))
    bars = base.mark_rule(opacity=0.6).encode(
        y=alt.Y("low:Q", title="points of accuracy above base"),
        y2="high:Q",
        color=alt.Color("backbone:N", legend=TOP, sort=None),
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        y="mean:Q",
        color=alt.Color("backbone:N", sort=None),
        shape=alt.Shape("form:N", legend=None, sort=None),
        tooltip=["method:N", "backbone:N", _two("cost"), _two("mean"), _two("low"), _two("high")],
    )
    names = base.mark_text(align="left", dx=7, dy=-6).encode(y="mean:Q", text="method:N")
    return alt.layer(zero, bars, points, names)


def redundancy() -> alt.TopLevelMixin:
    """Rows: method, role; times 1,000: channels, kernels, and channels0, kernels0 of base."""
    base = _rows().encode(
        x=alt.X("channels:Q", title="correlation between channels × 1000", scale=_near()),
        y=alt.Y("kernels:Q", title="cosine between kernels × 1000", scale=_near()),
    )
    moves = base.mark_rule(opacity=0.5).encode(x2="channels0:Q", y2="kernels0:Q")
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        color=alt.Color("role:N", legend=TOP, sort=None),
        shape=alt.Shape("form:N", legend=None, sort=None),
        tooltip=["method:N", _two("channels"), _two("kernels")],
    )
    names = base.mark_text(align="left", dx=7, dy=-6).encode(text="method:N")
    return alt.layer(moves, points, names)


def calibration() -> alt.TopLevelMixin:
    """Rows, one for each bin: label (of the cell), confidence (%), correct (%), count (images)."""
    base = _rows().encode(
        x=alt.X("confidence:Q", title="mean confidence (%)", scale=alt.Scale(domain=[0, 100])),
        y=alt.Y("correct:Q", title="correct (%)", scale=alt.Scale(domain=[0, 100])),
        color=alt.Color("label:N", legend=TOP, sort=None),
    )
    ideal = (
        alt.Chart(alt.NamedData(name="zero"))
        .mark_rule(strokeDash=[4, 4])
        .encode(x=alt.datum(0), y=alt.datum(0), x2=alt.datum(100), y2=alt.datum(100))
    )
    line = base.mark_line(strokeWidth=2).encode(
        strokeDash=alt.StrokeDash("form:N", legend=None, sort=None)
    )
    points = base.mark_circle(opacity=0.9).encode(
        size=alt.Size("count:Q", legend=None, scale=alt.Scale(range=[15, 260])),
        tooltip=["label:N", _two("confidence"), _two("correct"), "count:Q"],
    )
    return alt.layer(ideal, line, points)


def matrix(column: str, unit: str) -> alt.TopLevelMixin:
    """Rows, one for each entry: row (true class), column, value, share (% of the row), small."""
    base = _rows().encode(
        x=alt.X("column:O", title=column, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("row:O", title="true class", axis=alt.Axis(labelOverlap=True)),
    )
    shade = alt.Color(
        "share:Q",
        title="%",
        scale=alt.Scale(scheme="cividis", domain=[0, 100]),
    )
    tiles = base.mark_rect().encode(
        color=shade,
        tooltip=["row:O", "column:O", alt.Tooltip("value:Q", title=unit, format=",.4~r")],
    )
    numbers = base.mark_text(fontSize=10).encode(
        text=alt.Text("value:Q", format=",.0f"),
        opacity=alt.condition("datum.small", alt.value(1), alt.value(0)),
        color=alt.condition("datum.share > 60", alt.value("black"), alt.value("white")),
    )
    return alt.layer(tiles, numbers)


def combinations() -> alt.TopLevelMixin:
    """Rows: combination, backbone; points above base: mean, low, high.

    A second dataset, `member`, has a row for each combination and way: combination, way, used.
    """
    place = alt.Y("combination:N", sort=None, axis=None)
    step = alt.Step(28, **{"for": "position"})
    dots = (
        alt.Chart(alt.NamedData(name="member"), width=96, height=step)
        .mark_circle(size=110, opacity=1)
        .encode(
            x=alt.X(
                "way:N",
                sort=list(WAYS),
                title=None,
                axis=alt.Axis(orient="top", labelAngle=-45, domain=False, ticks=False),
            ),
            y=place,
            color=alt.Color(
                "used:N",
                legend=None,
                scale=alt.Scale(domain=[True, False], range=["#0072B2", "#88888844"]),
            ),
            tooltip=["combination:N", "way:N", "used:N"],
        )
    )
    rows = alt.Chart(alt.NamedData(name="rows"), width=400, height=step)
    base = rows.encode(
        y=place,
        yOffset=alt.YOffset("backbone:N", sort=None),
        color=alt.Color("backbone:N", legend=TOP, sort=None),
    )
    zero = rows.mark_rule(strokeDash=[4, 4]).encode(x=alt.datum(0))
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="points of accuracy above base"), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x="mean:Q",
        shape=alt.Shape("form:N", legend=None, sort=None),
        tooltip=["combination:N", "backbone:N", _two("mean"), _two("low"), _two("high")],
    )
    together = alt.hconcat(dots, alt.layer(zero, bars, points), spacing=12)
    return together.resolve_scale(color="independent")


def _percent(field: str) -> alt.Y:
    return alt.Y(f"{field}:Q", title="accuracy (%)", scale=_near())


def _near() -> alt.Scale:
    return alt.Scale(zero=False, nice=True)


def _two(field: str) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", format=".2f")
