"""The search for the settings of a study: its rungs, what it chooses, and what it writes."""

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from handmade import ROOT, empty_project, parameters, record, write

from imcl.analysis.search import Rung, Search, gather
from imcl.bench.budget import efforts
from imcl.cli import main
from imcl.data import prepare
from imcl.errors import ImclError, Stopped, UsageError
from imcl.noise import inject
from imcl.project import Project
from imcl.study import chosen, grid, search
from imcl.study.grid import Cell
from imcl.study.load import checked, load
from imcl.study.references import SEARCH
from imcl.study.settings import Choice, Settings, Tried
from imcl.training import runner, worker

PARAMS = Path("params.yaml")
TINY = {
    "validation_share": 0.25,
    "rungs": [{"epochs": 0.5, "seeds": [1], "keep": 2}, {"seeds": [1, 2]}],
    "candidates": {
        "base": [{"training": {"learning_rate": rate}} for rate in (0.1, 0.2, 0.3)],
        "output": [{"output": {"weight": weight}} for weight in (1.0, 2.0, 3.0)],
        "all": [{"times": {"output": factor}} for factor in (1.0, 0.5, 0.0)],
    },
}


def raw_with(**study: Any) -> dict[str, Any]:
    raw = parameters()
    raw["search"] = TINY
    raw["studies"]["quick"] |= {
        "noise": ["n50"],
        "backbones": ["resnet18"],
        "methods": ["output", "all", "default", "kernel"],
        "training": {"epochs": 9, "warmup_epochs": 4, "batch_size": 64, "learning_rate": 0.05},
        **study,
    }
    return raw


def settings_with(**study: Any) -> Settings:
    return checked(raw_with(**study), PARAMS)


@pytest.fixture
def project(tmp_path) -> Project:
    return empty_project(tmp_path)


# rungs ------------------------------------------------------------------------------------------


def test_a_rung_is_a_study_on_held_out_images():
    settings = settings_with(methods=["base", "output"], noise=["clean", "n50"])
    races, *_ = search.stages(settings)
    made = search.rung(settings, 0, {race: [1, 3] for race in races}, {})
    cells = grid.cells(made)
    assert made.study == "search_quick"
    assert [cell.name for cell in cells] == [
        f"digits-{noise}-resnet18-base@{number}" for noise in ("clean", "n50") for number in (1, 3)
    ]
    training = cells[1].training
    assert training.learning_rate == 0.3
    # Half of 9 and of 4 epochs; only the last epoch counts.
    assert (training.epochs, training.warmup_epochs, training.evaluations) == (4, 2, 1)
    assert (training.batch_size, cells[0].seeds) == (64, [1])
    assert cells[0].dataset.config["validation_share"] == 0.25


def test_stages_go_from_base_to_combinations():
    names = [[race.method for race in stage] for stage in search.stages(settings_with())]
    assert names == [["base"], ["output"], ["all"]]  # kernel has no candidates


@pytest.mark.parametrize("study", ["quick", "cpu", "every", "gpu", "paper"])
def test_the_file_of_a_rung_is_read_as_the_rung(study):
    settings = load(ROOT / "params.yaml", study)
    for stage in search.stages(settings):
        numbers = {race: list(numbers) for race, numbers in stage.items()}
        made = search.rung(settings, 0, numbers, {})
        again = checked(yaml.safe_load(search.text(made)), PARAMS)
        assert [c.key for c in grid.cells(again)] == [c.key for c in grid.cells(made)]
        of_study = {cell.setting: cell for cell in grid.cells(settings)}
        for cell in grid.cells(made):
            theirs = of_study[cell.setting]
            assert (cell.width, cell.noise and cell.noise.options) == (
                theirs.width,
                theirs.noise and theirs.noise.options,
            )


def test_a_study_on_held_out_images_is_not_searched(project):
    raw = raw_with()
    raw["datasets"]["digits"] |= {"validation_share": 0.1, "validation_seed": 0}
    settings = checked(raw, PARAMS)
    with pytest.raises(UsageError, match=r"studies\.quick: dataset digits holds out images"):
        Search(project, settings)
    assert gather(project, settings) == []


# what is chosen ---------------------------------------------------------------------------------


def follow(
    project: Project,
    settings: Settings,
    accuracy: Callable[[Cell], float | None],
    truth: Callable[[Cell], float] = lambda cell: 0.5,
    study: str | None = None,
) -> tuple[Search, list[Rung]]:
    """Follow the search, with records by hand for each rung's cells."""
    found, rungs = Search(project, settings, committed=study is not None), []
    for rung in found.rungs():
        rungs.append(rung)
        for cell in rung.cells:
            value = accuracy(cell)
            if value is not None:
                made = record(cell, [value] * len(cell.seeds))
                for run in made["runs"]:
                    run["final"]["true_accuracy"] = truth(cell)
                write(project, cell, made, study)
    return found, rungs


ACCURACY = {
    "base@1": 0.3,
    "base@2": 0.4,
    "base@3": 0.2,
    "output@1": 0.3,
    "output@2": 0.5,
    "output@3": 0.5,  # of equals, the first wins
    "all@1": 0.1,
    "all@2": 0.3,
    "all@3": 0.2,
}
PLACE = "digits-n50-resnet18"


def by_method(cell: Cell) -> float:
    return ACCURACY[cell.method]


def test_the_best_go_on_and_later_stages_start_from_what_was_chosen(project):
    found, rungs = follow(project, settings_with(), by_method)
    assert [[cell.method for cell in rung.cells] for rung in rungs] == [
        ["base@1", "base@2", "base@3"],
        ["base@1", "base@2"],
        ["output@1", "output@2", "output@3"],
        ["output@2", "output@3"],
        ["all@1", "all@2", "all@3"],
        ["all@2", "all@3"],
    ]
    assert found.done
    assert all(rung.follows for rung in rungs)
    assert {cell.training.learning_rate for rung in rungs[2:] for cell in rung.cells} == {0.2}
    assert [cell.ways["output"].weight for cell in rungs[4].cells] == [2.0, 1.0, 0.0]
    told = {
        name: choice.options.model_dump(exclude_unset=True)
        for name, choice in found.choices.items()
    }
    assert told == {
        f"{PLACE}-base": {"training": {"learning_rate": 0.2}},
        f"{PLACE}-output": {"output": {"weight": 2.0}},
        f"{PLACE}-all": {"output": {"weight": 1.0}},  # half of what was chosen for output
    }
    assert found.choices[f"{PLACE}-output"].reason == (
        "held-out labels, mean of 2 seeds: weight 2 with 50.0 %; next: weight 3 with 50.0 %"
    )


def test_true_labels_decide_nothing_and_tell_the_regret(project):
    settings = settings_with(methods=["base"])
    truth = {"base@1": 0.9, "base@2": 0.6, "base@3": 1.0}
    found, _ = follow(project, settings, by_method, lambda cell: truth[cell.method])
    told = [
        (row["rung"], row["candidate"], row["accuracy"], row["true_accuracy"], row["chosen"])
        for row in found.rows
    ]
    assert told == [
        (1, 1, 0.3, 0.9, False),
        (1, 2, 0.4, 0.6, True),
        (1, 3, 0.2, 1.0, False),
        (2, 1, 0.3, 0.9, False),
        (2, 2, 0.4, 0.6, True),
    ]
    assert [row["regret"] for row in found.rows][:4] == [None] * 4
    assert found.rows[4]["regret"] == pytest.approx(0.3)  # against base@1, the best of its rung


def test_without_a_record_nothing_follows(project):
    missing = "output@2"
    found, rungs = follow(
        project, settings_with(), lambda c: None if c.method == missing else by_method(c)
    )
    assert [rung.follows for rung in rungs] == [True, True, True, False, False, False]
    assert not found.done
    assert {row["method"] for row in found.rows} == {"base", "output"}
    assert not any(row["chosen"] for row in found.rows if row["method"] == "output")
    assert gather(project, settings_with()) == found.rows


def test_the_effort_counts_each_seed_once_at_the_speed_of_the_records(project):
    raw = raw_with(methods=["base"])
    raw["search"] = {**TINY, "rungs": [{"seeds": [1], "keep": 2}, {"seeds": [1, 2]}]}
    settings = checked(raw, PARAMS)
    planned = [rung.cells for rung in Search(project, settings).rungs()]
    first, second = efforts(project, settings, planned)
    assert (first["cells"], first["done"], first["seeds"]) == (3, 0, 3)
    assert (second["cells"], second["seeds"]) == (2, 2)  # seed 1 of both is trained before
    (base, *_) = grid.cells(settings)
    write(project, base, record(base, [0.5] * len(base.seeds)))  # 3 s a seed
    [measured, _] = efforts(project, settings, planned)
    # A job of 3 s to start, and a seed with three quarters of the images; evaluated once, not 9
    # times, on fewer images.
    assert 3 * (3 + 0.6 * 3) / 3600 < measured["core_hours"] < 3 * (3 + 0.76 * 3) / 3600


# params.yaml ------------------------------------------------------------------------------------


def choice(weight: float) -> Choice:
    options = Tried.model_validate({"output": {"weight": weight}})
    return Choice(options=options, reason=f"x: {weight}")


@pytest.fixture
def own(project) -> Project:
    """A project whose params.yaml is its own, and in which nothing is chosen."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text = re.sub(r"    chosen:\n(?:      .*\n)+", "", text)
    project.params.write_text(text, encoding="utf-8")
    return project


@pytest.mark.parametrize("study", ["quick", "cpu", "paper"])
def test_only_what_was_chosen_changes_in_the_file(own, study):
    before = own.params.read_text(encoding="utf-8")
    names = ("digits-n50-vgg16-output", "digits-clean-vgg16-output")
    for weights in ((1.0, 2.0), (3.0, 2.0)):
        entries = {name: choice(weight) for name, weight in zip(names, weights, strict=True)}
        chosen.write(own, load(own.params, study), entries)
        assert load(own.params, study).chosen_study.chosen == entries
    after = own.params.read_text(encoding="utf-8").splitlines()
    block = [
        *("    chosen:", f"      {names[0]}:"),
        *("        options: {output: {weight: 3.0}}", "        reason: 'x: 3.0'"),
        f"      {names[1]}:",
        *("        options: {output: {weight: 2.0}}", "        reason: 'x: 2.0'"),
    ]
    start = after.index("    chosen:")
    assert after[start : start + len(block)] == block
    if "chosen" not in yaml.safe_load(before)["studies"][study]:
        assert [*after[:start], *after[start + len(block) :]] == before.splitlines()


def test_comments_about_choices_stay(own):
    entries = {f"{PLACE}-{name}": choice(1.0) for name in ("output", "all")}
    chosen.write(own, load(own.params), entries)
    text = own.params.read_text(encoding="utf-8")
    commented = text.replace("reason: 'x: 1.0'", "reason: 'x: 1.0' # by hand", 1)
    own.params.write_text(commented, encoding="utf-8")
    chosen.write(own, load(own.params), {**entries, f"{PLACE}-output": choice(2.0)})
    assert "reason: 'x: 2.0' # by hand" in own.params.read_text(encoding="utf-8")
    chosen.write(own, load(own.params), {f"{PLACE}-all": choice(1.0)})
    assert load(own.params).chosen_study.chosen == {f"{PLACE}-all": choice(1.0)}


def test_studies_that_share_their_lines_are_left_alone(own):
    text = own.params.read_text(encoding="utf-8")
    shared = text.replace("  quick: #", "  quick: &quick #").replace(
        "  cpu: # CIFAR", "  twin: *quick\n\n  cpu: # CIFAR"
    )
    own.params.write_text(shared, encoding="utf-8")
    with pytest.raises(ImclError, match=r"params\.yaml: nothing is written, since other studies"):
        chosen.write(own, load(own.params), {f"{PLACE}-output": choice(1.0)})
    assert own.params.read_text(encoding="utf-8") == shared


@pytest.mark.parametrize("study", load(ROOT / "params.yaml").studies)
def test_the_committed_choices_are_what_the_committed_records_give(study):
    project, settings = Project(ROOT), load(ROOT / "params.yaml", study)
    if not project.committed_records(f"{SEARCH}{study}").exists():
        assert not settings.chosen_study.chosen
        return
    found = Search(project, settings, committed=True)
    assert all(rung.follows for rung in found.rungs())
    assert found.done
    assert found.choices == settings.chosen_study.chosen


# the command ------------------------------------------------------------------------------------


def trains(project: Project, stop_after: int | None, trained: list[str]) -> Callable[..., Any]:
    """What `imcl run` does with the cells of a rung, in this process; it may be stopped."""

    def run(_: Project, cells: list[Cell], *arguments: object, **options: object) -> Any:
        for cell in cells:
            if project.record(cell.key).exists():
                continue
            if stop_after is not None and len(trained) >= stop_after:
                raise Stopped(signal.SIGTERM)
            for dataset, noise in cell.all_data:
                prepare.prepare(project, dataset)
                if noise:
                    inject.inject(project, noise)
            worker.train(project, cell, worker.RunOptions("cpu"))
            trained.append(cell.key)
        return [], []

    return run


def test_a_stopped_search_ends_as_one_that_was_not(tmp_path, monkeypatch, capsys):
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["studies"] = {
        "quick": {
            "datasets": ["digits"],
            "noise": ["n50"],
            "backbones": ["resnet18"],
            "methods": ["base", "output"],
            "seeds": [1],
            "width": 4,
            "training": {"epochs": 2, "warmup_epochs": 0, "batch_size": 64},
        }
    }
    raw["datasets"]["digits"] |= {"train_size": 200, "subset_seed": 0}
    raw["search"] = {
        "validation_share": 0.25,
        "rungs": [{"epochs": 0.5, "seeds": [1]}, {"seeds": [1, 2]}],
        "candidates": {name: TINY["candidates"][name][:2] for name in ("base", "output")},
    }
    results = {}
    for name, stops in (("whole", [None]), ("stopped", [1, 4, None])):
        project = Project(tmp_path / name)
        project.root.mkdir()
        project.params.write_text("# kept\n" + yaml.safe_dump(raw, sort_keys=False))
        trained: list[str] = []
        for stop in stops:
            monkeypatch.setattr(runner, "run", trains(project, stop, trained))
            code = main(["search", "quick", "--project", str(project.root)])
            assert code == (0 if stop is None else 128 + signal.SIGTERM)
        assert len(trained) == len(set(trained)) == 6
        results[name] = project.params.read_text(encoding="utf-8")
    assert results["stopped"] == results["whole"]
    assert results["whole"].startswith("# kept\n")
    assert set(load(project.params).chosen_study.chosen) == {f"{PLACE}-base", f"{PLACE}-output"}
    capsys.readouterr()
    # It chooses the same again, although its own choice stands in the file now; nothing is trained.
    assert main(["search", "--plan", "--project", str(project.root)]) == 0
    assert "6 cells, 0 seeds to train" in capsys.readouterr().out
    monkeypatch.setattr(runner, "run", trains(project, 0, trained))
    assert main(["search", "--project", str(project.root)]) == 0
    assert project.params.read_text(encoding="utf-8") == results["whole"]
    assert main(["verify", "--project", str(project.root)]) == 0, capsys.readouterr().err
