"""The figure of the method: the four ways between the parts of one network."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

# Of each way, here and in its label.
COLOURS = {
    "output": "#0072B2",
    "intermediate": "#D55E00",
    "representation": "#009E73",
    "kernel": "#CC79A7",
}
VIEWS = (29.0, 13.0)  # the height of each view's row
STAGES = ((19.0, 11.0, 3), (35.0, 9.0, 4), (51.0, 7.0, 5), (67.0, 5.0, 6))  # left, side, channels
STEP = 1.1  # between the maps of a stage


def figure(width: float) -> Figure:
    """The figure, as wide as the text.

    Args:
        width: in inches.
    """
    drawing, axes = plt.subplots(figsize=(width, 0.41 * width))
    axes.set(xlim=(0, 106), ylim=(-1.5, 42))
    axes.axis("off")
    for number, y in enumerate(VIEWS):
        _view(axes, number + 1, y)
    _kernels(axes)
    middle = sum(VIEWS) / 2
    for number, (left, side, channels) in enumerate(STAGES):
        x = left + (side + STEP * channels) / 2
        _arrow(axes, (x, VIEWS[0] - 6.3), (x, VIEWS[1] + 6.3), "intermediate", "<->")
        axes.text(x, VIEWS[1] - 8.2, f"stage {number + 1}", ha="center", va="center", size=7)
    _arrow(axes, (94, VIEWS[0] - 4.6), (94, VIEWS[1] + 4.6), "output", "<->")
    _label(axes, 100.5, middle, "output:\nagree", "output")
    _label(axes, 5.5, middle, "intermediate:\nagree", "intermediate")
    _label(axes, 5.5, 38.5, "kernel:\ndiffer", "kernel")
    _label(axes, 6.5, 3, "representation:\ndiffer", "representation")
    return drawing


def _view(axes: Axes, number: int, y: float) -> None:
    """One augmentation of the image on its way through the network."""
    axes.add_patch(Rectangle((1, y - 4.5), 9, 9, facecolor="#eeeeee", edgecolor="black", lw=0.8))
    axes.text(5.5, y, f"view {number}", ha="center", va="center", size=7)
    x = 10.0
    for left, side, channels in STAGES:
        _flow(axes, x, left, y)
        for index in range(channels):
            corner = (left + STEP * index, y - side / 2 + 0.5 * (index - channels / 2))
            axes.add_patch(
                Rectangle(corner, side, side, facecolor="white", edgecolor="#444444", lw=0.7)
            )
        x = left + side + STEP * (channels - 1)
        bottom, top = (y - side / 2 - 0.25 * channels - 0.9, y - side / 2 + 0.25 * channels - 1.4)
        start, end = (left + side + 0.3, bottom), (x + 0.9, top)
        _arrow(axes, start, end, "representation", "<->")
    _flow(axes, x, 83, y)
    axes.add_patch(Rectangle((83, y - 4), 1.6, 8, facecolor="white", edgecolor="#444444", lw=0.7))
    axes.text(83.8, y - 5.4, "$h$", ha="center", va="center", size=7)
    _flow(axes, 84.6, 93, y)
    for index, height in enumerate((1.5, 3.5, 2.2)):
        x = 93.6 + 2.2 * index
        bar = Rectangle((x, y - 3.6), 1.6, 2 * height, facecolor=COLOURS["output"], alpha=0.75)
        axes.add_patch(bar)
    axes.plot([93, 100.4], [y - 3.6, y - 3.6], color="black", lw=0.8)
    axes.text(101.4, y - 3, f"$z_{number}$", ha="left", va="center", size=7)


def _kernels(axes: Axes) -> None:
    """The convolutions between the views: one network, so both use the same kernels."""
    for left, *_ in STAGES:
        for index in range(3):
            corner = (left - 3.8 + 1.3 * index, 37.2 - 1.0 * index)
            axes.add_patch(
                Rectangle(corner, 2.2, 2.2, facecolor="white", edgecolor=COLOURS["kernel"], lw=1)
            )
        axes.plot([left - 1.4] * 2, [34.6, VIEWS[0] + 0.6], color=COLOURS["kernel"], lw=0.7, ls=":")


def _flow(axes: Axes, start: float, end: float, y: float) -> None:
    arrow = FancyArrowPatch(
        (start + 0.4, y), (end - 0.2, y), arrowstyle="-|>", mutation_scale=6, lw=0.8, color="black"
    )
    axes.add_patch(arrow)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], way: str, style: str
) -> None:
    arrow = FancyArrowPatch(
        start, end, arrowstyle=style, mutation_scale=7, lw=1.2, color=COLOURS[way]
    )
    axes.add_patch(arrow)


def _label(axes: Axes, x: float, y: float, text: str, way: str) -> None:
    axes.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        color=COLOURS[way],
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )
