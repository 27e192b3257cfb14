"""The planned cells that have no record yet."""

from collections.abc import Collection, Sequence
from typing import Any

from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.study.grid import Cell


class Gaps(TypedDict):
    """The cells without a record, each in one of these.

    Attributes:
        noise: options of the label noises that no method was trained with, by name.
        methods: that were not trained in any other setting either.
        settings: by dataset/noise/backbone, the other methods.
    """

    noise: dict[str, dict[str, Any]]
    methods: list[str]
    settings: dict[str, list[str]]


def gaps(cells: Sequence[Cell], there: Collection[str]) -> Gaps:
    """The cells that have no record.

    Args:
        cells: all that the study plans.
        there: the names of those that have a record.
    """
    made = [cell for cell in cells if cell.name in there]
    noises, methods = {cell.noise_name for cell in made}, {cell.method for cell in made}
    missing = [cell for cell in cells if cell.name not in there]
    settings: dict[str, list[str]] = {}
    for cell in missing:
        if cell.noise_name in noises and cell.method in methods:
            settings.setdefault("/".join(cell.setting), []).append(cell.method)
    return {
        "noise": {
            cell.noise_name: cell.noise.config
            for cell in missing
            if cell.noise and cell.noise_name not in noises
        },
        "methods": list(
            dict.fromkeys(
                cell.method
                for cell in missing
                if cell.method not in methods and cell.noise_name in noises
            )
        ),
        "settings": settings,
    }
