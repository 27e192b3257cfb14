"""What methods cost: counted figures against published ones, and the form of the record."""

import json

import pytest
import torch

from imcl import params
from imcl.bench import overhead
from imcl.cli import main
from imcl.peers import PEERS
from imcl.ways import WAYS

CPU = torch.device("cpu")


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
    import shutil
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    shutil.copy(root / "params.yaml", tmp_path)
    shutil.copytree(root / "workflow/schemas", tmp_path / "workflow/schemas")
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


@pytest.mark.parametrize("option", ["--width", "--batch-size", "--repeats", "--threads"])
def test_a_number_that_cannot_be_is_wrong_usage(option, capsys):
    assert main(["bench", "overhead", option, "0"]) == 2
    assert f"{option} 0: at least" in capsys.readouterr().err
