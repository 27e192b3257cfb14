"""The ledger of claims, judged from records written by hand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from handmade import ENVIRONMENT, empty_project, parameters, record, write

from imcl.analysis import claims
from imcl.cli import main
from imcl.errors import ImclError
from imcl.files import write_json
from imcl.present import answer, render
from imcl.present import claims as shown
from imcl.present import shown as terminal
from imcl.project import Project
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.load import checked
from imcl.study.settings import Settings

# STL-10, ResNet-18, three seeds: the error of base is 20 %, 21 % and 22 %.
BASE = [0.80, 0.79, 0.78]


@pytest.fixture
def project(tmp_path) -> Project:
    return empty_project(tmp_path)


@pytest.fixture
def loaded() -> dict[str, Any]:
    """The parameters with one study, which counts as evidence."""
    raw = parameters()
    raw["studies"] = {
        "main": {
            "datasets": ["stl10"],
            "noise": ["clean"],
            "backbones": ["resnet18"],
            "methods": ["base", "output", "all"],
            "seeds": [1, 2, 3],
            "width": 64,
            "training": {"epochs": 30},
        }
    }
    raw["study"] = "main"
    return raw


def settings(loaded: dict[str, Any]) -> Settings:
    return checked(loaded, Path("params.yaml"))


def write_committed(project: Project, loaded: dict, study: str, **accuracies: list[float]) -> None:
    """Commit records of the methods named to a study."""
    for cell in grid.cells(settings(loaded), study):
        if cell.method in accuracies:
            write(project, cell, record(cell, accuracies[cell.method]), study)


def judged(
    project: Project, loaded: dict, claim: str, **accuracies: list[float]
) -> claims.JudgedClaim:
    """A claim, judged from committed records of the methods named."""
    write_committed(project, loaded, "main", **accuracies)
    return of(project, loaded, claim)


def of(project: Project, loaded: dict, claim: str, committed: bool = False) -> claims.JudgedClaim:
    (found,) = [
        c for c in claims.judge(project, settings(loaded), committed) if c["claim"] == claim
    ]
    return found


def verdicts(claim: dict) -> dict[str, str]:
    return {claims.describe(r["reading"]): r["verdict"] for r in claim["readings"]}


def test_without_records_nothing_is_tested_and_what_is_missing_is_named(project, loaded):
    found = judged(project, loaded, "stl10_resnet18")
    assert found["verdict"] == "not tested"
    assert found["missing"] == ["no records: stl10; clean; resnet18"]


def test_the_readings_of_a_figure_are_judged_apart(project, loaded):
    # The error falls by 2, 2.1 and 2.2 points, which is 10 % of it in each seed but for rounding.
    better = [b + f for b, f in zip(BASE, [0.0200, 0.0211, 0.0219], strict=True)]
    found = judged(project, loaded, "stl10_resnet18", base=BASE, all=better)
    assert verdicts(found) == {
        "unit points, epoch last": "partly",  # significant, and short of 9.28 points
        "unit points, epoch oracle": "partly",
        "unit relative, epoch last": "reproduced",
        "unit relative, epoch oracle": "reproduced",
    }
    effect = found["readings"][2]["effect"]
    assert effect["mean"] == pytest.approx((2 / 20 + 2.11 / 21 + 2.19 / 22) * 100 / 3)
    assert effect["n"] == 3
    assert found["verdict"] == "partly"  # since the readings differ


def test_the_ledger_shows_the_numbers_of_the_first_reading_that_could_be_tested(
    project, loaded, capsys, monkeypatch
):
    # Of 2, 2.11 and 2.19 points the mean is 2.10 and the standard deviation 0.0954; with the
    # t-quantile 4.303 for two degrees of freedom the half width is 4.303 * 0.0954 / sqrt(3).
    better = [b + f for b, f in zip(BASE, [0.0200, 0.0211, 0.0219], strict=True)]
    ledger = loaded["claims"]["ledger"]
    readings = {"noise": ["n50", "clean"], "unit": ["points", "relative"]}
    ledger["stl10_resnet18"] |= {"figure": 2.5, "readings": readings}
    found = judged(project, loaded, "stl10_resnet18", base=BASE, all=better)
    verdicts = ["not tested", "not tested", "partly", "reproduced"]
    assert [r["verdict"] for r in found["readings"]] == verdicts
    (row,) = shown.table([found]).rows().values()
    assert row["verdict"].text == "partly reproduced"
    assert row["effect (claimed)"].text == (
        "+2.10 ± 0.24 points (2.5); holds in 0 of 1 comparisons, in another reading in 1 of 1"
    )
    assert row["scope"].text == "clean labels, ResNet-18; STL-10; width 64; n = 3 seeds"
    readings = shown.readings_table([found]).rows()
    assert list(readings) == [  # those without records are left out
        "stl10_resnet18/noise clean, unit points",
        "stl10_resnet18/noise clean, unit relative",
    ]
    counts = [readings[f"stl10_resnet18/noise clean, unit {u}"] for u in ("points", "relative")]
    assert [[c[k].text for k in ("holding", "tested", "planned", "n")] for c in counts] == [
        ["0", "1", "1", "3"],
        ["1", "1", "1", "3"],
    ]
    terminal.claims([found], verbose=True)
    out = capsys.readouterr().out
    assert "noise clean, unit points: partly, 0 of 1 tested hold, 1 planned, effect" in out
    assert "effect 2.10 ± 0.24 (n = 3)" in out
    terminal.claims([found])
    _, row, *_ = capsys.readouterr().out.splitlines()
    assert " ".join(row.split()).endswith("9.28 %. partly 2.10 ± 0.24 points 1 of 1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    terminal.claims([found])
    assert "\x1b[33mpartly" in capsys.readouterr().out


def test_the_ledger_says_what_a_claim_that_was_not_tested_needs(project, loaded):
    loaded["claims"]["ledger"]["stl10_resnet18"]["readings"] = {"unit": ["relative", "points"]}
    found = judged(project, loaded, "stl10_resnet18")
    (row,) = shown.table([found]).rows().values()
    assert [entry.text for entry in row.values()] == [
        "not tested",
        "(9.28)",
        "no records of STL-10",
    ]


def test_the_effect_of_several_comparisons_is_their_mean_by_seed(project, loaded):
    ledger = loaded["claims"]["ledger"]
    ledger["each_way"] |= {"methods": ["output", "all"], "datasets": ["stl10"]}
    found = judged(
        project,
        loaded,
        "each_way",
        base=BASE,
        output=[b + f for b, f in zip(BASE, [0.02, 0.03, 0.04], strict=True)],
        all=[b + f for b, f in zip(BASE, [0.04, 0.05, 0.09], strict=True)],
    )
    effect = found["readings"][0]["effect"]
    # By seed 3, 4 and 6.5 points: their standard deviation is 1.803, and t(0.975, 2) 4.303.
    assert effect["mean"] == pytest.approx(4.5)
    assert effect["half_width"] == pytest.approx(4.303 * 1.803 / 3**0.5, rel=1e-3)
    assert effect["n"] == 3


def test_of_studies_with_other_seeds_the_shared_ones_count(project, loaded):
    ledger = loaded["claims"]["ledger"]
    ledger["each_way"] |= {"methods": ["output", "kernel"], "datasets": ["stl10"]}
    main = loaded["studies"]["main"]
    loaded["studies"]["later"] = {**main, "methods": ["base", "kernel"], "seeds": [2, 3, 4]}
    later = {"base": [0.8, 0.8, 0.8], "kernel": [0.84, 0.86, 0.9]}
    write_committed(project, loaded, "later", **later)
    found = judged(
        project,
        loaded,
        "each_way",
        base=BASE,
        output=[BASE[0] + 0.15, BASE[1] + 0.02, BASE[2] + 0.03],
    )
    effect = found["readings"][0]["effect"]
    # Of seed 2 points 2 and 4, of seed 3 points 3 and 6.
    assert (round(effect["mean"], 9), effect["n"]) == (3.75, 2)


def test_of_comparisons_with_other_seeds_the_shared_ones_count():
    some = {"seeds": [1, 2, 3], "values": [90.0, 2.0, 3.0]}
    other = {"seeds": [2, 3, 4], "values": [4.0, 6.0, 50.0]}
    effect = claims._mean_by_seed([some, other])
    assert (effect["mean"], effect["n"]) == (3.75, 2)  # of 3 and 4.5
    assert claims._mean_by_seed([some, {"seeds": [7], "values": [1.0]}]) is None


def test_from_committed_records_what_was_trained_here_is_left_out(project, loaded):
    found = judged(project, loaded, "stl10_resnet18", base=BASE, all=[b + 0.1 for b in BASE])
    assert found == of(project, loaded, "stl10_resnet18", committed=True)
    for cell in grid.cells(settings(loaded)):
        write(project, cell, record(cell, [0.1, 0.2, 0.3] if cell.method == "all" else BASE))
    assert of(project, loaded, "stl10_resnet18")["verdict"] == "not reproduced"
    assert of(project, loaded, "stl10_resnet18", committed=True) == found


def test_a_difference_that_may_be_chance_does_not_reproduce(project, loaded):
    found = judged(project, loaded, "stl10_resnet18", base=BASE, all=[0.95, 0.78, 0.79])
    assert set(verdicts(found).values()) == {"not reproduced"}
    assert found["readings"][0]["comparisons"][0]["state"] == "undecided"


def test_a_significant_rise_of_the_error_contradicts(project, loaded):
    found = judged(project, loaded, "stl10_resnet18", base=BASE, all=[0.75, 0.741, 0.729])
    assert found["readings"][0]["comparisons"][0]["state"] == "contradicted"
    assert found["verdict"] == "not reproduced"


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        ({"seeds": [1, 2]}, "study main has seeds 2 of 3: stl10; clean; resnet18"),
        ({"width": 8}, "study main has width 8 of 64: stl10; clean; resnet18"),
        ({"training": {"epochs": 9}}, "study main has epochs 9 of 30: stl10; clean; resnet18"),
    ],
)
def test_too_little_is_not_tested_and_no_guess(project, loaded, change, lacks):
    loaded["studies"]["main"] |= change
    seeds = len(loaded["studies"]["main"]["seeds"])
    better = [0.90, 0.892, 0.879][:seeds]
    found = judged(project, loaded, "stl10_resnet18", base=BASE[:seeds], all=better)
    assert found["verdict"] == "not tested"
    assert found["missing"] == [lacks]
    comparison = found["readings"][0]["comparisons"][0]
    assert comparison["effect"]["mean"] == pytest.approx(10, abs=0.1)  # an indication, and shown


BETTER = [0.90, 0.892, 0.879]


def test_a_subset_of_a_dataset_or_a_narrow_network_counts_at_reduced_size(project, loaded):
    loaded["datasets"]["stl10_1k"] = {
        **loaded["datasets"]["stl10"],
        "train_size": 1000,
        "subset_seed": 0,
    }
    loaded["studies"]["main"] |= {"datasets": ["stl10_1k"], "width": 16}
    found = judged(project, loaded, "stl10_resnet18", base=BASE, all=BETTER)
    assert (found["verdict"], found["size"]) == ("reproduced", "reduced")
    assert found["readings"][0]["size"] == "reduced"
    assert found["missing"] == [
        "study main has width 16 of 64, only stl10_1k: stl10; clean; resnet18"
    ]


def test_full_size_is_taken_before_reduced_size_whatever_it_says(project, loaded):
    narrow = {**loaded["studies"]["main"], "width": 16, "seeds": [1, 2, 3, 4]}
    loaded["studies"]["narrow"] = narrow
    # The same gains as BETTER has, and one more.
    write_committed(project, loaded, "narrow", base=[*BASE, 0.8], all=[*BETTER, 0.8])
    found = judged(project, loaded, "stl10_resnet18", base=BASE, all=[0.75, 0.741, 0.729])
    assert (found["verdict"], found["size"], found["missing"]) == ("not reproduced", "full", [])


def test_a_verdict_that_rests_on_one_reduced_part_is_reduced(project, loaded):
    loaded["claims"]["ledger"]["each_way"] |= {"methods": ["output"], "datasets": ["stl10"]}
    loaded["studies"]["narrow"] = {
        **loaded["studies"]["main"],
        "width": 16,
        "backbones": ["vgg16"],
    }
    write_committed(project, loaded, "narrow", base=BASE, output=BETTER)
    found = judged(project, loaded, "each_way", base=BASE, output=BETTER)
    assert (found["verdict"], found["size"]) == ("reproduced", "reduced")
    sizes = [c["size"] for c in found["readings"][0]["comparisons"]]
    assert sizes == ["full", "reduced"]


def test_held_out_training_images_are_no_evidence(project, loaded):
    held_out = {**loaded["datasets"]["stl10"], "validation_share": 0.1, "validation_seed": 0}
    loaded["datasets"]["stl10_tune"] = held_out
    loaded["studies"]["main"]["datasets"] = ["stl10_tune"]
    found = judged(project, loaded, "stl10_resnet18", base=BASE, all=BETTER)
    missing = ["no records: stl10; clean; resnet18"]
    assert (found["verdict"], found["missing"]) == ("not tested", missing)


def test_a_study_that_says_so_is_no_evidence(project, loaded):
    loaded["studies"]["main"]["evidence"] = False
    found = judged(project, loaded, "stl10_resnet18", base=BASE, all=BETTER)
    missing = ["no records: stl10; clean; resnet18"]
    assert (found["verdict"], found["missing"]) == ("not tested", missing)


def test_of_equal_studies_the_first_counts(project, loaded):
    main = loaded["studies"]["main"]
    loaded["studies"]["other"] = {**main, "ways": {"clean": {"kernel": {"weight": 3.0}}}}
    write_committed(project, loaded, "other", base=BASE, all=[0.75, 0.741, 0.729])
    assert (
        judged(project, loaded, "stl10_resnet18", base=BASE, all=BETTER)["verdict"] == "reproduced"
    )
    loaded["studies"] = dict(reversed(loaded["studies"].items()))
    assert of(project, loaded, "stl10_resnet18")["verdict"] == "not reproduced"


def test_a_claim_on_many_settings_is_reproduced_only_if_all_of_them_are(project, loaded):
    loaded["claims"]["ledger"]["each_way"] |= {
        "methods": ["output"],
        "datasets": ["stl10"],
        "backbones": ["resnet18", "vgg16"],
    }
    found = judged(project, loaded, "each_way", base=BASE, output=BETTER)
    reading = found["readings"][0]
    assert (reading["comparisons_holding"], reading["comparisons_tested"]) == (1, 1)
    assert found["verdict"] == "partly"
    assert found["missing"] == ["no records: stl10; clean; vgg16"]
    loaded["studies"]["main"]["backbones"] = ["resnet18", "vgg16"]
    assert judged(project, loaded, "each_way", base=BASE, output=BETTER)["verdict"] == "reproduced"


def test_costs_are_judged_on_each_machine(project, loaded):
    store = Store(project)
    row = {"backbone": "resnet18", "width": 64, "training_parameters": 10, "macs_ratio": 1.0}
    row |= {"time_ratio": 1.0, "memory_ratio": 1.0, "batch_size": 128, "parameters": 10}
    row |= {"macs": 1.0, "seconds": 1.0, "memory_bytes": 1}
    rows = [
        {**row, "method": "all", "time_ratio": 1.5},
        {**row, "method": "multihead", "time_ratio": 2.0},
        {**row, "method": "base"},
    ]
    for device, ratio in (("cpu", 1.5), ("cuda", 2.5)):
        rows[0] = {**rows[0], "time_ratio": ratio}
        bench = {
            "bench": "overhead",
            "settings": {"width": 64, "batch_size": 8, "precision": "float32", "repeats": 7},
            "code": {"version": "1", "commit": None, "modified": None},
            "environment": {**ENVIRONMENT, "device_name": device},
            "rows": rows,
        }
        store.write_measurement("overhead", device, bench)
    ledger = loaded["claims"]["ledger"]
    for name in ("overhead", "no_duplication"):
        ledger[name]["backbones"] = ["resnet18"]
    ledger["overhead"]["readings"] = {"methods": ["all"], "measure": ["time", "macs"]}
    ledger["no_duplication"]["methods"] = ["all"]
    found = judged(project, loaded, "overhead")
    assert list(verdicts(found).values()) == ["partly", "not reproduced"]  # 0.75 and 1.25; 1 and 1
    assert (found["size"], found["missing"]) == ("full", [])
    effect = {"mean": 1.0, "low": 0.75, "high": 1.25, "n": 7}
    assert found["readings"][0]["effect"] == effect
    assert found["readings"][1]["effect"]["n"] == 1  # multiply-adds are counted, not timed
    assert judged(project, loaded, "no_duplication")["verdict"] == "reproduced"
    rows[0]["training_parameters"] = 11
    store.write_measurement("overhead", "cuda", bench)
    assert judged(project, loaded, "no_duplication")["verdict"] == "partly"


def test_the_command_prints_json_and_writes_the_ledger(project, capsys):
    command = ["--project", str(project.root), "claims"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {claim["verdict"] for claim in found} == {"not tested"}
    page = project.root / "page.md"
    page.write_text("before\n<!-- claims -->\nOLD\n<!-- /claims -->\nafter\n")
    assert main([*command, "--write", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- claims -->\n| claim ")
    assert text.endswith("<!-- /claims -->\nafter\n")
    assert "OLD" not in text
    page.write_text("no marks")
    assert main([*command, "--write", str(page)]) == 1
    assert "page.md: needs a line <!-- claims -->" in capsys.readouterr().err
    assert page.read_text() == "no marks"
    page.unlink()
    os.mkfifo(page)  # to read from it would wait for ever
    assert main([*command, "--write", str(page)]) == 1
    assert "page.md: not a file, but a device or a pipe" in capsys.readouterr().err
    assert render.MISSING not in found[0]["says"]


def test_what_was_judged_is_written_and_read(project, loaded):
    with pytest.raises(ImclError, match=r"results/claims\.json: .*`imcl claims --save`"):
        claims.read(project)
    write_committed(project, loaded, "main", base=BASE, all=BETTER)
    path = claims.write(project, settings(loaded), committed=True)
    assert path == project.claims(committed=True)
    made = claims.judge(project, settings(loaded), committed=True)
    assert claims.read(project, committed=True) == made
    with pytest.raises(ImclError, match=r"claims\.json"):
        claims.read(project)
    write_json(path, {"committed": True})
    with pytest.raises(ImclError, match="damaged or changed by hand"):
        claims.read(project, committed=True)


def test_settings_are_told_by_their_parts_where_none_is_left_out():
    grid_ = [(d, b) for d in ("cifar10", "stl10") for b in ("resnet18", "vgg16")]
    assert claims._settings(grid_) == "cifar10, stl10; resnet18, vgg16"
    assert claims._settings(grid_[1:]) == "cifar10 vgg16, stl10 resnet18, stl10 vgg16"


@pytest.mark.parametrize(
    ("seed", "said"),
    [
        (None, "or 1 if no time is measured."),
        (
            0,
            "The subset is the same in all runs, so intervals cover the training's randomness "
            "alone.",
        ),
        ("per_run", "The subset is drawn anew for each run, so intervals cover that too."),
    ],
)
def test_the_ledger_says_what_intervals_cover(project, loaded, seed, said):
    if seed is not None:
        loaded["datasets"]["stl10"] |= {"train_size": 4000, "subset_seed": seed}
    found = judged(project, loaded, "stl10_resnet18", base=BASE, all=[b + 0.1 for b in BASE])
    for table in (shown.table([found]), shown.readings_table([found])):
        assert table.caption.endswith(said)


def test_the_ledger_says_what_earlier_code_computed(project, loaded):
    """Of those records alone that the verdicts rest on."""
    said = "1 of 2 records were made by earlier code, in which the loss was halved."
    better = {"all": [b + 0.1 for b in BASE], "output": BASE}
    found = judged(project, loaded, "stl10_resnet18", base=BASE, **better)
    assert "earlier" not in shown.table([found]).caption
    migrated = {"digest": "0" * 12, "change": "x", "earlier": "the loss was halved"}
    for cell in grid.cells(settings(loaded), "main"):
        if cell.method in ("base", "output"):  # output is not in this claim
            write(project, cell, record(cell, BASE, migrated=migrated), "main")
    again = of(project, loaded, "stl10_resnet18")
    for table in (shown.table([again]), shown.readings_table([again])):
        assert table.caption.endswith(said)


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (["undecided"] * 5, "undecided"),
        (["holds"] * 5, "holds"),
        (["contradicted"] * 5, "contradicted"),
        (["holds"] * 4 + ["contradicted"], "undecided"),
    ],
)
def test_the_mean_of_many_comparisons_has_the_state_that_all_have(states, told):
    effect = {"mean": 0.5, "half_width": 0.6, "n": 3}
    comparisons = [{"size": "reduced", "effect": effect, "state": state} for state in states]
    reading = {
        "reading": {},
        "effect": effect,
        "size": "reduced",
        "verdict": "not reproduced",
        "comparisons": comparisons,
    }
    claim = {"says": "Each helps.", "figure": None, "readings": [reading]}
    (row,) = answer.rows([claim])
    assert (row.label, row.state) == ("mean of 5 comparisons", told)
