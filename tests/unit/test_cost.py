"""What a seed costs: by hand, against torch's own count, and against the committed records."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from handmade import ROOT, parameters
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from imcl.bench import overhead
from imcl.data import imagenet32, stl10
from imcl.data.digits import read
from imcl.records.record import environment_of
from imcl.study import cost, grid
from imcl.study.backbones import BACKBONES, Conv
from imcl.study.grid import Cell
from imcl.study.load import checked, load
from imcl.study.options import BASELINES
from imcl.study.settings import Settings
from imcl.study.sources import SOURCES, Counts
from imcl.training.network import Architecture, build

SETTINGS = load(ROOT / "params.yaml")
STUDIES = list(SETTINGS.studies)


def cells(study: str, **changes: object) -> list[Cell]:
    """The cells of a study whose entry in params.yaml is changed."""
    raw = parameters()
    raw["studies"][study] |= changes
    return grid.cells(checked(raw, Path("params.yaml")), study)


def of_first(study: str, **changes: object) -> cost.Cost:
    found = cost.of_seed(cells(study, **changes)[0])
    assert found is not None
    return found


def settings(**dataset: object) -> Settings:
    """Those of a study of one dataset, which has these options."""
    raw = parameters()
    raw["datasets"]["mine"] = {"padding": 0, "flip": False, **dataset}
    raw["studies"]["quick"]["datasets"] = ["mine"]
    return checked(raw, Path("params.yaml"))


# multiply-adds -----------------------------------------------------------------------------------


def test_a_convolution_by_hand():
    """3 x 3, 3 to 64 channels: 27 x 64 weights, each used at 32 x 32 positions."""
    first = Conv(inputs=3, outputs=64, kernel=3, before=32, side=32)
    assert (first.weights, first.macs) == (1_728, 1_769_472)


def test_vgg_of_width_2_by_hand():
    """On 8 x 8 pixels of one channel, with 10 classes."""
    sides = [8, 8, 4, 4, 2, 2, 2, 1, 1, 1, 1, 1, 1]
    widths = [1, 2, 2, 4, 4, 8, 8, 8, 16, 16, 16, 16, 16, 16]
    each = [9 * a * b * side**2 for (a, b), side in zip(pairwise(widths), sides, strict=True)]
    network = cost.of_network("vgg16", 2, 8, 1, 10)
    assert network.macs == sum(each) + 16 * 10
    assert cost.of_image(network) == 3 * network.macs - each[0]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize(("width", "side", "channels"), [(2, 8, 1), (5, 33, 3), (8, 96, 3)])
def test_a_backbone_is_its_module(name, width, side, channels):
    """In multiply-adds of both passes, in weights, and in the maps that the backward pass reads."""
    network = cost.of_network(name, width, side, channels, 10)
    model = build(*Architecture(name, width, (side, side, channels), 10)).train()
    maps = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0].numel()))
    images = torch.rand(2, channels, side, side)
    with FlopCounterMode(display=False) as forward:
        logits = model(images)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    both = forward.get_total_flops() + backward.get_total_flops()
    assert forward.get_total_flops() / 2 == 2 * network.macs
    assert both / 2 == 2 * cost.of_image(network)
    assert sum(maps) == 2 * network.maps
    assert sum(p.numel() for p in model.parameters()) == network.weights
    assert [stage.channels for stage in network.stages] == model.channels


@pytest.mark.parametrize("baseline", BASELINES)
def test_what_a_baseline_adds(baseline):
    """Against a step of it; what the classifiers and gates take is too little to count."""
    method = overhead.methods(SETTINGS)[baseline]
    for backbone in BACKBONES:
        architecture = Architecture(backbone, 8, (16, 16, 3), overhead.CLASSES)
        step = overhead.Step(architecture, method, SETTINGS.training, 2, torch.device("cpu"))
        with FlopCounterMode(display=False) as counter:
            step()
        network = cost.of_network(backbone, 8, 16, 3, overhead.CLASSES)
        extra = SETTINGS.baseline(baseline).extra(network.stages)
        macs = counter.get_total_flops() / 2 / (2 * method.views)  # of an image in one view
        assert cost.of_image(network, extra) == pytest.approx(macs, rel=0.03)


def test_a_seed_by_hand():
    """1,437 images make 22 batches of 64; 7 evaluations of 360 images, and two at the end."""
    seed = of_first("quick", training={"epochs": 14, "batch_size": 64, "evaluations": 7})
    network = cost.of_network("resnet18", 8, 8, 1, 10)
    assert seed.steps == 14 * 22
    assert seed.trained == 14 * 22 * 64
    assert seed.training == 14 * 22 * 64 * cost.of_image(network)
    assert seed.evaluated == 360 * (7 + 2)
    assert seed.macs == seed.training + 360 * 9 * network.macs
    assert seed.seconds(1e9, 0.5) == seed.macs / 1e9 + 0.5 * 14 * 22
    assert seed.image_bytes == 1_797 * 64


def test_views_count_as_images():
    base, control = (of_first("quick", methods=[method]) for method in ("base", "control"))
    assert (control.trained, control.steps) == (2 * base.trained, base.steps)


def test_a_batch_is_not_larger_than_the_dataset():
    assert (
        of_first("quick", training={"epochs": 3, "batch_size": 5000, "warmup_epochs": 0}).trained
        == 3 * 1437
    )


# sizes of datasets -------------------------------------------------------------------------------


def test_the_sizes_are_those_of_the_sources():
    arrays = read(SETTINGS.datasets["digits"], [], Path())
    digits, imagenet, stl = (SOURCES[name].size for name in ("digits", "imagenet32", "stl10"))
    assert digits is not None and imagenet is not None and stl is not None
    assert digits[:5] == (
        len(arrays.train_labels),
        len(arrays.test_labels),
        *arrays.train_images.shape[2:],
        len(arrays.class_names),
    )
    assert {"train": imagenet.train, "test": imagenet.test} == imagenet32.COUNTS
    assert imagenet.classes == imagenet32.CLASSES
    assert stl.side == stl10.SIDE


@pytest.mark.parametrize(
    ("options", "train", "evaluated"),
    [
        ({}, 50_000, 10_000),
        ({"train_size": 5000, "subset_seed": 0}, 5000, 10_000),
        ({"validation_share": 0.1, "validation_seed": 0}, 45_000, 5000),
        ({"validation_share": 0.999999, "validation_seed": 0}, 1, 50_000),  # `prepare` refuses
        (
            {
                "validation_share": 0.1,
                "validation_seed": 0,
                "train_size": 99,
                "subset_seed": "per_run",
            },
            89,
            10,
        ),
        ({"source": "stl10", "fold": 3}, 1000, 8000),
    ],
)
def test_the_images_of_a_part_of_a_dataset(options, train, evaluated):
    (dataset,) = grid.datasets(settings(**{"source": "cifar10", **options}), ["mine"]).values()
    found = cost.of_dataset(dataset)
    assert found is not None
    assert (found.train, found.evaluated) == (train, evaluated)


class Pictures:
    """What a folder holds, as a manifest would tell it."""

    def __init__(self, counts: Counts | None):
        self.found = counts

    def pictures(self, folder: str) -> str | None:
        return "ab" * 6 if self.found else None

    def counts(self, folder: str) -> Counts | None:
        return self.found

    def archives(self, archives: object) -> None:
        return None


def own(counts: Counts | None) -> Cell:
    loaded = settings(source="folder", path="pictures", side=48)
    return grid.cells(loaded.knowing(Pictures(counts)))[0]


def test_your_pictures_are_counted():
    found = cost.of_dataset(own(Counts(300, 20, 4)).dataset)
    assert found == cost.Images(300, 20, side=48, channels=3, classes=4)


def test_without_your_pictures_the_cost_is_unknown():
    cell = own(None)
    assert cost.of_seed(cell) is None
    assert not cost.one_job(cell)
    assert cost.memory_mb(cell) == cost.UNKNOWN_MB
    assert cost.runtime_minutes(cell) == cost.UNKNOWN_MINUTES


# jobs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("study", "short"), [("quick", True), ("every", True), ("cpu", False)])
def test_short_seeds_share_a_job(study, short):
    assert {cost.one_job(cell) for cell in cells(study)} == {short}


def test_the_limit_of_a_short_seed(monkeypatch):
    cell = cells("quick")[0]
    seconds = of_first("quick").seconds(cost.CORE_RATE, cost.STEP_SECONDS)
    assert cost.START_SECONDS / cost.SHORT_SECONDS < 0.03
    for limit in (0.99 * seconds, 1.01 * seconds):
        monkeypatch.setattr(cost, "SHORT_SECONDS", limit)
        assert cost.one_job(cell) == (seconds < limit)


def test_the_seeds_of_a_cell_do_not_decide_its_jobs():
    few, many = (cells("quick", seeds=list(range(count)))[0] for count in (1, 100))
    assert cost.one_job(few) and cost.one_job(many)
    assert cost.memory_mb(few) == cost.memory_mb(many)
    assert cost.runtime_minutes(few, gpu=False) < cost.runtime_minutes(many, gpu=False)


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("study", ["quick", "cpu", "gpu"])
def test_each_attempt_asks_for_more(study, gpu):
    cell = cells(study)[0]
    memory = [cost.memory_mb(cell, attempt, gpu) for attempt in (1, 2, 3)]
    minutes = [cost.runtime_minutes(cell, attempt, gpu) for attempt in (1, 2, 3)]
    assert memory[1] == pytest.approx(1.5 * memory[0], abs=1)
    assert memory == sorted(memory)
    assert minutes == [minutes[0], 2 * minutes[0], 3 * minutes[0]]
    assert minutes[0] > 30


def committed() -> list[tuple[Cell, dict]]:
    """The committed records whose cell is in params.yaml."""
    found = []
    for study in STUDIES:
        for cell in grid.cells(SETTINGS, study):
            path = ROOT / f"paper/results/{study}/records/{cell.key}.json"
            if path.exists():
                found.append((cell, json.loads(path.read_text())))
    return found


def test_jobs_ask_for_more_than_the_recorded_ones_took():
    """But on a CPU not for ten times as much memory."""
    records = committed()
    paths = [p for study in STUDIES for p in ROOT.glob(f"paper/results/{study}/records/*.json")]
    assert len(records) == len(paths) > 0
    for cell, record in records:
        on_gpu = {environment_of(record, run)["device"] == "cuda" for run in record["runs"]}
        peak = max(run["peak_memory_bytes"] for run in record["cost"])
        seconds = [run["training_seconds"] + run["evaluation_seconds"] for run in record["cost"]]
        if on_gpu == {False}:
            assert peak / 1e6 < cost.memory_mb(cell, gpu=False) < 10 * peak / 1e6
        job = sum(seconds) if cost.one_job(cell) else max(seconds)
        assert job / 60 < cost.runtime_minutes(cell, gpu=on_gpu == {True})


def test_what_is_written_is_about_as_large_as_estimated():
    for cell, record in committed():
        seed = cost.of_seed(cell)
        assert seed is not None
        assert seed.weights_bytes == 4 * record["runs"][0]["parameters"]
        written = len(json.dumps(record, indent=1))
        assert 0.4 < len(cell.seeds) * seed.record_bytes / written < 2.5
