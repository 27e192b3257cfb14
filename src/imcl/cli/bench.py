"""`imcl bench NAME`: the command line of the measurements."""

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from imcl import terminal
from imcl.bench.options import BENCHES, Bench
from imcl.cli.commands import Commands, Parents, command, settings, with_json, with_study
from imcl.errors import UsageError, unknown
from imcl.files import read_bytes
from imcl.project import Project
from imcl.study.faults import check
from imcl.study.settings import Settings


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the command, and below it one for each measurement."""
    summary = "Measure the cost of methods and the speed of training and pipeline."
    epilog = "example: imcl bench overhead --width 16"
    bench = commands.add_parser("bench", help=summary, description=summary, epilog=epilog)
    benches = bench.add_subparsers(dest="bench", required=True, metavar="BENCH")
    for name, options in BENCHES.items():
        sub = command(benches, parents, name, _measure, options.__doc__ or "", _example(name))
        sub.formatter_class = argparse.ArgumentDefaultsHelpFormatter
        with_study(sub)
        with_json(sub)
        for option, field in options.model_fields.items():
            sub.add_argument(_flag(option), **_argument(field))
    summary = "Print the tables of all recorded measurements."
    tables = command(benches, parents, "tables", _tables, summary, "bench tables")
    tables.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="put each table between `<!-- NAME -->` and `<!-- /NAME -->` in this file, and beside "
        "the file each figure that it shows",
    )


def _example(name: str) -> str:
    fields = BENCHES[name].model_fields.items()
    needed = (f" {_flag(option)} {field.examples[0]}" for option, field in fields if field.examples)
    return f"bench {name}{''.join(needed)}"


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _argument(field: FieldInfo) -> dict[str, Any]:
    """What argparse needs to know about an option."""
    argument: dict[str, Any] = {"help": field.description}
    argument |= {"required": True} if field.is_required() else {"default": field.default}
    kind = field.annotation
    if kind is bool:
        return {**argument, "action": "store_true"}
    if get_origin(kind) is list:
        argument["nargs"] = "+"
        kind = get_args(kind)[0]
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if "nargs" in argument:  # argparse would repeat the choices, in a line that is too long
            argument |= {"metavar": "NAME", "help": f"{field.description}: {', '.join(choices)}"}
        return {**argument, "choices": choices}
    return {**argument, "type": kind, "metavar": "N" if kind is int else "NAME"}


def _measure(arguments: argparse.Namespace) -> None:
    project, loaded = arguments.project, settings(arguments)
    options = _options(arguments, loaded)
    from imcl.records.store import Store
    from imcl.training import device as devices
    from imcl.training.code import code

    device = devices.choose(getattr(options, "device", "auto"))
    rows = import_module(f"imcl.bench.{arguments.bench}").rows(project, loaded, options)
    path = Store(project).write_measurement(
        arguments.bench,
        device.type,
        {
            "bench": arguments.bench,
            "settings": {
                **options.model_dump(),
                "device": device.type,
                "precision": loaded.training.precision,
            },
            "code": code(),
            "environment": {**devices.environment(device, getattr(options, "threads", 1))},
            "rows": rows,
        },
    )
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    terminal.table([*rows[0]], [[_shown(value) for value in row.values()] for row in rows])
    print(path)


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _options(arguments: argparse.Namespace, loaded: Settings) -> Bench:
    """The checked options of the measurement.

    Raises:
        UsageError: a number is out of bounds, or there is no such dataset.
    """
    spec = BENCHES[arguments.bench]
    options = check(spec, {name: getattr(arguments, name) for name in spec.model_fields})
    if isinstance(options, list):
        faults = (f"{_flag(str(place[0]))} {fault}" for place, fault in options)
        raise UsageError("\n".join(faults))
    dataset = getattr(options, "dataset", None)
    if dataset is not None and dataset not in loaded.datasets:
        raise UsageError(f"--dataset: {unknown('dataset', dataset, loaded.datasets)}")
    return options


def _tables(arguments: argparse.Namespace) -> None:
    from imcl.present import measurements, render, shown
    from imcl.records.store import Store

    project = arguments.project
    recorded = Store(project).measurements()
    by_place = {project.relative(path): measurement for path, measurement in recorded.items()}
    for table in measurements.tables(by_place):
        if arguments.write is None:
            print(f"{table.name}\n")
            shown.table(table)
        elif f"<!-- {table.name} -->".encode() in read_bytes(arguments.write):
            render.insert(arguments.write, table.name, table)
            print(f"{arguments.write}: {table.name}")
    if arguments.write is not None:
        _figures(project, arguments.write)


def _figures(project: Project, page: Path) -> None:
    """Draw the figures of measurements that the page shows from its own folder."""
    from imcl.present import figures
    from imcl.records.store import Store

    text = read_bytes(page)
    for path, measurement in Store(project).measurements().items():
        png = page.parent / f"{path.stem}.png"
        if f"]({png.name})".encode() in text and measurement["bench"] in figures.OF_MEASUREMENTS:
            figures.write_measured(measurement, png)
            print(png)
