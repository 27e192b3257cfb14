"""A study trained without an engine, as on a machine that is lent for minutes."""

import pytest
from conftest import MICRO

pytestmark = pytest.mark.workflow


def test_cells_are_trained_in_order_until_the_time_is_up_and_then_the_rest(checkout):
    checkout.change(studies__micro__training__epochs=30, studies__micro__seeds=[1])
    checkout.change(studies__micro__methods=["base", "kernel"])
    every = [line.split()[0] for line in checkout.run("imcl", "plan").splitlines()[1:-1]]
    # All of the time is kept for stopping, so that nothing begins.
    output = checkout.run("imcl", "run", "--minutes", "0.1", "--grace", "0.1")
    assert "study micro: 0 of 4 cells done, 4 left" in output
    # Stopped while the first cells train, and then resumed.
    output = checkout.run("imcl", "run", "--jobs", "2", "--minutes", "0.1", "--grace", "0.05")
    done = {name.rpartition("-")[0] for name in checkout.records()}
    assert done == set(every[: len(done)])
    assert len(done) < 4
    assert f"{len(done)} of 4 cells done, {4 - len(done)} left" in output
    assert "study micro: 4 of 4 cells done, 0 left" in checkout.run("imcl", "run", "--jobs", "2")
    assert checkout.trained_by(lambda: checkout.snakemake("records")) == set()


def test_a_cell_that_fails_stops_no_other(checkout):
    checkout.change(
        studies__micro__methods=["base", "base@1"],
        studies__micro__noise=["clean"],
        search={"candidates": {"base": [{"training": {"learning_rate": 1e9}}]}},
    )
    output = checkout.run("imcl", "run", code=1)
    told = "imcl run: 1 cells failed: digits-clean-resnet18-base@1"
    assert output.splitlines()[-1] == told
    assert "study micro: 1 of 2 cells done, 0 left" in output


def test_nothing_is_trained_after_an_anchor_that_is_not_reached(checkout):
    anchor = "digits-clean-vgg16-base"
    checkout.change(
        studies__micro__noise=["clean"],
        studies__micro__methods=["kernel", "base"],
        studies__micro__backbones=["resnet18", "vgg16"],
        studies__micro__seeds=[7],
        studies__micro__training__epochs=1,
        studies__micro__anchors={anchor: 1.0},
    )
    before = set(checkout.records())
    output = checkout.run("imcl", "run", "--jobs", "2", code=1)
    assert f"{anchor} reaches " in output
    assert "but its anchor is 100.00%" in output
    (made,) = set(checkout.records()) - before
    assert made.startswith(anchor)
    # Once it is reached, the others are trained.
    checkout.change(studies__micro__anchors={anchor: 0.0})
    assert "study micro: 4 of 4 cells done, 0 left" in checkout.run("imcl", "run", "--jobs", "2")


@pytest.mark.parametrize("option", ["--jobs", "--threads", "--minutes", "--grace"])
def test_a_number_that_cannot_be_is_wrong_usage(checkout, option):
    assert f"{option}: '-1' is not a" in checkout.run("imcl", "run", option, "-1", code=2)


def test_snakemake_searches_and_writes_into_the_file_not_into_its_copy(checkout):
    checkout.change(
        studies__micro={**MICRO, "methods": ["base"], "noise": ["clean"]},
        search={
            "rungs": [{"seeds": [1, 2]}],
            "candidates": {"base": [{"training": {"learning_rate": 0.02}}]},
        },
    )
    output = checkout.snakemake("search", "--config", "study=micro")
    assert "search of study micro: 1 cells, 2 seeds to train, about" in output
    (name, choice), *others = checkout.params()["studies"]["micro"]["chosen"].items()
    assert (name, others) == ("digits-clean-resnet18-base", [])
    assert choice["options"] == {"training": {"learning_rate": 0.02}}
    assert any("base@1" in name for name in checkout.records())
