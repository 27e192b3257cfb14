"""The search for the settings: what each rung of the calibration tried, from its records.

A rung is a study on held-out training images (params.yaml: calibration); its losers are shown too.
"""

from imcl import grid
from imcl.report import records
from imcl.report.render import Entry, Table, number


def gather(params: dict) -> list[dict]:
    """What was tried: a row for each cell of the rungs that has a record, here or committed."""
    rows = []
    chosen = {entry["method"] for entry in params["calibration"]["chosen"].values()}
    for rung in params["calibration"]["rungs"]:
        for cell in grid.cells(params, rung):
            path = records.find(cell, rung)
            if path is None:
                continue
            record = records.read(cell, path)
            runs = record["runs"]
            rows.append(
                {
                    "rung": rung,
                    "record": str(path),
                    "noise": cell.config["noise"]["name"],
                    "backbone": cell.backbone,
                    "method": cell.method,
                    "settings": _settings(cell),
                    "chosen": cell.method in chosen,
                    "evaluation": record["dataset"]["evaluation"],
                    "n": len(runs),
                    **{
                        name: sum(run[part][metric] for run in runs) / len(runs)
                        for name, part, metric in VALUES
                    },
                }
            )
    return rows


VALUES = (
    ("last", "final", "accuracy"),
    ("best", "oracle", "accuracy"),
    ("nll", "final", "nll"),
)


def _settings(cell: grid.Cell) -> str:
    """The options that a method was tried with, in a few words."""
    training = cell.config["training"]
    said = [
        f"{training['epochs']} epochs",
        f"learning rate {training['learning_rate']:g}",
        f"decay {training['weight_decay']:g}",
    ]
    for way, options in cell.config["ways"].items():
        others = [
            f"{key.replace('_', '-')} {value if isinstance(value, bool) else f'{value:g}'}".lower()
            for key, value in options.items()
            if key not in ("variant", "weight")
        ]
        said.append(f"{way}: {options['variant']} × {options['weight']:g} ({', '.join(others)})")
    return "; ".join(said)


def table(rows: list[dict]) -> Table:
    """A row for each method that was tried, by rung, backbone and noise; the chosen ones bold."""
    groups: dict[tuple, list[list[Entry]]] = {}
    for row in rows:
        place = tuple(row[key] for key in ("rung", "noise", "backbone"))
        sources = [row["record"]]
        bold = row["chosen"]
        groups.setdefault(place, []).append(
            [
                *map(Entry, place),
                Entry(row["method"], bold),
                Entry(row["settings"]),
                number(row["last"], sources, "mean accuracy × 100", scale=100, bold=bold),
                number(row["best"], sources, "mean oracle accuracy × 100", scale=100),
                number(row["nll"], sources, "mean NLL", digits=2),
            ]
        )
    caption = (
        "The search for the settings, rung by rung, on held-out training images whose labels are "
        "as noisy as those trained on: at noise n50 half of them are wrong, so that whoever knows "
        "the truth has an accuracy of 50 %. One seed each. Last and best: accuracy (%) at the last "
        "epoch, by which the choice was made, and at the best one. Bold: what was chosen."
    )
    header = ["rung", "noise", "backbone", "method", "settings", "last", "best", "NLL"]
    align = "llllp{75mm}rrr"
    return Table("ablation", caption, header, list(groups.values()), labels=4, align=align)
