"""The values that the paper's text names, as a table that `imcl trace` finds."""

from imcl.analysis.claims import VERDICTS
from imcl.present import claims
from imcl.present.documents import Documents
from imcl.present.inputs import trained
from imcl.present.render import Entry, Table, isolated, number, span


def table(documents: Documents) -> Table:
    """A row for each value. Those whose name starts with `Study` are LaTeX commands."""
    said = {**_study(documents), **_claims(documents), **_comparisons(documents)}
    rows = [[Entry(name), entry] for name, entry in said.items()]
    return Table("text", "What the text says.", ["name", "value"], [rows], labels=1, shown=False)


def _study(documents: Documents) -> dict[str, Entry]:
    summary = documents.summary
    axes = summary["axes"]
    every = [row["key"] for row in summary["cells"]]
    seeds = [len(row["seeds"]) for row in summary["cells"]]
    commits = dict.fromkeys((code["commit"] or "unknown")[:12] for code in summary["code"])
    modified = " (modified)" if any(code["modified"] for code in summary["code"]) else ""
    devices = dict.fromkeys(isolated(where["device_name"]) for where in summary["environment"])
    versions = dict.fromkeys(where["torch"] for where in summary["environment"])

    def count(value: float, rule: str) -> Entry:
        return number(value, every, rule, digits=0)

    def stated(key: str, rule: str) -> Entry:
        """A setting; where several values are in use, with the datasets that each is for."""
        values = trained(summary, key)
        if len(values) == 1 and isinstance(values[0][1], int | float):
            (_, value) = values[0]
            return Entry(_word(value), False, value, rule, tuple(every))
        parts = [f"{_word(value)} ({where})" if where else _word(value) for where, value in values]
        return Entry(" or ".join(parts))

    return {
        "Study": Entry(summary["study"]),
        "StudyDigest": Entry(summary["digest"]),
        "StudyCells": count(len(summary["cells"]), "cells that have a record"),
        "StudyPlanned": count(summary["planned"], "cells of the study"),
        "StudySeeds": Entry(span(seeds), False, max(seeds), "seeds of each cell", tuple(every)),
        "StudyDatasets": Entry(", ".join(axes["datasets"])),
        "StudyNoise": Entry(", ".join(axes["noise"])),
        "StudyBackbones": Entry(" and ".join(axes["backbones"])),
        "StudyWidth": stated("width", "backbone.width"),
        "StudyEpochs": stated("epochs", "training.epochs"),
        "StudyBatchSize": stated("batch_size", "training.batch_size"),
        "StudyLearningRate": stated("learning_rate", "training.learning_rate"),
        "StudySchedule": stated("schedule", "training.schedule"),
        "StudyPrecision": stated("precision", "training.precision"),
        "StudyCommit": Entry(", ".join(commits) + modified),
        "StudyDevice": Entry("; ".join(devices)),
        "StudyTorch": Entry(", ".join(versions)),
    }


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def _claims(documents: Documents) -> dict[str, Entry]:
    """How many claims there are, by verdict, and at reduced size."""
    judged = documents.claims
    selections = {"StudyClaims": judged}
    for verdict in VERDICTS:
        name = f"StudyClaims{verdict.title().replace(' ', '')}"
        selections[name] = [claim for claim in judged if claim["verdict"] == verdict]
    selections["StudyClaimsReduced"] = [claim for claim in judged if claim["size"] == "reduced"]
    return {
        name: number(
            len(selected),
            claims.sources([reading for claim in selected for reading in claim["readings"]]),
            "claims of the ledger",
            digits=0,
        )
        for name, selected in selections.items()
    }


def _comparisons(documents: Documents) -> dict[str, Entry]:
    """For each dataset, how many cells were compared with base, and the outcomes."""
    said = {}
    for dataset in documents.summary["axes"]["datasets"]:
        found = documents.summary["comparisons"][dataset]["base"]
        sources = [
            row["key"]
            for row in documents.summary["cells"]
            if row["dataset"] == dataset and "difference_to_base" in row
        ]
        counts = {
            "compared": found["made"],
            "higher": len(found["higher"]),
            "better": len(found["better"]),
            "worse": len(found["worse"]),
        }
        for name, count in counts.items():
            rule = f"comparisons with base that are {name}"
            said[f"{name} {dataset}"] = number(count, sources, rule, digits=0)
    return said
