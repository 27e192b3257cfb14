"""The figures of a study, as PDF for print and PNG for the screen."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: there is no screen in a pipeline

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imcl import methods
from imcl.files import atomic, read_json
from imcl.report import BENCHES, BUILD, benches, tables
from imcl.report.render import Entry
from imcl.ways import WAYS

Rows = dict[str, dict[str, Entry]]  # of a figure's table: by row and column

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
MARKERS = "osD^vPX"
# A style for each of the methods that tables.drawn names, also where they are points alone.
STYLES = [
    {"color": colour, "marker": marker, "markerfacecolor": face or colour, "linestyle": line}
    for face, line in ((None, "-"), ("white", "--"))
    for colour, marker in zip(COLOURS, MARKERS, strict=True)
]
FONT_SIZE = 8
STYLE = {
    "font.family": "serif",
    "font.serif": ["Latin Modern Roman", "CMU Serif", "STIXGeneral"],
    "mathtext.fontset": "stix",
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "legend.fontsize": FONT_SIZE,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
}
TEXT_INCHES = 6.38  # the width of the paper's text, so that type is printed at its own size
PANEL_INCHES = 2.0  # the height of a panel


def write(summary: dict) -> list[Path]:
    """Write every figure under figures/; return the PNGs."""
    written = []
    shown = {table.name: table.rows() for table in tables.build(summary)}
    with plt.rc_context(STYLE):
        for dataset in summary["axes"]["datasets"]:
            for name, draw in FIGURES.items():
                figure = draw(summary, dataset, shown.get(f"{name}-{dataset}", {}))
                if figure is not None:
                    written.append(_save(figure, f"{name}-{dataset}"))
        for path in sorted(BENCHES.glob("growth-*.json")):
            written.append(_save(growth(read_json(path, benches.RECORD)), path.stem))
    names = {path.stem for path in written}
    for old in (BUILD / "figures").iterdir():  # of another study
        if old.stem not in names:
            old.unlink()
    return written


def _save(figure: Figure, name: str) -> Path:
    for kind in ("pdf", "png"):
        path = BUILD / "figures" / f"{name}.{kind}"
        # No date inside, so that the same records give the same file.
        metadata = {"CreationDate": None} if kind == "pdf" else {"Software": None}
        with atomic(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=160, metadata=metadata)
    plt.close(figure)
    return path


def error_per_method(summary: dict, dataset: str, rows: Rows) -> Figure:
    """Error of every method with its interval, a panel for each backbone and noise."""
    names = summary["axes"]["methods"]
    figure, panels = _panels(summary, height=0.55 + 0.15 * len(names))
    for axes, noise, backbone in panels:
        for place, method in enumerate(names):
            shown = rows[f"{backbone}/{method}"][noise]
            if not shown.sources:
                continue
            mean, width = shown.value["mean"], shown.value["half_width"] or 0
            colour = COLOURS[0] if method == "base" else COLOURS[1]
            axes.errorbar(mean, place, xerr=width, fmt="o", color=colour, markersize=4, capsize=2)
            seeds = [100 * value for value in _values(summary, shown, "error")]
            axes.plot(seeds, [place] * len(seeds), "|", color=colour, alpha=0.6)
            if method == "base":
                axes.axvline(mean, color=colour, linewidth=0.7, linestyle=":")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        _mark_empty(axes)
        axes.label_outer()
    for axes, *_ in panels:  # once all is drawn, since panels of one column share their limits
        axes.set_xlim(max(axes.get_xlim()[0], 0), min(axes.get_xlim()[1], 100))
    figure.supxlabel(f"{summary['data'][dataset]['evaluation']} error (%)", fontsize=FONT_SIZE)
    return figure


def _mark_empty(axes: Axes) -> None:
    """Say that a panel is empty, of a study whose records are not all there yet."""
    if not axes.has_data():
        middle = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        axes.text(0.5, 0.5, "no records", color="grey", **middle)


def growth(record: dict) -> Figure:
    """Time against size, both relative to the smallest, of each thing that was measured."""
    figure, axes = plt.subplots(figsize=(TEXT_INCHES / 2, PANEL_INCHES + 0.5))
    by_what: dict[str, list[dict]] = {}
    for row in record["rows"]:
        by_what.setdefault(row["what"], []).append(row)
    for index, (what, rows) in enumerate(by_what.items()):
        sizes = [row["size"] / rows[0]["size"] for row in rows]
        times = [row["seconds"] / rows[0]["seconds"] for row in rows]
        colour, marker = COLOURS[index], MARKERS[index]
        axes.plot(sizes, times, marker=marker, color=colour, markersize=3, linewidth=1, label=what)
    ends = np.array(
        [1, max(row["size"] / by_what[row["what"]][0]["size"] for row in record["rows"])]
    )
    axes.plot(ends, ends, color="grey", linewidth=0.7, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("size")
    axes.set_ylabel("time")
    axes.legend()
    return figure


def learning_curves(summary: dict, dataset: str, rows: Rows) -> Figure:
    """Accuracy by epoch with its interval, a panel for each backbone and noise."""
    figure, panels = _panels(summary)
    for axes, noise, backbone in panels:
        for style, method in zip(STYLES, tables.drawn(summary), strict=False):
            points = rows.get(f"{backbone}/{method}/{noise}", {})
            points = {int(epoch): e.value for epoch, e in points.items() if e.sources}
            if not points:
                continue
            means = np.array([value["mean"] for value in points.values()])
            widths = np.array([value["half_width"] or 0 for value in points.values()])
            axes.plot(list(points), means, **(style | {"marker": ""}), label=method, linewidth=1)
            limits = np.clip(means - widths, 0, 100), np.clip(means + widths, 0, 100)
            axes.fill_between(list(points), *limits, color=style["color"], alpha=0.1, linewidth=0)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _mark_empty(axes)
        axes.label_outer()
    figure.supxlabel("epoch", fontsize=FONT_SIZE)
    figure.supylabel(f"{summary['data'][dataset]['evaluation']} accuracy (%)", fontsize=FONT_SIZE)
    _legend(figure)
    return figure


def accuracy_against_noise(summary: dict, dataset: str, rows: Rows) -> Figure | None:
    """Accuracy over the realised noise rate, a panel for each backbone; None without noise."""
    if len(summary["axes"]["noise"]) < 2:
        return None
    backbones = summary["axes"]["backbones"]
    figure, grid = plt.subplots(
        1,
        len(backbones),
        squeeze=False,
        sharex=True,
        sharey=True,
        figsize=(TEXT_INCHES, PANEL_INCHES + 0.7),
    )
    rates = {
        (row["noise"], row["backbone"], row["method"]): 100 * row["realised_rate"]
        for row in summary["cells"]
        if row["dataset"] == dataset
    }
    span = max(rates.values()) or 1
    for axes, backbone in zip(grid[0], backbones, strict=True):
        names = tables.drawn(summary)
        for index, (style, method) in enumerate(zip(STYLES, names, strict=False)):
            points = {
                rates[noise, backbone, method]: entry.value
                for noise, entry in rows[f"{backbone}/{method}"].items()
                if entry.sources
            }
            # Moved a little sideways, so that the intervals do not hide each other.
            shift = 0.012 * span * (index - (len(names) - 1) / 2)
            places = sorted(points)
            axes.errorbar(
                [place + shift for place in places],
                [points[place]["mean"] for place in places],
                yerr=[points[place]["half_width"] or 0 for place in places],
                **style,
                markersize=3.5,
                linewidth=1,
                capsize=2,
                label=method,
            )
        axes.set_title(backbone)
        axes.set_xlabel("realised noise rate (%)")
    lowest, highest = grid[0, 0].get_ylim()
    grid[0, 0].set_ylim(max(lowest, 0), min(highest, 101))
    grid[0, 0].set_ylabel(f"{summary['data'][dataset]['evaluation']} accuracy (%)")
    _legend(figure)
    return figure


def transition_matrices(summary: dict, dataset: str, rows: Rows) -> Figure | None:
    """What became of each class's labels, a panel for each noise; None without noise."""
    matrices: dict[str, list] = {}
    for name, row in rows.items():
        matrices.setdefault(name.split("/")[0], []).append([e.value for e in row.values()])
    if not matrices:
        return None
    columns = max(len(matrices), 2)  # one alone would fill the page
    figure, grid = plt.subplots(
        1,
        len(matrices),
        squeeze=False,
        figsize=(TEXT_INCHES * len(matrices) / columns, TEXT_INCHES / columns),
    )
    for axes, (name, values) in zip(grid[0], matrices.items(), strict=True):
        matrix = np.array(values)
        picture = axes.imshow(matrix, vmin=0, vmax=100, cmap="Blues")
        if len(matrix) <= 10 and columns <= 3:
            for (true, label), share in np.ndenumerate(matrix):
                shade = "white" if share > 50 else "black"
                axes.text(label, true, f"{share:.0f}", ha="center", va="center", c=shade, size=5)
        rate = summary["noise"][f"{dataset} {name}"]["realised_rate"]
        axes.set_title(f"{name}: {100 * rate:.1f} % wrong")
        axes.set_xlabel("label")
        axes.grid(False)
    grid[0, 0].set_ylabel("true class")
    figure.colorbar(picture, ax=grid[0, :].tolist(), shrink=0.7, label="share of the class (%)")
    return figure


def combinations(summary: dict, dataset: str, rows: Rows) -> Figure | None:
    """The difference to base of every combination of the ways, and which ways are in it.

    A panel for each noise, a marker for each backbone; None where fewer than eight are studied.
    """
    names = tables.combinations(summary)
    if not names or not rows:
        return None
    noises, backbones = summary["axes"]["noise"], summary["axes"]["backbones"]
    height = 1.4 + 0.17 * len(names)
    figure, grid = plt.subplots(
        1,
        1 + len(noises),
        squeeze=False,
        sharey=True,
        width_ratios=[0.5] + [1] * len(noises),
        figsize=(TEXT_INCHES, height),
    )
    for place, name in enumerate(names):
        used = methods.parse(name).ways
        for column, way in enumerate(WAYS):
            grid[0, 0].plot(column, place, "o", color="black" if way in used else "#dddddd", ms=4)
        inside = [column for column, way in enumerate(WAYS) if way in used]
        grid[0, 0].plot([inside[0], inside[-1]], [place, place], color="black", linewidth=1)
    grid[0, 0].set_xticks(range(len(WAYS)), list(WAYS), rotation=90)
    grid[0, 0].set_yticks([])
    grid[0, 0].set_ylim(len(names) - 0.5, -0.5)
    grid[0, 0].grid(False)
    for axes, noise in zip(grid[0, 1:], noises, strict=True):
        axes.axvline(0, color="black", linewidth=0.7, linestyle=":")
        for index, backbone in enumerate(backbones):
            for place, name in enumerate(names):
                entry = rows[f"{backbone}/{name}"][noise]
                if entry.sources:
                    axes.errorbar(
                        entry.value["mean"],
                        place + 0.22 * (index - (len(backbones) - 1) / 2),
                        xerr=entry.value["half_width"] or 0,
                        color=COLOURS[index + 1],
                        marker=MARKERS[index],
                        markersize=3.5,
                        linestyle="none",
                        capsize=1.5,
                        label=backbone if not place else None,
                    )
        axes.set_title(noise)
        axes.tick_params(left=False)
    figure.supxlabel("difference to base (points of accuracy)", fontsize=FONT_SIZE)
    _legend(figure)
    return figure


FIGURES = {
    "error": error_per_method,
    "curves": learning_curves,
    "noise": accuracy_against_noise,
    "transition": transition_matrices,
    "difference-to-base": combinations,
}


def _panels(summary: dict, height: float = 0) -> tuple[Figure, list[tuple[Axes, str, str]]]:
    """A grid of panels: a row for each backbone, a column for each noise."""
    noises, backbones = summary["axes"]["noise"], summary["axes"]["backbones"]
    figure, grid = plt.subplots(
        len(backbones),
        len(noises),
        squeeze=False,
        sharex="col",
        sharey="row",
        figsize=(TEXT_INCHES, 0.4 + max(PANEL_INCHES, height) * len(backbones)),
    )
    panels = []
    for line, backbone in zip(grid, backbones, strict=True):
        for axes, noise in zip(line, noises, strict=True):
            axes.set_title(f"{backbone}, {noise}")
            panels.append((axes, noise, backbone))
    return figure, panels


def _legend(figure: Figure) -> None:
    """One legend above, of what is drawn in any panel."""
    drawn = {}
    for axes in figure.axes:
        drawn |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if drawn:
        figure.legend(drawn.values(), drawn, loc="outside upper center", ncols=min(len(drawn), 4))


def _values(summary: dict, shown: Entry, metric: str) -> list[float]:
    """The values by seed behind an entry of one cell."""
    return next(r for r in summary["cells"] if r["key"] == shown.sources[0])["values"][metric]
