"""A cell ended anywhere goes on to the same bits; nothing damaged or foreign is taken up."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from conftest import without_cost

from imcl import checkpoint, experiment, grid
from imcl.checkpoint import Checkpoints
from imcl.errors import ImclError, Stopped
from imcl.files import read_json

EVERY_EPOCH = 1e9  # a share that allows a checkpoint at each epoch


class Killed(BaseException):
    """What SIGKILL is to a process: nothing of it is caught."""


def kill_after(monkeypatch, saves: int) -> None:
    """Let the run end, as if by SIGKILL, behind so many calls to store something."""
    save, count = Checkpoints.save, 0

    def counted(self, seed, state):
        nonlocal count
        save(self, seed, state)
        count += 1
        if count == saves:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", counted)


def stored(cell: grid.Cell) -> list[str]:
    return sorted(path.name for path in (checkpoint.FOLDER / cell.key).glob("*"))


@pytest.fixture
def study(micro) -> dict:
    micro["studies"]["quick"] |= {"backbones": ["resnet18"], "noise": ["clean", "n50"]}
    micro["studies"]["quick"]["training"] |= {"epochs": 3, "evaluate_every": 2}
    return micro


METHODS = ["base", "all", "output", "elr+all", "coteaching", "cskd", "rdrop", "dml", "multihead"]


@pytest.mark.parametrize(
    ("method", "variant"), [*((m, "augment") for m in METHODS), ("all", "dropout")]
)
def test_a_run_ended_behind_any_epoch_goes_on_to_the_same_bits(
    study, method, variant, monkeypatch, tmp_path
):
    study["studies"]["quick"]["methods"] = [method]
    study["studies"]["quick"]["seeds"] = [1]
    study["ways"]["output"]["variant"] = variant
    cell = grid.find(study, f"digits-n50-resnet18-{method}")
    whole = experiment.run(cell, "cpu")
    weights = cell.weights(1).read_bytes()
    for saves in (1, 2, 3, 4):
        cell.record.unlink()
        cell.weights(1).unlink()
        with monkeypatch.context() as patched:
            kill_after(patched, saves)
            with pytest.raises(Killed):
                experiment.run(cell, "cpu", share=EVERY_EPOCH)
        assert stored(cell)
        again = experiment.run(cell, "cpu")
        assert without_cost(again) == without_cost(whole)
        assert cell.weights(1).read_bytes() == weights
        assert again["cost"][0]["resumed"] == (1 if saves < 4 else 0)  # 4: it was done
        assert not stored(cell)


def test_a_run_ended_again_and_again_remembers_finished_seeds(study, monkeypatch):
    cell = grid.find(study, "digits-n50-resnet18-kernel")
    whole = experiment.run(cell, "cpu")
    cell.record.unlink()
    trained = []
    epoch = experiment.fit.__globals__["Trainer"].epoch
    monkeypatch.setattr(
        experiment.fit.__globals__["Trainer"],
        "epoch",
        lambda self, number: trained.append(number) or epoch(self, number),
    )
    for _ in range(2 * 4):
        with monkeypatch.context() as patched:
            kill_after(patched, 1)
            with pytest.raises(Killed):
                experiment.run(cell, "cpu", share=EVERY_EPOCH)
    again = experiment.run(cell, "cpu")
    assert trained == [0, 1, 2, 0, 1, 2]  # not one epoch twice
    assert without_cost(again) == without_cost(whole)
    assert [cost["resumed"] for cost in again["cost"]] == [3, 3]
    for cost in again["cost"]:
        assert 0 < cost["training_seconds"] < 60
        assert 0 < cost["evaluation_seconds"] < 60


def test_a_finished_seed_whose_weights_are_gone_is_trained_again(study, monkeypatch):
    cell = grid.find(study, "digits-n50-resnet18-kernel")
    whole = experiment.run(cell, "cpu")
    cell.record.unlink()
    with monkeypatch.context() as patched:
        kill_after(patched, 5)
        with pytest.raises(Killed):
            experiment.run(cell, "cpu", share=EVERY_EPOCH)
    cell.weights(1).write_bytes(b"other")
    assert without_cost(experiment.run(cell, "cpu")) == without_cost(whole)
    assert cell.weights(1).stat().st_size > 1000


# damaged and foreign ----------------------------------------------------------------------------


@pytest.fixture
def ended(study, monkeypatch) -> tuple[grid.Cell, dict]:
    """A cell whose run ended behind the second epoch of its first seed, and its whole record."""
    cell = grid.find(study, "digits-n50-resnet18-all")
    whole = experiment.run(cell, "cpu")
    cell.record.unlink()
    with monkeypatch.context() as patched:
        kill_after(patched, 2)
        with pytest.raises(Killed):
            experiment.run(cell, "cpu", share=EVERY_EPOCH)
    assert stored(cell) == ["seed-1-1.pt", "seed-1-2.pt"]
    return cell, whole


def goes_on_behind(cell: grid.Cell, whole: dict, capsys, **options) -> str:
    """Run the cell, compare; what it printed."""
    capsys.readouterr()
    assert without_cost(experiment.run(cell, "cpu", **options)) == without_cost(whole)
    return capsys.readouterr().err


def test_the_newest_checkpoint_is_taken(ended, capsys):
    cell, whole = ended
    assert "seed 1 goes on behind epoch 2" in goes_on_behind(cell, whole, capsys)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "no header"])
def test_a_damaged_checkpoint_is_moved_aside_for_the_previous_one(ended, damage, capsys):
    cell, whole = ended
    path = checkpoint.FOLDER / cell.key / "seed-1-2.pt"
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle] ^= 1
    path.write_bytes(
        {
            "flip": raw,
            "cut": raw[:middle],
            "empty": b"",
            "no header": raw[raw.index(b"\n") + 1 :],
        }[damage]
    )
    printed = goes_on_behind(cell, whole, capsys)
    aside = checkpoint.ASIDE / f"{cell.key}-seed-1-2.pt"
    assert f"{path}: damaged; moved to {aside} and not used" in printed
    assert "seed 1 goes on behind epoch 1" in printed
    assert aside.exists()


def test_with_no_whole_checkpoint_it_begins_from_zero(ended, capsys):
    cell, whole = ended
    for path in (checkpoint.FOLDER / cell.key).iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    printed = goes_on_behind(cell, whole, capsys)
    assert printed.count("damaged; moved to") == 2
    assert "goes on" not in printed


def test_a_checkpoint_of_another_cell_is_not_taken(ended, study, capsys):
    cell, _ = ended
    other = grid.find(study, "digits-clean-resnet18-all")
    whole = experiment.run(other, "cpu")
    other.record.unlink()
    folder = checkpoint.FOLDER / other.key
    folder.mkdir()
    for path in (checkpoint.FOLDER / cell.key).iterdir():
        path.rename(folder / path.name)
    printed = goes_on_behind(other, whole, capsys)
    assert printed.count("of another cell, noise; moved to") == 2
    assert "goes on" not in printed


def test_a_checkpoint_of_other_threads_is_not_taken(ended, capsys):
    cell, _ = ended
    capsys.readouterr()
    experiment.run(cell, "cpu", threads=2)
    printed = capsys.readouterr().err
    assert printed.count("of another threads; moved to") == 2
    assert "goes on" not in printed


def test_a_checkpoint_of_other_code_is_not_taken(ended, monkeypatch, capsys):
    cell, whole = ended
    monkeypatch.setattr(checkpoint, "_code", lambda: "other")
    printed = goes_on_behind(cell, whole, capsys)
    assert printed.count("of another code; moved to") == 2


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_a_checkpoint_cannot_run_code(ended, capsys):
    cell, whole = ended
    import hashlib
    import io

    for path in (checkpoint.FOLDER / cell.key).iterdir():
        buffer = io.BytesIO()
        torch.save({"setting": {}, "state": Harmful()}, buffer)
        body = buffer.getvalue()
        head = checkpoint.MAGIC + hashlib.sha256(body).hexdigest().encode()
        path.write_bytes(head + b"\n" + body)
    printed = goes_on_behind(cell, whole, capsys)
    assert printed.count("no checkpoint of ours (UnpicklingError); moved to") == 2
    assert not Path("harm").exists()
    pickle.loads(pickle.dumps(Harmful()))
    assert Path("harm").exists()  # it would have been


def test_everything_is_loaded_as_weights_only():
    sources = [path.read_text() for path in Path(checkpoint.__file__).parent.rglob("*.py")]
    loads = [call for text in sources for call in text.split("torch.load(")[1:]]
    assert loads
    assert all("weights_only=True" in call.partition("\n")[0] for call in loads)
    assert not any("pickle.load" in text or "allow_pickle=True" in text for text in sources)


# the share --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds_each", "share"), [(0.1, 0.02), (1.0, 0.02), (5.0, 0.5)])
def test_writing_takes_no_more_than_its_share(tmp_path, monkeypatch, seconds_each, share):
    monkeypatch.chdir(tmp_path)
    now, written = 0.0, 0

    def write(self, seed, content):
        nonlocal now, written
        now += seconds_each
        written += 1

    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now)
    monkeypatch.setattr(Checkpoints, "_write", write)
    checkpoints = Checkpoints("cell", {}, share)
    for _ in range(2000):
        now += 1.0
        checkpoints.save(1, dict)
        if written > 1:  # the first one's time is a guess
            assert written * seconds_each <= share * now
    assert written * seconds_each > 0.9 * share * now - seconds_each  # nor much less


def test_the_guess_before_the_first_one_grows_with_its_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    now = 0.0
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now)
    (tmp_path / checkpoint.FOLDER / "cell").mkdir(parents=True)
    checkpoints = Checkpoints("cell", {}, 0.02)
    large = {"a": [torch.zeros(25_000_000)]}  # 0.1 GB, so a second, so not before 50 s
    now = 49.0
    checkpoints.save(1, lambda: large)
    assert not checkpoints._of(1)
    now = 52.0
    checkpoints.save(1, lambda: large)
    assert len(checkpoints._of(1)) == 1


def test_the_share_does_not_decide_the_result(study):
    cell = grid.find(study, "digits-n50-resnet18-all")
    records = [experiment.run(cell, "cpu", share=share) for share in (0.0, 0.02, EVERY_EPOCH)]
    assert len(set(map(without_cost, records))) == 1


def test_no_share_stores_nothing_but_on_a_signal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / checkpoint.FOLDER / "cell").mkdir(parents=True)
    checkpoints = Checkpoints("cell", {}, 0.0)
    with checkpoints.stopping():
        checkpoints.save(1, lambda: {"epoch": 1})
        assert not checkpoints._of(1)
        os.kill(os.getpid(), signal.SIGTERM)  # not at once, since an epoch would be lost
        with pytest.raises(Stopped):
            checkpoints.save(1, lambda: {"epoch": 2})
    assert checkpoints.load(1) == {"epoch": 2}


def test_a_signal_ends_at_once_what_is_stored_already(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / checkpoint.FOLDER / "cell").mkdir(parents=True)
    checkpoints = Checkpoints("cell", {}, EVERY_EPOCH)
    with pytest.raises(Stopped), checkpoints.stopping():
        checkpoints.save(1, lambda: {"epoch": 1})
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it went on")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_does_not_wait(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / checkpoint.FOLDER / "cell").mkdir(parents=True)
    checkpoints = Checkpoints("cell", {}, 0.0)
    with pytest.raises(Stopped), checkpoints.stopping():
        checkpoints.save(1, dict)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("it went on")


def test_the_last_two_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / checkpoint.FOLDER / "cell").mkdir(parents=True)
    checkpoints = Checkpoints("cell", {}, EVERY_EPOCH)
    for epoch in range(12):
        checkpoints.save(3, lambda epoch=epoch: {"epoch": epoch})
    assert [path.name for path in checkpoints._of(3)] == ["seed-3-11.pt", "seed-3-12.pt"]
    assert checkpoints.load(3) == {"epoch": 11}
    assert checkpoints.load(33) is None


# real processes ---------------------------------------------------------------------------------


@pytest.fixture
def long(study) -> grid.Cell:
    """A cell of many epochs, as the command line sees it too."""
    path = Path("params.yaml")
    loaded = yaml.safe_load(path.read_text())
    quick = study["studies"]["quick"]
    quick |= {"methods": ["kernel"], "noise": ["n50"], "seeds": [1, 2]}
    quick["training"] |= {"epochs": 20, "evaluate_every": 10}
    loaded["studies"]["quick"] = quick
    path.write_text(yaml.safe_dump(loaded, sort_keys=False))
    return grid.find(study, "digits-n50-resnet18-kernel")


def start(cell: grid.Cell, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "imcl", "train", "--device", "cpu", *options, cell.key]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def epochs_of(cell: grid.Cell) -> int:
    """How many epochs the newest checkpoint holds, over the seeds."""
    found = (checkpoint.FOLDER / cell.key).glob("seed-*.pt")
    return max((int(path.stem.split("-")[2]) for path in found), default=0)


@pytest.mark.parametrize(
    ("number", "code", "share"),
    [
        (signal.SIGTERM, 143, "1"),
        (signal.SIGINT, 130, "1"),
        (signal.SIGKILL, -9, "1"),
        (signal.SIGTERM, 143, "0"),
    ],
)
def test_a_signal_to_a_process_costs_no_bit(long, number, code, share):
    process = start(long, "--checkpoint-share", share)
    begun = checkpoint.FOLDER / long.key
    wait_for(begun.exists if share == "0" else lambda: epochs_of(long) > 1, process)
    time.sleep(1.0 if share == "0" else 0.05)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == code, err
    assert "Traceback" not in err
    if code > 0:
        assert f"imcl train: {signal.Signals(number).name}; run it again to go on\n" in err
    assert not long.record.exists()
    process = start(long)
    _, err = process.communicate()
    assert process.returncode == 0, err
    if share == "1":
        assert "goes on behind epoch" in err
    record = read_json(long.record)
    weights = [long.weights(seed).read_bytes() for seed in (1, 2)]
    long.record.unlink()
    whole = experiment.run(long, "cpu")
    del record["seal"]
    assert without_cost(record) == json.dumps(json.loads(without_cost(whole)))
    assert [long.weights(seed).read_bytes() for seed in (1, 2)] == weights
    assert not list(Path("results").rglob(".*.tmp"))


@pytest.fixture
def two(long) -> Iterator[tuple[subprocess.Popen, subprocess.Popen]]:
    """A process that trains a cell, stopped for now, and another that waits for it."""
    first = start(long, "--checkpoint-share", "1")
    wait_for(lambda: epochs_of(long) > 1, first)
    first.send_signal(signal.SIGSTOP)
    second = start(long)
    wait_for(lambda: "another process trains this cell" in second.stderr.readline(), second)
    yield first, second
    for process in (first, second):
        process.kill()
        process.communicate()


def test_two_processes_on_one_cell_train_it_once(long, two):
    first, second = two
    first.send_signal(signal.SIGCONT)
    (_, err), (out, other) = first.communicate(), second.communicate()
    assert (first.returncode, second.returncode) == (0, 0), err + other
    assert "epochs" not in other
    assert f"{long.record}: test accuracy by seed" in out
    record = read_json(long.record)
    long.record.unlink()
    whole = json.loads(without_cost(experiment.run(long, "cpu")))
    assert {key: record[key] for key in whole} == whole


def test_when_the_first_of_two_processes_is_killed_the_second_goes_on(long, two):
    first, second = two
    first.kill()
    _, err = second.communicate()
    assert second.returncode == 0, err
    assert "goes on behind epoch" in err
    assert long.record.exists()


def test_what_killed_processes_left_is_swept(study):
    cell = grid.find(study, "digits-clean-resnet18-base")
    for path in (cell.record, cell.weights(2)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.99999.tmp").write_text("half")
    experiment.run(cell, "cpu")
    assert not list(Path("results").rglob(".*.tmp"))


def test_a_failed_run_leaves_no_lock_and_no_empty_folder(study):
    cell = grid.find(study, "digits-clean-resnet18-base")
    cell.dataset.path.unlink()
    for _ in range(2):
        with pytest.raises(ImclError, match="missing"):
            experiment.run(cell, "cpu")
    assert not list(checkpoint.FOLDER.iterdir())
