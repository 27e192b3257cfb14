"""The table of the search for a study's settings."""

from collections.abc import Sequence

from imcl.analysis.search import SearchRow
from imcl.present.render import Entry, Row, Table, number


def table(tried: Sequence[SearchRow]) -> Table:
    """A row for each candidate in each rung, those that lost included."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in sorted(tried, key=lambda row: row["rung"]):
        place = (row["dataset"], row["noise"], row["backbone"], row["method"])
        sources, bold = [row["record"]], row["chosen"]
        groups.setdefault(place, []).append(
            [
                Entry(", ".join(place[:3]), name="/".join(place[:3])),
                Entry(place[3]),
                Entry(str(row["candidate"]), bold),
                Entry(str(row["rung"])),
                Entry(row["settings"], bold),
                number(row["epochs"], sources, "training.epochs", digits=0),
                number(row["n"], sources, "seeds", digits=0),
                number(row["accuracy"], sources, "mean accuracy × 100", scale=100, bold=bold),
                number(row["true_accuracy"], sources, "mean true_accuracy × 100", scale=100),
                number(row["regret"], sources, "best true accuracy minus this, × 100", scale=100),
            ]
        )
    title = (
        "The search for the settings on held-out training images. Each rung trains the candidates "
        "that are left, and keeps the best of each method. Bold: chosen."
    )
    rules = (
        "Held out: accuracy (%) at the last epoch on the labels of these images, mean over n "
        "seeds. These labels are as noisy as those trained on, so with noise even a perfect "
        "classifier scores only the clean share. Nothing else decides. True: the same networks on "
        "the true labels. Regret: how many points the choice loses against the best candidate of "
        "the last rung by true labels."
    )
    header = ["setting", "method", "candidate", "rung", "settings", "epochs"]
    header += ["n", "held out", "true", "regret"]
    align = "llrrL{46mm}rrrrr"
    return Table("search", title, header, [*groups.values()], labels=4, align=align, rules=rules)
