"""Places of trainings on several GPUs: the logic, without a GPU."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from handmade import empty_project

from imcl.cli import main
from imcl.errors import ImclError
from imcl.study import grid
from imcl.training import places, runner, worker
from imcl.training.places import Gpu, place

SMALL, LARGE = Gpu(0, "uuid-small", 10), Gpu(1, "uuid-large", 40)

HOLD = """
import sys, time
from pathlib import Path
from imcl.training.places import Gpu, place

with place([Gpu(0, "uuid-small", 10)], 8, folder=Path(sys.argv[1])) as gpu:
    print(gpu.name, flush=True)
    time.sleep(60)
"""


def taken(folder, needed, gpus=(SMALL, LARGE), count=1):
    """The GPUs that trainings get which start one after the other and go on."""
    with ExitStack() as held:
        return [held.enter_context(place(gpus, needed, folder=folder)).index for _ in range(count)]


def test_trainings_are_spread_by_their_number_then_by_memory(tmp_path):
    assert taken(tmp_path, 2, count=6) == [0, 1, 0, 1, 0, 1]
    assert taken(tmp_path, 4, count=5) == [0, 1, 0, 1, 1]  # the small one holds two of 4


def test_a_training_takes_no_more_memory_than_is_left(tmp_path):
    assert taken(tmp_path, 12, count=3) == [0, 1, 1]  # 12 > 10: the small one for itself
    with place([SMALL], 7, folder=tmp_path), place([LARGE], 30, folder=tmp_path):
        with place([SMALL, LARGE], 10, folder=tmp_path) as gpu:
            assert gpu is LARGE
        with place([SMALL, LARGE], 3, folder=tmp_path) as gpu:
            assert gpu is SMALL  # each has one training, and the small one has less in use


def test_a_training_that_does_not_fit_waits_and_says_so_once(tmp_path):
    said, got = [], []

    def wait():
        with place([SMALL], 5, lambda: said.append("waiting"), tmp_path) as gpu:
            got.append(gpu)

    with place([SMALL], 6, folder=tmp_path):
        waiting = threading.Thread(target=wait)
        waiting.start()
        while not said:
            time.sleep(0.01)
        time.sleep(2.2 * places.POLL_SECONDS)
        assert not got
    waiting.join(10)
    assert (said, got) == (["waiting"], [SMALL])


def test_only_the_gpus_that_a_process_may_use_count(tmp_path):
    with place([LARGE], 1, folder=tmp_path):
        moved = replace(LARGE, index=0)  # CUDA_VISIBLE_DEVICES=1 makes it the first
        with place([moved], 39, folder=tmp_path) as gpu:
            assert gpu.index == 0
            assert taken(tmp_path, 1) == [0]


def test_the_place_of_a_killed_process_is_free(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout and child.stdout.readline() == "uuid-small\n"
    assert taken(tmp_path, 8) == [1]
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert taken(tmp_path, 8) == [0]
    assert [path.name for path in tmp_path.iterdir()] == ["all.lock"]  # nothing else is left


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(tmp_path))
    with place([SMALL], 1) as gpu:
        assert gpu is SMALL
    [folder] = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(places.os, "getuid", lambda: 12345)
    with pytest.raises(ImclError, match="belongs to another user; set TMPDIR"):
        (tmp_path / "imcl-places-12345").mkdir()
        places._folder()


# imcl run --gpus --------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`imcl run` on a machine with three GPUs: the jobs at a time, and the GPUs that they see."""
    project, seen = empty_project(tmp_path), {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # restored after the test

    def train(project, cells, options, *, jobs, **others):
        seen.update(jobs=jobs, gpus=os.environ["CUDA_VISIBLE_DEVICES"])
        return [], []

    monkeypatch.setattr(runner, "run", train)

    def command(*words: str) -> dict[str, object] | int:
        seen.clear()
        return main(["run", "--project", str(project.root), *words]) or dict(seen)

    return command


def test_a_run_fills_the_gpus_that_it_is_given(run, monkeypatch):
    assert run() == {"jobs": 1, "gpus": ""}
    assert run("--gpus", "all") == {"jobs": 12, "gpus": "0,1,2"}
    assert run("--gpus", "0,2", "--per-gpu", "3") == {"jobs": 6, "gpus": "0,2"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7,6")  # as a scheduler names them
    assert run("--gpus", "GPU-7", "--per-gpu", "1") == {"jobs": 1, "gpus": "GPU-7"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "0,3"], "--gpus 0,3: no GPU '3'; there are 0, 1, 2"),
        (["--gpus", ""], "--gpus : no GPU ''; there are 0, 1, 2"),
        (["--gpus", "all", "--jobs", "2"], "--jobs and --gpus: choose one; --per-gpu says how"),
        (["--per-gpu", "2"], "--per-gpu: is for --gpus; add --gpus all, or take --jobs"),
    ],
)
def test_gpus_that_are_not_there_are_named(run, capsys, words, said):
    assert run(*words) == 2
    assert said in capsys.readouterr().err


def test_without_a_gpu_the_remedy_is_named(run, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert run("--gpus", "all") == 2
    assert "torch sees no GPU; take --jobs" in capsys.readouterr().err


def test_a_training_takes_a_place_on_the_emptiest_gpu_and_gives_it_back(
    micro, monkeypatch, tmp_path_factory
):
    """With two pretended GPUs, and the CPU for the work."""
    (project, settings), folder = micro, tmp_path_factory.mktemp("places")
    cell = grid.find(settings, "digits-n50-resnet18-base")
    chosen, held = [], []
    monkeypatch.setattr(places, "_folder", lambda: folder)
    monkeypatch.setattr(worker.device, "choose", lambda *_: torch.device("cuda"))
    monkeypatch.setattr(worker.device, "gpus", lambda: [SMALL, replace(LARGE, bytes=10**12)])
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(worker.memory, "check", lambda *_: None)

    def stop(*_):
        held.extend(path.read_text() for path in folder.glob("*.txt"))
        raise ImclError("that is enough")

    monkeypatch.setattr(worker.device, "environment", stop)
    with pytest.raises(ImclError, match="that is enough"):
        worker.train_runs(project, cell)
    assert chosen == [0]
    [text] = held
    assert text.startswith("uuid-small ") and int(text.split()[1]) > 10**9  # of a process
    assert not [*folder.glob("*.txt")]
