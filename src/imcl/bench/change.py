"""What a change did to the speed of our loop: this code and that of a commit before, in turns."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch.profiler import ProfilerActivity, profile

from imcl.bench import loop
from imcl.bench.options import Change, Row
from imcl.bench.workspace import workspace
from imcl.errors import ImclError
from imcl.progress import Progress
from imcl.project import VARIABLE, Project
from imcl.study.settings import Settings
from imcl.training import device as devices

TAKEN = ("images_per_second", "ratio_to_limit")
Speeds = dict[tuple[str, int, str], dict[str, float]]  # by backbone, width and precision


def rows(project: Project, settings: Settings, options: Change) -> list[Row]:
    """A row for each backbone, width and precision, on the CPU.

    Each turn runs `imcl bench loop` of both codes, each code first in every other turn; medians
    over the turns count.

    Returns:
        images_per_second of our loop `before` and `after`, the median ratio, each as a share of the
        limit that `bench loop` measures in the same run, and convolution_share: of the time of this
        code's operations. Were all others free, the share of the limit would be `bound`.

    Raises:
        ImclError: git does not have the commit, or one of the runs failed.
    """
    found: dict[str, list[Speeds]] = {"before": [], "after": []}
    with (
        checkout(project, options.before) as before,
        workspace(project, settings) as after,
        Progress("change", 2 * options.turns, "runs of the loop") as progress,
    ):
        folders = {"before": before, "after": after.project.root}
        for turn in range(options.turns):
            for name in sorted(folders, reverse=turn % 2 == 0):
                found[name].append(speeds(folders[name], options))
                progress.advance(note=name)
    made: list[Row] = []
    for key in [key for key in found["after"][0] if key in found["before"][0]]:
        share = convolution_share(settings, options, key)
        runs = {name: [speed[key] for speed in each] for name, each in found.items()}
        rate = {n: [run["images_per_second"] for run in each] for n, each in runs.items()}
        limit = {n: median([run["ratio_to_limit"] for run in each]) for n, each in runs.items()}
        made.append(
            {
                **dict(zip(("backbone", "width", "precision"), key, strict=True)),
                "before": median(rate["before"]),
                "after": median(rate["after"]),
                "ratio": median(
                    [b / a for a, b in zip(rate["before"], rate["after"], strict=True)]
                ),
                "before_to_limit": limit["before"],
                "after_to_limit": limit["after"],
                "convolution_share": share,
                "bound": limit["after"] / share,
            }
        )
    return made


@contextmanager
def checkout(project: Project, commit: str) -> Iterator[Path]:
    """The files of a commit, in a folder that is deleted afterwards.

    Raises:
        ImclError: git does not have the commit, or it has no code to run.
    """
    archive = ["git", "-C", str(project.root), "archive", "--format=tar", f"{commit}^{{commit}}"]
    done = subprocess.run(archive, capture_output=True)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        raise ImclError(
            f"--before {commit}: git gives no such commit here: {reason}; in a shallow clone, "
            "`git fetch --unshallow` brings it"
        )
    with TemporaryDirectory(prefix="imcl-bench-") as folder:
        try:
            with tarfile.open(fileobj=BytesIO(done.stdout)) as files:
                files.extractall(folder, filter="data")
        except tarfile.TarError as error:
            raise ImclError(f"--before {commit}: its files cannot be unpacked: {error}") from None
        if not (Path(folder) / "src/imcl/__main__.py").exists():  # else Python takes this code
            raise ImclError(f"--before {commit}: it has no src/imcl to run; name a later commit")
        yield Path(folder)


def speeds(folder: Path, options: Change) -> Speeds:
    """What `imcl bench loop` of the code in a folder measures.

    Raises:
        ImclError: it failed, or measured something else; the message holds the end of its output.
    """
    command = [sys.executable, "-m", "imcl", "bench", "loop", "--json", "--device", "cpu"]
    command += ["--threads", str(options.threads), "--repeats", str(options.repeats)]
    command += ["--batch-size", str(options.batch_size), "--steps", str(options.steps)]
    command += ["--widths", *map(str, options.widths), "--precisions", *options.precisions]
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), VARIABLE: ""}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    try:
        if done.returncode:
            raise ValueError
        measured = {
            (row["backbone"], row["width"], row["precision"]): {name: row[name] for name in TAKEN}
            for row in json.loads(done.stdout)
        }
    except (KeyError, TypeError, ValueError):
        raise ImclError(
            f"bench loop of the code in {folder} failed, or does not measure what this code does:\n"
            f"{(done.stdout + done.stderr)[-2000:]}"
        ) from None
    return measured


def convolution_share(settings: Settings, options: Change, key: tuple[str, int, str]) -> float:
    """The convolutions' share of the time of an epoch's operations, by torch's profiler.

    What passes between the operations is in neither.
    """
    backbone, width, precision = key
    devices.settle(options.threads, precision)
    shape = loop.Loop(batch_size=options.batch_size, steps=options.steps, device="cpu")
    trainer = loop.workload_of(settings, shape, backbone, width).trainer(
        precision, torch.device("cpu"), compiled=False
    )
    loop.epoch_seconds(trainer)  # a warm-up
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        loop.epoch_seconds(trainer)
    times = {each.key: each.self_cpu_time_total for each in measured.key_averages()}
    convolutions = [name for name in times if name.startswith("aten::") and "conv" in name]
    return sum(times[name] for name in convolutions) / sum(times.values())
