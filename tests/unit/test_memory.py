"""The memory of a training is estimated before it is taken."""

from dataclasses import replace

import pytest
import torch

from imcl.bench import agreement, loop, overhead
from imcl.bench.options import Agreement, Loop, Overhead
from imcl.errors import ImclError
from imcl.study import grid
from imcl.study.options import BASELINES, Dml
from imcl.training import memory, worker
from imcl.training.data import load
from imcl.training.network import Architecture, build

CPU = torch.device("cpu")

# VGG-16 of width 2 for grey images of 8 x 8 and two classes, by hand. Its stages are 2, 4, 8, 16
# and 16 channels wide; their maps have 8, 4, 2, 1 and 1 pixels a side.
CONVOLUTIONS = 9 * (1 * 2 + 2 * 2)
CONVOLUTIONS += 9 * (2 * 4 + 4 * 4)
CONVOLUTIONS += 9 * (4 * 8 + 2 * 8 * 8)
CONVOLUTIONS += 9 * (8 * 16 + 2 * 16 * 16)
CONVOLUTIONS += 9 * 3 * 16 * 16
BATCH_NORM = 2 * (2 * 2 + 2 * 4 + 3 * 8 + 3 * 16 + 3 * 16)
WEIGHTS = CONVOLUTIONS + BATCH_NORM + (16 * 2 + 2)
# What each convolution and each normalisation reads.
MAPS = 64 * (1 + 2 + 2 + 2)
MAPS += 16 * (2 + 4 + 4 + 4)
MAPS += 4 * (4 + 8 + 8 + 8 + 8 + 8)
MAPS += 1 * (8 + 16 + 16 + 16 + 16 + 16)
MAPS += 1 * (6 * 16)
SMALL = Architecture("vgg16", 2, (8, 8, 1), 2)


@pytest.mark.parametrize(
    ("images", "copies", "bytes_each", "trained"),
    [(0, 1, 4, 1), (5, 1, 4, 1), (5, 3, 2, 1), (5, 3, 4, 3)],
)
def test_a_step_needs_weights_gradients_momentum_and_maps(images, copies, bytes_each, trained):
    expected = 4 * (copies + 2 * trained) * WEIGHTS + bytes_each * trained * images * MAPS
    assert memory.of_step(SMALL, images, copies, bytes_each, trained) == expected


@pytest.mark.parametrize("backbone", ["resnet18", "vgg16"])
@pytest.mark.parametrize("width", [5, 16])
def test_the_weights_are_counted_without_building_the_network(backbone, width):
    architecture = Architecture(backbone, width, (8, 8, 3), 10)
    weights = sum(parameter.numel() for parameter in build(*architecture).parameters())
    assert memory.of_step(architecture, images=0) == pytest.approx(4 * 3 * weights, abs=12)


def test_the_published_network_has_its_published_size():
    """11,173,962 parameters, as float32 with gradients and momentum."""
    architecture = Architecture("resnet18", 64, (32, 32, 3), 10)
    assert memory.of_step(architecture, images=0) == pytest.approx(12 * 11_173_962, abs=12)


def test_maps_grow_with_the_pixels():
    small, large = (
        memory.of_step(Architecture("vgg16", 2, (side, side, 1), 2), 1) - 12 * WEIGHTS
        for side in (32, 4096)
    )
    assert large == 128**2 * small


def test_no_more_is_saved_for_the_backward_pass_than_is_there():
    """torch's own count of what it saves is above the estimate, which is the least."""
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    model = build(*SMALL)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.randn(4, 1, 8, 8))
    assert 4 * 4 * MAPS <= sum(saved.values()) <= 3 * 4 * 4 * MAPS + 4 * WEIGHTS


def test_the_random_numbers_stay_as_they_are():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    memory.of_step(SMALL, 1)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("baseline", "options", "copies", "trained"),
    [
        ("dml", {"networks": 5}, 5, 5),
        ("multihead", {"branches": [2, 3]}, 6, 1),  # of the others it trains the last stages
        ("one", {"branches": 4}, 4, 1),
        ("coteaching", {}, 2, 2),
        ("elr", {}, 1, 1),
        ("byot", {}, 1, 1),
    ],
)
def test_each_baseline_knows_how_many_networks_it_holds_and_trains(
    baseline, options, copies, trained
):
    made = BASELINES[baseline](**options)
    assert (made.copies, made.trained) == (copies, trained)


def test_a_training_that_cannot_fit_is_refused_before_it_takes_memory(micro):
    """ResNet-18 of width 8192: 183 billion weights, 2,196 GB with gradients and momentum."""
    project, settings = micro
    cell = replace(grid.find(settings, "digits-n50-resnet18-base"), width=8192)
    with pytest.raises(
        ImclError,
        match=r"^digits-n50-resnet18-base: needs about 2,19\d GB of memory, [\d.]+ are there; low",
    ):
        worker.train(project, cell)


@pytest.mark.parametrize(
    ("bench", "options"),
    [
        (overhead, Overhead(width=8192, device="cpu", threads=1)),
        (overhead, Overhead(batch_size=1_000_000, device="cpu", threads=1)),
        (loop, Loop(widths=[8192], device="cpu", threads=1)),
        (loop, Loop(widths=[2], steps=10_000, batch_size=10_000, device="cpu", threads=1)),
        (agreement, Agreement(dataset="digits", width=8192, device="cpu", threads=1)),
    ],
)
def test_a_measurement_that_cannot_fit_is_refused(micro, bench, options):
    with pytest.raises(ImclError, match=r"^bench \w+, \w+.*: needs about [\d,.]+ GB of memory"):
        bench.rows(*micro, options)


def test_padding_and_views_count(micro):
    """VGG-16 of width 2, whose weights and maps for images of 8 x 8 are counted above."""
    project, settings = micro
    cell = replace(grid.find(settings, "digits-n50-resnet18-base"), backbone="vgg16", width=2)
    data = load(project, cell)[1]
    batch = cell.training.batch_size
    padded = batch * 10 * 10  # images of 8 x 8, padded by 1
    weights = WEIGHTS + 16 * 8 + 8  # ten classes in place of two
    assert memory.of_cell(cell, data, CPU) == padded + 12 * weights + 4 * batch * MAPS
    two_views = replace(cell, views=2)
    assert memory.of_cell(two_views, data, CPU) == padded + 12 * weights + 4 * 2 * batch * MAPS
    mutual = replace(cell, baseline=("dml", Dml(networks=3)))
    assert memory.of_cell(mutual, data, CPU) == padded + 3 * (12 * weights + 4 * batch * MAPS)


@pytest.mark.parametrize(
    ("needed", "available", "said"),
    [
        (16_400_000_000, 15_600_000_000, "16.4 GB of memory, 15.6 are"),
        (2_196_000_000_000, 99_940_000_000, "2,196 GB of memory, 99.9 are"),
    ],
)
def test_sizes_that_differ_a_little_look_different(monkeypatch, needed, available, said):
    monkeypatch.setattr(memory, "there", lambda device: available)
    with pytest.raises(ImclError, match=f"^it: needs about {said} there; lower"):
        memory.check("it", needed, CPU)


def test_the_limit_of_the_process_counts(monkeypatch):
    """As `ulimit -v` sets it."""
    monkeypatch.setattr(memory.resource, "getrlimit", lambda kind: (5000, 6000))
    assert memory.there(CPU) == 5000


@pytest.mark.parametrize("text", ["1000\n", "max\n", None])
def test_the_limit_of_a_container_counts(tmp_path, monkeypatch, text):
    limit = tmp_path / "memory.max"
    if text is not None:
        limit.write_text(text)
    without = memory.there(CPU)
    monkeypatch.setattr(memory, "LIMITS", (str(limit),))
    assert memory.there(CPU) == (1000 if text == "1000\n" else without)
