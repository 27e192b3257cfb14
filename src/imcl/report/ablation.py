"""The search for the settings: what each rung of the calibration tried, from its records.

A rung is a study on held-out training images (params.yaml: calibration); its losers are shown too.
"""

from imcl import grid
from imcl.report import records
from imcl.report.render import MISSING, Entry, Table, number

VALUES = (
    ("last", "final", "accuracy"),
    ("best", "oracle", "accuracy"),
    ("nll", "final", "nll"),
)


SHOWN = ("epochs", "learning_rate", "weight_decay")  # of the training, in columns of their own


def gather(params: dict, here: bool) -> list[dict]:
    """What was tried: a row for each cell of the rungs that has a record.

    Args:
        params: checked parameters.
        here: a record made here goes before the committed one.
    """
    rows = []
    chosen_ones = params["calibration"]["chosen"].values()
    winners = {(entry["method"], entry["noise"]) for entries in chosen_ones for entry in entries}
    for rung in params["calibration"]["rungs"]:
        for cell in grid.cells(params, rung):
            path = records.find(cell, rung, here)
            if path is None:
                continue
            runs = records.read(cell, path)["runs"]
            rows.append(
                {
                    "rung": rung,
                    "record": str(path),
                    "dataset": cell.dataset.name,
                    "noise": cell.config["noise"]["name"],
                    "backbone": cell.backbone,
                    "method": cell.method,
                    **{key: cell.config["training"][key] for key in SHOWN},
                    "settings": _settings(cell, params["trials"].get(cell.method, {})),
                    "chosen": (cell.method, cell.config["noise"]["name"]) in winners,
                    "n": len(runs),
                    **{
                        name: sum(run[part][metric] for run in runs) / len(runs)
                        for name, part, metric in VALUES
                    },
                }
            )
    return rows


def chosen(params: dict, plan: dict, ways: dict[str, dict]) -> dict[str, list[dict]]:
    """The choices that a study uses: of `training` if it trains so, and of the ways in it.

    Args:
        params: checked parameters.
        plan: the study.
        ways: the options of each way in it, by noise.
    """
    training = {**params["training"], **plan.get("training", {})}
    in_use = {"training": [training], **{way: by.values() for way, by in ways.items()}}
    found = {}
    for part, entries in params["calibration"]["chosen"].items():
        fit = [
            entry
            for entry in entries
            for options in [params["trials"][entry["method"]][part].items()]
            if any(options <= used.items() for used in in_use.get(part, ()))
        ]
        if fit:
            found[part] = fit
    return found


def _settings(cell: grid.Cell, trial: dict) -> str:
    """What a method was tried with beside SHOWN: what its trial says, and its ways' weights."""
    said = _options({k: v for k, v in trial.get("training", {}).items() if k not in SHOWN})
    for way, options in cell.config["ways"].items():
        others = {k: v for k, v in trial.get(way, {}).items() if k not in ("variant", "weight")}
        weighted = f"{way} {options['variant']} × {options['weight']:g}"
        said.append(", ".join([weighted, *_options(others)]))
    return "; ".join(said)


def _options(options: dict) -> list[str]:
    return [
        f"{'' if value else 'not '}{key}"
        if isinstance(value, bool)
        else f"{key.replace('_', ' ')} {value:g}"
        for key, value in options.items()
    ]


def table(rows: list[dict]) -> Table:
    """A row for each method that was tried, by rung and setting; the chosen ones bold."""
    groups: dict[tuple, list[list[Entry]]] = {}
    for row in rows:
        place = tuple(row[key] for key in ("rung", "dataset", "noise", "backbone"))
        sources = [row["record"]]
        bold = row["chosen"]
        groups.setdefault(place, []).append(
            [
                *map(Entry, place),
                Entry(row["method"], bold),
                number(row["epochs"], sources, "training.epochs", digits=0),
                Entry(f"{row['learning_rate']:g}"),
                Entry(f"{row['weight_decay']:g}"),
                Entry(row["settings"] or MISSING),
                number(row["last"], sources, "mean accuracy × 100", scale=100, bold=bold),
                number(row["best"], sources, "mean oracle accuracy × 100", scale=100),
                number(row["nll"], sources, "mean NLL", digits=2),
                number(row["n"], sources, "seeds", digits=0),
            ]
        )
    caption = (
        "The search for the settings, rung by rung, on held-out training images, whose labels are "
        "as noisy as those trained on: where a share of them is wrong, whoever knows the truth "
        "is right in the rest alone. Last and best: accuracy (%) at the last epoch and at the best "
        "one, mean over n seeds. Bold: the trials whose settings are in use with such labels, in "
        "every rung that tried them."
    )
    header = ["rung", "dataset", "noise", "backbone", "method", "epochs"]
    header += ["rate", "decay", "settings", "last", "best", "NLL", "n"]
    align = "lllllrrrp{46mm}rrrr"
    return Table("ablation", caption, header, list(groups.values()), labels=5, align=align)
