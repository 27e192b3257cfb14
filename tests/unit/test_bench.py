"""What is measured: counted figures against published ones, and the form of the records."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from imcl import params
from imcl.batches import normalise
from imcl.bench import agreement, commands, loop, overhead
from imcl.bench.usual import Pictures
from imcl.cli import main
from imcl.peers import PEERS
from imcl.ways import WAYS

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def narrow() -> dict[tuple[str, str], dict]:
    rows = overhead.rows(params.load(), 4, 8, 1, CPU, 1)
    return {(row["backbone"], row["method"]): row for row in rows}


def macs(backbone: str, method: str) -> float:
    """Of a step at full width, relative to base."""
    parts = overhead._methods()[method]
    made = {}
    for name, of in (("base", (None, {}, 1)), (method, parts)):
        step = overhead._Step(params.load(), backbone, 64, 2, CPU, *of)
        made[name] = step.cost()["macs"]
    return made[method] / made["base"]


@pytest.mark.parametrize(("backbone", "published"), [("resnet18", 1.97), ("vgg16", 1.57)])
def test_multihead_takes_the_published_multiply_adds(backbone, published):
    assert macs(backbone, "multihead") == pytest.approx(published, abs=0.01)


def test_every_way_in_every_variant_and_every_peer_is_measured(narrow):
    ways = {f"{way}/{variant}" for way, variants in WAYS.items() for variant in variants}
    expected = {"base", "control", "all", "all/single-pass", *ways, *PEERS}
    assert {method for _, method in narrow} == expected


@pytest.mark.parametrize(
    ("method", "ratio"), [("dml", 2), ("coteaching", 2), ("cskd", 4 / 3), ("control", 2)]
)
def test_the_multiply_adds_of_further_passes(narrow, method, ratio):
    assert narrow["resnet18", method]["macs_ratio"] == pytest.approx(ratio, abs=0.02)


def test_only_peers_train_further_parameters_and_none_serves_them(narrow):
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
        made = [
            overhead._Step(params.load(), "resnet18", 4, batch, CPU, *overhead._methods()[name])
            for name in ("kernel/cosine", "base")
        ]
        kernel, base = (step.cost()["macs"] * batch for step in made)
        return kernel - base

    assert added(4) == added(16) > 0


def test_the_command_writes_a_record_and_prints_its_rows(tmp_path, monkeypatch, capsys):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "workflow/schemas", tmp_path / "workflow/schemas")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(overhead, "_methods", lambda: {"base": (None, {}, 1)})
    options = ["--width", "4", "--batch-size", "4", "--repeats", "1", "--device", "cpu"]
    assert main(["bench", "overhead", "--json", *options]) == 0
    rows = json.loads(capsys.readouterr().out)
    record = json.loads((tmp_path / "paper/results/bench/overhead-cpu.json").read_text())
    assert record["rows"] == rows
    assert record["settings"]["width"] == 4
    for key in ("backbone", "width", "method", "time_ratio", "memory_ratio", "macs_ratio"):
        assert key in rows[0]


@pytest.mark.parametrize(
    ("bench", "option"),
    [
        (bench, f"--{option.replace('_', '-')}")
        for bench, options in commands.DEFAULTS.items()
        for option, default in options.items()
        if default is not False and isinstance(default, int | list) and option != "precisions"
    ],
)
def test_a_number_that_cannot_be_is_wrong_usage(bench, option, capsys):
    assert main(["bench", bench, option, "0"]) == 2
    assert f"{option} 0: at least" in capsys.readouterr().err


def test_a_dataset_that_is_not_there_is_wrong_usage(capsys):
    assert main(["bench", "agreement", "--dataset", "cifar"]) == 2
    assert "unknown dataset 'cifar'; did you mean 'cifar10'?" in capsys.readouterr().err


# the loop ---------------------------------------------------------------------------------------


def shape(backbone: str, width: int) -> loop._Shape:
    return loop._Shape(backbone, width, 4, 8, params.load()["training"])


@pytest.mark.parametrize(
    ("backbone", "multiply_adds"),
    # As thop counts the public CIFAR networks: 0.56 and 0.31 G; VGG-16's last pool is not ours,
    # but no convolution follows it.
    [("resnet18", 0.56e9), ("vgg16", 0.31e9)],
)
def test_the_operations_of_a_step_are_those_of_the_published_networks(backbone, multiply_adds):
    """Forward, and twice as much backward; two operations for a multiply-add."""
    counted = loop._flops(shape(backbone, 64), "float32", CPU)
    assert counted == pytest.approx(2 * 3 * multiply_adds, rel=0.02)


def test_the_usual_loop_sees_the_pixels_that_ours_sees():
    images = np.random.default_rng(0).integers(256, size=(2, 8, 8, 3), dtype=np.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    pictures = Pictures(images, np.array([3, 1]), mean, std, padding=0, flip=False)
    found = torch.stack([pictures[i][0] for i in range(2)])
    ours = normalise(torch.from_numpy(images), torch.tensor(mean), torch.tensor(std))
    torch.testing.assert_close(found, ours)
    assert [pictures[i][1] for i in range(2)] == [3, 1]


def test_the_loops_are_measured_side_by_side(monkeypatch):
    monkeypatch.setattr(loop, "BACKBONES", ("vgg16",))
    (row,) = loop.rows(params.load(), [16], ["bf16"], 2, 1, 1, CPU, 1, False)
    assert (row["backbone"], row["width"], row["precision"]) == ("vgg16", 16, "bf16")
    assert min(row[name] for name in ("images_per_second", "usual", "tuned", "packed")) > 0
    for other in ("usual", "tuned", "limit"):
        assert row[f"ratio_to_{other}"] == row["images_per_second"] / row[other]
    assert row["augmentation_share"] > 0


def test_both_loops_learn_alike(tmp_path, monkeypatch):
    from imcl import grid
    from imcl.data import prepare

    monkeypatch.chdir(tmp_path)
    loaded = params.load(ROOT / "params.yaml")
    loaded["datasets"]["digits"] |= {"train_size": 600, "subset_seed": 0}
    loaded["training"] |= {"batch_size": 32, "learning_rate": 0.05}
    digits = grid.datasets(loaded)["digits"]
    prepare.prepare("digits", digits.config, [], digits.path)
    monkeypatch.setattr(agreement, "BACKBONES", ("resnet18",))
    (row,) = agreement.rows(loaded, "digits", 4, 8, 2, CPU, 1)
    assert len(set(row["ours"])) == len(set(row["usual"])) == 2
    assert min(*row["ours"], *row["usual"]) > 0.5
    assert row["agree"] == (
        abs(row["ours_mean"] - row["usual_mean"])
        <= row["ours_half_width"] + row["usual_half_width"]
    )


def test_recorded_measurements_are_printed_and_put_into_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["bench", "tables"]) == 0
    printed = capsys.readouterr().out
    file = tmp_path / "README.md"
    file.write_text("# x\n<!-- loop-cpu -->\nold\n<!-- /loop-cpu -->\nend\n")
    assert main(["bench", "tables", "--write", str(file)]) == 0
    text = file.read_text()
    table = text.split("<!-- loop-cpu -->\n")[1].split("<!-- /loop-cpu -->")[0]
    assert table in printed
    assert "old" not in text
    assert text.endswith("<!-- /loop-cpu -->\nend\n")
