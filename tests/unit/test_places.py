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

from imcl.errors import ImclError
from imcl.training import places
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
