"""The loop: augmentation, optimizer, schedule, and that a run repeats to the bit."""

import json
import math
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import quick
import torch
from conftest import without_cost
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from imcl import verify
from imcl.cli import main
from imcl.data import prepare
from imcl.errors import ImclError
from imcl.models import vgg16
from imcl.noise import inject
from imcl.project import Project
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.settings import Training
from imcl.training import device, evaluation, seed, worker
from imcl.training.batches import Augmentation, Batches, Normalise
from imcl.training.loop import EAGER_STEPS, Trainer
from imcl.training.network import build
from imcl.training.optimizer import SGD, learning_rate
from imcl.training.worker import RunOptions

CPU = RunOptions("cpu")


@pytest.fixture
def project(micro) -> Project:
    return micro[0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int, side: int = 6, channels: int = 3) -> torch.Tensor:
    return torch.randint(1, 256, (count, side, side, channels), generator=generator()).byte()


# augmentation -----------------------------------------------------------------------------------


def test_crop_and_flip_image_by_image():
    x, padding = images(40), 2
    offsets = torch.randint(5, (40, 2), generator=generator(1))
    flipped = torch.rand(40, generator=generator(2)) < 0.5
    found = Augmentation(padding, flip=True).apply(x, offsets, flipped)
    for i in range(40):
        padded = np.pad(x[i].numpy(), ((2, 2), (2, 2), (0, 0)))
        row, column = offsets[i].tolist()
        expected = padded[row : row + 6, column : column + 6]
        expected = expected[:, ::-1] if flipped[i] else expected
        np.testing.assert_array_equal(found[i].numpy(), expected)


def test_normalise_by_hand():
    x = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)  # one pixel, two channels
    found = Normalise(torch.tensor([0.5, 0.25]), torch.tensor([0.25, 0.5]))(x)
    torch.testing.assert_close(found.flatten(), torch.tensor([-2.0, 1.5]))
    assert Normalise(torch.zeros(3), torch.ones(3))(images(2)).is_contiguous(
        memory_format=torch.channels_last
    )


def test_a_channel_of_one_value_is_not_divided_by_zero():
    scaled = Normalise.to([0.5], [0.0], torch.device("cpu"))(images(2, channels=1))
    assert scaled.isfinite().all()


def batches(x: torch.Tensor, labels: torch.Tensor, **options: Any) -> Batches:
    channels = x.shape[3]
    # 1 / 255 leaves the pixels as they are.
    normalise = Normalise(torch.zeros(channels), torch.full((channels,), 1 / 255))
    augmentation = options.pop("augmentation", Augmentation(padding=0, flip=False))
    settings = {"batch_size": 8, "shuffling": generator(1), "views": [generator(2)], **options}
    return Batches(x, labels, normalise, augmentation, **settings)


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
        augmentation=Augmentation(padding=2, flip=True),
        batch_size=4000,
        views=[generator(2), generator(3)],
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
    training = Training(learning_rate=1.0, epochs=4, warmup_epochs=1, schedule="cosine")
    rates = [learning_rate(step, 2, training) for step in range(8)]
    falling = [0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert rates == pytest.approx([1 / 3, 2 / 3, *falling])
    one_cycle = training.model_copy(update={"schedule": "one_cycle"})
    cycle = [learning_rate(step, 2, one_cycle) for step in range(8)]
    assert cycle == pytest.approx([0.04, 0.52, *falling])
    assert learning_rate(0, 2, training.model_copy(update={"warmup_epochs": 0})) == 1.0


# a cell -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits-n50-resnet18-all", "digits-clean-vgg16-base"])
def test_two_runs_are_the_same_to_the_bit(project, name):
    cell = quick.cell(project, name)
    first = worker.train(project, cell, CPU)
    weights = [quick.weights(project, cell, seed).read_bytes() for seed in (1, 2)]
    stored = project.record(cell.key).read_bytes()
    quick.forget(project, cell)
    second = worker.train(project, cell, CPU)
    assert without_cost(first) == without_cost(second)
    assert [quick.weights(project, cell, seed).read_bytes() for seed in (1, 2)] == weights
    assert weights[0] != weights[1]
    assert json.loads(stored)["runs"] == second["runs"]


def test_a_record_holds_what_a_reader_needs(project):
    cell = quick.cell(project, "digits-n50-resnet18-base")
    record = json.loads(json.dumps(worker.train(project, cell, CPU)))
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


def test_a_run_is_written_for_tensorboard_if_it_is_asked_for(project, tmp_path, monkeypatch):
    monkeypatch.setenv("IMCL_TENSORBOARD", str(tmp_path / "board"))
    cell = quick.cell(project, "digits-clean-resnet18-base")
    worker.train(project, cell, CPU)
    written = {path.parent.name for path in (tmp_path / "board").glob("*/events.*")}
    assert written == {run.run_key for run in cell.runs}


def test_stored_weights_give_the_recorded_accuracy(project):
    cell = quick.cell(project, "digits-clean-resnet18-base")
    record = worker.train(project, cell, CPU)
    described, arrays = prepare.load(project, cell.dataset)
    model = build("resnet18", 4, described["shape"], 10)
    model.load_state_dict(torch.load(quick.weights(project, cell, 2), weights_only=True))
    model.to(memory_format=torch.channels_last)
    normalise = Normalise.to(described["mean"], described["std"], torch.device("cpu"))
    images = torch.from_numpy(arrays.test_images)
    logits = evaluation.predict(model, images, normalise, "float32")
    found = evaluation.metrics(logits, torch.from_numpy(arrays.test_labels))
    assert found["accuracy"] == record["runs"][1]["final"]["accuracy"]
    assert found["nll"] == pytest.approx(record["runs"][1]["final"]["nll"])


def test_seeds_pair_across_methods(project, monkeypatch):
    starts: list[tuple[torch.Tensor, ...]] = []

    def record_start(collaboration, data, *_):
        weights = torch.cat([p.detach().flatten() for p in collaboration.model.parameters()])
        seen = [(views[0], labels) for _ in range(2) for views, labels, _ in data.epoch()]
        first_views, labels = (torch.cat(tensors) for tensors in zip(*seen, strict=True))
        starts.append((weights, first_views, labels))
        raise ImclError("seen enough")

    monkeypatch.setattr(seed, "fit", record_start)
    for method in ("base", "all"):
        with pytest.raises(ImclError, match="seen enough"):
            worker.train(project, quick.cell(project, f"digits-clean-resnet18-{method}"), CPU)
    for a, b in zip(*starts, strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_not_finite_stops_with_step_terms_and_advice(project):
    cell = quick.cell(project, "digits-clean-vgg16-kernel", training={"learning_rate": 1e9})
    with pytest.raises(ImclError) as error:
        worker.train(project, cell, CPU)
    message = str(error.value)
    assert "digits-clean-vgg16-kernel, seed 1: the loss is not finite at epoch 1, step " in message
    assert "cross_entropy" in message
    assert "Lower training.learning_rate (now 1e+09)" in message
    assert not project.record(cell.key).exists()
    assert not list(project.results.rglob("*.pt"))


def test_weights_that_the_last_update_broke_are_no_record(project):
    # One step, whose loss is still finite.
    settings = {"learning_rate": 1e9, "batch_size": 320, "epochs": 1, "warmup_epochs": 0}
    cell = quick.cell(project, "digits-clean-resnet18-base", training=settings)
    with pytest.raises(ImclError, match=r"the trained network's \w+ is nan.*learning_rate"):
        worker.train(project, cell, CPU)
    assert not project.record(cell.key).exists()


def test_missing_data_names_the_command(project):
    cell = quick.cell(project, "digits-clean-resnet18-base")
    project.dataset(cell.dataset.key).unlink()
    with pytest.raises(ImclError, match="run `imcl prepare digits`"):
        worker.train(project, cell, CPU)


def test_evaluation_at_intervals_always_includes_the_last_epoch(project):
    training = {"epochs": 3, "evaluations": 2}
    cell = quick.cell(project, "digits-clean-resnet18-base", training=training, seeds=[1])
    history = worker.train(project, cell, CPU)["runs"][0]["history"]
    assert [entry["epoch"] for entry in history if "evaluation" in entry] == [2, 3]


def test_fit_lowers_the_loss_under_bf16(project):
    training = {"precision": "bf16", "epochs": 3}
    cell = quick.cell(project, "digits-clean-resnet18-all", training=training, seeds=[1])
    record = worker.train(project, cell, CPU)
    losses = [entry["terms"]["cross_entropy"] for entry in record["runs"][0]["history"]]
    assert losses[-1] < losses[0]


# the fast paths ---------------------------------------------------------------------------------


def assert_same_losses(mine, theirs, relative: float) -> None:
    losses = [[entry["loss"] for entry in run["history"]] for run in (mine, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=relative)


def test_the_compiler_is_refused_below_a_path_with_a_space(project, monkeypatch):
    monkeypatch.setattr(torch, "__file__", "/a b/torch/__init__.py")
    cell = quick.cell(project, "digits-n50-vgg16-kernel")
    with pytest.raises(ImclError, match=r"--compile: .*path with a space \(/a b/torch\); move"):
        worker.train(project, cell, RunOptions("cpu", compiled=True))


@pytest.mark.skipif(
    device.cannot_compile(), reason="torch's compiler cannot work below a path with a space"
)
def test_compiled_stages_give_the_numbers_of_eager_ones(project, monkeypatch):
    from torch._dynamo.utils import counters

    # One short stage, since compiling takes seconds for each.
    monkeypatch.setattr(vgg16, "CONVOLUTIONS", (1,))
    monkeypatch.setattr(vgg16, "MULTIPLES", (1,))
    cell = quick.cell(project, "digits-n50-vgg16-kernel", training={"batch_size": 160})
    eager = worker.train(project, cell, CPU)
    compiled = worker.train(project, cell, RunOptions("cpu", compiled=True, again=True))
    assert compiled["environment"]["compiled"]
    assert counters["stats"]["unique_graphs"] > 0
    for mine, theirs in zip(compiled["runs"], eager["runs"], strict=True):
        assert_same_losses(mine, theirs, relative=1e-3)
        assert mine["final"]["nll"] == pytest.approx(theirs["final"]["nll"], rel=1e-2)
    counters.clear()
    worker.train(project, cell, RunOptions("cpu", compiled=True, again=True))
    assert counters["stats"]["unique_graphs"] == 0  # the next network takes the same code


def test_held_out_images_are_evaluated_with_labels_as_noisy_as_the_others(project):
    held_out = {"validation_share": 0.25, "validation_seed": 0}
    file = {"datasets": {"digits": held_out}}
    cell = quick.cell(project, "digits-n50-resnet18-base", file=file, seeds=[1])
    assert cell.noise
    prepare.prepare(project, cell.dataset)
    inject.inject(project, cell.noise)
    _, arrays = prepare.load(project, cell.dataset)
    _, noisy = inject.load(project, cell.noise, arrays.labels)

    record = worker.train(project, cell, CPU)

    truth = noisy[len(arrays.train_labels) :]
    assert (truth != arrays.validation_labels).mean() == pytest.approx(0.5, abs=0.1)
    (run,) = record["runs"]
    counts = np.array(run["predictions"]["confusion"]).sum(1)
    assert counts.tolist() == np.bincount(truth, minlength=10).tolist()
    # The accuracy on the true labels is told besides, and only there.
    described, _ = prepare.load(project, cell.dataset)
    model = build("resnet18", cell.width, described["shape"], 10)
    model.load_state_dict(torch.load(quick.weights(project, cell, 1)))
    images = torch.from_numpy(np.asarray(arrays.validation_images)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(described[key]).view(-1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        predicted = model.eval()((images - mean) / std).argmax(1).numpy()
    assert run["final"]["accuracy"] == (predicted == truth).mean()
    assert run["final"]["true_accuracy"] == (predicted == arrays.validation_labels).mean()


# data drawn for each run --------------------------------------------------------------------------

SHORT = {"epochs": 1, "warmup_epochs": 0}


def made_by_commands(project: Project, *commands: list[str]) -> None:
    """Make data as a user does."""
    for command in commands:
        assert main([*command, "--project", str(project.root)]) == 0


def labels_of(project: Project, data: grid.Data) -> np.ndarray:
    _, arrays = prepare.load(project, data.dataset)
    assert data.noise
    return inject.load(project, data.noise, arrays.labels)[1]


@pytest.fixture
def trained(monkeypatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """The images and labels of each training, in their order."""
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def recorded(images, labels, *rest, **options):
        seen.append((images.numpy().copy(), labels.numpy().copy()))
        return Batches(images, labels, *rest, **options)

    monkeypatch.setattr(seed, "Batches", recorded)
    return seen


def test_each_run_trains_on_labels_of_its_own_the_same_for_each_method(project, trained):
    file = {"noise": {"n50": {"noise_seed": "per_run"}}}
    cells = [
        quick.cell(project, f"digits-n50-resnet18-{method}", file=file, training=SHORT)
        for method in ("base", "kernel")
    ]
    cell = cells[0]
    with pytest.raises(ImclError, match="run `imcl noise digits n50 --seed 1` first"):
        worker.train(project, cell, CPU)
    made_by_commands(project, ["noise", "digits", "n50"])
    first, second = (labels_of(project, cell.data(seed)) for seed in (1, 2))
    assert 0.3 < (first != second).mean() < 0.95  # half of each differ from the true ones

    records = [worker.train(project, cell, CPU) for cell in cells]
    for (_, labels), drawn in zip(trained, (first, second, first, second), strict=True):
        np.testing.assert_array_equal(labels, drawn)

    record = json.loads(json.dumps(records[0]))
    assert "noise" not in record
    assert record["dataset"]["n_train"] == len(first)
    for number, run in enumerate(record["runs"], start=1):
        noise = cells[0].data(number).noise
        file = project.noise(cells[0].dataset.key, noise.key)
        described = json.loads(file.read_text())
        assert run["noise"]["sha256"] == described["sha256"]
        assert run["noise"]["realised_rate"] == described["realised_rate"]
        assert run["noise"]["transition_matrix"] == described["transition_matrix"]
        assert "dataset" not in run
        assert described["config"]["noise_seed"] == number
    assert [r["noise"] for r in records[0]["runs"]] == [r["noise"] for r in records[1]["runs"]]
    store = Store(project)
    assert [store.faults(each, store.path(each)) for each in cells] == [[], []]

    # If one run's labels change, the record is of other labels.
    one = project.noise(cell.dataset.key, cell.data(2).noise.key)
    description = json.loads(one.read_text())
    one.write_text(json.dumps({**description, "sha256": "0" * 64}))
    assert store.faults(cell, store.path(cell)) == [f"noise is not that of {one}"]


def test_each_run_trains_on_a_subset_of_its_own(project, trained):
    part = {"train_size": 100, "subset_seed": "per_run"}
    cell = quick.cell(
        project, "digits-n50-resnet18-base", file={"datasets": {"digits": part}}, training=SHORT
    )
    with pytest.raises(ImclError, match="run `imcl prepare digits --seed 1` first"):
        worker.train(project, cell, CPU)
    made_by_commands(
        project,
        ["prepare", "digits"],
        ["noise", "digits", "n50", "--seed", "1"],
        ["noise", "digits", "n50", "--seed", "2"],
    )
    subsets = [prepare.load(project, cell.data(s).dataset)[1] for s in (1, 2)]
    assert not np.array_equal(*(subset.train_indices for subset in subsets))

    made_by_commands(project, ["train", cell.name, "--study", "quick", "--device", "cpu"])

    record = Store(project).read(cell, project.record(cell.key))
    for (images, _), subset in zip(trained, subsets, strict=True):
        np.testing.assert_array_equal(images, subset.train_images)
    assert "dataset" not in record
    assert "noise" not in record
    for run in record["runs"]:
        dataset, noise = cell.data(run["seed"])
        described = json.loads(project.dataset(dataset.key).read_text())
        assert run["dataset"]["sha256"] == described["sha256"]
        assert (run["dataset"]["n_train"], run["dataset"]["n_test"]) == (100, 360)
        drawn = json.loads(project.noise(dataset.key, noise.key).read_text())
        assert run["noise"]["sha256"] == drawn["sha256"]
    assert len({run["dataset"]["sha256"] for run in record["runs"]}) == 2
    store = Store(project)
    assert store.faults(cell, store.path(cell)) == []
    assert verify.retrain(project, cell, store.path(cell)) == ("bit for bit", None)


class Recorded:
    """Stands in for a CUDA graph: what is captured is undone, and replayed operation by operation.

    As in a graph, a number that Python computes while capturing stays what it was, and each result
    stays where it was.
    """

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.streams: list[torch.Generator] = []

    def register_generator_state(self, stream: torch.Generator) -> None:
        self.streams.append(stream)

    @contextmanager
    def capturing(self):
        states = [stream.get_state() for stream in self.streams]
        with Recorder(self):
            yield
        for tensor, value in self.before.values():
            tensor.detach().copy_(value)
        for stream, state in zip(self.streams, states, strict=True):
            stream.set_state(state)

    def replay(self) -> None:
        with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
            self._replay()

    def _replay(self) -> None:
        for operation, arguments, options, results in self.operations:
            again = operation(*arguments, **options)
            for old, new in zip(tensors(results), tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Recorder(TorchDispatchMode):
    def __init__(self, into: Recorded):
        super().__init__()
        self.into = into

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        options = options or {}
        for given, stated in zip(arguments, operation._schema.arguments, strict=False):
            if stated.alias_info and stated.alias_info.is_write:
                for tensor in tensors(given):
                    self.into.before.setdefault(tensor.data_ptr(), (tensor, tensor.clone()))
        results = operation(*arguments, **options)
        self.into.operations.append((operation, arguments, options, results))
        return results


def tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize("method", ["base", "all", "elr", "coteaching", "gjs"])
def test_a_replayed_step_is_the_next_one(project, method, monkeypatch):
    """It has the images, augmentation, learning rate and ramp-up that an eager step would have."""
    cell = quick.cell(
        project,
        f"digits-n50-resnet18-{method}",
        training={"epochs": 2, "batch_size": 40, "warmup_epochs": 1, "learning_rate": 0.05},
        file={"ways": {"output": {"ramp_up_steps": 15, "variant": "dropout"}}},
        seeds=[1],
    )
    eager = worker.train(project, cell, CPU)
    quick.forget(project, cell)
    replays = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "graph", Recorded.capturing)
    made = Trainer.__init__

    def like_on_a_gpu(self: Trainer, *arguments: Any) -> None:
        made(self, *arguments)
        self._eager_steps = EAGER_STEPS

    monkeypatch.setattr(Trainer, "__init__", like_on_a_gpu)
    monkeypatch.setattr(Recorded, "replay", counted(Recorded.replay, replays))
    replayed = worker.train(project, cell, CPU)
    assert len(replays) == 2 * (replayed["dataset"]["n_train"] // 40) - EAGER_STEPS
    for mine, theirs in zip(replayed["runs"], eager["runs"], strict=True):
        assert_same_losses(mine, theirs, relative=1e-3)  # scalars are in float32, not float64


def counted(method, calls):
    def noted(self):
        calls.append(self)
        method(self)

    return noted
