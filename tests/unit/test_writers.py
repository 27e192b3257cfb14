"""Disks that are full or read-only, and clocks that jump: nothing half-written is read as good."""

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import without_cost

from imcl import checkpoint, experiment, grid
from imcl.cli import main
from imcl.errors import ImclError

CELL = "digits-n50-resnet18-all"


@pytest.fixture
def results(micro) -> Iterator[Path]:
    """The folder of results on a file system of its own, of 16 MB."""
    folder = Path("results").resolve()
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", folder]).returncode:
        pytest.skip("mounting a file system needs rights that this user lacks")
    yield folder
    subprocess.run(["umount", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def whole(micro) -> str:
    """The record of a run that nothing disturbed."""
    record = without_cost(experiment.run(grid.find(micro, CELL), "cpu"))
    for path in files(Path("results")):
        path.unlink()
    return record


# Of a network's weights, 190 kB, and its checkpoint, twice as much.
@pytest.mark.parametrize("kilobytes", [100, 300, 500, 700, 900, 1100])
def test_a_full_disk_during_checkpoints_and_weights_costs_no_bit(
    results, whole, micro, kilobytes, capsys
):
    cell = grid.find(micro, CELL)
    remount(results, f"size={kilobytes}k")
    with pytest.raises(ImclError, match=r"results/\S+: no space is left on this disk; free some"):
        experiment.run(cell, "cpu", share=1e9)
    assert not cell.record.exists()
    assert not [path for path in files(results) if path.name.endswith(".tmp")]
    remount(results, "size=16m")
    capsys.readouterr()
    assert without_cost(experiment.run(cell, "cpu")) == whole
    assert "damaged" not in capsys.readouterr().err


def test_a_full_disk_when_the_record_is_written_costs_no_training(
    results, whole, micro, monkeypatch, capsys
):
    cell = grid.find(micro, CELL)
    filler = results / "filler"

    def fill() -> dict:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return code

    code = experiment.code()
    with monkeypatch.context() as patched:
        patched.setattr(experiment, "code", fill)
        message = rf"{cell.record}: no space is left on this disk"
        with pytest.raises(ImclError, match=message):
            experiment.run(cell, "cpu", share=1e9)
    assert not files(results / "records")
    filler.unlink()
    capsys.readouterr()
    assert without_cost(experiment.run(cell, "cpu")) == whole
    assert capsys.readouterr().err.count("was done before") == 2


def test_a_read_only_folder_is_named(results, capsys):
    remount(results, "ro")
    assert main(["train", "--device", "cpu", CELL]) == 1
    error = capsys.readouterr().err
    assert error.startswith("imcl train: results/checkpoints")
    assert error.endswith(": Read-only file system\n")
    remount(results, "rw")
    assert not files(results)


def test_a_folder_that_becomes_read_only_on_the_way_is_named(results, whole, micro, monkeypatch):
    cell = grid.find(micro, CELL)
    code = experiment.code()
    monkeypatch.setattr(experiment, "code", lambda: remount(results, "ro") or code)
    with pytest.raises(OSError, match="Read-only") as error:
        experiment.run(cell, "cpu", share=1e9)
    assert "results/records" in str(error.value.filename)
    remount(results, "rw")
    assert not files(results / "records")
    monkeypatch.undo()


def test_a_clock_that_jumps_changes_nothing_but_dates(whole, micro, monkeypatch):
    now, chance = time.time, random.Random(0)
    monkeypatch.setattr(time, "time", lambda: now() + chance.uniform(-1e6, 1e6))
    record = experiment.run(grid.find(micro, CELL), "cpu", share=0.02)
    assert without_cost(record) == whole
    for cost in record["cost"]:
        assert 0 < cost["training_seconds"] < 600
        assert 0 < cost["evaluation_seconds"] < 600


def test_checkpoints_are_chosen_by_number_not_by_date(micro, monkeypatch):
    folder = checkpoint.FOLDER / "cell"
    folder.mkdir(parents=True)
    checkpoints = checkpoint.Checkpoints("cell", {}, 1e9)
    for epoch in (1, 2):
        checkpoints.save(1, lambda epoch=epoch: {"epoch": epoch})
    os.utime(folder / "seed-1-1.pt", (2**31, 2**31))
    os.utime(folder / "seed-1-2.pt", (0, 0))
    assert checkpoints.load(1) == {"epoch": 2}


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
