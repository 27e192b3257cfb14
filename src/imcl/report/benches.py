"""The tables of the measurements: one for each and for each device that it was run on."""

from collections.abc import Callable
from pathlib import Path

from imcl.files import read_json
from imcl.report import BENCHES
from imcl.report.render import Entry, Table, number

RECORD = ("settings", "environment", "rows")


def tables() -> list[Table]:
    """All of them, by the name of the record: overhead-cpu, loop-cpu ..."""
    found = []
    for name, build in BUILDERS.items():
        for path in sorted(BENCHES.glob(f"{name}-*.json")):
            found.append(build(path, read_json(path, RECORD)))
    return found


def _where(record: dict) -> str:
    where = record["environment"]
    return f"{where['device_name']}, torch {where['torch']}"


def _overhead(path: Path, record: dict) -> Table:
    settings = record["settings"]
    caption = (
        f"overhead: a training step of {settings['batch_size']} images of CIFAR's shape, "
        f"backbones of width {settings['width']}, {settings['precision']}, on {_where(record)}, "
        f"{record['environment']['threads']} threads: median of "
        f"{settings['repeats']} interleaved steps. Parameters while training and when served "
        "(millions); multiply-adds, time and peak memory relative to base."
    )
    header = ["backbone", "method", "training", "served", "multiply-adds", "time", "memory"]
    groups: dict[str, list] = {}
    for row in record["rows"]:
        names = [Entry(row["backbone"]), Entry(row["method"])]
        sizes = [
            number(row[key], [str(path)], key, scale=1e-6)
            for key in ("training_parameters", "parameters")
        ]
        ratios = [
            number(row[key], [str(path)], f"{key}, to base of the same run", digits=2)
            for key in ("macs_ratio", "time_ratio", "memory_ratio")
        ]
        groups.setdefault(row["backbone"], []).append([*names, *sizes, *ratios])
    return Table(path.stem, caption, header, list(groups.values()))


def _loop(path: Path, record: dict) -> Table:
    settings, where = record["settings"], record["environment"]
    caption = (
        f"loop: training in images per second, batches of {settings['batch_size']} of CIFAR's "
        f"shape, on {_where(record)}, {where['threads']} threads: medians of "
        f"{settings['repeats']} interleaved epochs. The usual loop: PIL transforms in a DataLoader "
        "with two workers, float32, NCHW, .item() each step; tuned: channels last, fused update, "
        "no .item(), the same precision as ours; limit: the measured rate of matrix products over "
        "the operations of an image. Packed: one single-threaded network for each core at once, "
        "all together, relative to ours. Augmentation: share of our step's time."
    )
    header = ["backbone", "width", "precision", "ours", "usual", "tuned", "limit"]
    header += ["ours/usual", "ours/tuned", "ours/limit", "packed/ours", "augmentation"]
    groups: dict[str, list] = {}
    for row in record["rows"]:
        names = [Entry(str(row[key])) for key in header[:3]]
        rates = [
            number(row[key], [str(path)], f"{key}, median", digits=0)
            for key in ("images_per_second", "usual", "tuned", "limit")
        ]
        ratios = [
            number(row[key], [str(path)], key, digits=2)
            for key in ("ratio_to_usual", "ratio_to_tuned", "ratio_to_limit", "packed_ratio")
        ]
        rule = "images_per_second over those of augmentation alone"
        share = number(row["augmentation_share"], [str(path)], rule, scale=100, unit=" %")
        groups.setdefault(row["backbone"], []).append([*names, *rates, *ratios, share])
    return Table(path.stem, caption, header, list(groups.values()), labels=3)


def _pipeline(path: Path, record: dict) -> Table:
    caption = (
        f"pipeline: a study from nothing to its paper, on {_where(record)}: wall time, the cells' "
        "own time (training and evaluation, by their records) shared by the cores, their ratio, "
        "and a second run with nothing to do."
    )
    header = ["study", "cores", "cells", "networks", "wall (s)", "own (s)", "ratio", "no-op (s)"]
    lines = []
    for row in record["rows"]:
        names = [Entry(row["study"]), Entry(str(row["cores"]))]
        shown = (
            ("cells", row["cells"], 0),
            ("networks", row["networks"], 0),
            ("wall_seconds", row["wall_seconds"], 1),
            ("own_seconds / cores", row["own_seconds"] / row["cores"], 1),
            ("overhead_ratio", row["overhead_ratio"], 2),
            ("nothing_to_do_seconds", row["nothing_to_do_seconds"], 1),
        )
        numbers = [number(value, [str(path)], rule, digits=d) for rule, value, d in shown]
        lines.append([*names, *numbers])
    return Table(path.stem, caption, header, [lines])


def _growth(path: Path, record: dict) -> Table:
    caption = (
        f"growth: seconds on {_where(record)}, and the growth since the smallest size relative to "
        "the size's own: at most 1 where nothing grows worse than linearly."
    )
    header = ["what", "size", "time (s)", "growth / size's"]
    groups: dict[str, list] = {}
    for row in record["rows"]:
        names = [Entry(row["what"]), Entry(f"{row['size']:,} {row['unit']}")]
        seconds = number(row["seconds"], [str(path)], "seconds")
        ratio = number(row["ratio_to_linear"], [str(path)], "ratio_to_linear", digits=2)
        groups.setdefault(row["what"], []).append([*names, seconds, ratio])
    return Table(path.stem, caption, header, list(groups.values()))


def _agreement(path: Path, record: dict) -> Table:
    settings = record["settings"]
    caption = (
        f"agreement: test accuracy (%) of base, width {settings['width']}, after "
        f"{settings['epochs']} epochs in our loop ({settings['precision']}) and in the usual one "
        f"(float32), mean of n = {settings['seeds']} seeds ± 95 % t-interval, and whether the "
        f"intervals overlap; on {_where(record)}."
    )
    header = ["dataset", "backbone", "ours", "usual", "overlap"]
    lines = []
    for row in record["rows"]:
        names = [Entry(row["dataset"]), Entry(row["backbone"])]
        numbers = [
            number(
                {"mean": row[f"{loop}_mean"], "half_width": row[f"{loop}_half_width"]},
                [str(path)],
                f"mean and t-interval of {loop}",
                scale=100,
            )
            for loop in ("ours", "usual")
        ]
        lines.append([*names, *numbers, Entry("yes" if row["agree"] else "no")])
    return Table(path.stem, caption, header, [lines])


BUILDERS: dict[str, Callable[[Path, dict], Table]] = {
    "overhead": _overhead,
    "loop": _loop,
    "pipeline": _pipeline,
    "growth": _growth,
    "agreement": _agreement,
}
