"""The measurements that run other programs, on studies and networks of seconds."""

import json

import pytest

pytestmark = pytest.mark.workflow


def measured(checkout, bench: str, *options: str) -> list[dict]:
    """The rows that `imcl bench` recorded."""
    checkout.run("imcl", "bench", bench, *options)
    (path,) = (checkout.folder / "paper/results/bench").glob(f"{bench}-*.json")
    return json.loads(path.read_text())["rows"]


def test_the_pipeline_is_measured_on_a_whole_study(checkout):
    (row,) = measured(checkout, "pipeline", "--study", "other", "--cores", "2")
    assert (row["study"], row["cells"], row["networks"]) == ("other", 2, 4)
    assert row["overhead_ratio"] == row["wall_seconds"] * 2 / row["own_seconds"]
    assert min(row["own_seconds"], row["nothing_to_do_seconds"]) > 0
    assert not (checkout.folder / "results").exists()  # it ran elsewhere


def test_a_change_is_measured_against_the_code_of_a_commit(checkout):
    commit = checkout.run("git", "rev-parse", "HEAD").strip()
    small = ("--widths", "4", "--batch-size", "8", "--steps", "1", "--repeats", "1")
    options = ("--turns", "1", "--precisions", "float32", "--threads", "1")
    rows = measured(checkout, "change", "--before", commit, *small, *options)
    assert [(row["backbone"], row["width"]) for row in rows] == [("resnet18", 4), ("vgg16", 4)]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["after"] / row["before"])
        assert 0 < row["convolution_share"] < 1
        assert row["bound"] == pytest.approx(row["after_to_limit"] / row["convolution_share"])


SEEDS = "dry run, each seed a job"


def test_growth_is_measured_from_the_plan_to_a_cell(checkout):
    rows = measured(checkout, "growth", "--sizes", "10", "20")
    sizes = {}
    for row in rows:
        sizes.setdefault(row["what"], []).append(row["size"])
        first = next(r for r in rows if r["what"] == row["what"])
        linear = first["seconds"] * row["size"] / first["size"]
        assert row["ratio_to_linear"] == pytest.approx(row["seconds"] / linear)
    assert sizes == {
        **{what: [10, 20] for what in ("plan", "dry run", SEEDS, "nothing to do")},
        "a cell, by its data": [140, 1400],
        "a cell, by its seeds": [1, 10],
    }
