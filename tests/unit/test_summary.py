"""From records written by hand to the summary of a study."""

import json
from pathlib import Path
from typing import Any

import pytest
from handmade import empty_project, parameters, record, write

from imcl.analysis import claims, summary
from imcl.errors import ImclError
from imcl.files import sha256, write_json
from imcl.present.documents import Documents
from imcl.project import Project
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.load import checked
from imcl.study.options import DEFAULT, WAYS
from imcl.study.settings import Settings

# Accuracy by seed. kernel: +1, +2, +3 points, t = 3.46, p = 0.074; output: +10, +11, +10 points,
# t = 31, p = 0.001, and the best.
ACCURACY = {"base": [0.80, 0.82, 0.84], "kernel": [0.81, 0.84, 0.87], "output": [0.90, 0.93, 0.94]}


@pytest.fixture
def project(tmp_path) -> Project:
    return empty_project(tmp_path)


def study(**changes: Any) -> Settings:
    """A study of three methods, or with other axes."""
    raw = parameters()
    raw["studies"]["quick"] |= {
        "noise": ["clean"],
        "backbones": ["resnet18"],
        "methods": list(ACCURACY),
        "seeds": [1, 2, 3],
        **changes,
    }
    return checked(raw, Path("params.yaml"))


def write_records(project: Project, settings: Settings, **changes: dict[str, Any]) -> None:
    for cell in grid.cells(settings):
        made = record(cell, ACCURACY[cell.method], **changes.get(cell.method, {}))
        write(project, cell, made)


def cells(made: summary.Summary) -> dict[str, summary.SummaryRow]:
    """The rows of a summary with one dataset and noise, by backbone and method."""
    return {f"{row['backbone']}/{row['method']}": row for row in made["cells"]}


def test_values_estimates_and_the_record_of_a_cell(project):
    settings = study()
    write_records(project, settings)
    made = summary.write(project, settings)
    assert made["planned"] == 3
    assert made["axes"]["methods"] == list(ACCURACY)
    row = cells(made)["resnet18/kernel"]
    path = project.root / row["record"]["path"]
    assert row["record"] == {
        "path": f"results/records/{row['key']}.json",
        "sha256": sha256(path),
    }
    assert row["values"]["accuracy"] == [0.81, 0.84, 0.87]
    assert row["values"]["error"] == pytest.approx([0.19, 0.16, 0.13])
    assert row["values"]["oracle_accuracy"] == pytest.approx([0.82, 0.85, 0.88])
    assert row["values"]["lost_since_best"] == pytest.approx([0.01] * 3)
    assert row["values"]["train_accuracy"] == [0.5] * 3
    # Standard deviation 3 points; t(2) = 4.303; half-width 7.45.
    estimate = row["estimates"]["accuracy"]
    assert estimate["mean"] == pytest.approx(0.84)
    assert estimate["half_width"] == pytest.approx(0.0745, abs=5e-5)
    assert (row["training_seconds"], row["peak_memory_bytes"]) == (2.0, 100)
    (point,) = row["history"]
    assert (point["epoch"], point["train_accuracy"]) == (1, 0.5)
    assert point["accuracy"] == estimate


def test_the_order_of_the_seeds_does_not_count(project):
    write_records(project, study())
    made = summary.build(project, study(), partial=True)
    turned = summary.build(project, study(seeds=study().chosen_study.seeds[::-1]), partial=True)
    assert turned == made


def test_what_was_written_is_read(project):
    settings = study()
    write_records(project, settings)
    made = summary.write(project, settings)
    assert summary.read(project) == json.loads(json.dumps(made))
    assert project.summary(grid.study_key(settings), committed=False).exists()


def test_differences_are_paired_and_holm_corrected(project):
    settings = study()
    write_records(project, settings)
    made = summary.write(project, settings)
    rows = cells(made)
    assert "difference_to_base" not in rows["resnet18/base"]
    kernel = rows["resnet18/kernel"]["difference_to_base"]
    output = rows["resnet18/output"]["difference_to_base"]
    assert kernel["with"] == output["with"] == rows["resnet18/base"]["key"]
    assert kernel["values"] == pytest.approx([0.01, 0.02, 0.03])
    assert kernel["p"] == kernel["p_holm"] == pytest.approx(0.074, abs=5e-4)
    # Three pairs, each higher: of 2^3 swaps two are as far from 0; times two comparisons.
    assert (kernel["permutation_p"], kernel["permutation_p_holm"]) == (0.25, 0.5)
    # The smaller p of two, so doubled: t = 10.33 / (0.577 / sqrt 3) = 31, p = 0.00104.
    assert output["p_holm"] == 2 * output["p"] == pytest.approx(0.00208, abs=5e-6)
    assert (kernel["significant"], output["significant"]) == (False, True)
    comparisons = made["comparisons"]["digits"]["base"]
    assert (comparisons["planned"], comparisons["made"], comparisons["tested"]) == (2, 2, 2)
    keys = [rows[f"resnet18/{name}"]["key"] for name in ("kernel", "output")]
    assert comparisons["higher"] == keys
    assert comparisons["better"] == keys[1:]
    assert comparisons["worse"] == []
    assert comparisons["least_permutation_p"] == 0.25


def test_a_significantly_lower_accuracy_is_worse(project):
    settings = study(methods=["base", "kernel"])
    values = {"base": ACCURACY["output"], "kernel": ACCURACY["base"]}
    for cell in grid.cells(settings):
        write(project, cell, record(cell, values[cell.method]))
    made = summary.write(project, settings)
    comparisons = made["comparisons"]["digits"]["base"]
    worse = [cells(made)["resnet18/kernel"]["key"]]
    assert (comparisons["higher"], comparisons["better"]) == ([], [])
    assert comparisons["worse"] == worse


def test_two_seeds_are_never_significant(project):
    settings = study(seeds=[1, 2])
    values = {"base": [0.8, 0.82], "kernel": [0.8, 0.82], "output": [0.9, 0.920001]}
    for cell in grid.cells(settings):
        write(project, cell, record(cell, values[cell.method]))
    rows = cells(summary.write(project, settings))
    output = rows["resnet18/output"]["difference_to_base"]
    assert output["p_holm"] < 0.05
    assert not output["significant"]
    kernel = rows["resnet18/kernel"]["difference_to_base"]
    assert (kernel["mean"], kernel["p"], kernel["half_width"]) == (0, 1, None)


def test_the_best_of_a_setting_is_the_first_with_the_highest_mean(project):
    settings = study(backbones=["resnet18", "vgg16"])
    values = {"base": ACCURACY["base"], "kernel": ACCURACY["kernel"], "output": ACCURACY["kernel"]}
    for cell in grid.cells(settings):
        accuracies = values[cell.method] if cell.backbone == "vgg16" else ACCURACY[cell.method]
        write(project, cell, record(cell, accuracies))
    rows = cells(summary.write(project, settings))
    best = [name for name, row in rows.items() if row["best"]]
    assert best == ["resnet18/output", "vgg16/kernel"]


def test_costs_are_compared_on_one_kind_of_machine_alone(project):
    settings = study()
    elsewhere = record(grid.cells(settings)[0], ACCURACY["base"])["environment"]
    elsewhere["device_name"] = "another machine"
    double = [
        {
            "seed": seed,
            "training_seconds": 4.0,
            "evaluation_seconds": 1.0,
            "peak_memory_bytes": 300,
        }
        for seed in (1, 2, 3)
    ]
    write_records(project, settings, output={"environment": elsewhere}, kernel={"cost": double})
    rows = cells(summary.write(project, settings))
    base = rows["resnet18/base"]["key"]
    assert rows["resnet18/base"]["cost_to_base"] == {"with": base, "time": 1, "memory": 1}
    assert rows["resnet18/kernel"]["cost_to_base"] == {"with": base, "time": 2, "memory": 3}
    assert "cost_to_base" not in rows["resnet18/output"]


def test_a_control_is_compared_with_what_sees_as_many_augmentations(project):
    settings = study(methods=[*ACCURACY, "control"])
    values = {**ACCURACY, "control": [0.89, 0.92, 0.93]}
    for cell in grid.cells(settings):
        write(project, cell, record(cell, values[cell.method]))
    made = summary.write(project, settings)
    rows = cells(made)
    compared = [name for name, row in rows.items() if "difference_to_control" in row]
    assert compared == ["resnet18/output"]
    difference = rows["resnet18/output"]["difference_to_control"]
    assert difference["values"] == pytest.approx([0.01] * 3)
    # The same in each pair: no interval and no test.
    assert (difference["half_width"], difference["p"]) == (None, None)
    comparisons = made["comparisons"]["digits"]["control"]
    assert (comparisons["planned"], comparisons["made"], comparisons["tested"]) == (1, 1, 0)


def test_planned_comparisons_are_counted_by_dataset(project):
    methods = ["base", "output", "kernel", "control", "all"]
    settings = study(datasets=["digits", "cifar10_5k"], methods=methods)
    values = {**ACCURACY, "control": [0.81, 0.83, 0.86], "all": [0.84, 0.86, 0.89]}
    for cell in grid.cells(settings):
        if cell.dataset.name == "digits" or cell.method in ("base", "kernel"):
            write(project, cell, record(cell, values[cell.method]))
    made = summary.write(project, settings, partial=True)
    counts = {
        (dataset, reference): (found["planned"], found["made"], found["tested"])
        for dataset, by_reference in made["comparisons"].items()
        for reference, found in by_reference.items()
    }
    assert counts == {
        ("digits", "base"): (4, 4, 4),
        # All is 3 points above control in each seed, which gives no p: output alone is tested.
        ("digits", "control"): (2, 2, 1),
        ("cifar10_5k", "base"): (4, 1, 1),
        ("cifar10_5k", "control"): (2, 0, 0),
    }


def test_the_aggregate_over_backbones_by_hand(project):
    """The differences of kernel by seed are 1, 2, 3 and 2, 4, 6, so their means 1.5, 3 and 4.5.
    Their standard error is 1.5 / sqrt 3; Student's t for 2 degrees of freedom is 4.303."""
    settings = study(backbones=["resnet18", "vgg16"], methods=["base", "kernel"])
    for cell in grid.cells(settings):
        twice = 2 if cell.backbone == "vgg16" else 1
        gains = [0.01 * twice * k * (cell.method == "kernel") for k in (1, 2, 3)]
        write(project, cell, record(cell, [0.5 + gain for gain in gains]))
    of_noise, of_all = summary.write(project, settings)["aggregate"]
    assert (of_all["method"], of_all["noise"], of_all["n"]) == ("kernel", "all", 3)
    assert 100 * of_all["mean"] == pytest.approx(3)
    assert 100 * of_all["half_width"] == pytest.approx(4.303 * 1.5 / 3**0.5, abs=1e-3)
    assert len(of_all["cells"]) == 4
    assert of_all["settings"] == ["digits/clean/resnet18", "digits/clean/vgg16"]
    assert of_all["complete"]
    assert of_noise == {**of_all, "noise": "clean"}


def test_a_method_that_lacks_a_setting_has_no_complete_aggregate(project):
    settings = study(backbones=["resnet18", "vgg16"])
    for cell in grid.cells(settings):
        if (cell.backbone, cell.method) != ("vgg16", "kernel"):
            write(project, cell, record(cell, ACCURACY[cell.method]))
    made = summary.write(project, settings, partial=True)
    complete = {(row["method"], row["noise"]): row["complete"] for row in made["aggregate"]}
    assert complete == {
        ("kernel", "clean"): False,
        ("kernel", "all"): False,
        ("output", "clean"): True,
        ("output", "all"): True,
    }
    for cell in grid.cells(settings):
        if (cell.backbone, cell.method) == ("resnet18", "output"):
            Store(project).path(cell).unlink()
    made = summary.write(project, settings, partial=True)
    assert not any(row["complete"] for row in made["aggregate"])  # each lacks one of two settings


def test_where_a_gain_comes_from_by_hand(project):
    settings = study(methods=["base", "control", "all"])
    values = {
        "base": [0.80, 0.82, 0.84],
        "control": [0.81, 0.84, 0.87],  # +1, +2, +3
        "all": [0.84, 0.86, 0.88],  # +4 each; to control +3, +2, +1
    }
    for cell in grid.cells(settings):
        made = record(cell, values[cell.method])
        if cell.method == "all":
            for run in made["runs"]:
                run["final"]["ece"] = 0.4
        write(project, cell, made)
    made = summary.write(project, settings)
    (gain,) = made["gains"]
    assert (gain["dataset"], gain["noise"], gain["backbone"]) == ("digits", "clean", "resnet18")
    assert gain["ece"] == pytest.approx({"before": 0.1, "after": 0.4})
    rows = {row["key"]: row for row in made["cells"]}
    base, control, all_ways = (rows[gain[name]] for name in ("base", "control", "all_ways"))
    assert base["estimates"]["accuracy"]["mean"] == pytest.approx(0.82)
    assert base["estimates"]["lost_since_best"]["mean"] == pytest.approx(0.01)
    assert control["difference_to_base"]["mean"] == pytest.approx(0.02)
    assert all_ways["difference_to_control"]["mean"] == pytest.approx(0.02)
    assert all_ways["difference_to_base"]["mean"] == pytest.approx(0.04)


def test_what_was_not_trained_is_told_in_groups(project):
    settings = study(
        noise=["clean", "n20", "n50"], methods=["base", "kernel", "elr"], backbones=["resnet18"]
    )
    lacking = {("n20", "kernel")}
    for cell in grid.cells(settings):
        place = (cell.noise_name, cell.method)
        if cell.noise_name != "n50" and cell.method != "elr" and place not in lacking:
            write(project, cell, record(cell, [0.8, 0.8, 0.8]))
    found = summary.write(project, settings, partial=True)["untrained"]
    assert list(found["noise"]) == ["n50"]
    assert found["noise"]["n50"]["rate"] == 0.5
    assert found["methods"] == ["elr"]
    assert found["settings"] == {"digits/n20/resnet18": ["kernel"]}


def test_the_best_of_the_methods_that_lack_no_setting_is_marked(project):
    settings = study(backbones=["resnet18", "vgg16"])
    for cell in grid.cells(settings):  # output is better, but lacks a setting
        if (cell.backbone, cell.method) != ("vgg16", "output"):
            write(project, cell, record(cell, ACCURACY[cell.method]))
    made = summary.write(project, settings, partial=True)["aggregate"]
    assert {(row["method"], row["noise"]) for row in made if row["best"]} == {
        ("kernel", "clean"),
        ("kernel", "all"),
    }


def test_a_study_without_base_or_all_says_nothing_of_where_a_gain_comes_from(project):
    settings = study()
    write_records(project, settings)
    assert summary.write(project, settings)["gains"] == []


def test_predictions_are_summed_over_the_seeds(project):
    settings = study(methods=["base", "kernel"], seeds=[1, 2])
    for cell in grid.cells(settings):
        made = record(cell, [0.8, 0.9])
        if cell.method == "base":
            for run, confusion in zip(
                made["runs"], ([[3, 1], [0, 4]], [[2, 2], [1, 3]]), strict=True
            ):
                run["predictions"] = {
                    "calibration": {
                        "count": [0, 3, 5],
                        "confidence": [0.0, 1.5, 4.5],
                        "correct": [0, 2, 4 + run["seed"] - 1],
                    },
                    "confusion": confusion,
                }
        write(project, cell, made)
    rows = cells(summary.write(project, settings))
    assert rows["resnet18/base"]["calibration"] == [
        {"confidence": 50.0, "correct": 100 * 4 / 6, "count": 6},
        {"confidence": 90.0, "correct": 90.0, "count": 10},
    ]
    assert rows["resnet18/base"]["confusion"] == [[5, 3], [1, 7]]
    assert "calibration" not in rows["resnet18/kernel"]
    assert "confusion" not in rows["resnet18/kernel"]


def test_missing_records_are_named_or_left_out(project):
    settings = study()
    write_records(project, settings)
    Store(project).path(grid.cells(settings)[1]).unlink()
    with pytest.raises(ImclError, match=r"1 of 3 cells have no record yet \(digits-clean-resn"):
        summary.write(project, settings)
    made = summary.write(project, settings, partial=True)
    assert set(cells(made)) == {"resnet18/base", "resnet18/output"}
    assert made["axes"]["methods"] == ["base", "output"]
    assert made["planned"] == 3


def test_records_made_here_and_committed_ones_are_not_mixed_in_what_is_written(project):
    settings = study()
    for cell in grid.cells(settings):
        write(project, cell, record(cell, [0.5] * 3), study="quick")
    with pytest.raises(ImclError, match="3 of 3 cells have no record yet"):
        summary.write(project, settings)
    write_records(project, settings)
    Store(project).path(grid.cells(settings)[0]).unlink()
    here = summary.write(project, settings, partial=True)
    assert set(cells(here)) == {"resnet18/kernel", "resnet18/output"}
    committed = summary.write(project, settings, committed=True)
    assert (here["committed"], committed["committed"]) == (False, True)
    assert {row["estimates"]["accuracy"]["mean"] for row in committed["cells"]} == {0.5}
    assert summary.read(project)["committed"]  # and the other one is deleted


def test_in_memory_a_record_made_here_comes_before_the_committed_one(project):
    settings = study()
    with pytest.raises(ImclError, match=r"no records in .*results/records or .*snakemake"):
        summary.build(project, settings)
    first, *others = grid.cells(settings)
    for cell in (first, *others):
        write(project, cell, record(cell, [0.5] * 3), study="quick")
    write(project, first, record(first, [0.25] * 3))
    made = cells(summary.build(project, settings))
    means = {name: row["estimates"]["accuracy"]["mean"] for name, row in made.items()}
    assert means == {"resnet18/base": 0.25, "resnet18/kernel": 0.5, "resnet18/output": 0.5}
    committed = summary.build(project, settings, committed=True)
    assert {row["estimates"]["accuracy"]["mean"] for row in committed["cells"]} == {0.5}
    for path in project.committed_records("quick").iterdir():
        path.unlink()
    with pytest.raises(ImclError, match=r"no records in .*paper/results/quick/records$"):
        summary.build(project, settings, committed=True)
    with pytest.raises(ImclError, match="2 of 3 cells have no record yet"):
        summary.build(project, settings)
    assert set(cells(summary.build(project, settings, partial=True))) == {"resnet18/base"}
    assert not project.summaries.exists()


def test_a_summary_comes_from_the_records_of_its_study_alone(project):
    raw = parameters()
    quick = raw["studies"]["quick"] | {"methods": list(ACCURACY), "seeds": [1, 2, 3]}
    quick |= {"noise": ["clean"], "backbones": ["resnet18"]}
    raw["studies"] |= {"quick": quick, "other": {**quick, "width": 16}}
    settings = checked(raw, Path("params.yaml"))
    write_records(project, settings)
    before = summary.build(project, settings)
    for cell in grid.cells(settings, "other"):
        write(project, cell, record(cell, [0.1, 0.2, 0.3]))
        write(project, cell, record(cell, [0.1, 0.2, 0.3]), study="other")
    assert summary.build(project, settings) == before


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "0" * 12},
        {"config": {"seeds": [1]}},
    ],
)
def test_a_record_changed_by_hand_is_refused(project, change):
    settings = study()
    write_records(project, settings, kernel=change)
    (key,) = change
    with pytest.raises(ImclError, match=rf"resnet18-kernel-.*\.json: {key}"):
        summary.write(project, settings)


def test_records_of_different_data_are_not_mixed(project):
    settings = study()
    other = record(grid.cells(settings)[0], ACCURACY["base"])["dataset"]
    write_records(project, settings, output={"dataset": {**other, "sha256": "cd" * 32}})
    with pytest.raises(ImclError, match=r"output-.* other data than .*base-.*dataset digits"):
        summary.write(project, settings)


def test_records_of_other_data_than_is_there_are_refused(project):
    settings = study()
    write_records(project, settings)
    (dataset,) = {cell.dataset.key for cell in grid.cells(settings)}
    path = project.dataset(dataset)
    described = {
        "name": "digits",
        "config": {},
        "n_train": 5,
        "n_validation": 0,
        "n_test": 4,
        "shape": [8, 8, 1],
        "class_names": ["0", "1"],
        "superclasses": [],
        "mean": [0.5],
        "std": [0.5],
        "archives": {},
        "arrays": {},
        "sha256": "ab" * 32,
    }
    write_json(path, described)
    summary.write(project, settings)
    write_json(path, {**described, "sha256": "cd" * 32})
    with pytest.raises(ImclError, match=rf"other data than {path} \(dataset digits\)"):
        summary.write(project, settings)


def test_the_environments_and_versions_of_the_code_are_each_named_once(project):
    settings = study()
    code = {"version": "1", "commit": "d" * 40, "modified": True}
    write_records(project, settings, output={"code": code})
    made = summary.write(project, settings)
    assert [found["commit"] for found in made["code"]] == ["c" * 40, "d" * 40]
    assert [found["device_name"] for found in made["environment"]] == ["a machine"]


def test_options_of_ways_are_told_by_noise_and_choices_by_cell(project):
    raw = parameters()
    raw["studies"]["quick"] |= {
        "noise": ["clean", "n20", "n50"],
        "backbones": ["resnet18"],
        "ways": {
            "clean": {"kernel": {"weight": 30.0}},
            "n50": {"output": {"variant": "dropout"}},
        },
        "seeds": [1],
        "methods": ["base", "output", "kernel", "default"],
    }
    chosen = {
        "digits-n20-resnet18-kernel": {"options": {"kernel": {"weight": 3.0}}, "reason": "best"}
    }
    raw["studies"]["quick"]["chosen"] = chosen
    settings = checked(raw, Path("params.yaml"))
    base = grid.cells(settings)[0]
    write(project, base, record(base, [0.8]))
    made = summary.write(project, settings, partial=True)
    kernel = {"variant": "cosine", "weight": 10.0, "ramp_up_steps": 2000}
    clean, n20, n50 = (f"digits/{noise}/resnet18" for noise in ("clean", "n20", "n50"))
    assert made["ways"]["kernel"] == [
        {"settings": [clean], "options": {**kernel, "weight": 30.0}},
        {"settings": [n20, n50], "options": kernel},
    ]
    output = {
        "variant": "augment",
        "weight": 45.0,
        "ramp_up_steps": 2000,
        "misfit_power": 3.0,
        "temperature": 2.0,
        "parts": 2,
    }
    dropout = {**output, "variant": "dropout", "dropout_rate": 0.3}  # the other variant uses none
    assert made["ways"]["output"] == [
        {"settings": [clean, n20], "options": output},
        {"settings": [n50], "options": dropout},
    ]
    assert made["chosen"] == chosen
    assert made["default"] == {way: WAYS[way](**options).used() for way, options in DEFAULT.items()}


def test_metrics_and_curves_for_dvc(project):
    settings = study()
    write_records(project, settings)
    write_json(project.metrics / "of-another-study.json", {})
    summary.write(project, settings)
    assert {path.name for path in project.metrics.iterdir()} == {
        f"digits-clean-resnet18-{method}.json" for method in ACCURACY
    }
    found = json.loads((project.metrics / "digits-clean-resnet18-kernel.json").read_text())
    assert found == {"accuracy": 84.0, "difference": 2.0, "nll": 0.5, "ece": 0.1}
    lines = project.curves.read_text().splitlines()
    assert lines[0] == "dataset,noise,backbone,method,epoch,train_accuracy,accuracy"
    assert "digits,clean,resnet18,kernel,1,0.5,0.84" in lines


def test_the_summary_of_another_study_is_deleted(project):
    settings = study()
    write_records(project, settings)
    summary.write(project, settings)
    fewer = study(methods=["base", "kernel"])
    summary.write(project, fewer)
    (path,) = project.summaries.iterdir()
    assert path == project.summary(grid.study_key(fewer), committed=False)


def test_without_a_summary_the_command_is_named(project):
    with pytest.raises(ImclError, match=r"results/summary: .*`imcl summary`"):
        summary.read(project)
    write_json(project.summary("quick-0", committed=False), {"study": "quick"})
    with pytest.raises(ImclError, match=r"quick-0\.json: damaged or changed by hand"):
        summary.read(project)


READERS = {
    "summary": lambda documents: documents["cells"][0].update(values=3),
    "claims": lambda documents: documents["claims"][0]["readings"][0].pop("verdict"),
}


# A place of each that takes any number.
LEAVES = {
    "summary": lambda documents: documents["cells"][0].update(realised_rate="a number"),
    "claims": lambda documents: documents["claims"][0].update(figure="a number"),
}


@pytest.mark.parametrize(("name", "damage"), READERS.items())
def test_a_document_reads_no_file_of_another_shape(project, name, damage):
    """Deep inside, too: an edit by hand ends in one sentence, not in a traceback."""
    settings = study()
    write_records(project, settings)
    for part in (summary, claims):
        part.write(project, settings)
    before = Documents.read(project)
    assert before == Documents.compute(project, settings)
    (path,) = project.results.glob("summary/*.json" if name == "summary" else f"{name}.json")
    content = json.loads(path.read_text())
    damage(content)
    write_json(path, content)
    with pytest.raises(ImclError, match=f"^{path}: damaged or changed by hand; delete it and run"):
        Documents.read(project)
    for text in ("[" * 100_000, "\udcff"):
        path.write_text(text, errors="surrogateescape")
        with pytest.raises(ImclError, match=f"^{path}: damaged"):
            Documents.read(project)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
@pytest.mark.parametrize("name", READERS)
def test_a_document_reads_no_number_that_is_not_finite(project, name, number):
    settings = study()
    write_records(project, settings)
    for part in (summary, claims):
        part.write(project, settings)
    (path,) = project.results.glob("summary/*.json" if name == "summary" else f"{name}.json")
    content = json.loads(path.read_text())
    LEAVES[name](content)
    path.write_text(json.dumps(content).replace('"a number"', number))
    with pytest.raises(ImclError, match=f"^{path}: damaged or changed by hand; delete it and run"):
        Documents.read(project)
