"""The tables of the measurements: one for each benchmark and device."""

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from imcl.present import names
from imcl.present.render import Entry, Row, Table, isolated, number
from imcl.records.record import Environment, Measurement


def tables(measurements: Mapping[str, Measurement]) -> list[Table]:
    """All of them, named after their files: overhead-cpu, loop-cpu ...

    Args:
        measurements: by path.
    """
    return [
        build(path, measurement)
        for bench, build in BUILDERS.items()
        for path, measurement in sorted(measurements.items())
        if measurement["bench"] == bench
    ]


def _where(measurement: Measurement) -> str:
    where = measurement["environment"]
    return f"{isolated(where['device_name'])}, torch {where['torch']}"


def _threads(where: Environment) -> str:
    return "1 thread" if where["threads"] == 1 else f"{where['threads']} threads"


def _name(path: str) -> str:
    return PurePosixPath(path).stem


def _names(row: Mapping[str, Any]) -> Row:
    """The entries of a row's backbone and method."""
    backbone, method = row["backbone"], row["method"]
    return [
        Entry(names.backbone(backbone), name=backbone),
        Entry(names.method(method), name=method),
    ]


def _overhead(path: str, measurement: Measurement) -> Table:
    settings, where = measurement["settings"], measurement["environment"]
    title = (
        f"overhead: one training step on {settings['batch_size']} images of CIFAR's shape, "
        f"backbones of width {settings['width']}, {settings['precision']}, on "
        f"{_where(measurement)}, {_threads(where)}; median of {settings['repeats']} "
        "interleaved steps."
    )
    rules = (
        "Training and served: parameters (millions) during training and of the network that is "
        "used afterwards. Multiply-adds, time and peak memory: relative to base."
    )
    header = ["backbone", "method", "training", "served", "multiply-adds", "time", "memory"]
    groups: dict[str, list[Row]] = {}
    for row in measurement["rows"]:
        labels = _names(row)
        sizes = [
            number(row[key], [path], key, scale=1e-6)
            for key in ("training_parameters", "parameters")
        ]
        ratios = [
            number(row[key], [path], f"{key}, to base in the same run", digits=2)
            for key in ("macs_ratio", "time_ratio", "memory_ratio")
        ]
        groups.setdefault(row["backbone"], []).append([*labels, *sizes, *ratios])
    return Table(_name(path), title, header, list(groups.values()), rules=rules)


def _loop(path: str, measurement: Measurement) -> Table:
    settings, where = measurement["settings"], measurement["environment"]
    title = (
        f"loop: training speed in images per second, in batches of {settings['batch_size']} images "
        f"of CIFAR's shape, on {_where(measurement)}, {_threads(where)}; medians of "
        f"{settings['repeats']} interleaved epochs."
    )
    rules = (
        "Usual: PIL transforms in a DataLoader with two "
        "workers, float32, NCHW, .item() in each step. Tuned: channels last, fused update, no "
        ".item(), the same precision as ours. Limit: the measured rate of matrix products divided "
        "by the operations per image. Packed: total speed of single-threaded networks, "
    )
    rules += (
        "several on the GPU at the same time. Augmentation: its time, operation by operation, as a "
        "share of our step's, which is captured with it."
        if where["device"] == "cuda"
        else "one per core, trained at the same time. Augmentation: its share of our step's time."
    )
    header = ["backbone", "width", "precision", "ours", "usual", "tuned", "limit"]
    header += ["ours/usual", "ours/tuned", "ours/limit", "packed/ours", "augmentation"]
    groups: dict[str, list[Row]] = {}
    for row in measurement["rows"]:
        named = names.backbone(row["backbone"])
        labels = [Entry(named), *(Entry(str(row[key])) for key in header[1:3])]
        rates = [
            number(row[key], [path], f"{key}, median", digits=0)
            for key in ("images_per_second", "usual", "tuned", "limit")
        ]
        ratios = [
            number(row[key], [path], key, digits=2)
            for key in ("ratio_to_usual", "ratio_to_tuned", "ratio_to_limit", "packed_ratio")
        ]
        rule = "images_per_second divided by those of augmentation alone"
        share = number(row["augmentation_share"], [path], rule, scale=100, unit=" %")
        groups.setdefault(row["backbone"], []).append([*labels, *rates, *ratios, share])
    return Table(_name(path), title, header, list(groups.values()), labels=3, rules=rules)


def _change(path: str, measurement: Measurement) -> Table:
    settings, where = measurement["settings"], measurement["environment"]
    title = (
        f"change: training speed in images per second, in batches of {settings['batch_size']} "
        f"images of CIFAR's shape, on {_where(measurement)}, {_threads(where)}; before "
        f"is commit {isolated(settings['before'])}; medians of {settings['turns']} runs in turns."
    )
    rules = (
        "Limit: as in the table of loop, from the same run. Convolutions: their share of the time "
        "of a step's operations. Bound: what after/limit would be if all others took no time."
    )
    header = ["backbone", "width", "precision", "before", "after", "after/before"]
    header += ["before/limit", "after/limit", "convolutions", "bound"]
    groups: dict[str, list[Row]] = {}
    for row in measurement["rows"]:
        named = names.backbone(row["backbone"])
        labels = [Entry(named), *(Entry(str(row[key])) for key in header[1:3])]
        rates = [number(row[key], [path], f"{key}, median", digits=0) for key in header[3:5]]
        ratios = [
            number(row[key], [path], f"{key}, median", digits=2)
            for key in ("ratio", "before_to_limit", "after_to_limit")
        ]
        rule = "time of the convolutions divided by that of all operations"
        share = number(row["convolution_share"], [path], rule, scale=100, digits=0, unit=" %")
        rule = "after_to_limit divided by convolution_share"
        bound = number(row["bound"], [path], rule, digits=2)
        groups.setdefault(row["backbone"], []).append([*labels, *rates, *ratios, share, bound])
    return Table(_name(path), title, header, list(groups.values()), labels=3, rules=rules)


def _steps(path: str, measurement: Measurement) -> Table:
    settings = measurement["settings"]
    title = (
        f"steps: counts of one training step on {settings['batch_size']} images of CIFAR's shape, "
        f"backbones of width {settings['width']}, {settings['precision']}, on "
        f"{_where(measurement)}."
    )
    rules = (
        "Views: augmentations of each image. Operations: those that "
        "compute something, forward, backward and update. Allocated: all memory that the step "
        "allocates, whether or not it is freed again. Waits: how often the CPU waits for a result "
        "of a GPU. Captures: graphs that a training captures in two epochs, on a GPU."
    )
    header = ["backbone", "method", "views", "operations", "to base", "allocated (MB)", "to base"]
    header += ["waits", "captures"]
    groups: dict[str, list[Row]] = {}
    for row in measurement["rows"]:
        labels = _names(row)
        shown = (
            ("views", 1, 0),
            ("operations", 1, 0),
            ("operations_ratio", 1, 2),
            ("allocated_bytes", 1e-6, 1),
            ("bytes_ratio", 1, 2),
            ("waits", 1, 0),
            ("captures", 1, 0),
        )
        numbers = [number(row[key], [path], key, scale=s, digits=d) for key, s, d in shown]
        groups.setdefault(row["backbone"], []).append([*labels, *numbers])
    return Table(_name(path), title, header, list(groups.values()), rules=rules)


def _pipeline(path: str, measurement: Measurement) -> Table:
    title = f"pipeline: a study from nothing to its paper, on {_where(measurement)}."
    rules = (
        "Wall: wall-clock "
        "time. Own: training and evaluation of the cells, from their records, divided by the "
        "cores. Ratio: wall divided by own. No-op: a second run, which has nothing to do."
    )
    header = ["study", "cores", "cells", "networks", "wall (s)", "own (s)", "ratio", "no-op (s)"]
    rows = []
    for row in measurement["rows"]:
        labels = [Entry(row["study"]), Entry(str(row["cores"]))]
        shown = (
            ("cells", row["cells"], 0),
            ("networks", row["networks"], 0),
            ("wall_seconds", row["wall_seconds"], 1),
            ("own_seconds / cores", row["own_seconds"] / row["cores"], 1),
            ("overhead_ratio", row["overhead_ratio"], 2),
            ("nothing_to_do_seconds", row["nothing_to_do_seconds"], 1),
        )
        rows.append(labels + [number(v, [path], rule, digits=d) for rule, v, d in shown])
    return Table(_name(path), title, header, [rows], rules=rules)


def _growth(path: str, measurement: Measurement) -> Table:
    title = f"growth: seconds on {_where(measurement)}."
    rules = (
        "Last column: the factor by which the time has "
        "grown since the smallest size, divided by the factor by which the size has; at most 1 "
        "means that the time does not grow faster than linearly."
    )
    header = ["what", "size", "time (s)", "time / size factor"]
    groups: dict[str, list[Row]] = {}
    for row in measurement["rows"]:
        labels = [Entry(row["what"]), Entry(f"{row['size']:,} {row['unit']}")]
        seconds = number(row["seconds"], [path], "seconds")
        ratio = number(row["ratio_to_linear"], [path], "ratio_to_linear", digits=2)
        groups.setdefault(row["what"], []).append([*labels, seconds, ratio])
    return Table(_name(path), title, header, list(groups.values()), rules=rules)


def _agreement(path: str, measurement: Measurement) -> Table:
    settings = measurement["settings"]
    title = (
        f"agreement: test accuracy (%) of base, width {settings['width']}, after "
        f"{settings['epochs']} epochs in our loop ({settings['precision']}) and in the usual one "
        f"(float32); mean of n = {settings['seeds']} seeds ± 95 % t-interval."
    )
    rules = (
        "All runs use the same images, so intervals cover the training's randomness alone. "
        f"Overlap: whether the two intervals overlap. Measured on {_where(measurement)}."
    )
    header = ["dataset", "backbone", "ours", "usual", "overlap"]
    rows = []
    for row in measurement["rows"]:
        labels = [Entry(row["dataset"]), Entry(names.backbone(row["backbone"]))]
        numbers = [
            number(
                {"mean": row[f"{loop}_mean"], "half_width": row[f"{loop}_half_width"]},
                [path],
                f"mean and t-interval of {loop}",
                scale=100,
            )
            for loop in ("ours", "usual")
        ]
        rows.append([*labels, *numbers, Entry("yes" if row["agree"] else "no")])
    return Table(_name(path), title, header, [rows], rules=rules)


def _library(path: str, measurement: Measurement) -> Table:
    settings = measurement["settings"]
    title = (
        f"library: test accuracy (%) of torchvision's ResNet-18 on digits of {settings['side']} x "
        f"{settings['side']} pixels, after {settings['epochs']} epochs ({settings['precision']}); "
        f"mean of n = {settings['seeds']} seeds ± 95 % t-interval."
    )
    rules = (
        "Plain loop: cross-entropy. It and the rows of one view augment each image once, all "
        "others twice. Output and all: imcl.Collaboration with this name alone. Gain: the "
        "difference to the plain loop in points, paired by seed. All runs use the same images and "
        "labels, so intervals cover "
        f"the training's randomness alone. Measured on {_where(measurement)}."
    )
    seeds = range(1, settings["seeds"] + 1)
    header = ["labels", "method", *(f"seed {seed}" for seed in seeds), "mean", "gain"]
    groups: dict[float, list[Row]] = {}
    for row in measurement["rows"]:
        labels = [Entry(names.wrong_labels(row["wrong_labels"])), Entry(row["method"])]
        by_seed = [
            number(value, [path], f"accuracy of seed {seed}", scale=100)
            for seed, value in zip(seeds, row["accuracy"], strict=True)
        ]
        own = {"mean": row["mean"], "half_width": row["half_width"]}
        gain = {"mean": row["gain_mean"], "half_width": row["gain_half_width"]}
        shown = [
            number(own, [path], "mean and t-interval of accuracy", scale=100),
            number(
                None if row["gain_mean"] is None else gain,
                [path],
                "mean and t-interval of the differences to the plain loop by seed",
                scale=100,
                signed=True,
            ),
        ]
        groups.setdefault(row["wrong_labels"], []).append([*labels, *by_seed, *shown])
    return Table(_name(path), title, header, list(groups.values()), rules=rules)


BUILDERS: dict[str, Callable[[str, Measurement], Table]] = {
    "overhead": _overhead,
    "loop": _loop,
    "change": _change,
    "steps": _steps,
    "pipeline": _pipeline,
    "growth": _growth,
    "agreement": _agreement,
    "library": _library,
}
