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
from imcl.files import atomic
from imcl.report import BUILD

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
MARKERS = "osD^vPX"
STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
}
PANEL_INCHES = (3.1, 2.3)


def write(summary: dict) -> list[Path]:
    """Write every figure under figures/; return the PNGs."""
    written = []
    with plt.rc_context(STYLE):
        for dataset in summary["axes"]["datasets"]:
            for name, draw in FIGURES.items():
                figure = draw(summary, dataset)
                if figure is not None:
                    written.append(_save(figure, f"{name}-{dataset}"))
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


def error_per_method(summary: dict, dataset: str) -> Figure:
    """Error of every method with its interval, a panel for each backbone and noise."""
    names = summary["axes"]["methods"]
    figure, panels = _panels(summary, rows_per_inch=0.16 * len(names))
    for axes, noise, backbone in panels:
        for place, method in enumerate(names):
            row = _find(summary, dataset, noise, backbone, method)
            if row is None:
                continue
            estimate = row["estimates"]["accuracy"]
            error = 100 * (1 - estimate["mean"])
            width = 100 * (estimate["half_width"] or 0)
            colour = COLOURS[0] if method == "base" else COLOURS[1]
            axes.errorbar(error, place, xerr=width, fmt="o", color=colour, markersize=4, capsize=2)
            seeds = [100 * (1 - value) for value in row["values"]["accuracy"]]
            axes.plot(seeds, [place] * len(seeds), "|", color=colour, alpha=0.6)
            if method == "base":
                axes.axvline(error, color=colour, linewidth=0.7, linestyle=":")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(max(axes.get_xlim()[0], 0), min(axes.get_xlim()[1], 100))
        axes.set_xlabel(f"{summary['data'][dataset]['evaluation']} error (%)")
    return figure


def learning_curves(summary: dict, dataset: str) -> Figure:
    """Accuracy by epoch, mean over seeds, a panel for each backbone and noise."""
    figure, panels = _panels(summary)
    for axes, noise, backbone in panels:
        for index, method in enumerate(_shown(summary)):
            row = _find(summary, dataset, noise, backbone, method)
            if row is None:
                continue
            points = [p for p in row["history"] if "accuracy" in p]
            axes.plot(
                [p["epoch"] for p in points],
                [100 * p["accuracy"] for p in points],
                color=COLOURS[index],
                label=method,
                linewidth=1,
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{summary['data'][dataset]['evaluation']} accuracy (%)")
    _legend(figure, panels[0][0])
    return figure


def accuracy_against_noise(summary: dict, dataset: str) -> Figure | None:
    """Accuracy over the realised noise rate, a panel for each backbone; None without noise."""
    if len(summary["axes"]["noise"]) < 2:
        return None
    backbones = summary["axes"]["backbones"]
    width, height = PANEL_INCHES
    figure, grid = plt.subplots(
        1, len(backbones), squeeze=False, sharey=True, figsize=(width * len(backbones), height)
    )
    for axes, backbone in zip(grid[0], backbones, strict=True):
        for index, method in enumerate(_shown(summary)):
            rows = [
                row
                for row in summary["cells"]
                if (row["dataset"], row["backbone"], row["method"]) == (dataset, backbone, method)
            ]
            rows.sort(key=lambda row: row["realised_rate"])
            estimates = [row["estimates"]["accuracy"] for row in rows]
            # Moved a little sideways, so that the intervals do not hide each other.
            shift = 0.6 * (index - 2.5)
            axes.errorbar(
                [100 * row["realised_rate"] + shift for row in rows],
                [100 * e["mean"] for e in estimates],
                yerr=[100 * (e["half_width"] or 0) for e in estimates],
                color=COLOURS[index],
                marker=MARKERS[index],
                markersize=3.5,
                linewidth=1,
                capsize=2,
                label=method,
            )
        axes.set_title(backbone, fontsize=8)
        axes.set_xlabel("realised noise rate (%)")
    lowest, highest = grid[0, 0].get_ylim()
    grid[0, 0].set_ylim(max(lowest, 0), min(highest, 101))
    grid[0, 0].set_ylabel(f"{summary['data'][dataset]['evaluation']} accuracy (%)")
    _legend(figure, grid[0, 0])
    return figure


def transition_matrices(summary: dict, dataset: str) -> Figure | None:
    """What became of each class's labels, a panel for each noise; None without noise."""
    noises = {
        name: summary["noise"][f"{dataset} {name}"]
        for name in summary["axes"]["noise"]
        if "transition_matrix" in summary["noise"].get(f"{dataset} {name}", {})
    }
    if not noises:
        return None
    size = PANEL_INCHES[1]
    figure, grid = plt.subplots(
        1, len(noises), squeeze=False, figsize=(size * len(noises) + 0.8, size + 0.3)
    )
    for axes, (name, noise) in zip(grid[0], noises.items(), strict=True):
        matrix = 100 * np.array(noise["transition_matrix"])
        picture = axes.imshow(matrix, vmin=0, vmax=100, cmap="Blues")
        if len(matrix) <= 10:
            for (true, label), share in np.ndenumerate(matrix):
                shade = "white" if share > 50 else "black"
                axes.text(label, true, f"{share:.0f}", ha="center", va="center", c=shade, size=5)
        axes.set_title(f"{name}: {100 * noise['realised_rate']:.1f} % wrong", fontsize=8)
        axes.set_xlabel("label")
        axes.grid(False)
    grid[0, 0].set_ylabel("true class")
    figure.colorbar(picture, ax=grid[0, -1], label="share of the class (%)")
    return figure


FIGURES = {
    "error": error_per_method,
    "curves": learning_curves,
    "noise": accuracy_against_noise,
    "transition": transition_matrices,
}


def _panels(summary: dict, rows_per_inch: float = 0) -> tuple[Figure, list[tuple[Axes, str, str]]]:
    """A grid of panels: a row for each backbone, a column for each noise."""
    noises, backbones = summary["axes"]["noise"], summary["axes"]["backbones"]
    width, height = PANEL_INCHES
    figure, grid = plt.subplots(
        len(backbones),
        len(noises),
        squeeze=False,
        figsize=(width * len(noises), max(height, rows_per_inch) * len(backbones)),
    )
    panels = []
    for line, backbone in zip(grid, backbones, strict=True):
        for axes, noise in zip(line, noises, strict=True):
            axes.set_title(f"{backbone}, {noise}", fontsize=8)
            panels.append((axes, noise, backbone))
    return figure, panels


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)


def _find(summary: dict, dataset: str, noise: str, backbone: str, method: str) -> dict | None:
    wanted = (dataset, noise, backbone, method)
    rows = (
        row
        for row in summary["cells"]
        if (row["dataset"], row["noise"], row["backbone"], row["method"]) == wanted
    )
    return next(rows, None)


def _shown(summary: dict) -> list[str]:
    """The methods that a line each is drawn for: no more than there are colours."""
    shown = summary["axes"]["methods"]
    if len(shown) <= len(COLOURS):
        return shown
    simple = [m for m in shown if m == "all" or len(methods.parse(m).ways) <= 1]
    return simple[: len(COLOURS)]
