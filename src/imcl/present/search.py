"""The table of the search for the settings."""

from collections.abc import Sequence

from imcl.analysis.search import SearchRow
from imcl.present.render import MISSING, Entry, Row, Table, number


def table(tried: Sequence[SearchRow]) -> Table:
    """A row for each method that was tried, rejected ones included."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in tried:
        place = (row["rung"], row["dataset"], row["noise"], row["backbone"])
        sources, bold = [row["record"]], row["chosen"]
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
        "The search for the settings on held-out training images, one step (rung) after the other. "
        "The labels of these images are as noisy as those trained on, so with noise even a perfect "
        "classifier scores only the clean share. Last and best: accuracy (%) at the last epoch and "
        "at the best one, mean over n seeds. Bold: trials whose settings are in use with this "
        "noise; they are bold in every rung that tried them."
    )
    header = ["rung", "dataset", "noise", "backbone", "method", "epochs"]
    header += ["rate", "decay", "settings", "last", "best", "NLL", "n"]
    align = "lllllrrrL{46mm}rrrr"
    return Table("search", caption, header, list(groups.values()), labels=5, align=align)
