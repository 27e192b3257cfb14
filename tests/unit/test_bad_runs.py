"""Runs that cannot go well end with a clear error, and odd data that can be trained on is."""

import json
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import quick
import torch

from imcl.collaboration import Collaboration
from imcl.data import digits, prepare
from imcl.data.arrays import Arrays
from imcl.errors import ImclError
from imcl.progress import Events
from imcl.project import Project
from imcl.records.record import Record
from imcl.training import evaluation, seed, worker
from imcl.training.batches import Normalise
from imcl.training.network import build
from imcl.training.worker import RunOptions


@pytest.fixture
def project(micro) -> Project:
    return micro[0]


@pytest.fixture
def whole(project) -> Arrays:
    """The digits, to be changed."""
    cell = quick.cell(project, "digits-clean-resnet18-base")
    return prepare.load(project, cell.dataset)[1]


def trained(project: Project, method: str, **training: object) -> Record:
    """The record of a cell on clean digits."""
    cell = quick.cell(project, f"digits-clean-resnet18-{method}", training=training, seeds=[1])
    return worker.train(project, cell, RunOptions("cpu"))


def prepare_instead(project: Project, arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare other arrays as the digits."""
    monkeypatch.setattr(digits, "read", lambda *_: arrays)
    every = {"datasets": {"digits": {"train_size": len(arrays.train_labels)}}}
    prepare.prepare(project, quick.cell(project, "digits-clean-resnet18-base", file=every).dataset)


# settings ---------------------------------------------------------------------------------------


def test_a_batch_larger_than_the_data_is_refused(project):
    with pytest.raises(ImclError, match=r"batch_size is 321, but there are 320 training images"):
        trained(project, "base", batch_size=321)
    assert trained(project, "base", batch_size=320)["runs"]


@pytest.mark.parametrize("rate", [1e3, 1e6, 1e9])  # the bound is 1e9
def test_an_exploding_learning_rate_ends_with_advice_or_finite_numbers(project, rate):
    try:
        record = trained(project, "all", learning_rate=rate, batch_size=64)
    except ImclError as error:
        assert "Lower training.learning_rate" in str(error)
        assert not list(project.records.glob("*.json"))
        return
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_at_the_last_step_is_found(project, monkeypatch, value):
    call, count = Collaboration.__call__, 0

    def broken(self, *arguments):
        nonlocal count
        count += 1
        step = call(self, *arguments)
        return step._replace(loss=step.loss * 0 + value) if count == 10 else step

    monkeypatch.setattr(Collaboration, "__call__", broken)
    with pytest.raises(ImclError, match=r"not finite at epoch 2, step 5 of 5: loss -?(nan|inf)"):
        trained(project, "base")
    assert not list(project.results.rglob("*.json"))


def test_what_failed_is_among_the_events(project):
    cell = quick.cell(project, "digits-clean-resnet18-base", training={"learning_rate": 1e9})
    with pytest.raises(ImclError) as error:
        worker.train(project, cell, RunOptions("cpu"))
    events = Events.read(project.events(cell.runs[0].run_key))
    assert events[-1]["event"] == "failed"
    assert events[-1]["message"] == str(error.value)


# data -------------------------------------------------------------------------------------------


def test_what_failed_before_it_started_is_among_the_events(project):
    project.checkpoints.parent.mkdir(parents=True, exist_ok=True)
    project.checkpoints.touch()  # a file, where the folder of the lock should be
    cell = quick.cell(project, "digits-clean-resnet18-base")
    with pytest.raises(OSError):
        worker.train(project, cell)
    (event,) = Events.read(project.events(cell.runs[0].run_key))
    assert (event["event"], "File exists" in event["message"]) == ("failed", True)


def test_labels_of_one_class_alone_are_refused(project, whole, monkeypatch):
    arrays = replace(whole, train_labels=np.full_like(whole.train_labels, 7))
    with pytest.raises(ImclError, match=r"digits: all train labels are of one class, '7'"):
        prepare_instead(project, arrays, monkeypatch)


@pytest.mark.parametrize("method", ["all", "cskd", "elr", "coteaching", "multihead", "sce"])
def test_class_ids_with_gaps_train(project, whole, method, monkeypatch):
    keep = {s: ~np.isin(getattr(whole, f"{s}_labels"), [0, 4, 9]) for s in ("train", "test")}
    arrays = replace(
        whole,
        **{
            f"{split}_{what}": getattr(whole, f"{split}_{what}")[chosen]
            for split, chosen in keep.items()
            for what in ("images", "labels")
        },
    )
    prepare_instead(project, arrays, monkeypatch)
    record = trained(project, method)
    json.dumps(record, allow_nan=False)
    assert record["runs"][0]["final"]["accuracy"] >= 0


def test_a_training_image_left_over_costs_batch_norm_nothing(project, whole, monkeypatch):
    # 65 images in batches of 64: a last batch of one would have no variance.
    arrays = replace(whole, train_images=whole.train_images[:65], train_labels=np.arange(65) % 10)
    prepare_instead(project, arrays, monkeypatch)
    record = trained(project, "base", batch_size=64)
    assert record["dataset"]["n_train"] == 65
    json.dumps(record, allow_nan=False)


def test_a_test_image_left_over_is_evaluated_like_the_others():
    images = torch.randint(256, (evaluation.BATCH + 1, 8, 8, 1)).byte()
    model = build("resnet18", 4, [8, 8, 1], 10)
    normalise = Normalise(torch.tensor([0.5]), torch.tensor([0.25]))
    logits = evaluation.predict(model, images, normalise, "float32")
    again = evaluation.predict(model, images.flip(0), normalise, "float32").flip(0)
    torch.testing.assert_close(logits, again)
    measured = evaluation.redundancy(model, images, normalise)
    assert all(np.isfinite(value) for value in measured.values())


# memory -----------------------------------------------------------------------------------------

ADVICE = (
    "digits-clean-resnet18-base, seed 1: out of memory on the cpu. Lower training.batch_size "
    "(now 64), or set training.precision to bf16 (now float32)"
)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_names_batch_size_and_precision(project, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(seed, "fit", full)
    with pytest.raises(ImclError) as found:
        trained(project, "base")
    assert str(found.value) == ADVICE


def test_another_error_of_torch_is_not_called_one_of_memory(project, monkeypatch):
    def broken(*_):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(seed, "fit", broken)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        trained(project, "base")


def test_a_process_that_gets_no_memory_says_so(project):
    cell = quick.cell(project, "digits-clean-resnet18-base", width=2048)
    script = """
        import resource, sys
        import torch
        from imcl.cli import main
        from imcl.training import memory
        memory.check = lambda *_: None  # the estimate, which would refuse before
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
        sys.exit(main(sys.argv[1:]))
    """
    command = ["train", "--device", "cpu", "--project", str(project.root), cell.key]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *command], capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == f"imcl train: {ADVICE}"
    assert not list(project.results.rglob("*.json"))
