"""Networks of torchvision and timm: in params.yaml, in a training, and in use."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import yaml
from conftest import without_cost
from PIL import Image
from torch import nn

from imcl.analysis import summary
from imcl.bench import rate
from imcl.bench.budget import bill
from imcl.cli import main
from imcl.data import listing, prepare
from imcl.data.contents import settings_of
from imcl.errors import ImclError, UsageError
from imcl.files import sha256
from imcl.models.foreign import Blueprint
from imcl.present.inputs import settings as settings_table
from imcl.project import Project
from imcl.study import cost, foreign, grid
from imcl.study.backbones import ForeignOptions
from imcl.study.grid import Cell, Foreign
from imcl.study.options import BASELINES
from imcl.study.settings import Settings
from imcl.training import evaluation, worker
from imcl.training.batches import Augmentation, Batches, Normalise
from imcl.training.checkpoint import Checkpoints
from imcl.training.network import Architecture, Method, assemble
from imcl.training.optimizer import SGD
from imcl.training.worker import RunOptions

CPU = RunOptions("cpu")
MOBILE = {"source": "torchvision", "name": "mobilenet_v3_small"}  # has dropout
CELL = "mine-clean-mobile-all"
CLASSES = ("dark", "light")
PARAMS: dict[str, Any] = {
    "study": "own",
    "studies": {
        "own": {
            "datasets": ["mine"],
            "noise": ["clean"],
            "backbones": ["mobile"],
            "methods": ["base", "all"],
            "seeds": [1],
            "training": {"epochs": 2, "batch_size": 4, "warmup_epochs": 0, "evaluations": 1},
        }
    },
    "datasets": {
        "mine": {"source": "folder", "path": "pictures", "side": 32, "padding": 2, "flip": True}
    },
    "backbones": {"mobile": MOBILE},
}


def options(name: str, source: str = "torchvision", weights: str | None = None) -> ForeignOptions:
    given = {"source": source, "name": name} | ({"weights": weights} if weights else {})
    return ForeignOptions.model_validate(given)


def settings(project: Project, **changes: object) -> Settings:
    """Those of params.yaml after changes by dotted key, written with __."""
    raw = json.loads(json.dumps(PARAMS))
    for key, value in changes.items():
        *path, last = key.split("__")
        entry = raw
        for name in path:
            entry = entry.setdefault(name, {})
        entry[last] = value
    project.params.write_text(yaml.safe_dump(raw, sort_keys=False))
    return settings_of(project)


def cell(project: Project, name: str = CELL, **changes: object) -> Cell:
    return grid.find(settings(project, **changes), name)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder with pictures, prepared for training."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3), ("new", 2)):
        for level, name in enumerate(CLASSES):
            (root / "pictures" / split / name).mkdir(parents=True)
            for index in range(count):
                noise = random.integers(60, size=(40, 36, 3)) + 150 * level
                image = Image.fromarray(noise.astype(np.uint8))
                image.save(root / "pictures" / split / name / f"{index}.png")
    project = Project(root)
    prepare.prepare(project, cell(project).dataset)
    return root


@pytest.fixture(scope="module")
def trained(pictures) -> Project:
    """A project with one trained cell."""
    project = Project(pictures)
    worker.train(project, cell(project), CPU)
    return project


@pytest.fixture
def project(pictures, tmp_path) -> Project:
    """A project with the same prepared pictures, and nothing else."""
    for name in ("pictures", "data"):
        (tmp_path / name).symlink_to(pictures / name)
    return Project(tmp_path)


# params.yaml ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"backbones__vgg16": MOBILE},
            "backbones.vgg16: 'vgg16' always means the network of this package; choose another "
            "name",
        ),
        (
            {"studies__own__methods": ["base", "elr", "cskd+kernel"]},
            "studies.own.methods: cskd+kernel: cskd takes a backbone of this package apart "
            "(resnet18, vgg16), not mobile; give them blocks of their own",
        ),
        (
            {
                "studies__own__datasets": ["digits"],
                "datasets__digits": {"source": "digits", "padding": 1, "flip": False},
            },
            "studies.own.datasets: digits: its images have 1 channel, but mobile reads 3; take "
            "another dataset or backbone",
        ),
        (
            {"studies__own__backbones": ["mobile", "resnet18"]},
            "studies.own: missing: width",
        ),
        (
            {"studies__own__backbones": ["mobil"]},
            "studies.own.backbones[0]: unknown backbone 'mobil'; did you mean 'mobile'?",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, changes, message):
    project = Project(tmp_path)
    with pytest.raises(UsageError) as caught:
        settings(project, **changes)
    assert str(caught.value) == f"{project.params}: {message}"


def test_a_digest_depends_on_the_weights_not_on_their_place_or_a_width(tmp_path):
    project = Project(tmp_path)
    for name, content in (("a.pth", b"one"), ("b.pth", b"one"), ("c.pth", b"two")):
        (tmp_path / name).write_bytes(content)

    def digest(weights: str, **changes: object) -> str:
        found = {"backbones__mobile": {**MOBILE, "weights": weights}, **changes}
        return cell(project, **found).digest

    assert digest("a.pth") == digest("b.pth") == digest("a.pth", studies__own__width=64)
    assert len({cell(project).digest, digest("a.pth"), digest("c.pth")}) == 3
    (tmp_path / "a.pth").unlink()
    assert digest("a.pth") == digest("b.pth")  # the manifest remembers it
    assert listing.contents(project, settings_of(project)) == {
        "backbones.mobile": sha256(tmp_path / "b.pth")
    }
    absent = cell(project, backbones__mobile={**MOBILE, "weights": "d.pth"}).foreign
    assert absent is not None
    assert absent.lacks == "its pretrained weights are not here: bring d.pth"


# cost -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18"])
def test_the_cost_is_what_torchvision_publishes(name):
    told = torchvision.models.get_model_weights(name).DEFAULT.meta
    found = foreign.measured(options(name), 224, 1000)
    assert found.weights == told["num_params"]
    assert found.macs / 1e9 == pytest.approx(told["_ops"], abs=6e-4)


def test_the_maps_are_what_the_backward_pass_reads():
    """By hand, of AlexNet for 64 x 64 pixels: what convolutions, pools and linear layers read.

    ReLU works in place on the convolutions' outputs, and pooling also keeps where its maxima were.
    """
    read = 3 * 64**2 + 64 * 15**2 + 64 * 7**2 + 192 * 7**2 + 192 * 3**2
    read += 384 * 3**2 + 256 * 3**2 + 256 * 3**2 + 256
    pools = 64 * 7**2 + 192 * 3**2 + 256
    linear = 256 * 36 + 4096 + 4096
    dropouts = 256 * 36 + 4096 + 4096  # two masks, and what the second one reads
    assert foreign.measured(options("alexnet"), 64, 10).maps == read + pools + linear + dropouts


def test_the_cost_of_a_cell_and_of_one_that_cannot_be_built(project, monkeypatch):
    known = cost.of_seed(cell(project))
    assert known is not None
    macs = foreign.measured(options("mobilenet_v3_small"), 32, 2).macs
    assert known.training == 2 * 3 * 4 * 2 * 3 * macs  # epochs, steps, batch, views, passes
    unknown = cell(project, backbones__mobile={"source": "torchvision", "name": "mobilenet_v9"})
    assert cost.of_seed(unknown) is None
    with pytest.raises(ImclError, match="mine: mobile cannot be built here"):
        bill(project, settings_of(project), rate=1.0)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImclError, match=r"timm is not installed.*`pip install timm`"):
        foreign.create(options("resnet10t", "timm"), 32, 2)


# pretrained weights -----------------------------------------------------------------------------


def saved(path: Path, content: object) -> Foreign:
    torch.save(content, path)
    return known(path)


def known(path: Path, name: str = "mobilenet_v3_small") -> Foreign:
    return Foreign("mobile", options(name, weights=path.name), sha256(path))


@pytest.fixture(scope="module")
def state() -> Mapping[str, torch.Tensor]:
    torch.manual_seed(3)
    return torchvision.models.mobilenet_v3_small(num_classes=7).state_dict()


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}])
def test_weights_are_taken_but_for_a_head_of_other_classes(tmp_path, state, wrap):
    blueprint = Blueprint.read(saved(tmp_path / "a.pth", wrap(state)), tmp_path)
    torch.manual_seed(1)
    made = blueprint.build(32, 7).state_dict()
    assert all(torch.equal(made[name], state[name]) for name in state)
    torch.manual_seed(1)
    other = blueprint.build(32, 2).state_dict()
    torch.manual_seed(1)
    fresh = torchvision.models.mobilenet_v3_small(num_classes=2).state_dict()
    head = {"classifier.3.weight", "classifier.3.bias"}
    assert {name for name in state if not torch.equal(other[name], fresh[name])} >= {
        name for name in state if name.endswith("0.weight")
    }
    for name in state:
        assert torch.equal(other[name], (fresh if name in head else state)[name])


def test_the_weights_of_auxiliary_heads_are_left_out(tmp_path):
    state = torchvision.models.googlenet(num_classes=3, init_weights=False).state_dict()
    torch.save(state, tmp_path / "a.pth")
    found = Blueprint.read(known(tmp_path / "a.pth", "googlenet"), tmp_path).build(64, 3)
    assert torch.equal(found.get_parameter("fc.weight"), state["fc.weight"])
    assert found.train()(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("features.0.0.weight"), "missing: features.0.0.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown: extra"),
        (
            lambda s: s.update({"classifier.0.bias": torch.zeros(5)}),
            "of another shape: classifier.0.bias",
        ),
        (  # as many rows as there are classes, but in the file another number than the head has
            lambda s: s.update({"features.0.0.weight": torch.zeros(5, 3, 3, 3)}),
            "of another shape: classifier.3.bias, classifier.3.weight, features.0.0.weight",
        ),
    ],
)
def test_weights_of_another_network_are_named(tmp_path, state, damage, message):
    changed = dict(state)
    damage(changed)
    blueprint = Blueprint.read(saved(tmp_path / "a.pth", changed), tmp_path)
    with pytest.raises(ImclError) as caught:
        blueprint.build(32, 16)
    assert str(caught.value) == (
        f"{tmp_path / 'a.pth'}: these are not the weights of torchvision's mobilenet_v3_small; "
        f"{message}"
    )


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("no weights"),
        lambda path: torch.save(nn.Linear(2, 2), path),
        lambda path: torch.save({"epoch": 3}, path),
        lambda path: torch.save([1], path),
    ],
)
def test_a_file_that_holds_no_weights_is_one_sentence(tmp_path, write: Callable[[Path], object]):
    path = tmp_path / "a.pth"
    write(path)
    with pytest.raises(ImclError, match=r"^\S+a.pth: holds no weights alone; write them with"):
        Blueprint.read(known(path), tmp_path)


def test_weights_that_are_gone_or_have_changed_are_told(tmp_path, state):
    network = saved(tmp_path / "a.pth", state)
    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(ImclError, match=r"a.pth: has changed since"):
        Blueprint.read(network, tmp_path)
    (tmp_path / "a.pth").unlink()
    with pytest.raises(ImclError, match=r"a.pth: no such file; .*backbones.mobile.weights"):
        Blueprint.read(network, tmp_path)


@pytest.mark.parametrize(
    ("source", "name", "side", "message"),
    [
        ("torchvision", "resnet81", 32, "torchvision: unknown network 'resnet81'; did you mean"),
        ("torchvision", "alexnet", 32, "alexnet does not take images of 32 x 32 pixels ("),
        ("torchvision", "vit_b_16", 40, "cannot build vit_b_16 for images of 40 x 40 pixels: "),
        ("timm", "resnet_18", 32, "timm: unknown network 'resnet_18'; did you mean 'resnet18'?"),
    ],
)
def test_a_network_that_cannot_be_built_is_one_sentence(source, name, side, message):
    pytest.importorskip(source)
    with pytest.raises(ImclError) as caught:
        Blueprint(options(name, source)).build(side, 2)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "side"), [("resnet10t", 32), ("vit_tiny_patch16_224", 32)])
def test_networks_of_timm_are_built_for_the_images(name, side):
    pytest.importorskip("timm")
    made = Blueprint(options(name, "timm")).build(side, 5)
    assert made(torch.zeros(2, 3, side, side)).shape == (2, 5)


# training ---------------------------------------------------------------------------------------


def test_a_record_and_the_tables_name_the_network(trained):
    found = settings(trained)
    record = worker.train(trained, grid.find(found, CELL), CPU)  # it is there
    assert record["config"]["backbone"] == {
        "name": "mobile",
        "source": "torchvision",
        "network": "mobilenet_v3_small",
    }
    assert record["environment"]["torchvision"] == version("torchvision")
    assert {*record["runs"][0]["history"][0]["terms"]} >= {"output", "kernel", "representation"}
    made = summary.build(trained, found, committed=False, partial=True)
    rows = [[entry.text for entry in row] for group in settings_table(made).groups for row in group]
    assert ["mobile", "network", "mobilenet_v3_small"] in rows
    assert not any(row[:2] == ["backbone", "width"] for row in rows)


def test_baselines_that_are_only_a_loss_train_it_too(project):
    methods = ["gjs", "elr+output"]
    for method in methods:
        run = cell(project, f"mine-clean-mobile-{method}", studies__own__methods=methods)
        (made,) = worker.train(project, run, CPU)["runs"]
        assert method.partition("+")[0] in made["history"][-1]["terms"]


class Killed(Exception):
    """Stands for a process that was killed."""


def test_a_run_stopped_within_an_epoch_resumes_to_the_same_bits(project, monkeypatch):
    """The network's dropout draws from torch's own stream, which a checkpoint has to hold."""
    run = cell(project)
    whole = worker.train(project, run, CPU)
    weights = project.weights(run.runs[0].run_key)
    expected = weights.read_bytes()
    for path in (weights, project.record(run.key), project.run(run.runs[0].run_key)):
        path.unlink()
    save = Checkpoints.save

    def killed(self: Checkpoints, state: Callable[[], Any]) -> bool:
        save(self, state)
        raise Killed

    for _ in range(3):  # after the first step, the second, and the first epoch
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(Checkpoints, "save", killed)
            worker.train(project, run, RunOptions("cpu", checkpoint_share=1))
        torch.rand(5)  # another process has another stream
    assert without_cost(worker.train(project, run, CPU)) == without_cost(whole)
    assert weights.read_bytes() == expected


def test_training_starts_from_the_pretrained_weights(project, state):
    torch.save(state, project.root / "a.pth")
    pretrained = {**MOBILE, "weights": "a.pth"}
    training = {**PARAMS["studies"]["own"]["training"], "learning_rate": 1e-9}
    run = cell(
        project,
        "mine-clean-mobile-base",
        backbones__mobile=pretrained,
        studies__own__training=training,
    )
    record = worker.train(project, run, CPU)
    assert record["config"]["backbone"]["weights"] == sha256(project.root / "a.pth")
    kept = torch.load(project.weights(run.runs[0].run_key), weights_only=True)
    torch.testing.assert_close(kept["features.0.0.weight"], state["features.0.0.weight"])


def test_the_compiler_is_for_our_backbones(project):
    record = worker.train(project, cell(project), RunOptions("cpu", compiled=True))
    assert not record["environment"]["compiled"]


def test_how_fast_this_machine_trains_it(project):
    small = cell(project)
    seed = cost.of_seed(small)
    assert seed
    speed, told = rate.measure([rate.Work(small, seed, 1)], [], torch.device("cpu"))
    assert speed.steps and "1 of 1 networks" in told


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU torch can use")


@pytest.mark.parametrize("where", ["cpu", pytest.param("cuda", marks=NO_GPU)])
def test_a_baseline_changes_nothing_that_the_network_draws(where):
    device = torch.device(where)
    batches = Batches(
        torch.zeros(8, 32, 32, 3, dtype=torch.uint8, device=device),
        torch.zeros(8, dtype=torch.int64, device=device),
        Normalise.to([0.5] * 3, [0.25] * 3, device),
        Augmentation(0, False),
        batch_size=8,
        shuffling=torch.Generator(device),
        views=[],
    )
    options = ForeignOptions(source="torchvision", name="resnet18")
    architecture = Architecture(Blueprint(options), 2, (32, 32, 3), 2)
    drawn = []
    for baseline in (None, ("elr", BASELINES["elr"]())):
        torch.manual_seed(0 if baseline else 1)
        assemble(architecture, Method(baseline=baseline), 1, batches)
        drawn.append(torch.rand(3, device=device))
    assert torch.equal(*drawn)


def test_a_parameter_that_is_not_used_is_left_alone():
    used, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before = other.weight.clone()
    optimizer = SGD(torch.nn.ModuleList([used, other]), 0.9, 0.1)
    used(torch.ones(1, 2)).sum().backward()
    optimizer.step(0.1)
    assert torch.equal(other.weight, before)


def test_the_redundancy_of_a_found_network_is_that_of_its_stages():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=2).eval()
    images = torch.randint(256, (20, 32, 32, 3), dtype=torch.uint8)
    normalise = Normalise.to([0.5] * 3, [0.25] * 3, torch.device("cpu"))
    maps: list[torch.Tensor] = []
    for name in ("relu", "layer1", "layer2", "layer3", "layer4"):
        keep = lambda *hook: maps.append(hook[2].clone())  # noqa: E731
        model.get_submodule(name).register_forward_hook(keep)
    found = evaluation.redundancy(model, images, normalise)["channel_correlation"]
    maps.clear()
    with torch.no_grad():
        model(normalise(images))
    by_stage = []
    for stage in maps:
        with np.errstate(invalid="ignore"):  # of channels that are always zero
            values = np.nan_to_num(np.corrcoef(stage.double().transpose(0, 1).flatten(1).numpy()))
        by_stage.append((values**2)[~np.eye(len(values), dtype=bool)].mean())
    assert found == pytest.approx(np.mean(by_stage), rel=1e-3)


def test_large_pictures_are_evaluated_in_smaller_batches(monkeypatch):
    sizes: list[int] = []
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    normalise = Normalise.to([0.5] * 3, [0.25] * 3, torch.device("cpu"))
    for side in (96, 192):
        pictures = torch.zeros(501, 1, 1, 3, dtype=torch.uint8).expand(-1, side, side, -1)
        monkeypatch.setattr(Normalise, "__call__", lambda self, images: images[..., :1, :1].float())
        evaluation.predict(model, pictures, normalise, "float32")
    assert sizes == [500, 1, 125, 125, 125, 125, 1]


# predict and export -----------------------------------------------------------------------------


def run(project: Project, *arguments: str) -> int:
    return main(["--project", str(project.root), *arguments])


def expected(project: Project, path: Path) -> np.ndarray:
    """The probabilities of a picture, computed with torchvision and Pillow alone."""
    (described,) = (project.root / "data").glob("mine-*/dataset.json")
    told = json.loads(described.read_text())
    model = torchvision.models.mobilenet_v3_small(num_classes=2).eval()
    (weights,) = (project.root / "results/weights").glob(f"{CELL}-seed1-*.pt")
    model.load_state_dict(torch.load(weights, weights_only=True))
    image = Image.open(path).convert("RGB")
    width, height = image.size
    edge = (height - width) / 2  # a square from the middle
    image = image.resize((32, 32), Image.Resampling.BICUBIC, (0, edge, width, height - edge))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(told[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        return model((pixels - mean) / std).softmax(1)[0].numpy()


def test_predictions_are_those_of_the_network(trained, tmp_path, capsys):
    new = trained.root / "pictures/new"
    table = tmp_path / "out.csv"
    assert run(trained, "predict", CELL, str(new), "--json", "--csv", str(table)) == 0
    found = json.loads(capsys.readouterr().out)
    files = [new / name / f"{index}.png" for name in CLASSES for index in range(2)]
    assert [row["file"] for row in found] == [str(file) for file in files]
    for row, file in zip(found, files, strict=True):
        by_class = [row["probabilities"][name] for name in CLASSES]
        assert by_class == pytest.approx(expected(trained, file), abs=1e-5)
        assert row["class"] == CLASSES[int(np.argmax(by_class))]
        assert row["probability"] == max(by_class)
    written = [*csv.DictReader(table.read_text().splitlines())]
    assert [[row[key] for key in ("file", "class")] for row in written] == [
        [row["file"], row["class"]] for row in found
    ]


def test_pictures_that_cannot_be_used_are_named_and_the_others_done(trained, tmp_path, capsys):
    (tmp_path / "bad.png").write_text("no picture")
    good = trained.root / "pictures/new/dark/0.png"
    (tmp_path / "good.png").write_bytes(good.read_bytes())
    (tmp_path / ".hidden").write_text("left out")
    assert run(trained, "predict", CELL, str(tmp_path)) == 1
    printed = capsys.readouterr()
    assert "good.png" in printed.out
    assert printed.err.splitlines() == [
        f"{tmp_path / 'bad.png'}: damaged, or of none of the formats PNG, JPEG, TIFF, GIF, BMP, "
        "WEBP, PPM, JPEG2000",
        "imcl predict: 1 of 2 files cannot be used",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", CELL, "nowhere"], 2, "nowhere: no such file or folder"),
        (["predict", CELL, "."], 2, ".: no files in this folder"),
        (["predict", CELL, "a.png", "--seed", "9"], 2, "--seed: unknown seed 9; known: 1"),
        (["export", "mine-clean-mobile-base"], 1, "run `imcl train mine-clean-mobile-base --seed"),
    ],
)
def test_a_wrong_call_is_one_sentence(
    trained, tmp_path, monkeypatch, capsys, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    if "a.png" in arguments:
        (tmp_path / "a.png").touch()
    assert run(trained, *arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_weights_that_are_not_those_of_the_record_are_refused(trained, capsys):
    (weights,) = (trained.root / "results/weights").glob(f"{CELL}-seed1-*.pt")
    before = weights.read_bytes()
    try:
        weights.write_bytes(before + b"\0")
        assert run(trained, "predict", CELL, str(trained.root / "pictures/new")) == 1
        assert "differs from the recorded weights" in capsys.readouterr().err
    finally:
        weights.write_bytes(before)


APART = """
import json, sys
sys.modules["imcl"] = None
import numpy as np
import torch
from PIL import Image
told = {"imcl.json": ""}
model = torch.export.load(sys.argv[1], extra_files=told).module()
pixels = np.stack([np.array(Image.open(path)) for path in sys.argv[2:]])
print(told["imcl.json"])
print(json.dumps(model(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).tolist()))
"""


def test_an_exported_file_runs_without_imcl(trained, tmp_path, capsys):
    files = []
    for index in range(3):  # another number than that of the export's example
        source = trained.root / f"pictures/new/{CLASSES[index % 2]}/{index // 2}.png"
        small = Image.open(source).resize((32, 32))
        small.save(tmp_path / f"{index}.png")
        files.append(str(tmp_path / f"{index}.png"))
    path = str(tmp_path / "net.pt2")
    assert run(trained, "export", CELL, "-o", path) == 0
    assert "images: float32 (B, 3, 32, 32), pixels in 0..1" in capsys.readouterr().out
    command = [sys.executable, "-c", APART, path, *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told, found = map(json.loads, done.stdout.splitlines())
    assert run(trained, "predict", CELL, *files, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    for row, values in zip(rows, found, strict=True):
        assert [row["probabilities"][name] for name in told["class_names"]] == pytest.approx(
            values, abs=1e-5
        )
    of = cell(trained)
    assert (told["cell"], told["digest"], told["seed"]) == (CELL, of.digest, 1)


def test_onnx_says_what_it_needs(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("imcl.training.trained.find_spec", lambda name: None)
    assert run(trained, "export", CELL, "--format", "onnx", "-o", str(tmp_path / "a.onnx")) == 1
    assert "`pip install onnx onnxscript`" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_an_onnx_file_gives_the_same_probabilities(trained, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    assert run(trained, "export", CELL, "--format", "onnx", "-o", str(path)) == 0
    capsys.readouterr()
    source = trained.root / "pictures/new/dark/0.png"
    Image.open(source).resize((32, 32)).save(tmp_path / "a.png")
    pixels = np.array(Image.open(tmp_path / "a.png"), np.float32).transpose(2, 0, 1)[None] / 255
    session = runtime.InferenceSession(str(path))
    (found,) = session.run(None, {"images": np.repeat(pixels, 3, 0)})
    assert run(trained, "predict", CELL, str(tmp_path / "a.png"), "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert found[2].tolist() == pytest.approx([*row["probabilities"].values()], abs=1e-5)
    told = json.loads(session.get_modelmeta().custom_metadata_map["imcl"])
    assert told["class_names"] == [*CLASSES]
