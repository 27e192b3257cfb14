"""The measurements that run Snakemake themselves, on a study of seconds."""

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
