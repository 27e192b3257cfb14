"""The search for the settings: its rungs, and what a study uses of it."""

from pathlib import Path
from typing import Any

import pytest
from handmade import empty_project, parameters, record, write

from imcl.analysis import search, summary
from imcl.errors import ImclError
from imcl.files import write_json
from imcl.project import Project
from imcl.study import grid
from imcl.study.load import checked
from imcl.study.settings import Settings


@pytest.fixture
def project(tmp_path) -> Project:
    return empty_project(tmp_path)


def with_rung(raw: dict[str, Any], **changes: Any) -> Settings:
    """The parameters with one more rung, on held-out digits."""
    raw["datasets"]["digits_tune"] = {
        **raw["datasets"]["digits"],
        "validation_share": 0.1,
        "validation_seed": 0,
    }
    raw["studies"]["rung"] = {
        **raw["studies"]["quick"],
        "datasets": ["digits_tune"],
        "noise": ["clean"],
        "backbones": ["resnet18"],
        "methods": ["kernel"],
        "seeds": [1],
        **changes,
    }
    raw["search"]["rungs"].append("rung")
    return checked(raw, Path("params.yaml"))


def test_the_search_shows_what_lost_and_marks_what_was_chosen(project):
    raw = parameters()
    raw["trials"] |= {
        "slow": {"training": {"learning_rate": 0.01}},
        "strong": {
            "intermediate": {"variant": "augment", "weight": 1.0, "centred": False},
            "kernel": {"variant": "cosine", "weight": 30.0, "ramp_up_steps": 500},
        },
    }
    raw["search"] = {
        "rungs": [],
        "chosen": {
            "kernel": [{"method": "strong", "noise": "clean", "reason": "it was best"}],
            "training": [{"method": "slow", "noise": "n50", "reason": "with other labels"}],
        },
    }
    settings = with_rung(raw, methods=["slow", "strong"], noise=["clean", "n50"])
    tried = [cell for cell in grid.cells(settings, "rung") if cell.noise is None]
    paths = [
        write(project, cell, record(cell, [accuracy]), study="rung")
        for cell, accuracy in zip(tried, (0.25, 0.5), strict=True)
    ]
    lost, won = search.gather(project, settings)
    assert lost == {
        "rung": "rung",
        "record": project.relative(paths[0]),
        "dataset": "digits_tune",
        "noise": "clean",
        "backbone": "resnet18",
        "method": "slow",
        "epochs": 14,
        "learning_rate": 0.01,
        "weight_decay": 0.0005,
        "settings": "",
        "chosen": False,  # n50: not with these labels
        "n": 1,
        "last": 0.25,
        "best": 0.26,
        "nll": 0.5,
    }
    assert won["learning_rate"] == 0.05
    assert won["settings"] == (
        "intermediate augment × 1, not centred; kernel cosine × 30, ramp up steps 500"
    )
    assert (won["last"], won["best"], won["chosen"]) == (0.5, 0.51, True)


def test_a_row_is_a_mean_over_the_seeds(project):
    settings = with_rung(parameters(), seeds=[1, 2])
    (cell,) = grid.cells(settings, "rung")
    write(project, cell, record(cell, [0.25, 0.5]))
    (row,) = search.gather(project, settings)
    assert (row["n"], row["last"], row["best"]) == (2, 0.375, pytest.approx(0.385))
    assert row["settings"] == "kernel cosine × 10"  # no trial, which would state more


def test_from_committed_records_what_was_trained_here_is_left_out(project):
    settings = with_rung(parameters())
    (cell,) = grid.cells(settings, "rung")
    write(project, cell, record(cell, [0.5]), study="rung")
    write(project, cell, record(cell, [0.25]))
    for committed, expected in ((False, 0.25), (True, 0.5)):
        path = search.write(project, settings, committed)
        assert path == project.search(committed)
        (row,) = search.read(project, committed)
        assert [row] == search.gather(project, settings, committed)
        assert row["last"] == expected


@pytest.mark.parametrize(
    ("committed", "command"), [(False, "`imcl search`"), (True, "`imcl search --committed`")]
)
def test_without_the_file_the_command_is_named(project, committed, command):
    with pytest.raises(ImclError, match=rf"results/search.*\.json: .*{command}"):
        search.read(project, committed)
    write_json(project.search(committed), {"committed": committed})
    with pytest.raises(ImclError, match="damaged or changed by hand"):
        search.read(project, committed)


def test_the_search_says_nothing_of_settings_that_a_study_does_not_use(project):
    raw = parameters()
    raw["studies"]["quick"] |= {"noise": ["clean"], "methods": ["base", "kernel", "output"]}
    raw["studies"]["quick"] |= {"backbones": ["resnet18"], "seeds": [1]}
    settings = with_rung(raw, methods=["base_lr10"])
    for cell in grid.cells(settings):
        write(project, cell, record(cell, [0.5]))
    made = summary.build(project, settings)
    assert "training" in settings.search.chosen.given()
    assert set(made["chosen"]) == {"output", "kernel"}  # `quick` trains at another rate
