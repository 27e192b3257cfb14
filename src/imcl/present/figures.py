"""The figures of a study, as PDF for print and PNG for the screen."""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot is imported: a pipeline has no screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imcl.analysis.summary import Summary
from imcl.files import atomic
from imcl.present import drawn, names, network, tables
from imcl.present.by_method import Part, all_parts, split
from imcl.present.documents import Documents
from imcl.present.render import Entry
from imcl.present.words import COLOURS
from imcl.project import Project
from imcl.records.record import Measurement

Rows = dict[str, dict[str, Entry]]  # of a figure's table, by row and column
Draw = Callable[[Summary, Part, Rows], Figure | None]  # None: nothing to show

MARKERS = "osD^vPX"
# A style for each method of drawn.lines, distinct even where only points are drawn.
STYLES: list[dict[str, Any]] = [
    {"color": colour, "marker": marker, "linestyle": "-"}
    for colour, marker in zip(COLOURS, MARKERS, strict=True)
]
FONT_SIZE = 8
STYLE: dict[Any, Any] = {
    "font.family": ["serif", "DejaVu Sans"],  # the second has letters that are not Latin
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
TEXT_INCHES = 6.38  # the width of the paper's text, so figures are printed without scaling
PANEL_INCHES = 1.6  # the height of a panel


def write(project: Project, documents: Documents) -> list[Path]:
    """Write every figure under figures/ and delete those of another study.

    Returns:
        The PNG files.
    """
    folder, written = project.build / "figures", []
    summary = documents.summary
    shown = {table.name: table.rows() for table in tables.build(documents)}
    with plt.rc_context(STYLE):
        written.append(_save(network.figure(TEXT_INCHES), folder, "network"))
        if len(all_parts(summary)) > 1 and "aggregate" in shown:
            written.append(_save(aggregate(summary, shown), folder, "aggregate"))
        for part in all_parts(summary):
            for name, draw in FIGURES.items():
                figure = draw(summary, part, shown.get(f"{name}-{part.name}", {}))
                if figure is not None:
                    written.append(_save(figure, folder, f"{name}-{part.name}"))
        for path, measurement in sorted(documents.measurements.items()):
            if measurement["bench"] in OF_MEASUREMENTS:
                figure = OF_MEASUREMENTS[measurement["bench"]](measurement)
                written.append(_save(figure, folder, PurePosixPath(path).stem))
    names = {path.stem for path in written}
    for old in folder.iterdir():
        if old.stem not in names:
            old.unlink()
    return written


def write_measured(measurement: Measurement, png: Path) -> None:
    """Write the figure of a measurement that has one, for the screen alone."""
    with plt.rc_context(STYLE):
        _save(OF_MEASUREMENTS[measurement["bench"]](measurement), png.parent, png.stem, ["png"])


def _save(figure: Figure, folder: Path, name: str, kinds: Sequence[str] = ("pdf", "png")) -> Path:
    for kind in kinds:
        path = folder / f"{name}.{kind}"
        # Without a date inside, the same records give the same file.
        metadata = {"CreationDate": None} if kind == "pdf" else {"Software": None}
        with atomic(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=160, metadata=metadata)
    plt.close(figure)
    return path


def error_per_method(summary: Summary, part: Part, rows: Rows) -> Figure:
    """Error of every method with its interval, a panel for each backbone and noise."""
    there = part.axes["methods"]
    by_seed = {row["key"]: row["values"]["error"] for row in summary["cells"]}
    significant = _significant(summary)
    figure, panels = _panels(part, height=0.55 + 0.15 * len(there))
    for axes, noise, backbone in panels:
        for y, method in enumerate(there):
            entry = rows.get(f"{backbone}/{method}", {}).get(noise)
            if entry is None or entry.mean is None:
                continue
            colour = COLOURS[0] if method == "base" else COLOURS[1]
            _point(axes, entry, y, colour, "o", entry.sources[0] in significant)
            seeds = [100 * value for value in by_seed[entry.sources[0]]]
            axes.plot(seeds, [y] * len(seeds), "|", color=colour, alpha=0.6)
            if method == "base":
                axes.axvline(entry.mean, color=colour, linewidth=0.7, linestyle=":")
        _methods(axes, part.names.methods, there)
        _mark_empty(axes)
        axes.label_outer()
    for axes, *_ in panels:  # after all drawing, since the panels in a column share their limits
        axes.set_xlim(max(axes.get_xlim()[0], 0), min(axes.get_xlim()[1], 100))
    figure.supxlabel(f"{split(summary, part.dataset)} error (%)", fontsize=FONT_SIZE)
    return figure


def _significant(summary: Summary) -> set[str]:
    """The keys of the cells that differ significantly from base."""
    found = summary["comparisons"].values()
    return {key for each in found for key in (*each["base"]["better"], *each["base"]["worse"])}


def _point(
    axes: Axes, entry: Entry, y: float, colour: str, marker: str, filled: bool, label: str = ""
) -> None:
    """A value with its interval; a filled marker says that it is significant."""
    axes.errorbar(
        entry.mean or 0.0,
        y,
        xerr=entry.half_width,
        marker=marker,
        linestyle="none",
        color=colour,
        markerfacecolor=colour if filled else "white",
        markersize=4,
        linewidth=1,
        capsize=2,
        label=label or None,
    )


def _methods(axes: Axes, shown: Mapping[str, str], there: Sequence[str]) -> None:
    """A line for each method, the first on top.

    Args:
        axes: of the panel.
        shown: what readers see, by method.
        there: the methods.
    """
    axes.set_yticks(range(len(there)), [shown[method] for method in there])
    axes.set_ylim(len(there) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _mark_empty(axes: Axes) -> None:
    """Say that a panel is empty because its records are still missing."""
    if not axes.has_data():
        axes.text(
            0.5,
            0.5,
            "no records",
            color="grey",
            transform=axes.transAxes,
            ha="center",
            va="center",
        )


def growth(measurement: Measurement) -> Figure:
    """Time against size, both relative to the smallest size, a line for each thing measured."""
    figure, axes = plt.subplots(figsize=(TEXT_INCHES / 2, PANEL_INCHES + 0.5))
    by_what: dict[str, list[dict[str, Any]]] = {}
    for row in measurement["rows"]:
        by_what.setdefault(row["what"], []).append(row)
    largest = 1.0
    for (what, rows), colour, marker in zip(by_what.items(), COLOURS, MARKERS, strict=False):
        sizes = [row["size"] / rows[0]["size"] for row in rows]
        times = [row["seconds"] / rows[0]["seconds"] for row in rows]
        largest = max(largest, *sizes)
        label = what.replace("$", r"\$")  # else matplotlib takes it for a formula
        axes.plot(sizes, times, marker=marker, color=colour, markersize=3, linewidth=1, label=label)
    axes.plot([1, largest], [1, largest], color="grey", linewidth=0.7, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("size relative to the smallest")
    axes.set_ylabel("time relative to the smallest size")
    axes.legend()
    return figure


def library(measurement: Measurement) -> Figure:
    """A dot for each seed's accuracy, a line for their mean; a panel for each share of labels."""
    by_share: dict[float, list[dict[str, Any]]] = {}
    for row in measurement["rows"]:
        by_share.setdefault(row["wrong_labels"], []).append(row)
    most = max(map(len, by_share.values()))
    figure, grid = plt.subplots(
        1,
        len(by_share),
        squeeze=False,
        sharey=True,
        figsize=(TEXT_INCHES, 0.7 + 0.25 * most),
    )
    for axes, (share, rows) in zip(grid[0], by_share.items(), strict=True):
        axes.set_title(names.wrong_labels(share))
        axes.axvline(100 * rows[0]["mean"], color=COLOURS[0], linewidth=0.7, linestyle=":")
        for y, row in enumerate(rows):
            colour = COLOURS[1 if y else 0]
            seeds = [100 * value for value in row["accuracy"]]
            axes.plot(seeds, [y] * len(seeds), "o", color=colour, markersize=4, alpha=0.6)
            axes.plot(100 * row["mean"], y, "|", color=colour, markersize=13, markeredgewidth=1.5)
        shown = {row["method"]: row["method"].replace("$", r"\$") for row in rows}
        _methods(axes, shown, [*shown])
    figure.supxlabel("test accuracy (%)", fontsize=FONT_SIZE)
    return figure


# By benchmark; the others have a table alone.
OF_MEASUREMENTS: dict[str, Callable[[Measurement], Figure]] = {
    "growth": growth,
    "library": library,
}


def learning_curves(summary: Summary, part: Part, rows: Rows) -> Figure:
    """Accuracy by epoch with its interval, a panel for each backbone and noise."""
    figure, panels = _panels(part)
    for axes, noise, backbone in panels:
        there = drawn.lines(part.axes["methods"], drawn.CURVES)
        for style, method in zip(STYLES, there, strict=False):
            points = [
                (int(epoch), entry.mean, entry.half_width)
                for epoch, entry in rows.get(f"{backbone}/{method}/{noise}", {}).items()
                if entry.mean is not None
            ]
            if not points:
                continue
            epochs, means, widths = (np.array(values) for values in zip(*points, strict=True))
            label = part.names.methods[method]
            one = "" if len(points) > 1 else style["marker"]  # a line of one point is not seen
            axes.plot(epochs, means, **(style | {"marker": one}), label=label, linewidth=1)
            low, high = np.clip(means - widths, 0, 100), np.clip(means + widths, 0, 100)
            axes.fill_between(epochs, low, high, color=style["color"], alpha=0.1, linewidth=0)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _mark_empty(axes)
        axes.label_outer()
    figure.supxlabel("epoch", fontsize=FONT_SIZE)
    figure.supylabel(f"{split(summary, part.dataset)} accuracy (%)", fontsize=FONT_SIZE)
    _legend(figure)
    return figure


def accuracy_by_noise(summary: Summary, part: Part, rows: Rows) -> Figure | None:
    """Accuracy by label noise, a panel for each backbone: dots, or lines for over two noises."""
    noises, backbones = part.axes["noise"], part.axes["backbones"]
    if len(noises) < 2:
        return None
    dots = len(noises) == 2
    there = part.axes["methods"] if dots else drawn.lines(part.axes["methods"])
    figure, grid = plt.subplots(
        1,
        len(backbones),
        squeeze=False,
        sharex=True,
        sharey=True,
        figsize=(TEXT_INCHES, 0.8 + 0.17 * len(there) if dots else PANEL_INCHES + 1),
    )
    for axes, backbone in zip(grid[0], backbones, strict=True):
        axes.set_title(part.names.backbones[backbone])
        found = {method: rows.get(f"{backbone}/{method}", {}) for method in there}
        if dots:
            _dots(axes, summary, part, found)
        else:
            _lines(axes, summary, part, found, backbone)
        axes.label_outer()
    accuracy = f"{split(summary, part.dataset)} accuracy (%)"
    if dots:
        figure.supxlabel(accuracy, fontsize=FONT_SIZE)
    else:
        lowest, highest = grid[0, 0].get_ylim()
        grid[0, 0].set_ylim(max(lowest, 0), min(highest, 101))
        grid[0, 0].set_ylabel(accuracy)
        figure.supxlabel("wrong labels (%)", fontsize=FONT_SIZE)
    _legend(figure)
    return figure


def _dots(axes: Axes, summary: Summary, part: Part, found: Rows) -> None:
    """A line for each method, with a dot for each noise."""
    significant = _significant(summary)
    for y, row in enumerate(found.values()):
        there = [noise for noise in part.axes["noise"] if noise in row and row[noise].value]
        ends = [row[noise].mean or 0.0 for noise in there]
        axes.plot(ends, [y] * len(ends), color="lightgrey", linewidth=1, zorder=0)
        for noise in there:
            index = part.axes["noise"].index(noise)
            filled = row[noise].sources[0] in significant
            label = part.names.noise[noise]
            _point(axes, row[noise], y, COLOURS[index + 1], MARKERS[index], filled, label)
    _methods(axes, part.names.methods, [*found])


def _lines(axes: Axes, summary: Summary, part: Part, found: Rows, backbone: str) -> None:
    """A line for each method over the realised noise rate."""
    rates = {
        (row["noise"], row["backbone"], row["method"]): 100 * row["realised_rate"]
        for row in part.rows(summary)
    }
    span = max(rates.values()) or 1
    for index, (style, (method, row)) in enumerate(zip(STYLES, found.items(), strict=False)):
        points = sorted(
            (rates[noise, backbone, method], entry.mean, entry.half_width)
            for noise, entry in row.items()
            if entry.mean is not None
        )
        # Shifted sideways a little, so that intervals do not hide each other.
        shift = 0.012 * span * (index - (len(found) - 1) / 2)
        axes.errorbar(
            [rate + shift for rate, _, _ in points],
            [mean for _, mean, _ in points],
            yerr=[width for _, _, width in points],
            **style,
            markersize=3.5,
            linewidth=1,
            capsize=2,
            label=part.names.methods[method],
        )


def transition_matrices(summary: Summary, part: Part, rows: Rows) -> Figure | None:
    """The labels that each true class got, a panel for each noise."""
    matrices: dict[str, list[list[float]]] = {}
    for name, row in rows.items():
        shares = [entry.mean or 0.0 for entry in row.values()]
        matrices.setdefault(name.split("/")[0], []).append(shares)
    if not matrices:
        return None
    columns = max(len(matrices), 2)  # a single matrix would fill the page
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
        rate = summary["noise"][f"{part.dataset} {name}"]["realised_rate"]
        axes.set_title(f"{part.names.noise[name]}: {100 * rate:.1f} % wrong")
        axes.set_xlabel("label")
        axes.grid(False)
    grid[0, 0].set_ylabel("true class")
    figure.colorbar(picture, ax=grid[0, :].tolist(), shrink=0.7, label="share of the class (%)")
    return figure


def differences(summary: Summary, part: Part, rows: Rows) -> Figure | None:
    """The difference to base of every method; a panel for each noise, a marker for a backbone.

    None if nothing was compared with base.
    """
    there = [m for m in part.axes["methods"] if any(name.endswith(f"/{m}") for name in rows)]
    if not there:
        return None
    noises, backbones = part.axes["noise"], part.axes["backbones"]
    figure, grid = plt.subplots(
        1,
        len(noises),
        squeeze=False,
        sharey=True,
        figsize=(TEXT_INCHES, 0.8 + 0.19 * len(there)),
    )
    for axes, noise in zip(grid[0], noises, strict=True):
        axes.axvline(0, color="black", linewidth=0.7, linestyle=":")
        for index, backbone in enumerate(backbones):
            for y, method in enumerate(there):
                entry = rows.get(f"{backbone}/{method}", {}).get(noise)
                if entry is not None and entry.mean is not None:
                    shift = 0.26 * (index - (len(backbones) - 1) / 2)
                    label = part.names.backbones[backbone]
                    colour, marker = COLOURS[index + 1], MARKERS[index]
                    _point(axes, entry, y + shift, colour, marker, entry.bold, label)
        axes.set_title(part.names.noise[noise])
        _methods(axes, part.names.methods, there)
    figure.supxlabel("difference to base (points of accuracy)", fontsize=FONT_SIZE)
    _legend(figure)
    return figure


def aggregate(summary: Summary, shown: dict[str, Rows]) -> Figure:
    """The differences to base over all settings, a panel for each noise."""
    rows: Rows = {}
    for name, table in shown.items():
        if name.startswith("aggregate"):
            for method, row in table.items():
                rows.setdefault(method, {}).update(row)
    named = names.of(summary)
    there = drawn.lines([*rows], 2 * drawn.MOST_LINES)
    noises = [noise for noise in summary["axes"]["noise"] if any(noise in r for r in rows.values())]
    columns = min(len(noises), 5)
    figure, grid = plt.subplots(
        -(-len(noises) // columns),
        columns,
        squeeze=False,
        sharey=True,
        figsize=(TEXT_INCHES, (0.7 + 0.15 * len(there)) * -(-len(noises) // columns)),
    )
    for axes, noise in zip_longest(grid.flat, noises):
        if noise is None:
            axes.set_visible(False)
            continue
        axes.axvline(0, color="black", linewidth=0.7, linestyle=":")
        for y, method in enumerate(there):
            entry = rows[method].get(noise)
            if entry is not None and entry.mean is not None:
                apart = abs(entry.mean) > entry.half_width > 0
                _point(axes, entry, y, COLOURS[1], "o", apart)
        _methods(axes, named.methods, there)
        axes.set_title(named.noise[noise].replace(" labels", ""))
    figure.supxlabel("difference to base (points of accuracy)", fontsize=FONT_SIZE)
    return figure


FIGURES: dict[str, Draw] = {
    "error": error_per_method,
    "curves": learning_curves,
    "noise": accuracy_by_noise,
    "transition": transition_matrices,
    "difference-to-base": differences,
}


def _panels(part: Part, height: float = 0) -> tuple[Figure, list[tuple[Axes, str, str]]]:
    """A grid of panels: a row for each backbone, a column for each noise."""
    noises, backbones = part.axes["noise"], part.axes["backbones"]
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
            axes.set_title(f"{part.names.backbones[backbone]}, {part.names.noise[noise]}")
            panels.append((axes, noise, backbone))
    return figure, panels


def _legend(figure: Figure) -> None:
    """One legend above the panels, for everything that is drawn in any of them."""
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if handles:
        figure.legend(
            handles.values(), list(handles), loc="outside upper center", ncols=min(len(handles), 4)
        )
