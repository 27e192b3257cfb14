"""A cell stopped anywhere resumes to the same bits; nothing damaged or foreign is used."""

import errno
import hashlib
import inspect
import io
import json
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import ANY

import pytest
import quick
import torch
import yaml
from conftest import without_cost
from forked import FORK, Command
from quick import EVERY_STEP, STEPS

from imcl.cli import main
from imcl.errors import ImclError, Stopped
from imcl.files import write_json
from imcl.progress import Events
from imcl.project import Project
from imcl.records.collect import collect
from imcl.records.record import Cost, Record
from imcl.records.seal import sealed
from imcl.records.store import Store
from imcl.study.grid import Cell
from imcl.training import checkpoint, code, device, evaluation, seed, worker
from imcl.training.checkpoint import Checkpoints, SeedState
from imcl.training.loop import State, Trainer
from imcl.training.report import Report
from imcl.training.worker import RunOptions

CPU = RunOptions("cpu")

TRAINING = {"epochs": 3, "evaluations": 2}
ONE_EPOCH = {"epochs": 1, "warmup_epochs": 0}


def folder(project: Project, cell: Cell) -> Path:
    """Of the checkpoints of a cell's first seed."""
    return project.checkpoints / cell.runs[0].run_key


def saved(project: Project, cell: Cell) -> list[int]:
    """The numbers of the checkpoints of a cell's first seed."""
    return sorted(int(path.stem) for path in folder(project, cell).glob("*.pt"))


@pytest.fixture(scope="module")
def small(digits, tmp_path_factory) -> Path:
    """The folder of a project with one study, so that params.yaml is read fast; to be copied."""
    project = Project(shutil.copytree(digits, tmp_path_factory.mktemp("small") / "project"))
    raw = yaml.safe_load(project.params.read_text())
    raw["studies"] = {"quick": raw["studies"]["quick"]}
    for section in ("claims", "search"):
        del raw[section]
    project.params.write_text(yaml.safe_dump(raw, sort_keys=False))
    return project.root


@pytest.fixture
def project(small, tmp_path) -> Project:
    return Project(shutil.copytree(small, tmp_path, dirs_exist_ok=True))


NO_COST: Cost = {
    "seed": 1,
    "training_seconds": 0.0,
    "evaluation_seconds": 0.0,
    "peak_memory_bytes": 0,
    "resumed": 0,
}


def after(epoch: int, **trained: torch.Tensor) -> SeedState:
    """The state of a small training after an epoch."""
    training: State = {
        "epoch": epoch,
        "names": [],
        "rows": torch.zeros(0),
        "trained": trained,
        "momentum": [],
        "streams": [],
    }
    return {"history": [], "elsewhere": [], "cost": NO_COST, "training": training}


def newest(checkpoints: Checkpoints) -> int:
    """The epochs of the newest checkpoint, which was made here."""
    loaded = checkpoints.load()
    assert loaded and not loaded.differs
    return loaded.state["training"]["epoch"]


@pytest.fixture
def make(tmp_path) -> Callable[[float], Checkpoints]:
    """Makes the checkpoints of a run, by their share of the run time."""
    return lambda share: Checkpoints(tmp_path / "checkpoints/run", {}, {}, share)


METHODS = ["base", "all", "output", "elr+all", "coteaching", "cskd", "rdrop", "dml", "multihead"]


@pytest.mark.parametrize(
    ("method", "variant"), [*((m, "augment") for m in METHODS), ("all", "dropout")]
)
def test_a_run_stopped_between_any_steps_resumes_to_the_same_bits(project, method, variant):
    ways = {"ways": {"output": {"variant": variant}}}
    name = f"digits-n50-resnet18-{method}"
    cell = quick.cell(project, name, training=TRAINING, seeds=[1], file=ways)
    whole = worker.train(project, cell, CPU)
    weights = quick.weights(project, cell, 1)
    expected = weights.read_bytes()
    quick.forget(project, cell)
    weights.unlink()
    # Within the first epoch, at its end, within the second, within the third, at the end of all.
    steps = (4, 1, 3, 6, 1)
    for count, stop in enumerate(steps, 1):
        quick.train_and_kill(project, cell, stop)
        assert saved(project, cell)[-1] == sum(steps[:count])
    again = worker.train(project, cell, CPU)
    assert without_cost(again) == without_cost(whole)
    assert weights.read_bytes() == expected
    assert again["cost"][0]["resumed"] == len(steps)
    assert not folder(project, cell).exists()


def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which epochs are trained from now on."""
    trained: list[int] = []
    epoch = Trainer.epoch
    monkeypatch.setattr(
        Trainer, "epoch", lambda self, *rest: trained.append(self.done) or epoch(self, *rest)
    )
    return trained


def test_a_run_stopped_again_and_again_remembers_finished_seeds(project, monkeypatch):
    cell = quick.cell(project, "digits-n50-resnet18-kernel", training=TRAINING)
    whole = worker.train(project, cell, CPU)
    quick.forget(project, cell)
    trained = epochs(monkeypatch)
    for _ in range(2 * 3):
        quick.train_and_kill(project, cell)
    again = worker.train(project, cell, CPU)
    assert trained == [0, 1, 2, 0, 1, 2]  # not one epoch twice
    assert without_cost(again) == without_cost(whole)
    assert [cost["resumed"] for cost in again["cost"]] == [3, 3]
    for cost in again["cost"]:
        assert 0 < cost["training_seconds"] < 60
        assert 0 < cost["evaluation_seconds"] < 60


@pytest.mark.parametrize("damage", ["other", "changed", "other data"])
def test_a_finished_seed_counts_only_if_its_weights_and_its_seal_are_whole(
    project, damage, monkeypatch, capsys
):
    cell = quick.cell(project, "digits-clean-resnet18-base", training=ONE_EPOCH)
    whole = worker.train(project, cell, CPU)
    run, weights = project.run(cell.runs[0].run_key), quick.weights(project, cell, 1)
    record = json.loads(run.read_text())
    match damage:
        case "other":
            weights.write_bytes(b"other")
        case "changed":
            run.write_text(run.read_text().replace('"seed": 1', '"seed": 7'))
        case "other data":
            record["dataset"]["sha256"] = "0" * 64
            write_json(run, sealed(record))
    with pytest.raises(ImclError):
        collect(project, cell)
    trained = epochs(monkeypatch)
    capsys.readouterr()
    assert without_cost(worker.train(project, cell, CPU)) == without_cost(whole)
    assert trained == [0]
    printed = capsys.readouterr().err
    assert f"{cell.name}, seed 1 is trained again: {run}: " in printed
    assert f"{cell.name}, seed 2 was finished before\n" in printed
    assert weights.stat().st_size > 1000


def test_another_seed_costs_one_seed(project, monkeypatch):
    cell = quick.cell(project, "digits-clean-resnet18-base", training=ONE_EPOCH)
    first = worker.train(project, cell, CPU)
    trained = epochs(monkeypatch)
    more = quick.cell(project, cell.name, training=ONE_EPOCH, seeds=[1, 2, 3])
    assert more.key != cell.key
    second = worker.train(project, more, CPU)
    assert trained == [0]
    assert second["runs"][:2] == first["runs"]
    assert [cost["seed"] for cost in second["cost"]] == [1, 2, 3]


def test_the_events_tell_where_a_run_resumed(project):
    cell = quick.cell(project, "digits-clean-resnet18-base", training=TRAINING, seeds=[4])
    quick.train_and_kill(project, cell, 2 * STEPS + 1)
    worker.train(project, cell, CPU)
    events = Events.read(project.events(cell.run_key))
    kinds = [event["event"] for event in events]
    assert kinds == ["started", "epoch", "epoch", "started", "resumed", "epoch", "done"]
    assert events[0]["pid"] == os.getpid()
    resumed, last = events[4:6]
    assert (resumed["seed"], resumed["done"], resumed["total"]) == (4, 2, 3)
    assert (last["seed"], last["done"], last["seconds_left"]) == (4, 3, 0)


# damaged and foreign ----------------------------------------------------------------------------


LAST = 2 * STEPS + 1  # steps of an interrupted run


class Interrupted(NamedTuple):
    """A cell whose run was killed after the first step of the third epoch of its first seed."""

    project: Project
    cell: Cell
    whole: Record

    @property
    def folder(self) -> Path:
        return folder(self.project, self.cell)

    def resume(self, capsys: pytest.CaptureFixture[str], options: RunOptions = CPU) -> str:
        """Run the cell and compare; what it printed."""
        capsys.readouterr()
        again = worker.train(self.project, self.cell, options)
        assert without_cost(again) == without_cost(self.whole)
        return capsys.readouterr().err


@pytest.fixture(scope="module")
def interrupted_once(small, tmp_path_factory) -> Interrupted:
    """Made once, to be copied."""
    project = Project(shutil.copytree(small, tmp_path_factory.mktemp("interrupted") / "project"))
    cell = quick.cell(project, "digits-n50-resnet18-all", training=TRAINING)
    whole = worker.train(project, cell, CPU)
    quick.forget(project, cell)
    quick.train_and_kill(project, cell, LAST)
    assert saved(project, cell) == [LAST - 1, LAST]
    return Interrupted(project, cell, whole)


@pytest.fixture
def interrupted(interrupted_once, tmp_path) -> Interrupted:
    project, cell, whole = interrupted_once
    shutil.copytree(project.root, tmp_path, dirs_exist_ok=True)
    return Interrupted(Project(tmp_path), cell, whole)


def test_the_newest_checkpoint_is_used(interrupted, capsys):
    assert "seed 1: resuming after epoch 2, step 1\n" in interrupted.resume(capsys)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "no header"])
def test_a_damaged_checkpoint_is_moved_aside_for_the_previous_one(interrupted, damage, capsys):
    path = interrupted.folder / f"{LAST}.pt"
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
    printed = interrupted.resume(capsys)
    aside = interrupted.folder.parent / "aside" / f"{interrupted.folder.name}-{path.name}"
    assert f"{path}: damaged; moved to {aside} and not used" in printed
    assert "seed 1: resuming after epoch 2\n" in printed
    assert aside.exists()


def test_with_no_whole_checkpoint_it_starts_from_zero(interrupted, capsys):
    for path in interrupted.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    printed = interrupted.resume(capsys)
    assert printed.count("damaged; moved to") == 2
    assert "resuming" not in printed


def test_a_checkpoint_of_another_cell_is_not_used(interrupted, capsys):
    project = interrupted.project
    other = quick.cell(project, "digits-clean-resnet18-all")
    whole = worker.train(project, other, CPU)
    quick.forget(project, other)
    interrupted.folder.rename(folder(project, other))
    printed = Interrupted(project, other, whole).resume(capsys)
    assert printed.count("made with another noise, run; moved to") == 2
    assert "resuming" not in printed


def test_a_run_continues_elsewhere_and_its_record_says_so(project, monkeypatch, capsys):
    cell = quick.cell(project, "digits-n50-resnet18-base", training=TRAINING)
    machine = device.environment

    def on(kernel: str) -> None:
        elsewhere = lambda *given: {**machine(*given), "platform": kernel}  # noqa: E731
        monkeypatch.setattr(device, "environment", elsewhere)

    on("kernel 1")
    quick.train_and_kill(project, cell, 3 * STEPS + STEPS + 1)  # seed 1, and a part of seed 2
    on("kernel 2")
    record = worker.train(project, cell, CPU)
    first, second = record["runs"]
    assert "elsewhere" not in first
    assert second["elsewhere"] == [{"epochs": 1, "differs": {"platform": "kernel 1"}}]
    assert "environment" not in record
    assert [run["environment"]["platform"] for run in record["runs"]] == ["kernel 1", "kernel 2"]
    assert "made with another platform; the record will say so" in capsys.readouterr().err
    assert Store(project).read(cell, project.record(cell.key)) == record | {"seal": ANY}


def test_a_seed_that_is_trained_again_is_not_called_elsewhere(project, monkeypatch):
    cell = quick.cell(project, "digits-n50-resnet18-base", training=ONE_EPOCH, seeds=[1])
    worker.train(project, cell, CPU)
    machine = device.environment
    monkeypatch.setattr(device, "environment", lambda *g: {**machine(*g), "platform": "other"})
    (run,) = worker.train(project, cell, replace(CPU, again=True))["runs"]
    assert "elsewhere" not in run


def test_a_comment_keeps_checkpoints_and_other_code_is_told(interrupted, monkeypatch, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(code.SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
    before = code.source_sha256()
    monkeypatch.setattr(code, "SOURCE", source)
    path = source / "training/loop.py"
    path.write_text("# a comment\n\n" + path.read_text().replace("\n\n", "  # another\n\n", 1))
    assert code.source_sha256() == before
    path.write_text(path.read_text() + "new = 1\n")
    assert code.source_sha256() != before
    first, second = worker.train(interrupted.project, interrupted.cell, CPU)["runs"]
    assert first["elsewhere"] == [{"epochs": 2, "differs": {"code": before}}]
    assert "elsewhere" not in second


@pytest.fixture
def two_saved(make) -> Checkpoints:
    """The checkpoints of a run, after its first and its second epoch."""
    checkpoints = make(1e9)
    for epoch in (1, 2):
        checkpoints.save(lambda epoch=epoch: after(epoch))
    return checkpoints


def write_checkpoint(path: Path, content: object) -> None:
    """With a right checksum, whatever the content is."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    body = buffer.getvalue()
    head = checkpoint.MAGIC + hashlib.sha256(body).hexdigest().encode()
    path.write_bytes(head + b"\n" + body)


OURS = {"setting": {"run": "a"}, "origin": {}}


@pytest.mark.parametrize(
    "content",
    [
        [],
        OURS,
        {**OURS, "origin": {"code": 1}, "state": after(2)},
        {"setting": {"run": "a"}, "state": after(2)},
        {**OURS, "setting": ["run"], "state": after(2)},
        {**OURS, "setting": {1: "a", "b": "c"}, "state": after(2)},
        {**OURS, "setting": {"run": 1}, "state": after(2)},
        {**OURS, "state": []},
        {**OURS, "state": {}},
        {**OURS, "state": {1: 2, "history": []}},
        {**OURS, "state": {**after(2), "history": 5}},
        {**OURS, "state": {**after(2), "elsewhere": [{"epochs": 1}]}},
        {**OURS, "state": {**after(2), "cost": {}}},
        {**OURS, "state": {**after(2), "training": {"epoch": 2}}},
        {**OURS, "state": {**after(2), "run": {}}},
    ],
)
def test_a_checkpoint_of_another_shape_is_moved_aside(two_saved, content, capsys):
    path = two_saved.folder / "2.pt"
    write_checkpoint(path, content)
    assert newest(two_saved) == 1
    assert "not a checkpoint of imcl (ValidationError); moved to" in capsys.readouterr().err
    assert not path.exists()


def scaled(tensor: torch.Tensor) -> torch.Tensor:
    """Of another shape, from which torch would copy all the same."""
    return tensor.flatten()[:1]


FORGED: dict[str, Callable[[Any, Any], object]] = {
    "a weight of another shape": lambda state, training: training["trained"].update(
        {name: scaled(value) for name, value in [*training["trained"].items()][:1]}
    ),
    "a weight of another type": lambda state, training: training["trained"].update(
        {name: value.long() for name, value in [*training["trained"].items()][:1]}
    ),
    "a weight too few": lambda state, training: training["trained"].popitem(),
    "momentum of another shape": lambda state, training: training["momentum"].__setitem__(
        0, [scaled(value) for value in training["momentum"][0]]
    ),
    "momentum too little": lambda state, training: training["momentum"].pop(),
    "a stream too many": lambda state, training: training["streams"].append(torch.zeros(3)),
    "a stream that cannot be": lambda state, training: training["streams"][0].fill_(255),
    "more epochs than there are": lambda state, training: training.update(epoch=9),
    "no epoch": lambda state, training: training.update(epoch=0),
    "a step too many": lambda state, training: training.update(
        rows=training["rows"].repeat(STEPS, 1)
    ),
    "a step of other terms": lambda state, training: training["names"].pop(),
    "steps of another type": lambda state, training: training.update(rows=training["rows"].long()),
    "steps after the last epoch": lambda state, training: training.update(epoch=3),
    "no history": lambda state, training: state.update(history=[]),
    "no evaluation": lambda state, training: state["history"][1].pop("evaluation"),
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_checkpoint_of_another_network_is_refused_in_a_sentence(interrupted, forged):
    """Its checksum, its setting and its types are right."""
    path = interrupted.folder / f"{LAST}.pt"
    content: Any = checkpoint._read(path)
    FORGED[forged](content["state"], content["state"]["training"])
    write_checkpoint(path, content)
    message = (
        rf"seed 1: {interrupted.folder}: holds a checkpoint of another network or training; "
        "delete this folder and run again$"
    )
    with pytest.raises(ImclError, match=message):
        worker.train(interrupted.project, interrupted.cell, CPU)
    assert not interrupted.project.record(interrupted.cell.key).exists()


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_only_has_the_name_of_a_checkpoint_is_moved_aside(two_saved, kind, capsys):
    path = two_saved.folder / "10.pt"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    assert newest(two_saved) == 2
    assert f"{path}: not a file; moved to" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["1-copy.pt", "copy-9.pt", ".pt", "-9.pt", "9.pt.part"])
def test_a_file_with_another_name_is_no_checkpoint(two_saved, name):
    copied = Path(shutil.copy(two_saved.folder / "1.pt", two_saved.folder / name))
    assert newest(two_saved) == 2
    two_saved.save(lambda: after(3))
    assert newest(two_saved) == 3
    assert copied.exists()


def test_a_checkpoint_of_another_run_is_not_used(two_saved, capsys):
    two_saved.setting = {"run": "b"}
    assert two_saved.load() is None
    assert capsys.readouterr().err.count("made with another run; moved to") == 2


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: no memory")])
def test_a_checkpoint_for_which_memory_is_short_stays(two_saved, error, monkeypatch):
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(type(error)):
        two_saved.load()
    assert len(two_saved._paths()) == 2


class Harmful:
    """What unpickles as a call that makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_checkpoint_cannot_run_code(interrupted, tmp_path, capsys):
    harm = Harmful(tmp_path / "harm")
    for path in interrupted.folder.iterdir():
        write_checkpoint(path, {"setting": {}, "state": harm})
    printed = interrupted.resume(capsys)
    assert printed.count("not a checkpoint of imcl (UnpicklingError); moved to") == 2
    assert not harm.folder.exists()
    pickle.loads(pickle.dumps(harm))
    assert harm.folder.exists()  # it would have been


def test_everything_is_loaded_as_weights_only():
    package = Path(checkpoint.__file__).parents[1]
    sources = [path.read_text() for path in package.rglob("*.py")]
    loads = [call for text in sources for call in text.split("torch.load(")[1:]]
    assert loads
    assert all("weights_only=True" in call.partition("\n")[0] for call in loads)
    assert not any("pickle.load" in text or "allow_pickle=True" in text for text in sources)


# the share --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds_each", "share"), [(0.1, 0.02), (1.0, 0.02), (5.0, 0.5)])
def test_writing_takes_no_more_than_its_share(make, monkeypatch, seconds_each, share):
    now, written = 0.0, 0

    def write(self: Checkpoints, content: object) -> None:
        nonlocal now, written
        now += seconds_each
        written += 1

    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now)
    monkeypatch.setattr(Checkpoints, "_write", write)
    checkpoints = make(share)
    for _ in range(2000):
        now += 1.0
        checkpoints.save(lambda: after(1))
        if written > 1:  # the first one's time is a guess
            assert written * seconds_each <= share * now
    assert written * seconds_each > 0.9 * share * now - seconds_each  # nor much less


def test_a_step_that_is_not_saved_costs_next_to_nothing(make):
    """It makes no state, except once, whose size is the first guess."""
    checkpoints, states = make(0.0), []
    for _ in range(100):
        assert not checkpoints.save(lambda: states.append(1) or after(1))
    assert len(states) == 1


def test_the_guess_before_the_first_one_grows_with_its_size(make, monkeypatch):
    now = 0.0
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now)
    checkpoints = make(0.02)
    large = after(1, weight=torch.zeros(25_000_000))  # 0.1 GB, so a second, so not before 50 s
    now = 49.0
    checkpoints.save(lambda: large)
    assert not checkpoints._paths()
    now = 52.0
    checkpoints.save(lambda: large)
    assert len(checkpoints._paths()) == 1


def test_the_share_does_not_decide_the_result(project):
    cell = quick.cell(project, "digits-n50-resnet18-all", training=ONE_EPOCH, seeds=[1])
    options = [RunOptions("cpu", checkpoint_share=share) for share in (0.0, 0.02, 1e9)]
    records = [worker.train(project, cell, replace(each, again=True)) for each in options]
    assert len(set(map(without_cost, records))) == 1


def test_the_newest_is_chosen_by_number_not_by_date(make):
    checkpoints = make(1e9)
    for epoch in (1, 2):
        checkpoints.save(lambda epoch=epoch: after(epoch))
    first, second = checkpoints._paths()
    os.utime(first, (2**31, 2**31))
    os.utime(second, (0, 0))
    assert newest(checkpoints) == 2


def test_the_last_two_are_kept(make):
    checkpoints = make(1e9)
    for epoch in range(12):
        checkpoints.save(lambda epoch=epoch: after(epoch))
    assert [path.name for path in checkpoints._paths()] == ["11.pt", "12.pt"]
    assert newest(checkpoints) == 11


# signals ----------------------------------------------------------------------------------------


@pytest.fixture
def handlers() -> Iterator[None]:
    """As in a process that a terminal started, whatever started this one."""
    before = {number: signal.getsignal(number) for number in checkpoint.SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in before.keys() - {signal.SIGINT}:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    """A signal to this process."""
    os.kill(os.getpid(), number)


def test_a_share_of_0_saves_nothing_but_on_a_signal(make, handlers):
    checkpoints = make(0.0)
    with checkpoints.stopping():
        checkpoints.save(lambda: after(1))
        assert not checkpoints._paths()
        send(signal.SIGTERM)  # not at once, since an epoch would be lost
        with pytest.raises(Stopped):
            checkpoints.save(lambda: after(2))
    assert newest(checkpoints) == 2


def test_a_signal_stops_at_once_what_is_saved_already(make, handlers):
    checkpoints = make(1e9)
    with pytest.raises(Stopped), checkpoints.stopping():
        checkpoints.save(lambda: after(1))
        send(signal.SIGINT)
        pytest.fail("it continued")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_does_not_wait(make, handlers):
    checkpoints = make(0.0)
    with pytest.raises(Stopped), checkpoints.stopping():
        checkpoints.save(lambda: after(1))
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        pytest.fail("it continued")


def test_a_signal_at_any_line_of_a_save_leaves_a_checkpoint(make, handlers):
    """At once, or with the next epoch: a signal is neither lost nor ends without a checkpoint."""
    source, first = inspect.getsourcelines(Checkpoints.save)
    tracing, stopped = sys.gettrace(), 0
    for line in range(first, first + len(source)):
        checkpoints = make(0.0)

        def at(frame: FrameType, event: str, _: object, line: int = line) -> Any:
            if frame.f_code is not Checkpoints.save.__code__:
                return None
            if event == "line" and frame.f_lineno == line:
                sys.settrace(tracing)
                send(signal.SIGTERM)
            return at

        with pytest.raises(Stopped), checkpoints.stopping():
            for epoch in range(1, 4):
                checkpoints.hold()
                sys.settrace(at if epoch == 1 else tracing)
                checkpoints.save(lambda epoch=epoch: after(epoch))
            sys.settrace(tracing)
            assert checkpoints.asked is None, "the signal was lost"
            raise Stopped(0)  # no signal, since this line does nothing
        if checkpoints.asked is not None:
            stopped += 1
            assert newest(checkpoints) in (1, 2)
        shutil.rmtree(checkpoints.folder, ignore_errors=True)
    assert stopped > 5


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (evaluation, "metrics"),  # after the epoch's training
        (Report, "epoch"),  # after its line among the events
        (evaluation, "redundancy"),  # after the last epoch
    ],
)
@pytest.mark.parametrize("number", checkpoint.SIGNALS)
def test_a_signal_after_an_epoch_leaves_its_checkpoint(
    project, handlers, place, name, number, monkeypatch
):
    """Though the epoch before was saved, so that there is something to continue from."""
    cell = quick.cell(project, "digits-clean-resnet18-base", training=TRAINING, seeds=[1])
    passed = getattr(place, name)

    def then_signal(*arguments: Any) -> Any:
        result = passed(*arguments)
        if saved(project, cell):
            send(number)
        return result

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(place, name, then_signal)
        worker.train(project, cell, EVERY_STEP)
    last = Events.read(project.events(cell.run_key))
    done = [event["done"] for event in last if event["event"] == "epoch"]
    assert saved(project, cell)[-1] == STEPS * done[-1]
    assert done[-1] == (3 if name == "redundancy" else 1 if name == "epoch" else 2)
    assert last[-1]["signal"] == signal.Signals(number).name


@pytest.mark.parametrize(
    ("place", "name", "calls", "left"),
    [
        (Report, "epoch", 3, [1]),  # in the first of two epochs of the second seed
        (seed, "code", 1, [0, 1]),  # after the last epoch of the first
        (Store, "write_run", 1, [0, 1]),
        (shutil, "rmtree", 1, [0, 1]),
        (shutil, "rmtree", 2, []),  # `imcl verify` stops then, too
    ],
)
def test_a_signal_costs_no_finished_seed(
    project, handlers, place, name, calls, left, monkeypatch, capsys
):
    """At whatever share of checkpoints."""
    cell = quick.cell(project, "digits-clean-resnet18-base", training={"epochs": 2})
    passed, called = getattr(place, name), []

    def then_signal(*arguments: Any, **options: Any) -> Any:
        called.append(name)
        if len(called) == calls:
            send(signal.SIGTERM)
        return passed(*arguments, **options)

    # Whatever is not stopped as it should be fails here, and does not end the tests.
    signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the signal was not handled"))
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(place, name, then_signal)
        worker.train(project, cell, RunOptions("cpu", checkpoint_share=0.0))
    trained = epochs(monkeypatch)
    worker.train(project, cell, CPU)
    assert trained == left
    assert "seed 1 was finished before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "name", "share"),
    [(seed, "code", 0.0), (shutil, "rmtree", 0.0), (shutil, "rmtree", 1.0)],
)
def test_a_signal_after_the_last_step_of_the_last_seed_stops_nothing(
    project, handlers, place, name, share, monkeypatch
):
    """An engine deletes what a stopped job wrote, and there is no checkpoint any more."""
    cell = quick.cell(project, "digits-clean-resnet18-base", training=ONE_EPOCH, seeds=[1])
    passed = getattr(place, name)

    def then_signal(*arguments: Any, **options: Any) -> Any:
        send(signal.SIGTERM)
        return passed(*arguments, **options)

    signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the signal was not handled"))
    monkeypatch.setattr(place, name, then_signal)
    words = f"train --device cpu --seed 1 --checkpoint-share {share} {cell.name}"
    assert main(["--project", str(project.root), *words.split()]) == 0
    assert Store(project).lacks(cell) is None
    assert not folder(project, cell).exists()
    assert Events.read(project.events(cell.run_key))[-1]["event"] == "done"


def test_a_stop_is_heard_within_an_epoch(project, handlers, monkeypatch, capsys):
    """So an epoch of hours is no reason to lose hours, or to be killed for not stopping."""
    cell = quick.cell(project, "digits-n50-resnet18-elr+all", training=TRAINING, seeds=[1])
    whole = worker.train(project, cell, CPU)
    quick.forget(project, cell)
    step, count = Trainer.step, 0

    def then_signal(self: Trainer, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == STEPS + 2:
            send(signal.SIGTERM)
        return step(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(Trainer, "step", then_signal)
        worker.train(project, cell, RunOptions("cpu", checkpoint_share=0.0))
    assert count == STEPS + 2
    (path,) = folder(project, cell).iterdir()
    state = checkpoint._read(path)["state"]["training"]
    assert (state["epoch"], len(state["rows"])) == (1, 2)
    assert "SIGTERM: stopping after this step, with a checkpoint" in capsys.readouterr().err
    assert without_cost(worker.train(project, cell, CPU)) == without_cost(whole)
    assert "seed 1: resuming after epoch 1, step 2\n" in capsys.readouterr().err


def test_a_signal_of_another_kind_is_not_the_second(make, handlers):
    """At Ctrl-C a terminal sends SIGINT to `imcl run` and its children, which it then ends."""
    checkpoints = make(0.0)
    with checkpoints.stopping():
        checkpoints.save(lambda: after(1))
        send(signal.SIGINT)
        send(signal.SIGTERM)
        with pytest.raises(Stopped):
            checkpoints.save(lambda: after(2))
    assert newest(checkpoints) == 2


def test_a_terminal_that_has_gone_costs_no_checkpoint(make, handlers, monkeypatch):
    """Who logs out sends SIGHUP, and every line on standard error fails from then on."""

    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    checkpoints = make(0.0)
    with checkpoints.stopping():
        checkpoints.save(lambda: after(1))
        send(signal.SIGHUP)
        with pytest.raises(Stopped):
            checkpoints.save(lambda: after(2))
    assert newest(checkpoints) == 2


def test_a_signal_that_was_ignored_from_the_start_stays_ignored(make, handlers):
    """As SIGINT in the background jobs of a shell script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    checkpoints = make(1e9)
    with checkpoints.stopping():
        checkpoints.save(lambda: after(1))
        send(signal.SIGINT)
        checkpoints.save(lambda: after(1))
        with pytest.raises(Stopped):
            send(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


# processes --------------------------------------------------------------------------------------

LONG = {"epochs": 20, "evaluations": 2}


@pytest.fixture(scope="module")
def long_once(small, tmp_path_factory) -> tuple[Project, Cell, Record]:
    """A cell of many epochs, trained without a break."""
    project = Project(shutil.copytree(small, tmp_path_factory.mktemp("long") / "project"))
    cell = quick.cell(project, "digits-n50-resnet18-kernel", training=LONG, seeds=[1])
    worker.train(project, cell, CPU)
    return project, cell, Store(project).read(cell, project.record(cell.key))


class Long(NamedTuple):
    """The same cell in another project, not trained yet, with its record as it must be."""

    project: Project
    cell: Cell
    whole: Record

    def start(self, name: str, *options: str) -> Command:
        root = self.project.root
        arguments = ["train", "--device", "cpu", "--project", str(root), *options, self.cell.key]
        return Command(arguments, root / name)

    def trained(self) -> bool:
        """Whether an epoch is done."""
        events = Events.read(self.project.events(self.cell.run_key))
        return any(event["event"] == "epoch" for event in events)

    def saved(self) -> list[int]:
        return saved(self.project, self.cell)

    def check(self) -> None:
        """That the record and the weights are as they must be."""
        record = Store(self.project).read(self.cell, self.project.record(self.cell.key))
        for made in (record, self.whole):
            made.pop("seal", None)
        assert without_cost(record) == without_cost(self.whole)
        for run in self.whole["runs"]:
            weights = quick.weights(self.project, self.cell, run["seed"])
            assert hashlib.sha256(weights.read_bytes()).hexdigest() == run["weights_sha256"]
        assert not list(self.project.results.rglob(".*.tmp"))


@pytest.fixture
def long(long_once, project) -> Long:
    shutil.copy(long_once[0].params, project.params)
    return Long(project, *long_once[1:])


@pytest.mark.parametrize(
    ("number", "code", "share"),
    [
        (signal.SIGTERM, 143, "1"),
        (signal.SIGINT, 130, "1"),
        (signal.SIGKILL, -9, "1"),
        (signal.SIGTERM, 143, "0"),
    ],
)
def test_a_signal_to_a_process_costs_no_bit(long, number, code, share, capsys):
    command = long.start("it", "--checkpoint-share", share)
    command.until(lambda: long.trained() and (share == "0" or long.saved()))
    command.send(number)
    found, err = command.wait()
    assert found == code, err
    assert "Traceback" not in err
    last = Events.read(long.project.events(long.cell.run_key))[-1]
    if code > 0:
        name = signal.Signals(number).name
        assert f"imcl train: {name}; run it again to continue\n" in err
        assert (last["event"], last["signal"]) == ("stopped", name)
    else:
        assert last["event"] == "epoch"
    assert not long.project.record(long.cell.key).exists()
    worker.train(long.project, long.cell, CPU)
    assert "resuming after epoch" in capsys.readouterr().err
    long.check()


@pytest.fixture
def two(long) -> Iterator[tuple[Command, Command]]:
    """A process that trains a cell, stopped for now, and another that waits for it."""
    first = long.start("first", "--checkpoint-share", "1")
    first.until(long.saved)
    first.send(signal.SIGSTOP)
    second = long.start("second")
    second.until(lambda: second.err.exists() and second.err.read_text())
    assert "seed 1: another process trains it; waiting for it" in second.err.read_text()
    yield first, second
    for command in (first, second):
        command.process.kill()
        command.process.join()


def test_two_processes_on_one_cell_train_it_once(long, two):
    first, second = two
    first.send(signal.SIGCONT)
    (code, err), (other_code, other) = first.wait(), second.wait()
    assert (code, other_code) == (0, 0), err + other
    assert "epochs" not in other
    record = long.project.record(long.cell.key)
    assert f"{record}: test accuracy by seed" in second.out.read_text()
    kinds = [event["event"] for event in Events.read(long.project.events(long.cell.run_key))]
    assert kinds.count("started") == 1
    long.check()


def test_when_the_first_of_two_processes_is_killed_the_second_resumes(long, two):
    first, second = two
    first.send(signal.SIGKILL)
    code, err = second.wait()
    assert code == 0, err
    assert "resuming after epoch" in err
    long.check()


def test_two_processes_share_the_seeds_of_a_cell(project):
    cell = quick.cell(project, "digits-n50-resnet18-base", training={"epochs": 8}, seeds=[1, 2])
    first_run, second_run = cell.runs

    def start(name: str) -> Command:
        options = ["--device", "cpu", "--project", str(project.root), cell.key]
        return Command(["train", *options], project.root / name)

    def has(run: Cell, kind: str) -> int:
        events = Events.read(project.events(run.run_key))
        return [event["event"] for event in events].count(kind)

    first = start("first")
    first.until(lambda: has(first_run, "epoch"))
    first.send(signal.SIGSTOP)
    try:
        second = start("second")
        waiting = "seed 1: another process trains it"
        second.until(lambda: second.err.exists() and waiting in second.err.read_text())
        assert has(second_run, "done")  # it took the next seed meanwhile
    finally:
        first.send(signal.SIGCONT)
    for command in (first, second):
        code, err = command.wait()
        assert code == 0, err
    assert [has(run, "started") for run in cell.runs] == [1, 1]
    assert Store(project).faults(cell, project.record(cell.key)) == []


@pytest.mark.parametrize("moment", ["half written", "before it is renamed"])
def test_a_kill_while_the_record_is_written_costs_no_training(project, moment, capsys):
    cell = quick.cell(project, "digits-clean-resnet18-base", training=TRAINING)
    whole = worker.train(project, cell, CPU)
    quick.forget(project, cell)
    path = project.record(cell.key)

    def killed() -> None:
        """A process of its own, in which this changes what all others do to the record."""
        write, replace = Path.write_text, Path.replace

        def half(self: Path, text: str, **options: Any) -> int:
            if self.parent == path.parent:
                write(self, text[: len(text) // 2], **options)
                send(signal.SIGKILL)
            return write(self, text, **options)

        def never(self: Path, target: Path) -> Path:
            if target == path:
                send(signal.SIGKILL)
            return replace(self, target)

        if moment == "half written":
            Path.write_text = half  # type: ignore[method-assign]
        else:
            Path.replace = never  # type: ignore[method-assign]
        worker.train(project, cell, EVERY_STEP)

    process = FORK.Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [left.suffix for left in path.parent.iterdir()] == [".tmp"]
    capsys.readouterr()
    assert without_cost(worker.train(project, cell, CPU)) == without_cost(whole)
    assert capsys.readouterr().err.count("was finished before") == len(cell.seeds)
    assert list(path.parent.iterdir()) == [path]


# what is left over -------------------------------------------------------------------------------


def test_what_killed_processes_left_is_swept(project):
    cell = quick.cell(project, "digits-clean-resnet18-base")
    run = cell.runs[1].run_key
    for path in (project.record(cell.key), project.run(run), project.weights(run)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.99999.tmp").write_text("half")
    worker.train(project, cell, CPU)
    assert not list(project.results.rglob(".*.tmp"))


def test_a_failed_run_leaves_no_lock_and_no_folder(project):
    cell = quick.cell(project, "digits-clean-resnet18-base")
    project.dataset(cell.dataset.key).unlink()
    for _ in range(2):
        with pytest.raises(ImclError, match="missing"):
            worker.train(project, cell, CPU)
    assert not [path for path in project.checkpoints.iterdir() if path.is_dir()]
