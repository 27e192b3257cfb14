"""`imcl predict | export`: use the trained network of a cell on pictures of your own."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from imcl import terminal
from imcl.cli.commands import (
    Commands,
    Parents,
    command,
    named_device,
    number,
    settings,
    with_device,
    with_json,
    with_study,
)
from imcl.errors import ImclError, UsageError, printable, unknown
from imcl.files import write_bytes, write_text
from imcl.study.spec import MOST_SEED

if TYPE_CHECKING:
    from imcl.study.settings import Settings
    from imcl.training.trained import Trained

TOGETHER = 64  # pictures in memory at a time
SUFFIXES = {"torch": "pt2", "onnx": "onnx"}


# What a network says of a picture: its likeliest class, and the probability of each, in 0..1. Not a
# class, since `class` is no name in Python.
Prediction = TypedDict(
    "Prediction",
    {"file": str, "class": str, "probability": float, "probabilities": dict[str, float]},
)


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the commands."""
    summary = "Print the class of pictures and its probability, by a trained cell."
    predict = command(
        commands, parents, "predict", _predict, summary, "predict mine-clean-vgg16-all new/ --json"
    )
    predict.add_argument("cell", help="name of a trained cell, as `imcl plan` prints it")
    predict.add_argument(
        "pictures",
        nargs="+",
        type=Path,
        metavar="PICTURE|FOLDER",
        help="pictures, or folders with pictures at any depth; treated as those of the dataset",
    )
    with_json(predict, "a JSON list, with the probability of each class")
    predict.add_argument("--csv", type=Path, metavar="FILE", help="also write a table as CSV")
    with_device(predict, "where to compute")
    summary = "Write the trained network of a cell as a file that runs without imcl."
    export = command(
        commands, parents, "export", _export, summary, "export mine-clean-vgg16-all -o net.pt2"
    )
    export.add_argument("cell", help="name of a trained cell, as `imcl plan` prints it")
    export.add_argument(
        "--format",
        choices=[*SUFFIXES],
        default="torch",
        help="torch: for torch.export.load (default); onnx: needs `pip install onnx onnxscript`",
    )
    export.add_argument(
        "-o", dest="file", type=Path, metavar="FILE", help="default: named after the cell and seed"
    )
    for sub in (predict, export):
        sub.add_argument(
            "--seed",
            type=number(int, 0, MOST_SEED),
            help="whose network to take (default: the first seed of the cell)",
        )
        with_study(sub)


def _predict(arguments: argparse.Namespace) -> None:
    files = [*_files(arguments.pictures)]
    loaded = settings(arguments)
    trained = _trained(arguments, loaded, named_device(arguments, loaded))
    faults: list[str] = []
    found = [*_predictions(trained, files, faults)]
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        _show(trained, found)
    if arguments.csv:
        write_text(arguments.csv, _csv(found))
    for fault in faults:
        print(terminal.fitted(fault, sys.stderr), file=sys.stderr)
    if faults:
        raise ImclError(f"{len(faults)} of {len(files)} files cannot be used")


def _export(arguments: argparse.Namespace) -> None:
    trained = _trained(arguments, settings(arguments), "cpu")
    from imcl.training.trained import onnx_program, torch_program

    make = onnx_program if arguments.format == "onnx" else torch_program
    file = arguments.file or Path(f"{trained.run.run_key}.{SUFFIXES[arguments.format]}")
    write_bytes(file, make(trained))
    terminal.tell(f"{file}: {trained.told['input']}; {trained.told['output']}")


def _trained(arguments: argparse.Namespace, loaded: "Settings", where: str) -> "Trained":
    """The network that the arguments name."""
    from imcl.study import grid

    cell = grid.find(loaded, arguments.cell)
    seed = cell.seeds[0] if arguments.seed is None else arguments.seed
    if seed not in cell.seeds:
        raise UsageError(f"--seed: {unknown('seed', seed, map(str, cell.seeds))}")
    import torch  # takes seconds

    from imcl.training.device import choose, settle
    from imcl.training.trained import Trained

    settle(torch.get_num_threads(), cell.training.precision)
    return Trained.load(arguments.project, cell.of_seed(seed), choose(where))


def _files(places: Sequence[Path]) -> Iterator[Path]:
    """The files at these places, those of a folder in the order of their names.

    Hidden files are left out.

    Raises:
        UsageError: there is nothing at a place, or the folder is empty.
    """
    for place in places:
        if not place.exists():
            raise UsageError(f"{place}: no such file or folder")
        found = [place]
        if place.is_dir():
            inside = (path.relative_to(place) for path in place.rglob("*") if path.is_file())
            shown = (p for p in inside if not any(part.startswith(".") for part in p.parts))
            found = [place / path for path in sorted(shown)]
        if not found:
            raise UsageError(f"{place}: no files in this folder")
        yield from found


def _predictions(
    trained: "Trained", files: Sequence[Path], faults: list[str]
) -> Iterator[Prediction]:
    """What the network says of each picture; of one that cannot be used, `faults` does."""
    left = iter(files)
    while some := [*islice(left, TOGETHER)]:
        images = []
        for file in some:
            try:
                images.append((file, trained.image(file)))
            except ImclError as error:
                faults.append(str(error))
        if not images:
            continue
        rows = trained.probabilities([image for _, image in images])
        for (file, _), row in zip(images, rows, strict=True):
            values = dict(zip(trained.class_names, row.tolist(), strict=True))
            likely = max(values, key=values.__getitem__)
            yield {
                "file": str(file),
                "class": likely,
                "probability": values[likely],
                "probabilities": values,
            }


def _csv(found: Sequence[Prediction]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "class", "probability"])
    table.writerows([printable(row["file"]), row["class"], row["probability"]] for row in found)
    return text.getvalue()


def _show(trained: "Trained", found: Sequence[Prediction]) -> None:
    rows = [[printable(row["file"]), row["class"], f"{row['probability']:.3f}"] for row in found]
    terminal.table(
        ["file", "class", "probability"],
        rows,
        right=["probability"],
        whole=["class", "probability"],
    )
    pictures = "1 picture" if len(found) == 1 else f"{len(found)} pictures"
    terminal.tell(f"{pictures}, by {trained.run.name}, seed {trained.run.seeds[0]}")
