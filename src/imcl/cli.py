"""The command line: `imcl COMMAND`, or `python -m imcl COMMAND`."""

import argparse
import io
import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import imcl
from imcl.bench.commands import register
from imcl.errors import ImclError, Stopped, UsageError, unknown


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if it went well, 2 for wrong usage, 1 for a failure."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # or someone put another in its place
            stream.reconfigure(errors="replace")  # of an encoding that knows no ± or −
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except ImclError as error:
        print(f"imcl {arguments.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"imcl {arguments.command}: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        name = signal.Signals(stopped.number).name
        print(f"imcl {arguments.command}: {name}; run it again to go on", file=sys.stderr)
        return 128 + stopped.number
    except KeyboardInterrupt:
        print(f"imcl {arguments.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="imcl", description=(imcl.__doc__ or "").split("\n")[0])
    parser.add_argument("--version", action="version", version=imcl.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function, name: str, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(run=function)
        return sub

    def with_params(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument("--params", default="params.yaml", metavar="FILE", help="the parameters")
        return sub

    def with_study(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        with_params(sub)
        sub.add_argument("--study", help="a study instead of the one params.yaml chooses")
        return sub

    def with_machine(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
        sub.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
        sub.add_argument(
            "--compile",
            action="store_true",
            help="with torch's compiler, for a GPU (slower on CPUs)",
        )
        return sub

    plan = with_study(command(_plan, "plan", "List the cells of a study and what is done."))
    plan.add_argument("--json", action="store_true", help="as a JSON list")

    status = with_study(
        command(_status, "status", "Show what runs, what failed and the time left.")
    )
    status.add_argument("--json", action="store_true", help="as a JSON list")

    fetch = with_params(command(_fetch, "fetch", "Download a dataset's archives and check them."))
    fetch.add_argument("source", help="a dataset, its source, or `human` for CIFAR-10N's labels")

    prepare = with_params(
        command(_prepare, "prepare", "Convert a dataset to arrays with statistics and hash.")
    )
    prepare.add_argument("dataset", help="a dataset of params.yaml")

    data = with_params(command(_data, "data", "List the datasets and what is missing for each."))
    data.add_argument("--json", action="store_true", help="as a JSON list")

    noise = with_params(command(_noise, "noise", "Draw a dataset's noisy labels."))
    noise.add_argument("dataset", help="a dataset of params.yaml")
    noise.add_argument("noise", help="a noise of params.yaml")

    train = with_study(command(_train, "train", "Train and evaluate one cell, all its seeds."))
    train.add_argument("cell", help="a cell as `imcl plan` prints it")
    with_machine(train)
    train.add_argument(
        "--checkpoint-share",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="of the run time at most, for writing checkpoints (default: 0.02)",
    )

    every = command(_run, "run", "Train a study without an engine: its cells in order, for a time.")
    with_machine(with_study(every))
    every.add_argument("--jobs", type=int, default=1, help="cells at once (default: 1)")
    every.add_argument("--minutes", type=float, help="stop by then; called again, it goes on")
    every.add_argument(
        "--grace", type=float, default=1.0, help="minutes before that to stop in (default: 1)"
    )

    summary = with_study(command(_summary, "summary", "Gather a study's records into one file."))
    summary.add_argument("--partial", action="store_true", help="go on without missing records")
    summary.add_argument(
        "--records", type=Path, metavar="FOLDER", help="where they are (default: results/records)"
    )

    tables = command(_tables, "tables", "Write the tables of the summary, and print the main ones.")
    tables.add_argument("--all", action="store_true", help="print all of them")

    register(command(None, "bench", "Measure cost and speed, side by side in one run."))

    claims = with_params(command(_claims, "claims", "Judge the claims from all records."))
    claims.add_argument("--json", action="store_true", help="as a JSON list")
    claims.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="put the ledger between `<!-- claims -->` and `<!-- /claims -->` of this file",
    )

    trace = with_study(command(_trace, "trace", "Show what stands behind a number."))
    trace.add_argument("place", metavar="TABLE:ROW:COLUMN", help="or FIGURE:..., or text:...")
    trace.add_argument("--json", action="store_true", help="as a JSON object")
    trace.add_argument(
        "--committed",
        action="store_true",
        help="from committed records alone, as `make paper` (default: those made here go first)",
    )

    verify = with_study(command(_verify, "verify", "Recompute what can be; name what differs."))
    verify.add_argument(
        "--retrain", type=int, default=0, metavar="N", help="also train N cells at random again"
    )

    command(_figures, "figures", "Draw the figures of the summary.")
    command(_paper, "paper", "Typeset the paper from tables and figures.")
    with_params(command(_report, "report", "Make the HTML report, and an RO-Crate of the study."))
    return parser


def _load(arguments: argparse.Namespace) -> dict:
    from imcl import params

    return params.load(arguments.params, getattr(arguments, "study", None))


def _dataset(arguments: argparse.Namespace, loaded: dict):
    from imcl import grid

    known = grid.datasets(loaded)
    if arguments.dataset not in known:
        raise UsageError(f"{arguments.params}: {unknown('dataset', arguments.dataset, known)}")
    return known[arguments.dataset]


def _plan(arguments: argparse.Namespace) -> None:
    from imcl import plan

    _list(plan, arguments)


def _status(arguments: argparse.Namespace) -> None:
    from imcl import status

    _list(status, arguments)


def _fetch(arguments: argparse.Namespace) -> None:
    from imcl.data import SOURCES
    from imcl.data.fetch import expected_checksum, fetch, require_placed
    from imcl.grid import ARCHIVES
    from imcl.noise import KINDS

    known = SOURCES | {kind: archives for kind, archives in KINDS.items() if archives}
    source = arguments.source
    if source not in known:
        loaded = _load(arguments)
        names = {name: entry["source"] for name, entry in loaded["datasets"].items()}
        if source not in names:
            raise UsageError(f"{arguments.params}: {unknown('dataset', source, [*names, *known])}")
        source = names[source]
    if not known[source]:
        print(f"{source}: nothing to fetch")
    require_placed(known[source], ARCHIVES)
    for archive in known[source]:
        path = fetch(archive, ARCHIVES)
        checked = "checksum is right" if expected_checksum(archive) else "no checksum is known"
        print(f"{path}: {checked}")


def _prepare(arguments: argparse.Namespace) -> None:
    from imcl.data.prepare import prepare

    dataset = _dataset(arguments, _load(arguments))
    _require(dataset.archives, dataset.name)
    made = prepare(dataset.name, dataset.config, dataset.archives, dataset.path)
    print(
        f"{dataset.path}: {made['n_train']:,} training and {made['n_test']:,} test images, "
        f"mean {_decimals(made['mean'])}, std {_decimals(made['std'])}"
    )


def _data(arguments: argparse.Namespace) -> None:
    from imcl.data import listing

    _list(listing, arguments)


def _noise(arguments: argparse.Namespace) -> None:
    from imcl import grid
    from imcl.data import prepare
    from imcl.noise import inject

    loaded = _load(arguments)
    dataset = _dataset(arguments, loaded)
    if arguments.noise not in loaded["noise"]:
        raise UsageError(
            f"{arguments.params}: {unknown('noise', arguments.noise, loaded['noise'])}"
        )
    if not dataset.path.exists():
        raise ImclError(f"{dataset.path}: missing; run `imcl prepare {dataset.name}` first")
    noise = grid.Noise(arguments.noise, loaded["noise"][arguments.noise], dataset)
    _require(noise.archives, noise.config["kind"])
    _, arrays = prepare.load(dataset.path)
    made = inject.inject(noise.config, arrays, noise.archives, noise.path)
    print(f"{noise.path}: nominal {made['nominal_rate']:.2%}, realised {made['realised_rate']:.2%}")


def _train(arguments: argparse.Namespace) -> None:
    from imcl import grid

    cell = grid.find(_load(arguments), arguments.cell)
    if arguments.threads < 1:
        raise UsageError(f"--threads {arguments.threads}: at least 1")
    share = arguments.checkpoint_share
    if not 0 <= share <= 1:
        raise UsageError(f"--checkpoint-share {share}: a share, so from 0 to 1")
    from imcl import experiment

    record = experiment.run(cell, arguments.device, arguments.threads, arguments.compile, share)
    accuracy = ", ".join(f"{run['final']['accuracy']:.2%}" for run in record["runs"])
    print(f"{cell.record}: {record['dataset']['evaluation']} accuracy by seed {accuracy}")


def _run(arguments: argparse.Namespace) -> None:
    from imcl import grid, runner

    loaded = _load(arguments)
    for option, least in (("jobs", 1), ("threads", 1), ("minutes", 0), ("grace", 0)):
        value = getattr(arguments, option)
        if value is not None and value < least:
            raise UsageError(f"--{option} {value}: at least {least}")
    options = [f"--params={arguments.params}"]
    training = [f"--study={loaded['study']}", f"--device={arguments.device}"]
    training += [f"--threads={arguments.threads}", *(["--compile"] if arguments.compile else [])]
    seconds = None if arguments.minutes is None else 60 * arguments.minutes
    cells = grid.cells(loaded)
    failed, left = runner.run(
        cells,
        options,
        training,
        arguments.jobs,
        seconds,
        60 * arguments.grace,
        loaded["studies"][loaded["study"]].get("anchors"),
    )
    done = len(cells) - len(failed) - len(left)
    print(f"study {loaded['study']}: {done} of {len(cells)} cells done, {len(left)} left")
    if failed:
        raise ImclError(f"{len(failed)} cells failed: {', '.join(failed)}")


def _summary(arguments: argparse.Namespace) -> None:
    from imcl import grid
    from imcl.report import summary

    loaded = _load(arguments)
    folder = arguments.records or grid.RECORDS
    made = summary.write(loaded, arguments.partial, folder)
    count = f"{len(made['cells'])} of {made['planned']} cells"
    print(f"{summary.path(loaded, folder)}: {count} of study {made['study']}")


def _tables(arguments: argparse.Namespace) -> None:
    from imcl.report import render, summary, tables

    for table in tables.write(summary.read()):
        if arguments.all or table.name.startswith("accuracy"):
            print(render.markdown(table))


def _claims(arguments: argparse.Namespace) -> None:
    from imcl.report import claims, render, tables

    judged = claims.judge(_load(arguments))
    if arguments.write:
        render.insert(arguments.write, "claims", tables.claims_table(judged))
        print(arguments.write)
    elif arguments.json:
        print(json.dumps(judged, indent=1))
    else:
        claims.show(judged)


def _trace(arguments: argparse.Namespace) -> None:
    from imcl.report import trace

    traced = trace.trace(_load(arguments), arguments.place, not arguments.committed)
    if arguments.json:
        print(json.dumps(traced, indent=1))
    else:
        trace.show(traced)


def _verify(arguments: argparse.Namespace) -> None:
    if arguments.retrain < 0:
        raise UsageError(f"--retrain {arguments.retrain}: at least 0")
    loaded = _load(arguments)
    from imcl import verify

    studies = verify.studies(loaded, Path(arguments.params))
    found = list(verify.check_benches())
    for study in studies:
        faults = list(verify.check(study))
        count = len(list(study.records.glob("*.json")))
        files = f"{count} records, {len(study.made)} files made from them"
        print(f"{study.records}: {files}, {len(faults) or 'no'} faults", flush=True)
        found += faults
    for cell, path in verify.sample(studies, arguments.retrain):
        how, fault = verify.retrain(cell, path)
        print(f"{path}: trained again: {'differs' if fault else 'agrees'}, {how}", flush=True)
        found += [fault] if fault else []
    if found:
        lines = "".join(f"\n  {place}: {fault}" for place, fault in found)
        raise ImclError(f"{len(found)} faults:{lines}")


def _figures(arguments: argparse.Namespace) -> None:
    from imcl.report import figures, summary

    for path in figures.write(summary.read()):
        print(path)


def _paper(arguments: argparse.Namespace) -> None:
    from imcl.report import paper

    print(paper.write())


def _report(arguments: argparse.Namespace) -> None:
    from imcl.report import BUILD, crate, html, summary

    made = summary.read()
    page = html.write(made)
    print(page)
    print(crate.write(made, Path(arguments.params), [page, BUILD / "paper.pdf"]))


def _list(module: ModuleType, arguments: argparse.Namespace) -> None:
    """Print what the module's `rows` gives: as JSON, or as its `show` does."""
    rows = module.rows(_load(arguments))
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        module.show(rows)


def _require(archives: list[Path], source: str) -> None:
    for archive in archives:
        if not archive.exists():
            raise ImclError(f"{archive}: missing; run `imcl fetch {source}` first")


def _decimals(values: list[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)
