"""The measurements that run Snakemake themselves, on a study of seconds."""

import json

import pytest

pytestmark = pytest.mark.workflow


def test_the_pipeline_is_measured_on_a_whole_study(project):
    options = ("--study", "other", "--cores", "2", "--json")
    (row,) = json.loads(project.run("imcl", "bench", "pipeline", *options).split("\n", 3)[-1])
    assert (row["study"], row["cells"], row["networks"]) == ("other", 2, 4)
    assert row["overhead_ratio"] == row["wall_seconds"] * 2 / row["own_seconds"]
    assert row["overhead_ratio"] > 1
    assert row["nothing_to_do_seconds"] < row["wall_seconds"]
    assert not (project.folder / "results").exists()  # it ran elsewhere
    record = json.loads((project.folder / "paper/results/bench/pipeline-cpu.json").read_text())
    assert record["rows"] == [row]


def test_growth_is_measured_from_the_plan_to_a_cell(project):
    rows = json.loads(project.run("imcl", "bench", "growth", "--sizes", "10", "20", "--json"))
    sizes = {}
    for row in rows:
        sizes.setdefault(row["what"], []).append(row["size"])
        first = next(r for r in rows if r["what"] == row["what"])
        linear = first["seconds"] * row["size"] / first["size"]
        assert row["ratio_to_linear"] == pytest.approx(row["seconds"] / linear)
    assert sizes == {
        **{what: [10, 20] for what in ("plan", "dry run", "nothing to do")},
        "a cell, by its data": [140, 1400],
        "a cell, by its seeds": [1, 10],
    }
