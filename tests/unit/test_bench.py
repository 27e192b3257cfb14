"""What is measured: counted figures against published ones, and the form of the records."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from imcl.bench import agreement, library, loop, overhead, steps
from imcl.bench.options import BENCHES, Agreement, Library, Loop, Overhead, Steps
from imcl.bench.usual import Pictures
from imcl.cli import main
from imcl.data import prepare
from imcl.present import figures
from imcl.project import Project
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.load import load
from imcl.study.options import BASELINES, WAYS
from imcl.training.batches import Augmentation, Normalise
from imcl.training.network import Architecture

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = load(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def narrow() -> dict[tuple[str, str], dict]:
    options = Overhead(width=4, batch_size=8, repeats=1, device="cpu", threads=1)
    rows = overhead.rows(Project(ROOT), SETTINGS, options)
    return {(row["backbone"], row["method"]): row for row in rows}


def step(backbone: str, method: str, width: int, batch_size: int) -> overhead.Step:
    architecture = Architecture(backbone, width, overhead.SHAPE, overhead.CLASSES)
    chosen = overhead.methods(SETTINGS)[method]
    return overhead.Step(architecture, chosen, SETTINGS.training, batch_size, CPU)


@pytest.mark.parametrize(("backbone", "published"), [("resnet18", 1.97), ("vgg16", 1.57)])
def test_multihead_takes_the_published_multiply_adds(backbone, published):
    """Of a step at full width, relative to base."""
    multihead, base = (step(backbone, name, 64, 2).cost() for name in ("multihead", "base"))
    assert multihead["macs"] / base["macs"] == pytest.approx(published, abs=0.01)


def test_every_way_in_every_variant_and_every_baseline_is_measured(narrow):
    ways = {
        f"{name}/{variant}"
        for name, way in WAYS.items()
        for variant in get_args(way.model_fields["variant"].annotation)
    }
    expected = {"base", "control", "all", "all/single-pass", *ways, *BASELINES}
    assert len(ways) == 11
    assert {method for _, method in narrow} == expected


@pytest.mark.parametrize(
    ("method", "ratio"), [("dml", 2), ("coteaching", 2), ("cskd", 4 / 3), ("control", 2)]
)
def test_the_multiply_adds_of_further_passes(narrow, method, ratio):
    assert narrow["resnet18", method]["macs_ratio"] == pytest.approx(ratio, abs=0.02)


def test_only_baselines_train_further_parameters_and_none_serves_them(narrow):
    for (backbone, method), row in narrow.items():
        base = narrow[backbone, "base"]
        assert row["parameters"] == base["parameters"] == base["training_parameters"]
        more = method in ("multihead", "dml", "one", "byot", "coteaching")
        assert (row["training_parameters"] > row["parameters"]) == more


def test_the_ways_in_one_pass_hold_no_second_copy_of_the_stages(narrow):
    """Their memory is counted, not timed: as large a share as kernels and products take."""
    assert narrow["resnet18", "all/single-pass"]["memory_ratio"] < 1.15
    assert narrow["resnet18", "control"]["memory_ratio"] > 1.5


def test_the_kernel_way_does_not_grow_with_the_batch():
    def added(batch: int) -> float:
        made = [step("resnet18", name, 4, batch) for name in ("kernel/cosine", "base")]
        kernel, base = (each.cost()["macs"] * batch for each in made)
        return kernel - base

    assert added(4) == added(16) > 0


def test_the_command_writes_a_record_and_prints_its_rows(tmp_path, monkeypatch, capsys):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    base = {"base": overhead.methods(SETTINGS)["base"]}
    monkeypatch.setattr(overhead, "methods", lambda settings: base)
    options = ["--width", "4", "--batch-size", "4", "--repeats", "1", "--device", "cpu"]
    command = ["--project", str(tmp_path), "bench", "overhead", "--json", *options]
    assert main(command) == 0
    rows = json.loads(capsys.readouterr().out)
    record = json.loads((tmp_path / "paper/results/bench/overhead-cpu.json").read_text())
    assert record["rows"] == rows
    assert record["settings"]["width"] == 4
    assert record["settings"]["precision"] == SETTINGS.training.precision
    for key in ("backbone", "width", "method", "time_ratio", "memory_ratio", "macs_ratio"):
        assert key in rows[0]


def numbers() -> list[tuple[str, str]]:
    return [
        (bench, name)
        for bench, options in BENCHES.items()
        for name, field in options.model_fields.items()
        if isinstance(np.ravel(field.default)[0], np.integer) and field.annotation is not bool
    ]


@pytest.mark.parametrize(("bench", "name"), numbers())
def test_a_number_that_cannot_be_is_wrong_usage(bench, name, capsys):
    option = f"--{name.replace('_', '-')}"
    fields = BENCHES[bench].model_fields
    needed = [f"--{name}=0123456789" for name in fields if fields[name].is_required()]
    assert main(["--project", str(ROOT), "bench", bench, *needed, option, "0"]) == 2
    assert f"{option} 0 is out of range; it must be at least" in capsys.readouterr().err


def test_every_number_of_every_measurement_has_a_bound():
    assert len(numbers()) == 29


def test_a_dataset_that_is_not_there_is_wrong_usage(capsys):
    assert main(["--project", str(ROOT), "bench", "agreement", "--dataset", "cifar"]) == 2
    assert "unknown dataset 'cifar'; did you mean 'cifar10'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("--output=precious", "is not the hash of a commit; `git rev-parse COMMIT` prints it"),
        ("HEAD", "is not the hash of a commit"),
        ("0123456789", "git gives no such commit here"),
    ],
)
def test_a_change_is_measured_from_a_commit_alone(tmp_path, monkeypatch, capsys, before, said):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "change", "--project", str(ROOT), f"--before={before}"]) in (1, 2)
    assert said in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


# the step ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counts() -> dict[str, dict[str, dict]]:
    """The rows of each backbone by method."""
    options = Steps(width=4, batch_size=8, device="cpu", threads=1)
    found: dict[str, dict[str, dict]] = {}
    for row in steps.rows(Project(ROOT), SETTINGS, options):
        found.setdefault(row["backbone"], {})[row["method"]] = row
    return found


# How many operations a step may take, by method: of ResNet-18 and of VGG-16.
MOST = {
    "base": (176, 119),
    "control": (177, 120),
    "output/dropout": (207, 150),
    "output/spatial": (211, 154),
    "output/channel": (215, 158),
    "output/augment": (200, 143),
    "intermediate/relation": (223, 168),
    "intermediate/attention": (283, 260),
    "intermediate/augment": (208, 153),
    "representation/correlation": (218, 165),
    "representation/cosine": (202, 147),
    "kernel/cosine": (229, 166),
    "kernel/orthogonal": (229, 166),
    "all/single-pass": (341, 282),
    "all": (318, 259),
}


@pytest.mark.parametrize(("index", "backbone"), [(0, "resnet18"), (1, "vgg16")])
def test_a_step_takes_few_operations(counts, index, backbone):
    """Counts do not depend on the machine. A lower one may become the bound, a higher one not."""
    found = {method: row["operations"] for method, row in counts[backbone].items()}
    assert set(found) == set(MOST)
    assert {m: n for m, n in found.items() if n > MOST[m][index]} == {}


def test_a_step_never_waits_for_a_gpu(counts):
    waits = {row["waits"] for rows in counts.values() for row in rows.values()}
    assert waits == {0}


def test_the_ways_allocate_a_part_of_what_a_second_view_does(counts):
    for rows in counts.values():
        assert 1 < rows["all/single-pass"]["bytes_ratio"] < 1.4 < rows["control"]["bytes_ratio"]


def test_operations_that_compute_nothing_are_not_counted():
    x = torch.ones(4)
    with steps.Operations() as counted:
        x.view(2, 2).T.detach(), torch.empty(3), x[:2]
        assert not counted.operations.total()
        x.add_(1), x + 1, torch.cat([x, x])
    assert counted.operations.total() == 3
    assert not counted.waits.total()


@pytest.mark.parametrize(
    "wait", [lambda x: x[0].item(), lambda x: x.nonzero(), lambda x: x[x > 0], lambda x: bool(x[0])]
)
def test_waits_are_counted(wait):
    with steps.Operations() as counted:
        wait(torch.ones(4))
    assert counted.waits.total() == 1


def test_captures_are_counted(monkeypatch):
    entered = []
    monkeypatch.setattr(torch.cuda.graph, "__enter__", entered.append)
    with steps.captures() as made:
        torch.cuda.graph.__enter__("first")
        torch.cuda.graph.__enter__("second")
    torch.cuda.graph.__enter__("later")
    assert made == ["first", "second"]
    assert entered == ["first", "second", "later"]


# the loop ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "multiply_adds"),
    # As thop counts the public CIFAR networks: 0.56 and 0.31 G; VGG-16's last pool is not ours,
    # but no convolution follows it.
    [("resnet18", 0.56e9), ("vgg16", 0.31e9)],
)
def test_the_operations_of_a_step_are_those_of_the_published_networks(backbone, multiply_adds):
    """Forward, and twice as much backward; two operations for a multiply-add."""
    architecture = Architecture(backbone, 64, loop.SHAPE, loop.CLASSES)
    training = SETTINGS.training.model_copy(update={"batch_size": 4})
    counted = loop.Workload(architecture, 8, training).flops("float32", CPU)
    assert counted == pytest.approx(2 * 3 * multiply_adds, rel=0.02)


def test_the_usual_loop_sees_the_pixels_that_ours_sees():
    images = np.random.default_rng(0).integers(256, size=(2, 8, 8, 3), dtype=np.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    pictures = Pictures(images, np.array([3, 1]), mean, std, Augmentation(0, flip=False))
    found = torch.stack([pictures[i][0] for i in range(2)])
    ours = Normalise.to(mean, std, CPU)(torch.from_numpy(images))
    torch.testing.assert_close(found, ours)
    assert [pictures[i][1] for i in range(2)] == [3, 1]


def test_the_loops_are_measured_side_by_side(monkeypatch):
    monkeypatch.setattr(loop, "BACKBONES", ("vgg16",))
    monkeypatch.setattr(loop.os, "cpu_count", lambda: 1)  # a process for each imports torch
    monkeypatch.setitem(loop.PRODUCT_SIDE, "cpu", 64)
    options = Loop(
        widths=[16],
        precisions=["bf16"],
        batch_size=2,
        steps=1,
        repeats=1,
        device="cpu",
        threads=1,
    )
    (row,) = loop.rows(Project(ROOT), SETTINGS, options)
    assert (row["backbone"], row["width"], row["precision"]) == ("vgg16", 16, "bf16")
    assert min(row[name] for name in ("images_per_second", "usual", "tuned", "packed")) > 0
    for other in ("usual", "tuned", "limit"):
        assert row[f"ratio_to_{other}"] == row["images_per_second"] / row[other]
    assert row["augmentation_share"] > 0


def test_both_loops_learn_alike(tmp_path, monkeypatch):
    digits = SETTINGS.datasets["digits"].model_copy(update={"train_size": 600, "subset_seed": 0})
    training = SETTINGS.training.model_copy(update={"batch_size": 32, "learning_rate": 0.1})
    settings = SETTINGS.model_copy(update={"datasets": {"digits": digits}, "training": training})
    project = Project(tmp_path)
    prepare.prepare(project, grid.datasets(settings)["digits"])
    monkeypatch.setattr(agreement, "BACKBONES", ("resnet18",))
    options = Agreement(dataset="digits", width=4, epochs=5, seeds=2, device="cpu", threads=1)
    (row,) = agreement.rows(project, settings, options)
    assert len(set(row["ours"])) == len(set(row["usual"])) == 2
    assert min(*row["ours"], *row["usual"]) > 0.5
    assert row["agree"] == (
        abs(row["ours_mean"] - row["usual_mean"])
        <= row["ours_half_width"] + row["usual_half_width"]
    )


def test_recorded_measurements_are_printed_and_put_into_a_file(tmp_path, capsys):
    tables = ["--project", str(ROOT), "bench", "tables"]
    assert main(tables) == 0
    printed = capsys.readouterr().out
    file = tmp_path / "README.md"
    file.write_text("# x\n<!-- loop-cpu -->\nold\n<!-- /loop-cpu -->\nend\n")
    assert main([*tables, "--write", str(file)]) == 0
    text = file.read_text()
    table = text.split("<!-- loop-cpu -->\n")[1].split("<!-- /loop-cpu -->")[0]
    assert table in printed
    assert "old" not in text
    assert text.endswith("<!-- /loop-cpu -->\nend\n")
    file.write_bytes(b"\xff<!-- loop-cpu -->\n<!-- /loop-cpu -->\n")
    assert main([*tables, "--write", str(file)]) == 1
    assert f"{file}: is not UTF-8 text (byte 0)" in capsys.readouterr().err
    file.unlink()
    os.mkfifo(file)  # to read from it would wait for ever
    assert main([*tables, "--write", str(file)]) == 1
    assert f"{file}: not a file, but a device or a pipe" in capsys.readouterr().err


# the library ------------------------------------------------------------------------------------


@pytest.fixture
def few_digits(monkeypatch):
    """48 training and 10 test images, in batches of 16, for one epoch of 16 x 16 pixels."""
    read = library.digits.read(library.DATA, [], Path())
    small = replace(
        read,
        train_images=read.train_images[:48],
        train_labels=read.train_labels[:48],
        test_images=read.test_images[:10],
        test_labels=read.test_labels[:10],
    )
    monkeypatch.setattr(library.digits, "read", lambda *_: small)
    monkeypatch.setattr(library, "BATCH_SIZE", 16)
    return small


def test_the_library_is_compared_with_a_plain_loop(few_digits, monkeypatch):
    """What is trained on: the same for all methods of a seed, with half of the labels wrong."""
    seen = []

    def train(method, data, epochs, precision, seed):
        first = next(data.batches(method.views, seed).epoch())
        seen.append((method, seed, first, data.train_labels))
        return method

    monkeypatch.setattr(library, "train", train)
    methods = {name: library.METHODS[name] for name in ("plain loop", "output")}
    monkeypatch.setattr(library, "METHODS", methods)
    found = iter([0.5, 0.7, 0.6, 0.9, 0.2, 0.4, 0.2, 0.4])
    monkeypatch.setattr(library.Data, "accuracy", lambda *_: next(found))
    options = Library(seeds=2, side=16, device="cpu", threads=1)
    rows = library.rows(Project(ROOT), SETTINGS, options)
    assert [(row["method"], row["wrong_labels"]) for row in rows] == [
        (name, share) for share in (0.0, 0.5) for name in methods
    ]
    plain, output, _, tied = rows
    assert plain["accuracy"] == [0.5, 0.7]
    assert plain["mean"] == pytest.approx(0.6)
    assert plain["half_width"] == pytest.approx(12.706 * 0.1, rel=1e-4)  # t of one degree
    assert (plain["gain_mean"], plain["gain_half_width"]) == (None, None)
    assert output["gain_mean"] == pytest.approx((0.1 + 0.2) / 2)
    assert output["gain_half_width"] == pytest.approx(12.706 * 0.05, rel=1e-4)
    assert (tied["gain_mean"], tied["gain_half_width"]) == (0.0, None)
    clean = torch.from_numpy(few_digits.train_labels)
    wrong = [(labels != clean).sum().item() for *_, labels in seen]
    assert wrong == [0] * 4 + [24] * 4
    for one, two in ((0, 2), (1, 3), (4, 6), (5, 7)):  # the same seed and share
        (_, seed, plain_batch, _), (method, same, batch, _) = seen[one], seen[two]
        assert (seed, method) == (same, methods["output"])
        assert torch.equal(plain_batch.indices, batch.indices)
        assert torch.equal(plain_batch.views[0], batch.views[0])
        assert len(batch.views) == 2
        assert not torch.equal(*batch.views)
    assert not torch.equal(seen[0][2].indices, seen[1][2].indices)


def test_digits_are_enlarged_to_three_equal_channels():
    image = np.array([[0, 100], [0, 100]], np.uint8)[None, :, :, None]
    large = library.enlarged(image, 4)
    assert large.shape == (1, 4, 4, 3)
    assert large.dtype == torch.uint8
    for channel in range(3):
        assert large[0, :, :, channel].tolist() == [[0, 25, 75, 100]] * 4


def test_the_methods_differ_in_the_ways_alone(few_digits):
    """With weight 0, what `output` trains is what the control trains, up to rounding."""
    data = library.Data.of(few_digits, 16, CPU)

    def logits(method):
        model = library.train(method, data, 1, "float32", seed=1)
        with torch.no_grad():
            return model.eval()(data.normalise(data.test_images))

    found = {name: logits(method) for name, method in library.METHODS.items()}
    control = found["two views, cross-entropy"]
    for name, others in found.items():
        assert torch.isfinite(others).all()
        assert (name == "two views, cross-entropy") == torch.allclose(others, control, atol=1e-4)
    trained = library.train(library.METHODS["all"], data, 1, "float32", seed=1)
    right = found["all"].argmax(1) == torch.from_numpy(few_digits.test_labels)
    assert data.accuracy(trained, "float32") == pytest.approx(right.sum().item() / 10)
    without = logits(library.Method(2, {"output": {"weight": 0.0}}))
    torch.testing.assert_close(without, control, atol=1e-4, rtol=1e-3)


def test_the_library_has_a_table_and_a_figure(tmp_path, capsys):
    rows = [
        {"method": name, "wrong_labels": share, **library.compared(found, plain)}
        for share in (0.0, 0.5)
        for name, found, plain in (
            ("plain loop", [0.5, 0.7], None),
            ("output", [0.6, 0.9], [0.5, 0.7]),
        )
    ]
    project = Project(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    committed = json.loads((ROOT / "paper/results/bench/agreement-cpu.json").read_text())
    settings = {"epochs": 14, "side": 64, "seeds": 2, "precision": "float32"}
    measurement = committed | {"bench": "library", "settings": settings, "rows": rows}
    Store(project).write_measurement("library", "cpu", measurement)
    page = tmp_path / "README.md"
    page.write_text("![x](library-cpu.png)\n<!-- library-cpu -->\n<!-- /library-cpu -->\n")
    assert main(["--project", str(tmp_path), "bench", "tables", "--write", str(page)]) == 0
    lines = [line.strip("| ").split("|") for line in page.read_text().splitlines()]
    cells = [[cell.strip() for cell in line] for line in lines if len(line) > 1]
    assert cells[0] == ["labels", "method", "seed 1", "seed 2", "mean", "gain"]
    assert cells[2] == ["clean labels", "plain loop", "50.0", "70.0", "60.0 ± 127.1", "–"]
    gain = ["75.0 ± 190.6", "+15.0 ± 63.5"]
    assert cells[5] == ["50 % wrong labels", "output", "60.0", "90.0", *gain]
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "library-cpu.png")
    assert (tmp_path / "library-cpu.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "library-cpu.pdf").exists()
    clean, wrong = figures.library(measurement).axes
    assert [axes.get_title() for axes in (clean, wrong)] == ["clean labels", "50 % wrong labels"]
    drawn = [line.get_xdata() for line in wrong.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(drawn, [[50, 70], [60, 90]])
    means = [line.get_xdata()[0] for line in wrong.lines if line.get_marker() == "|"]
    assert means == pytest.approx([60, 75])
