"""`imcl bench NAME`: the command line of the measurements.

A measurement is the module of the same name with a function `rows(params, **options)`.
"""

import argparse
import json
import os
from importlib import import_module
from pathlib import Path

from imcl.errors import UsageError, unknown

BENCHES = {
    "overhead": "What each method costs beside base.",
    "loop": "The trainer beside the loop that people write, and beside the machine's limit.",
    "pipeline": "A study's wall time beside its cells' own training time.",
    "growth": "How times grow with the number of cells, with the data and with the seeds.",
    "agreement": "Whether the trainer and the usual loop train equally good networks.",
}
TABLES = "Print the tables of all measurements that are recorded."
COUNT = {"type": int, "metavar": "N"}
OPTIONS = {
    "width": {**COUNT, "help": "of the networks"},
    "widths": {**COUNT, "nargs": "+", "help": "of the networks"},
    "precisions": {"nargs": "+", "choices": ["float32", "tf32", "bf16"], "help": "of training"},
    "dataset": {"help": "a prepared dataset of params.yaml"},
    "batch_size": {**COUNT, "help": "images in a batch"},
    "steps": {**COUNT, "help": "of an epoch at width 64; more for narrower networks"},
    "epochs": {**COUNT, "help": "of each training"},
    "repeats": {**COUNT, "help": "of which the median counts"},
    "seeds": {**COUNT, "help": "of each network"},
    "sizes": {**COUNT, "nargs": "+", "help": "numbers of cells, ascending"},
    "threads": {**COUNT, "help": "of the CPU"},
    "cores": {**COUNT, "help": "for Snakemake"},
    "device": {"choices": ["auto", "cpu", "cuda"], "help": "where to train"},
    "compile": {"action": "store_true", "help": "our trainer with torch's compiler"},
}
CORES = os.cpu_count() or 1
DEFAULTS = {
    "overhead": {"width": 64, "batch_size": 128, "repeats": 7, "device": "auto", "threads": CORES},
    "loop": {
        "widths": [64, 16],
        "precisions": ["float32", "bf16"],
        "batch_size": 128,
        "steps": 4,
        "repeats": 5,
        "device": "auto",
        "threads": CORES,
        "compile": False,
    },
    "pipeline": {"cores": CORES},
    "growth": {"sizes": [100, 1000, 10000], "cores": CORES},
    "agreement": {
        "dataset": "cifar10_5k",
        "width": 8,
        "epochs": 12,
        "seeds": 5,
        "device": "auto",
        "threads": CORES,
    },
}
LEAST = {"width": 2, "widths": 2, "batch_size": 2, "seeds": 2, "sizes": 10}  # 1 for the others


def register(bench: argparse.ArgumentParser) -> None:
    """Add a command for each measurement."""
    benches = bench.add_subparsers(dest="what", required=True, metavar="BENCH")
    for name, summary in BENCHES.items():
        sub = benches.add_parser(
            name,
            help=summary,
            description=summary,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        sub.set_defaults(run=_run)
        sub.add_argument("--params", default="params.yaml", metavar="FILE", help="the parameters")
        sub.add_argument("--study", help="a study instead of the one params.yaml chooses")
        sub.add_argument("--json", action="store_true", help="the rows as a JSON list")
        for option, default in DEFAULTS[name].items():
            sub.add_argument(f"--{option.replace('_', '-')}", default=default, **OPTIONS[option])
    sub = benches.add_parser("tables", help=TABLES, description=TABLES)
    sub.set_defaults(run=_tables)
    sub.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="put each between its `<!-- NAME -->` and `<!-- /NAME -->` in this file",
    )


def _tables(arguments: argparse.Namespace) -> None:
    from imcl.report import benches, render

    for table in benches.tables():
        if arguments.write is None:
            print(f"{table.name}\n\n{render.markdown(table)}")
        elif f"<!-- {table.name} -->" in arguments.write.read_text(encoding="utf-8"):
            render.insert(arguments.write, table.name, table)
            print(f"{arguments.write}: {table.name}")


def _run(arguments: argparse.Namespace) -> None:
    from imcl import params

    loaded = params.load(arguments.params, arguments.study)
    settings = {option: getattr(arguments, option) for option in DEFAULTS[arguments.what]}
    _check(settings, loaded)
    from tabulate import tabulate

    from imcl import machine
    from imcl.bench import record

    device = machine.choose(settings.get("device", "auto"))
    given = {**settings, "device": device} if "device" in settings else settings
    rows = import_module(f"imcl.bench.{arguments.what}").rows(loaded, **given)
    settings["precision"] = loaded["training"]["precision"]
    path = record.write(arguments.what, {**settings, "device": device.type}, rows, device)
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(tabulate(rows, headers="keys", floatfmt=".3f", tablefmt="plain"))
    print(path)


def _check(settings: dict, loaded: dict) -> None:
    for option, value in settings.items():
        for number in value if isinstance(value, list) else [value]:
            least = LEAST.get(option, 1)
            if isinstance(number, int) and option != "compile" and number < least:
                raise UsageError(f"--{option.replace('_', '-')} {number}: at least {least}")
    known = loaded["datasets"]
    if "dataset" in settings and settings["dataset"] not in known:
        raise UsageError(f"--dataset: {unknown('dataset', settings['dataset'], known)}")
