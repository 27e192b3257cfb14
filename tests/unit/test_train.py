"""The loop: augmentation, optimizer, schedule, and that a run repeats to the bit."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import without_cost

from imcl import experiment, grid
from imcl.batches import Batches, crop_and_flip, normalise
from imcl.data import prepare
from imcl.errors import ImclError
from imcl.noise import inject
from imcl.train import SGD, learning_rate

ROOT = Path(__file__).resolve().parents[2]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int, side: int = 6, channels: int = 3) -> torch.Tensor:
    return torch.randint(1, 256, (count, side, side, channels), generator=generator()).byte()


# augmentation -----------------------------------------------------------------------------------


def test_crop_and_flip_image_by_image():
    x, padding = images(40), 2
    offsets = torch.randint(5, (40, 2), generator=generator(1))
    flipped = torch.rand(40, generator=generator(2)) < 0.5
    found = crop_and_flip(x, offsets, flipped, padding)
    for i in range(40):
        padded = np.pad(x[i].numpy(), ((2, 2), (2, 2), (0, 0)))
        row, column = offsets[i].tolist()
        expected = padded[row : row + 6, column : column + 6]
        expected = expected[:, ::-1] if flipped[i] else expected
        np.testing.assert_array_equal(found[i].numpy(), expected)


def test_normalise_by_hand():
    x = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)  # one pixel, two channels
    found = normalise(x, torch.tensor([0.5, 0.25]), torch.tensor([0.25, 0.5]))
    torch.testing.assert_close(found.flatten(), torch.tensor([-2.0, 1.5]))
    assert normalise(images(2), torch.zeros(3), torch.ones(3)).is_contiguous(
        memory_format=torch.channels_last
    )


def batches(x: torch.Tensor, labels: torch.Tensor, **options) -> Batches:
    settings = {
        "mean": torch.zeros(x.shape[3]),
        "std": torch.full((x.shape[3],), 1 / 255),  # leaves the pixels as they are
        "padding": 0,
        "flip": False,
        "batch_size": 8,
        "shuffling": generator(1),
        "augmentation": [generator(2)],
    }
    return Batches(x, labels, **{**settings, **options})


def test_an_epoch_visits_each_image_once_with_its_label():
    x = torch.arange(40).byte()[:, None, None, None].expand(40, 2, 2, 1).contiguous()
    seen = [
        (int(view[0, 0, 0].round()), int(label))
        for views, labels, _ in batches(x, torch.arange(40) * 10).epoch()
        for view, label in zip(views[0], labels, strict=True)
    ]
    assert sorted(seen) == [(i, 10 * i) for i in range(40)]
    assert seen != sorted(seen)


def test_offsets_are_uniform_and_half_is_mirrored():
    from scipy.stats import binomtest, chisquare

    # One bright pixel at (3, 2) of 6 x 6 tells where the crop lay and whether it was mirrored.
    x = torch.zeros(4000, 6, 6, 1, dtype=torch.uint8)
    x[:, 3, 2] = 255
    data = batches(
        x,
        torch.zeros(4000).long(),
        padding=2,
        flip=True,
        batch_size=4000,
        augmentation=[generator(2), generator(3)],
    )
    ((views, _, _),) = data.epoch()
    places = [view.reshape(4000, 36).argmax(1) for view in views]
    rows = torch.bincount(places[0] // 6, minlength=6)
    assert chisquare(rows[1:6]).pvalue > 1e-3  # 3 + 2 - offset, offset in 0..4
    # Column 2 + 2 - offset in 0..4 or, mirrored, 1..5: 0 and 5 are each mirror's own.
    plain, mirrored = (int((places[0] % 6 == column).sum()) for column in (0, 5))
    assert binomtest(plain, plain + mirrored).pvalue > 1e-3
    assert binomtest(plain + mirrored, 4000, 1 / 5).pvalue > 1e-3
    assert (places[0] != places[1]).float().mean() > 0.8  # each view is drawn for itself


def test_a_batch_larger_than_the_data_holds_all_of_it():
    data = batches(images(5), torch.zeros(5).long(), batch_size=64)
    assert [len(labels) for _, labels, _ in data.epoch()] == [5]


# optimizer and schedule -------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_agrees_with_torchs(momentum):
    def model():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))

    ours, theirs = model(), model()
    optimizer = SGD(ours, momentum, 0.1)
    weights = [p for p in theirs.parameters() if p.ndim > 1]
    others = [p for p in theirs.parameters() if p.ndim <= 1]
    reference = torch.optim.SGD(
        [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=1.0,
        momentum=momentum,
        nesterov=momentum > 0,
    )
    for step in range(4):
        x = torch.randn(8, 4, generator=generator(step))
        rate = 0.1 / (step + 1)
        for net in (ours, theirs):
            net(x).pow(2).sum().backward()
        optimizer.step(rate)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
        reference.zero_grad()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_learning_rates_by_hand():
    training = {"learning_rate": 1.0, "epochs": 4, "warmup_epochs": 1, "schedule": "cosine"}
    rates = [learning_rate(step, 2, training) for step in range(8)]
    falling = [0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert rates == pytest.approx([1 / 3, 2 / 3, *falling])
    cycle = [learning_rate(step, 2, {**training, "schedule": "one_cycle"}) for step in range(8)]
    assert cycle == pytest.approx([0.04, 0.52, *falling])
    assert learning_rate(0, 2, {**training, "warmup_epochs": 0}) == 1.0


# a cell -----------------------------------------------------------------------------------------


def find(loaded: dict, name: str) -> grid.Cell:
    return grid.find(loaded, name)


@pytest.mark.parametrize("name", ["digits-n50-resnet18-all", "digits-clean-vgg16-base"])
def test_two_runs_are_the_same_to_the_bit(micro, name):
    cell = find(micro, name)
    first = experiment.run(cell, "cpu")
    weights = [cell.weights(seed).read_bytes() for seed in (1, 2)]
    stored = cell.record.read_bytes()
    cell.record.unlink()
    second = experiment.run(cell, "cpu")
    assert without_cost(first) == without_cost(second)
    assert [cell.weights(seed).read_bytes() for seed in (1, 2)] == weights
    assert weights[0] != weights[1]
    assert json.loads(stored)["runs"] == second["runs"]


def test_a_record_holds_what_a_reader_needs(micro):
    cell = find(micro, "digits-n50-resnet18-base")
    record = json.loads(json.dumps(experiment.run(cell, "cpu")))
    assert record["digest"] == grid.digest(record["config"]) == cell.digest
    assert record["noise"]["realised_rate"] == pytest.approx(0.5, abs=1e-3)
    assert [run["seed"] for run in record["runs"]] == [1, 2]
    run = record["runs"][0]
    assert set(run["final"]) == {
        *("accuracy", "nll", "ece"),
        *("channel_correlation", "kernel_cosine"),
    }
    assert [entry["epoch"] for entry in run["history"]] == [1, 2]
    assert run["oracle"]["accuracy"] == max(e["evaluation"]["accuracy"] for e in run["history"])
    assert run["final"]["accuracy"] == run["history"][-1]["evaluation"]["accuracy"]
    hits = sum(row[k] for k, row in enumerate(run["predictions"]["confusion"]))
    assert hits == sum(run["predictions"]["calibration"]["correct"])
    assert hits == pytest.approx(run["final"]["accuracy"] * record["dataset"]["n_test"])
    assert record["environment"]["device"] == "cpu"
    assert record["cost"][0]["peak_memory_bytes"] > 2**20


def test_a_run_is_watched_where_it_is_asked_for(micro, monkeypatch):
    monkeypatch.setenv("IMCL_LIVE", "live")
    cell = find(micro, "digits-clean-resnet18-base")
    experiment.run(cell, "cpu")
    seeds = {path.parent.name for path in Path("live", cell.key).glob("*/events.*")}
    assert seeds == {"seed-1", "seed-2"}


def test_stored_weights_give_the_recorded_accuracy(micro):
    from imcl.evaluate import metrics, predict

    cell = find(micro, "digits-clean-resnet18-base")
    record = experiment.run(cell, "cpu")
    made, arrays = prepare.load(cell.dataset.path)
    model = experiment.build(cell.config, made["shape"], 10)
    model.load_state_dict(torch.load(cell.weights(2), weights_only=True))
    model.to(memory_format=torch.channels_last)
    logits = predict(
        model,
        torch.from_numpy(arrays.test_images),
        torch.tensor(made["mean"]),
        torch.tensor(made["std"]),
        "float32",
    )
    found = metrics(logits, torch.from_numpy(arrays.test_labels))
    assert found["accuracy"] == record["runs"][1]["final"]["accuracy"]
    assert found["nll"] == pytest.approx(record["runs"][1]["final"]["nll"])


def test_seeds_pair_across_methods(micro, monkeypatch):
    starts: dict[str, list] = {}

    def look(collaboration, data, *_):
        weights = torch.cat([p.detach().flatten() for p in collaboration.model.parameters()])
        seen = [(views[0], labels) for _ in range(2) for views, labels, _ in data.epoch()]
        first_views, labels = (torch.cat(tensors) for tensors in zip(*seen, strict=True))
        starts.setdefault(look.method, []).append((weights, first_views, labels))
        raise ImclError("seen enough")

    monkeypatch.setattr(experiment, "fit", look)
    for look.method in ("base", "all"):
        with pytest.raises(ImclError):
            experiment.run(find(micro, f"digits-clean-resnet18-{look.method}"), "cpu")
    for a, b in zip(starts["base"][0], starts["all"][0], strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_not_finite_stops_with_step_terms_and_advice(micro):
    micro["studies"]["quick"]["training"]["learning_rate"] = 1e30
    cell = find(micro, "digits-clean-vgg16-kernel")
    with pytest.raises(ImclError) as error:
        experiment.run(cell, "cpu")
    message = str(error.value)
    assert "digits-clean-vgg16-kernel, seed 1: the loss is not finite at epoch 1, step " in message
    assert "cross_entropy" in message
    assert "Lower training.learning_rate (now 1e+30)" in message
    assert not cell.record.exists()
    assert not [path for path in Path().glob("results/**/*") if path.is_file()]


def test_weights_that_the_last_update_broke_are_no_record(micro):
    # One step, whose loss is still finite.
    settings = {"learning_rate": 1e30, "batch_size": 1437, "epochs": 1, "warmup_epochs": 0}
    micro["studies"]["quick"]["training"] |= settings
    cell = find(micro, "digits-clean-resnet18-base")
    with pytest.raises(ImclError, match=r"the trained network's \w+ is nan.*learning_rate"):
        experiment.run(cell, "cpu")
    assert not cell.record.exists()


def test_missing_data_names_the_command(micro):
    cell = find(micro, "digits-clean-resnet18-base")
    cell.dataset.path.unlink()
    with pytest.raises(ImclError, match="run `imcl prepare digits`"):
        experiment.run(cell, "cpu")


def test_evaluation_at_intervals_always_includes_the_last_epoch(micro):
    micro["studies"]["quick"]["training"] |= {"epochs": 3, "evaluate_every": 2}
    record = experiment.run(find(micro, "digits-clean-resnet18-base"), "cpu")
    history = record["runs"][0]["history"]
    assert [entry["epoch"] for entry in history if "evaluation" in entry] == [2, 3]


def test_fit_lowers_the_loss_under_bf16(micro):
    micro["studies"]["quick"]["training"] |= {"precision": "bf16", "epochs": 3}
    record = experiment.run(find(micro, "digits-clean-resnet18-all"), "cpu")
    losses = [entry["terms"]["cross_entropy"] for entry in record["runs"][0]["history"]]
    assert losses[-1] < losses[0]


# the fast paths ---------------------------------------------------------------------------------


def test_compiled_stages_give_the_numbers_of_eager_ones(micro):
    from torch._dynamo.utils import counters

    cell = find(micro, "digits-n50-vgg16-kernel")
    eager = experiment.run(cell, "cpu")
    compiled = experiment.run(cell, "cpu", compiled=True)
    assert compiled["environment"]["compiled"]
    assert counters["stats"]["unique_graphs"] > 0
    for mine, theirs in zip(compiled["runs"], eager["runs"], strict=True):
        losses = [[entry["loss"] for entry in run["history"]] for run in (mine, theirs)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        assert mine["final"]["nll"] == pytest.approx(theirs["final"]["nll"], rel=1e-2)
    counters.clear()
    experiment.run(cell, "cpu", compiled=True)
    assert counters["stats"]["unique_graphs"] == 0  # the next network takes the same code


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a captured step needs a GPU")
@pytest.mark.parametrize("method", ["base", "all", "elr", "cskd", "coteaching"])
def test_a_captured_step_gives_the_numbers_of_an_eager_one(micro, method, monkeypatch):
    from imcl import train

    micro["studies"]["quick"]["methods"] = [method]
    cell = find(micro, f"digits-n50-resnet18-{method}")
    captured = experiment.run(cell, "cuda")
    cell.record.unlink()
    monkeypatch.setattr(train, "EAGER_STEPS", 10**9)
    eager = experiment.run(cell, "cuda")
    for mine, theirs in zip(captured["runs"], eager["runs"], strict=True):
        losses = [[entry["loss"] for entry in run["history"]] for run in (mine, theirs)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_held_out_images_are_evaluated_with_labels_as_noisy_as_the_others(micro):
    micro["datasets"]["digits"] |= {"validation_share": 0.25, "validation_seed": 0}
    cell = next(c for c in grid.cells(micro) if c.noise and c.method == "base")
    prepare.prepare("digits", cell.dataset.config, [], cell.dataset.path)
    _, arrays = prepare.load(cell.dataset.path)
    inject.inject(cell.noise.config, arrays, [], cell.noise.path)
    _, noisy = inject.load(cell.noise.path, arrays.labels)

    record = experiment.run(cell)

    truth = noisy[len(arrays.train_labels) :]
    assert (truth != arrays.validation_labels).mean() == pytest.approx(0.5, abs=0.1)
    counts = np.array(record["runs"][0]["predictions"]["confusion"]).sum(1)
    assert counts.tolist() == np.bincount(truth, minlength=10).tolist()
