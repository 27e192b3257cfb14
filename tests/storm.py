"""Kills random processes of a running study, starts it again, and compares what comes out.

    python tests/storm.py --kills 50

The study is run once undisturbed. Then, in a second checkout, a process is killed with SIGKILL at
random moments: a job, Snakemake or DVC, at times with everything that runs beside it, as in a power
cut. This goes on until so many were killed, and so many of them were trainings that were at
different epochs. After each end the study is started again as workflow/README.md says, by Snakemake
and DVC in turn. In the end every record, table, array and weight must be the same to the byte,
except for times and memory.
"""

import argparse
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from conftest import MICRO, Checkout, check_out

from imcl.progress import Event, Events
from imcl.project import Project

Say = Callable[[str], object]  # takes a line of the log

COMMANDS = (
    ("snakemake", "--workflow-profile", "workflow/profiles/default"),
    ("dvc", "repro"),
)
ENGINES = ("snakemake", "dvc")
UNLOCK = ("snakemake", "--unlock")
PAUSE_S = (0.2, 7.0)  # between two kills
POWER_CUT = 0.2  # the share of kills that end everything at once


@dataclass
class Toll:
    """What was killed.

    Attributes:
        kinds: how often each kind of process.
        epochs: of a cell's two trainings together, how many were done when its process was killed;
            processes that had not begun to train are left out.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    epochs: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        trained = f"trainings killed at {len(set(self.epochs))} different epochs"
        return f"{dict(self.kinds)}; {trained}: {sorted(self.epochs)}"


def undisturbed(folder: Path, epochs: int, methods: Sequence[str] = MICRO["methods"]) -> Checkout:
    """A checkout whose study has run, with so many epochs in each of a cell's two trainings."""
    calm = check_out(folder)
    training = {**MICRO["training"], "epochs": epochs, "batch_size": 64, "evaluations": 10}
    calm.change(studies__micro={**MICRO, "methods": [*methods], "training": training})
    calm.commit("study")
    calm.run(*COMMANDS[0])
    return calm


def storm(calm: Checkout, folder: Path, kills: int, trainings: int, seed: int, say: Say) -> Toll:
    """Run the study of a checkout again, from nothing and under so many kills; compare.

    Args:
        calm: has run undisturbed.
        folder: for the checkout that is disturbed; there is none yet.
        kills: processes to be killed at least.
        trainings: different epochs at which a training is to be killed at least.
        seed: of the kills.
        say: takes a line of the log.

    Raises:
        AssertionError: something differs, or the study does not finish.
    """
    rough = calm.clone(folder)
    toll = _disturb(rough, kills, trainings, random.Random(seed), say)
    for command in COMMANDS:
        _start(rough, say)
        rough.run(*command)
    _compare(calm.folder, rough.folder, say)
    return toll


def _disturb(
    checkout: Checkout, kills: int, trainings: int, chance: random.Random, say: Say
) -> Toll:
    toll = Toll()
    begun, turn, engine = time.monotonic(), 0, None
    with (checkout.folder.parent / "output.log").open("w") as output:
        while toll.kinds.total() < kills or len(set(toll.epochs)) < trainings:
            if engine is None or engine.poll() is not None:
                if engine is not None and engine.returncode == 0:
                    _begin_again(checkout, chance, say)
                _start(checkout, say)
                engine = subprocess.Popen(
                    COMMANDS[turn % 2],
                    cwd=checkout.folder,
                    env=checkout.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
                turn += 1
            time.sleep(chance.uniform(*PAUSE_S))
            alive = list(jobs(checkout))
            if not alive:
                continue
            weights = [1 if kind in ENGINES else 3 for kind, _ in alive]
            ((kind, victim),) = chance.choices(alive, weights)
            cut = chance.random() < POWER_CUT
            for each_kind, process in alive if cut else [(kind, victim)]:
                try:
                    cell = process.cmdline()[-1]
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
                toll.kinds[each_kind] += 1
                what = f"{each_kind} {process.pid}"
                epochs = _epochs(checkout, cell, process.pid) if each_kind == "imcl train" else None
                if epochs is not None:
                    toll.epochs.append(epochs)
                    what += f" after {epochs} epochs"
                what += " with everything that ran" if cut else ""
                say(f"kill {toll.kinds.total():3d} at {time.monotonic() - begun:5.1f} s: {what}")
        if engine is not None:
            engine.kill()
            engine.wait()
    return toll


def _epochs(checkout: Checkout, cell: str, pid: int) -> int | None:
    """How many epochs of a cell were done when a process trained it; None if it did not begin.

    Those of all seeds count, also those that were done before it resumed.
    """
    runs = Project(checkout.folder).trainings.glob(f"{_name(cell)}-seed*.jsonl")
    events = [Events.read(path) for path in runs]
    if not any(event.get("pid") == pid for run in events for event in run):
        return None
    return sum(_done(run) for run in events)


def _name(key: str) -> str:
    return key.rpartition("-")[0]


def _done(events: list[Event]) -> int:
    """The epochs that the last process of a run told of."""
    starts = [index for index, event in enumerate(events) if event["event"] == "started"]
    return max(event.get("done", 0) for event in events[starts[-1] if starts else 0 :])


def _start(checkout: Checkout, say: Say) -> None:
    """Get ready to start again, as the README says: end what is left of Snakemake, unlock."""
    for kind, process in jobs(checkout):
        if kind in ENGINES:
            process.kill()
            process.wait()
    if any((checkout.folder / ".snakemake/locks").glob("*")):
        checkout.run(*UNLOCK)
        say("unlocked")


def _begin_again(checkout: Checkout, chance: random.Random, say: Say) -> None:
    """The study is done before the kills are: delete some of it."""
    made = sorted((checkout.folder / "results/records").glob("*.json"))
    for record in chance.sample(made, 4):
        record.unlink()
        for run in (checkout.folder / "results/runs").glob(f"{_name(record.stem)}-seed*.json"):
            run.unlink()
    # From its copy, DVC would take back what is deleted.
    shutil.rmtree(checkout.folder / "results/shared", ignore_errors=True)
    shutil.rmtree(checkout.folder / "paper/build")
    if chance.random() < 0.3:
        shutil.rmtree(checkout.folder / "data", ignore_errors=True)
    say("done; deleted four records and the documents, to continue")


def jobs(checkout: Checkout) -> Iterator[tuple[str, psutil.Process]]:
    """Snakemake, DVC and the jobs of a checkout, by kind."""
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) != checkout.folder or process.status() == "zombie":
                continue
            words = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
            continue
        if words[1:3] == ["-m", "imcl"]:
            yield f"imcl {words[3]}", process
        elif len(words) > 1 and Path(words[1]).name in ENGINES:
            yield Path(words[1]).name, process


# `record`: a summary's hash of a record's file, which holds times; the records are compared too.
TIMES = ("cost", "cost_to_base", "seal", "record", "training_seconds", "peak_memory_bytes")


def _compare(calm: Path, rough: Path, say: Say) -> None:
    names = [
        path.relative_to(calm)
        for place in ("data", "results", "paper/build/tables", "paper/build/results.tex")
        for path in ([calm / place] if (calm / place).is_file() else (calm / place).rglob("*"))
        if path.is_file() and path.name[0] != "."
    ]
    counts: Counter[str] = Counter()
    for name in names:
        theirs = (rough / name).read_bytes()
        mine = (calm / name).read_bytes()
        if name.suffix == ".json":
            mine, theirs = (without_times(json.loads(text)) for text in (mine, theirs))
        elif name.name.startswith("cost-"):  # a table of times and memory
            continue
        assert mine == theirs, f"{name} differs"
        counts[str(Path(*name.parts[: 3 if name.parts[0] == "paper" else 2]))] += 1
    planned = {path.name for path in (calm / "results/records").glob("*.json")}
    records = [json.loads((rough / "results/records" / name).read_text()) for name in planned]
    resumed = sum(cost["resumed"] for record in records for cost in record["cost"])
    left = [p.name for p in (rough / "results").rglob("*") if p.name.endswith((".tmp", ".part"))]
    say(f"identical: {dict(counts)}")
    say(f"trainings resumed from a checkpoint: {resumed}; temporary files left: {len(left)}")
    assert counts["results/records"] == len(planned) >= 4


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_times(v) for key, v in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--trainings",
        type=int,
        default=20,
        help="go on until trainings were killed at so many different epochs (default: 20)",
    )
    parser.add_argument("--epochs", type=int, default=30, help="of a training (default: 30)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="imcl-storm-"))

    def say(line: str) -> None:
        print(line, flush=True)

    say(f"seed {arguments.seed}, in {folder}")
    begun = time.monotonic()
    calm = undisturbed(folder / "calm", arguments.epochs)
    say(f"undisturbed: {time.monotonic() - begun:.0f} s")
    toll = storm(calm, folder / "storm", arguments.kills, arguments.trainings, arguments.seed, say)
    seconds = time.monotonic() - begun
    say(f"{toll.kinds.total()} kills in {seconds:.0f} s: {toll}; everything is identical")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
