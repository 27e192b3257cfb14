"""Disks that are full or read-only, and clocks that jump: nothing half-written is read as good."""

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import quick
from conftest import without_cost

from imcl.cli import main
from imcl.errors import ImclError
from imcl.noise.inject import inject
from imcl.project import Project
from imcl.records.store import Store
from imcl.study import grid
from imcl.training import tensorboard, worker
from imcl.training.worker import RunOptions

CELL = "digits-n50-resnet18-all"
EVERY_EPOCH = RunOptions(device="cpu", checkpoint_share=1e9)


@pytest.fixture
def project(micro) -> Project:
    project, _ = micro
    return project


@pytest.fixture
def cell(micro) -> grid.Cell:
    _, settings = micro
    return grid.find(settings, CELL)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own for a folder."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder]).returncode:
        pytest.skip("mounting a file system needs rights that this user lacks")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def results(project) -> Iterator[Path]:
    """The folder of results on a file system of its own, of 16 MB."""
    with mounted(project.results, "size=16m") as folder:
        yield folder


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def fill(folder: Path) -> Path:
    """Fill the disk of a folder with a file."""
    filler = folder / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def files(folder: Path) -> list[Path]:
    """All files below a folder but the lock files, which are empty."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in found if path.suffix != ".lock")


def train(project: Project, cell: grid.Cell) -> str:
    return without_cost(worker.train(project, cell, RunOptions(device="cpu")))


@pytest.fixture(scope="module")
def reference() -> list[str]:
    """Keeps the record of `whole` for all tests, since it is the same in all their projects."""
    return []


@pytest.fixture
def whole(project, cell, reference) -> str:
    """The record of a run that nothing disturbed."""
    if not reference:
        reference.append(train(project, cell))
        for path in files(project.results):
            path.unlink()
    return reference[0]


# Of a network's weights, 190 kB, and its checkpoint, twice as much.
@pytest.mark.parametrize("kilobytes", [100, 300, 500, 700, 900, 1100])
def test_a_full_disk_during_checkpoints_and_weights_costs_no_bit(
    results, whole, project, cell, kilobytes, capsys
):
    remount(results, f"size={kilobytes}k")
    with pytest.raises(ImclError, match=r"results/\S+: no space is left on this disk; free some"):
        worker.train(project, cell, EVERY_EPOCH)
    assert not project.record(cell.key).exists()
    assert not [path for path in files(results) if path.name.endswith(".tmp")]
    remount(results, "size=16m")
    capsys.readouterr()
    assert train(project, cell) == whole
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.parametrize("kilobytes", [20, 100, 180])
def test_a_disk_that_fills_while_the_weights_are_written_is_named(
    results, project, cell, kilobytes
):
    remount(results, f"size={kilobytes}k")
    weights = quick.weights(project, cell, 1)
    with pytest.raises(ImclError, match=rf"{weights}: no space is left on this disk; free some"):
        worker.train(project, cell, RunOptions("cpu", checkpoint_share=0.0))
    assert not list(weights.parent.iterdir())


def test_a_disk_that_fills_while_noise_is_drawn_is_named(project, cell):
    noise = project.noise(cell.dataset.key, cell.noise.key)
    shutil.rmtree(noise.parent)
    labels = noise.with_suffix(".npy")
    with mounted(noise.parent, "size=64k") as folder:
        filler = fill(folder)
        with pytest.raises(ImclError, match=rf"^{labels}: no space is left on this disk; free"):
            inject(project, cell.noise)
        assert files(folder) == [filler]


def test_a_disk_that_fills_with_what_tensorboard_shows_is_named(tmp_path, monkeypatch):
    with mounted(tmp_path / "board", "size=20k") as folder:
        monkeypatch.setenv(tensorboard.FOLDER, str(folder))
        write = tensorboard.writer("run")
        with pytest.raises(ImclError, match=rf"^{folder}/run/\S+: no space is left"):
            for number in range(1, 1000):
                write({"epoch": number, "loss": 1.0, "terms": {}})


def test_a_full_disk_when_the_record_is_written_costs_no_training(
    results, whole, project, cell, monkeypatch, capsys
):
    collected = Store.collected
    with monkeypatch.context() as patched:
        full = lambda *given: fill(results) and collected(*given)  # noqa: E731
        patched.setattr(Store, "collected", full)
        message = rf"{project.record(cell.key)}: no space is left on this disk"
        with pytest.raises(ImclError, match=message):
            worker.train(project, cell, EVERY_EPOCH)
    assert not files(project.records)
    (results / "filler").unlink()
    capsys.readouterr()
    assert train(project, cell) == whole
    assert capsys.readouterr().err.count("was finished before") == 2


def test_a_read_only_folder_is_named(results, project, capsys):
    remount(results, "ro")
    assert main(["--project", str(project.root), "train", "--device", "cpu", CELL]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"imcl train: {project.checkpoints}")
    assert error.endswith(
        ": Read-only file system; work in a copy of the project where you can write\n"
    )
    remount(results, "rw")
    assert not files(results)


def test_a_folder_that_becomes_read_only_on_the_way_is_named(project, cell, monkeypatch):
    collected = Store.collected
    with ExitStack() as stack:
        ready = partial(stack.enter_context, mounted(project.records, "ro"))
        monkeypatch.setattr(Store, "collected", lambda *given: ready() and collected(*given))
        with pytest.raises(OSError, match="Read-only") as error:
            worker.train(project, cell, EVERY_EPOCH)
        assert str(project.records) in str(error.value.filename)
    assert not files(project.records)


def test_a_clock_that_jumps_changes_nothing_but_dates(whole, project, cell, monkeypatch):
    now, chance = time.time, random.Random(0)
    monkeypatch.setattr(time, "time", lambda: now() + chance.uniform(-1e6, 1e6))
    record = worker.train(project, cell, RunOptions(device="cpu"))
    assert without_cost(record) == whole
    for cost in record["cost"]:
        assert 0 < cost["training_seconds"] < 600
        assert 0 < cost["evaluation_seconds"] < 600


def test_a_power_cut_finds_names_on_the_disk(tmp_path, monkeypatch):
    from imcl.files import atomic

    order = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor):
        order.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        sync(descriptor)

    def replaced(self, target):
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    with atomic(tmp_path / "file") as temporary:
        temporary.write_text(json.dumps(1))
    assert order == [f"fsync .file.{os.getpid()}.tmp", "rename", f"fsync {tmp_path.name}"]
