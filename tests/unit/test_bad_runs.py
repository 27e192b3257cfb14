"""Runs that cannot go well end with a clear error, and odd data that can be trained on is."""

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from imcl import evaluate, experiment, grid
from imcl.data import digits, prepare
from imcl.errors import ImclError


def trained(loaded: dict, method: str, monkeypatch, arrays=None) -> dict:
    """The record of a cell on clean digits, or on other arrays in their place."""
    loaded["studies"]["quick"] |= {"methods": [method], "seeds": [1]}
    cell = grid.find(loaded, f"digits-clean-resnet18-{method}")
    if arrays is not None:
        monkeypatch.setattr(digits, "read", lambda *_: arrays)
        prepare.prepare("digits", cell.dataset.config, [], cell.dataset.path)
    return experiment.run(cell, "cpu")


@pytest.fixture
def whole(micro) -> prepare.Arrays:
    return digits.read({}, [], Path())


# settings ---------------------------------------------------------------------------------------


def test_a_batch_larger_than_the_data_is_refused(micro, monkeypatch):
    micro["studies"]["quick"]["training"]["batch_size"] = 1438
    with pytest.raises(ImclError, match=r"batch_size is 1438, but there are 1437 training images"):
        trained(micro, "base", monkeypatch)
    micro["studies"]["quick"]["training"]["batch_size"] = 1437
    assert trained(micro, "base", monkeypatch)["runs"]


@pytest.mark.parametrize("rate", [1e3, 1e10, 1e30, 1e300])
def test_an_exploding_learning_rate_ends_with_advice_or_finite_numbers(micro, monkeypatch, rate):
    micro["studies"]["quick"]["training"] |= {"learning_rate": rate, "batch_size": 64}
    try:
        record = trained(micro, "all", monkeypatch)
    except ImclError as error:
        assert "Lower training.learning_rate" in str(error)
        assert not list(grid.RECORDS.glob("*.json"))
        return
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_at_the_last_step_is_found(micro, monkeypatch, value):
    from imcl.ways.collaboration import Collaboration

    call, count = Collaboration.__call__, 0

    def broken(self, *arguments):
        nonlocal count
        count += 1
        step = call(self, *arguments)
        return step._replace(loss=step.loss * 0 + value) if count == 10 else step

    monkeypatch.setattr(Collaboration, "__call__", broken)
    with pytest.raises(ImclError, match=r"not finite at epoch 2, step 5 of 5: loss -?(nan|inf)"):
        trained(micro, "base", monkeypatch)
    assert not list(Path("results").rglob("*.json"))


# data -------------------------------------------------------------------------------------------


def test_labels_of_one_class_alone_are_refused(micro, whole, monkeypatch):
    arrays = replace(whole, train_labels=np.full_like(whole.train_labels, 7))
    with pytest.raises(ImclError, match=r"digits: all train labels are of one class, '7'"):
        trained(micro, "base", monkeypatch, arrays)


@pytest.mark.parametrize("method", ["all", "cskd", "elr", "coteaching", "multihead", "sce"])
def test_class_ids_with_gaps_train(micro, whole, method, monkeypatch):
    keep = {s: ~np.isin(getattr(whole, f"{s}_labels"), [0, 4, 9]) for s in ("train", "test")}
    arrays = replace(
        whole,
        **{
            f"{split}_{what}": getattr(whole, f"{split}_{what}")[chosen]
            for split, chosen in keep.items()
            for what in ("images", "labels")
        },
    )
    record = trained(micro, method, monkeypatch, arrays)
    json.dumps(record, allow_nan=False)
    assert record["runs"][0]["final"]["accuracy"] >= 0


def test_a_training_image_left_over_costs_batch_norm_nothing(micro, whole, monkeypatch):
    # 65 images in batches of 64: a last batch of one would have no variance.
    arrays = replace(whole, train_images=whole.train_images[:65], train_labels=np.arange(65) % 10)
    micro["studies"]["quick"]["training"]["batch_size"] = 64
    record = trained(micro, "base", monkeypatch, arrays)
    assert record["dataset"]["n_train"] == 65
    json.dumps(record, allow_nan=False)


def test_a_test_image_left_over_is_evaluated_like_the_others():
    images = torch.randint(256, (evaluate.BATCH + 1, 8, 8, 1)).byte()
    model = experiment.build({"backbone": {"name": "resnet18", "width": 4}}, [8, 8, 1], 10)
    statistics = torch.tensor([0.5]), torch.tensor([0.25])
    logits = evaluate.predict(model, images, *statistics, "float32")
    again = evaluate.predict(model, images.flip(0), *statistics, "float32").flip(0)
    torch.testing.assert_close(logits, again)
    measured = evaluate.redundancy(model, images, *statistics)
    assert all(np.isfinite(value) for value in measured.values())


# memory -----------------------------------------------------------------------------------------

ADVICE = (
    "digits-clean-resnet18-base, seed 1: out of memory on the cpu. Lower training.batch_size "
    "(now 256), or set training.precision to bf16 (now float32)"
)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_names_batch_size_and_precision(micro, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(experiment, "fit", full)
    with pytest.raises(ImclError) as found:
        trained(micro, "base", monkeypatch)
    assert str(found.value) == ADVICE


def test_another_error_of_torch_is_not_called_one_of_memory(micro, monkeypatch):
    def broken(*_):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(experiment, "fit", broken)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        trained(micro, "base", monkeypatch)


def test_a_process_that_gets_no_memory_says_so(micro):
    path = Path("params.yaml")
    loaded = yaml.safe_load(path.read_text())
    quick = micro["studies"]["quick"] | {"methods": ["base"], "noise": ["clean"], "width": 2048}
    loaded["studies"]["quick"] = quick
    path.write_text(yaml.safe_dump(loaded, sort_keys=False))
    script = """
        import resource, sys
        import torch
        from imcl.cli import main
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
        sys.exit(main(["train", "--device", "cpu", "digits-clean-resnet18-base"]))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == f"imcl train: {ADVICE}"
    assert not list(Path("results").rglob("*.json"))
