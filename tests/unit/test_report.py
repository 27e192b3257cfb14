"""From records written by hand to summary and tables."""

import json
from pathlib import Path

import pytest
from handmade import empty_project, record

from imcl import grid, methods, params
from imcl.data.prepare import DESCRIPTION
from imcl.errors import ImclError
from imcl.report import CURVES, METRICS, figures, paper, render, summary, tables

# Accuracy by seed. kernel: +1, +2, +3 points, t = 3.46, p = 0.074; output: +10, +11, +10 points,
# t = 31, p = 0.001, and the best.
ACCURACY = {"base": [0.80, 0.82, 0.84], "kernel": [0.81, 0.84, 0.87], "output": [0.90, 0.93, 0.94]}


@pytest.fixture
def study(tmp_path, monkeypatch) -> dict:
    """A study of three methods in an empty project folder."""
    empty_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    loaded = params.load()
    loaded["studies"]["quick"] |= {
        "noise": ["clean"],
        "backbones": ["resnet18"],
        "methods": list(ACCURACY),
        "seeds": [1, 2, 3],
    }
    return loaded


def write_records(study: dict, **changes) -> list[grid.Cell]:
    grid.RECORDS.mkdir(parents=True, exist_ok=True)
    cells = grid.cells(study)
    for cell in cells:
        made = record(cell, ACCURACY[cell.method], **changes.get(cell.method, {}))
        cell.record.write_text(json.dumps(made))
    return cells


def rows_of(table: render.Table) -> dict[str, list[str]]:
    return {
        row[1].text: [f"**{e.text}**" if e.bold else e.text for e in row[2:]]
        for group in table.groups
        for row in group
    }


def built(study: dict) -> dict[str, render.Table]:
    return {table.name: table for table in tables.build(summary.write(study))}


def test_accuracy_and_bold_by_hand(study):
    write_records(study)
    # Standard deviations 2, 3 and 2.08 points; t(2) = 4.303; half-widths 4.97, 7.45, 5.17.
    assert rows_of(built(study)["accuracy-digits"]) == {
        "base": ["82.0 ± 5.0"],
        "kernel": ["84.0 ± 7.5"],
        "output": ["**92.3 ± 5.2**"],
    }


def test_differences_are_paired_and_holm_corrected(study):
    write_records(study)
    found = rows_of(built(study)["difference-to-base-digits"])
    assert found["base"] == ["–", "–", "–"]
    # Three pairs, each higher: of 2^3 swaps two are as far from 0; times two comparisons.
    assert found["kernel"] == ["+2.0 ± 2.5", "0.074", "0.500"]
    # Smaller p of two, so doubled: t = 10.33 / (0.577 / sqrt 3) = 31, p = 0.00104.
    assert found["output"] == ["**+10.3 ± 1.4**", "0.002", "0.500"]


def test_the_text_counts_what_the_table_shows(study):
    write_records(study)
    said = {name: row["value"].text for name, row in built(study)["text"].rows().items()}
    counts = [said[f"{what} digits"] for what in ("compared", "higher", "better", "worse")]
    assert counts == ["2", "2", "1", "0"]
    text = (tables.write(summary.read()), Path("paper/build/results.tex").read_text())[1]
    assert "Of the 2 comparisons with base" in text
    assert "yet to come" not in text


def test_what_holms_correction_covers_is_told_of_each_dataset(study):
    write_records(study)
    study["studies"]["quick"] |= {
        "datasets": ["digits", "cifar10_5k"],
        "methods": ["base", "output", "kernel", "control", "all"],
    }
    values = {**ACCURACY, "control": [0.81, 0.83, 0.86], "all": [0.84, 0.86, 0.89]}
    for cell in grid.cells(study):
        if cell.dataset.name == "digits" or cell.method in ("base", "kernel"):
            cell.record.write_text(json.dumps(record(cell, values[cell.method])))
    made = summary.write(study, partial=True)
    captions = {table.name: table.caption for table in tables.build(made)}
    over = "Holm's correction over the"
    assert f"{over} 4 comparisons with base)." in captions["accuracy-digits"]
    assert f"{over} 4 comparisons with base. Bold" in captions["difference-to-base-digits"]
    # All is 3 points above control in each seed, which gives no p: output alone is tested.
    assert f"{over} 1 comparison with control. Bold" in captions["difference-to-control-digits"]
    so_far = f"{over} 1 comparison with base made so far, of 4"
    assert f"{so_far})." in captions["accuracy-cifar10_5k"]
    assert f"{so_far}. Bold" in captions["difference-to-base-cifar10_5k"]
    assert "Holm" not in captions["difference-to-control-cifar10_5k"]
    tables.write(made)
    digits, cifar = Path("paper/build/results.tex").read_text().split("subsection{cifar10")
    assert "yet to come" not in digits
    assert "comparisons that are yet to come" in cifar


def test_where_nothing_is_tested_no_caption_speaks_of_it(study):
    study["studies"]["quick"]["seeds"] = [1]
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(study):
        cell.record.write_text(json.dumps(record(cell, ACCURACY[cell.method][:1])))
    found = built(study)
    for name in ("accuracy-digits", "difference-to-base-digits", "aggregate"):
        caption = found[name].caption
        assert not any(word in caption for word in ("Holm", "Bold", "interval", "bootstrap")), name


def test_an_aggregate_over_other_settings_than_all_is_left_out(study):
    study["studies"]["quick"] |= {"backbones": ["resnet18", "vgg16"]}
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(study):
        if (cell.backbone, cell.method) not in (("resnet18", "kernel"), ("vgg16", "output")):
            cell.record.write_text(json.dumps(record(cell, ACCURACY[cell.method])))
    made = summary.write(study, partial=True)
    (found,) = [table for table in tables.build(made) if table.name == "aggregate"]
    assert {e.text for row in found.rows().values() for e in row.values()} == {"–"}


def test_costs_are_compared_on_one_kind_of_machine_alone(study):
    elsewhere = {"environment": {"device_name": "another machine", "torch": "2"}}
    double = {"cost": [{"training_seconds": 4.0, "peak_memory_bytes": 300}] * 3}
    write_records(study, output=elsewhere, kernel=double)
    assert rows_of(built(study)["cost-digits"]) == {
        "base": ["2,345", "1.00", "1.00"],
        "output": ["2,345", "–", "–"],
        "kernel": ["2,345", "2.00", "3.00"],
    }


def test_every_setting_of_a_study_is_in_its_table(study):
    study["studies"]["quick"]["noise"] = ["n50"]
    grid.RECORDS.mkdir(parents=True)
    noisy = {"realised_rate": 0.5, "nominal_rate": 0.5, "sha256": "ef", "transition_matrix": [[1]]}
    for cell in grid.cells(study):
        cell.record.write_text(json.dumps(record(cell, ACCURACY[cell.method], noise=noisy)))
    rows = built(study)["settings"].groups
    shown = {tuple(entry.text for entry in row) for group in rows for row in group}
    assert {
        ("study", "seeds", "1, 2, 3"),
        ("digits", "padding", "1"),
        ("digits", "flip", "False"),
        ("n50", "kind", "symmetric"),
        ("n50", "rate", "0.5"),
    } <= shown
    assert not any(part == "n20" for part, *_ in shown)


def test_the_abstract_counts_the_verdicts(study):
    write_records(study)
    made = summary.write(study)
    verdicts = ["reproduced", "partly", "not reproduced", "not tested", "not tested", "reproduced"]
    sizes = ["reduced", "full", "reduced", None, None, "full"]
    made["claims"] = [
        {**claim, "verdict": verdict, "size": size}
        for claim, verdict, size in zip(made["claims"][:6], verdicts, sizes, strict=True)
    ]
    (text,) = [table for table in tables.build(made) if table.name == "text"]
    counts = {name: row["value"].text for name, row in text.rows().items() if "Claims" in name}
    assert counts == {
        "StudyClaims": "6",
        "StudyClaimsReproduced": "2",
        "StudyClaimsPartly": "1",
        "StudyClaimsNotReproduced": "1",
        "StudyClaimsNotTested": "2",
        "StudyClaimsReduced": "2",
    }


def test_the_aggregate_over_backbones_by_hand(study):
    """Of the differences of kernel, 1, 2, 3 and 2, 4, 6, the middle half are 2, 2, 3, 4."""
    study["studies"]["quick"] |= {"backbones": ["resnet18", "vgg16"], "methods": ["base", "kernel"]}
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(study):
        twice = 2 if cell.backbone == "vgg16" else 1
        gain = [0.01 * twice * k * (cell.method == "kernel") for k in (1, 2, 3)]
        values = [0.5 + g for g in gain]
        cell.record.write_text(json.dumps(record(cell, values)))
    row = built(study)["aggregate"].rows()["kernel"]
    assert row["all"].value["mean"] == pytest.approx((2 + 2 + 3 + 4) / 4)
    assert row["all"].text.startswith("+2.8 [+")
    assert row["all"].value["n"] == 6
    assert len(row["all"].sources) == 4


def test_two_seeds_are_never_bold(study):
    study["studies"]["quick"]["seeds"] = [1, 2]
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(study):
        values = {"base": [0.8, 0.82], "kernel": [0.8, 0.82], "output": [0.9, 0.920001]}
        cell.record.write_text(json.dumps(record(cell, values[cell.method])))
    found = built(study)
    assert "**" not in str(rows_of(found["accuracy-digits"]))
    assert rows_of(found["difference-to-base-digits"])["kernel"] == ["+0.0", "1.000", "1.000"]


def test_a_control_is_compared_with_what_sees_as_many_augmentations(study):
    study["studies"]["quick"]["methods"].append("control")
    ACCURACY_ = {**ACCURACY, "control": [0.89, 0.92, 0.93]}
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(study):
        cell.record.write_text(json.dumps(record(cell, ACCURACY_[cell.method])))
    found = rows_of(built(study)["difference-to-control-digits"])
    assert found["output"][0] == "+1.0"  # in each pair: no interval
    assert found["kernel"] == found["base"] == found["control"] == ["–"] * 3


def test_missing_records_are_named_or_left_out(study):
    cells = write_records(study)
    cells[1].record.unlink()
    with pytest.raises(ImclError, match=r"1 of 3 cells have no record yet \(digits-clean-resn"):
        summary.write(study)
    made = summary.write(study, partial=True)
    assert set(rows_of(tables.build(made)[0])) == {"base", "output"}


def test_a_method_that_is_there_in_part_has_dashes(study):
    study["studies"]["quick"]["backbones"] = ["resnet18", "vgg16"]
    cells = write_records(study)
    next(c for c in cells if (c.backbone, c.method) == ("vgg16", "kernel")).record.unlink()
    made = summary.write(study, partial=True)
    table = tables.build(made)[0].rows()
    assert [table[f"{b}/kernel"]["clean"].text for b in ("resnet18", "vgg16")] == [
        "84.0 ± 7.5",
        "–",
    ]


def test_where_a_gain_comes_from_by_hand(study):
    study["studies"]["quick"]["methods"] = ["base", "control", "all"]
    values = {
        "base": [0.80, 0.82, 0.84],
        "control": [0.81, 0.84, 0.87],  # +1, +2, +3
        "all": [0.84, 0.86, 0.88],  # +4 each; to control +3, +2, +1
    }
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(study):
        made = record(cell, values[cell.method])
        if cell.method == "all":
            made["cost"] = [{"training_seconds": 5.0, "peak_memory_bytes": 100}] * 3
            for run in made["runs"]:
                run["final"] |= {"channel_correlation": 0.005, "kernel_cosine": 0.001, "ece": 0.4}
        cell.record.write_text(json.dumps(made))
    found = built(study)["gain-digits"].rows()["resnet18/clean"]
    assert {name: entry.text for name, entry in found.items()} == {
        "base (%)": "82.0 ± 5.0",
        "fitted (%)": "50.0",  # this and the next as handmade says, in each seed
        "lost": "1.0",
        "views": "+2.0 ± 2.5",
        "ways": "+2.0 ± 2.5",
        "all − base": "+4.0",
        "ECE": "10.0 to 40.0",
        "channels": "20.0 to 5.0",
        "kernels": "10.0 to 1.0",
    }
    assert len(found["ways"].sources) == 2


def test_what_is_rendered_from_committed_records_looks_at_no_others(study):
    """A record made here says something else: it goes first only where it is what is rendered."""
    study["studies"]["rung"] = {**study["studies"]["quick"], "methods": ["kernel"]}
    study["calibration"] = {"rungs": ["rung"], "chosen": {}}
    folder = Path("paper/results/quick/records")
    other = Path("paper/results/rung/records")
    for place in (folder, other, grid.RECORDS):
        place.mkdir(parents=True)
    for cell in grid.cells(study):
        made = json.dumps(record(cell, [0.5] * 3))
        for place in (folder, other):
            (place / cell.record.name).write_text(made)
        cell.record.write_text(json.dumps(record(cell, [0.25] * 3)))

    def seen(folder: Path) -> tuple:
        made = summary.write(study, folder=folder)
        (tried,) = made["ablation"]
        return made["cells"][0]["estimates"]["accuracy"]["mean"], tried["last"]

    assert seen(folder) == (0.5, 0.5)
    assert seen(grid.RECORDS) == (0.25, 0.25)


def test_a_study_without_base_or_all_says_nothing_of_where_a_gain_comes_from(study):
    write_records(study)
    assert "gain-digits" not in built(study)


def test_the_search_shows_what_lost_and_marks_what_was_chosen(study):
    study["ways"]["kernel"] |= {"weight": 30.0, "ramp_up": 0.5}
    study["trials"] |= {
        "slow": {"training": {"learning_rate": 0.01, "warmup_epochs": 1}},
        "strong": {
            "intermediate": {"variant": "augment", "weight": 1.0, "centred": False},
            "kernel": {"variant": "cosine", "weight": 30.0, "ramp_up": 0.5},
        },
    }
    study["studies"]["rung"] = {**study["studies"]["quick"], "methods": ["slow", "strong"]}
    study["studies"]["rung"]["seeds"] = [1]
    study["calibration"] = {
        "rungs": ["rung"],
        "chosen": {
            "kernel": [{"method": "strong", "noise": "clean", "reason": "it was best & first"}],
            "training": [{"method": "slow", "noise": "n50", "reason": "with other labels"}],
        },
    }
    write_records(study)
    folder = Path("paper/results/rung/records")
    folder.mkdir(parents=True)
    for cell, accuracy in zip(grid.cells(study, "rung"), (0.25, 0.5), strict=True):
        held_out = {"name": "digits", "sha256": "ab", "evaluation": "validation"}
        made = record(cell, [accuracy], dataset=held_out)
        (folder / cell.record.name).write_text(json.dumps(made))

    found = built(study)["ablation"].rows()

    lost, won = (found[f"rung/digits/clean/resnet18/{name}"] for name in ("slow", "strong"))
    assert [lost[c].text for c in ("epochs", "rate", "decay")] == ["14", "0.01", "0.0005"]
    assert lost["settings"].text == "warmup epochs 1"
    assert won["rate"].text == "0.05"
    assert won["settings"].text == (
        "intermediate augment × 1, not centred; kernel cosine × 30, ramp up 0.5"
    )
    assert [(e["last"].text, e["best"].text) for e in (lost, won)] == [
        ("25.0", "26.0"),
        ("50.0", "51.0"),
    ]
    assert [e["last"].bold for e in (lost, won)] == [False, True]  # n50: not with these labels
    tables.write(summary.read())
    text = Path("paper/build/results.tex").read_text()
    assert r"\item[kernel, clean labels] strong: it was best \& first." in text
    assert "networks alone:\nrung on digits with clean labels and resnet18.\n" in text


def test_settings_and_choices_of_a_study_are_told_by_noise(study):
    study["studies"]["quick"]["noise"] = ["clean", "n20", "n50"]
    study["studies"]["quick"]["ways"] = {
        "clean": {"kernel": {"weight": 30.0}},
        "n50": {"output": {"variant": "dropout"}},
    }
    study["trials"] |= {
        "strong": {"kernel": {"weight": 30.0}},
        "usual": {"kernel": {"weight": 10.0}},
        "weak": {"kernel": {"weight": 3.0}},
    }
    names = ("strong", "usual", "weak")
    chosen = [{"method": name, "noise": "n50", "reason": name} for name in names]
    study["calibration"] = {"rungs": [], "chosen": {"kernel": chosen}}
    grid.RECORDS.mkdir(parents=True)
    base = grid.cells(study)[0]
    base.record.write_text(json.dumps(record(base, ACCURACY["base"])))
    made = {table.name: table for table in tables.build(summary.write(study, partial=True))}
    lines = [row for group in made["settings"].groups for row in group]
    rows = [" ".join(e.text for e in row) for row in lines if row[0].text in ("output", "kernel")]
    assert rows == [
        "output variant (clean, n20) augment",
        "output variant (n50) dropout",
        "output weight 45",
        "output ramp_up 0.2",
        "output temperature 2",
        "output parts 2",
        "output dropout_rate (n50) 0.3",  # the other variant uses none
        "kernel variant cosine",
        "kernel weight (clean) 30",
        "kernel weight (n20, n50) 10",
        "kernel ramp_up 0.2",
    ]
    assert summary.read()["chosen"]["kernel"] == chosen[:2]


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "0" * 12},
        {"config": {"seeds": [1]}},
    ],
)
def test_a_record_changed_by_hand_is_refused(study, change):
    write_records(study, kernel=change)
    with pytest.raises(ImclError, match=r"resnet18-kernel-.*damaged or changed by hand"):
        summary.write(study)


def test_records_of_different_data_are_not_mixed(study):
    other = {"dataset": {"name": "digits", "sha256": "cd"}}
    write_records(study, output=other)
    with pytest.raises(ImclError, match="are of different data"):
        summary.write(study)


def test_records_of_other_data_than_is_there_are_refused(study):
    write_records(study)
    (dataset,) = {cell.dataset.path for cell in grid.cells(study)}
    described = {**dict.fromkeys(DESCRIPTION), "sha256": "ab"}
    dataset.parent.mkdir(parents=True)
    dataset.write_text(json.dumps(described))
    summary.write(study)
    dataset.write_text(json.dumps({**described, "sha256": "cd"}))
    with pytest.raises(ImclError, match=rf"and {dataset} are of different data \(dataset digits\)"):
        summary.write(study)


def test_a_matrix_and_an_area_are_shown_where_they_were_measured(study):
    study["studies"]["quick"]["noise"] = ["clean", "n20"]
    matrix = [[0.75, 0.25], [0.0, 1.0]]
    made = write_records(study)
    for cell in made:
        record = json.loads(cell.record.read_text())
        if cell.noise:
            record["noise"] |= {"realised_rate": 0.125, "sha256": "ef", "nominal_rate": 0.1}
            record["noise"]["transition_matrix"] = matrix
        for run in record["runs"]:
            run["final"]["roc_auc"] = 0.875
        cell.record.write_text(json.dumps(record))
    made = summary.write(study)
    tables.write(made)
    text = Path("paper/build/results.tex").read_text()
    assert "transition-digits.pdf" in text
    assert "| 87.5 " in Path("paper/build/tables/calibration-digits.md").read_text()
    assert "12.50 %" in Path("paper/build/tables/data.md").read_text()
    assert Path("paper/build/figures/transition-digits.png") in figures.write(made)


def test_every_point_of_a_figure_lies_inside_its_panel(study):
    """Panels share their limits, and one must not cut off what another shows."""
    study["studies"]["quick"]["backbones"] = ["resnet18", "vgg16"]
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(study):
        shift = 0.0 if cell.backbone == "resnet18" else 0.5
        accuracies = [value - shift for value in ACCURACY[cell.method]]
        cell.record.write_text(json.dumps(record(cell, accuracies)))
    made = summary.write(study)
    rows = {table.name: table.rows() for table in tables.build(made)}
    drawn = figures.error_per_method(made, "digits", rows["error-digits"])
    for axes in drawn.axes:
        low, high = axes.get_xlim()
        points = [x for line in axes.lines if line.get_marker() == "o" for x in line.get_xdata()]
        assert len(points) == 3
        assert all(low < x < high for x in points)


def test_a_panel_without_records_says_so(study):
    study["studies"]["quick"] |= {"noise": ["clean", "n20"], "backbones": ["resnet18", "vgg16"]}
    grid.RECORDS.mkdir(parents=True)
    noisy = {"realised_rate": 0.2, "nominal_rate": 0.2, "sha256": "ef", "transition_matrix": [[1]]}
    for cell in grid.cells(study):
        if cell.backbone == "vgg16" or cell.noise is None:
            made = record(cell, ACCURACY[cell.method], **({"noise": noisy} if cell.noise else {}))
            cell.record.write_text(json.dumps(made))
    made = summary.write(study, partial=True)
    rows = {table.name: table.rows() for table in tables.build(made)}
    for figure in (
        figures.error_per_method(made, "digits", rows["error-digits"]),
        figures.learning_curves(made, "digits", rows["curves-digits"]),
    ):
        said = {axes.get_title(): [text.get_text() for text in axes.texts] for axes in figure.axes}
        assert said == {
            "resnet18, clean": [],
            "resnet18, n20": ["no records"],
            "vgg16, clean": [],
            "vgg16, n20": [],
        }


def test_a_figure_of_the_combinations_where_enough_are_studied(study):
    study["studies"]["quick"]["methods"] = methods.combined()
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(study):
        better = 0.01 * len(cell.config["ways"])
        values = [0.8 + better, 0.82 + better, 0.85 + better]
        cell.record.write_text(json.dumps(record(cell, values)))
    made = summary.write(study)
    rows = {table.name: table.rows() for table in tables.build(made)}
    drawn = figures.combinations(made, "digits", rows["difference-to-base-digits"])
    means = [line.get_xdata()[0] for line in drawn.axes[1].lines if line.get_marker() == "o"]
    expected = [len(methods.parse(name).ways) for name in methods.combined()[1:]]
    assert means == pytest.approx(expected)
    tables.write(made)
    assert "difference-to-base-digits.pdf" in Path("paper/build/results.tex").read_text()
    few = {**made, "axes": {**made["axes"], "methods": ["base", "all"]}}
    assert figures.combinations(few, "digits", rows["difference-to-base-digits"]) is None


def test_each_method_has_a_line_of_its_own_up_to_what_a_figure_can_tell_apart(study):
    plan = study["studies"]["quick"]
    peers = ["gce", "sce", "elr", "byot", "one", "dml", "rdrop", "multihead", "label_smoothing"]
    single = ["output", "intermediate", "representation", "kernel"]
    plan["methods"] = ["output+kernel", *peers, *single, "all", "control", "base"]  # 17
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(study):
        cell.record.write_text(json.dumps(record(cell, ACCURACY["base"])))

    def lines(made: dict) -> list[str]:
        rows = {table.name: table.rows() for table in tables.build(made)}
        drawn = figures.learning_curves(made, "digits", rows["curves-digits"])
        return {line.get_label(): line.get_color() for line in drawn.axes[0].lines}

    made = summary.write(study)
    assert list(lines(made)) == [*peers[:7], *single, "all", "control", "base"]
    assert len(set(lines(made).values())) == 7
    tables.write(made)
    text = Path("paper/build/results.tex").read_text()
    assert r"Not drawn: output+kernel, multihead, label\_smoothing." in text
    points = [(style["color"], style["markerfacecolor"]) for style in figures.STYLES]
    assert len(set(points)) == len(points) == tables.MOST_LINES
    plan["methods"] = plan["methods"][3:]
    made = summary.write(study)
    assert list(lines(made)) == plan["methods"]
    tables.write(made)
    assert "Not drawn" not in Path("paper/build/results.tex").read_text()


def test_records_of_different_code_are_all_named(study):
    code = {"version": "1", "commit": "d" * 40, "modified": True}
    write_records(study, output={"code": code})
    tables.write(summary.write(study))
    text = Path("paper/build/numbers.tex").read_text()
    assert r"\newcommand{\StudyCommit}{cccccccccccc, dddddddddddd (modified)}" in text


def test_metrics_and_curves_for_dvc(study):
    write_records(study)
    METRICS.mkdir(parents=True)
    (METRICS / "of-another-study.json").write_text("{}")
    summary.write(study)
    assert {path.name for path in METRICS.iterdir()} == {
        f"digits-clean-resnet18-{method}.json" for method in ACCURACY
    }
    found = json.loads((METRICS / "digits-clean-resnet18-kernel.json").read_text())
    assert found == {"accuracy": 84.0, "difference": 2.0, "nll": 0.5, "ece": 0.1}
    assert "digits,clean,resnet18,kernel,1,0.5,0.84" in CURVES.read_text()


def test_tables_of_another_study_are_deleted(study):
    write_records(study)
    folder = Path("paper/build/tables")
    folder.mkdir(parents=True)
    (folder / "accuracy-mnist.tex").write_text("old")
    written = {table.name for table in tables.write(summary.write(study))}
    assert {path.stem for path in folder.iterdir()} == written
    assert all((folder / f"{name}.md").exists() for name in written)


def test_latex_shows_texts_letter_by_letter_and_keeps_names():
    entry = render.Entry("50 % of a_b & c ± 1 < 2", bold=True)
    table = render.Table("t-a_b", "say #1", ["x"], [[[entry]]])
    text = tables.environment().get_template("table.tex.j2")
    text = text.render(table=table)
    assert r"\textbf{50 \% of a\_b \& c $\pm$ 1 $<$ 2}" in text
    assert r"\label{tab:t-a_b}" in text
    assert r"\caption{say \#1}" in text


def test_markdown_of_a_table():
    table = render.Table(
        "t", "A caption.", ["a", "b"], [[[render.Entry("1"), render.Entry("2", True)]]]
    )
    lines = render.markdown(table).splitlines()
    assert lines[0] == "| a   | b     |"
    assert lines[2] == "| 1   | **2** |"
    assert lines[-1] == "A caption."


def test_without_tex_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert not paper.can_build()
    with pytest.raises(
        ImclError, match="apt-get install texlive-latex-recommended lmodern latexmk"
    ):
        paper.write()


@pytest.mark.skipif(not paper.can_build(), reason="latexmk is not installed")
def test_a_fault_in_the_paper_is_named(study):
    (Path("paper") / "main.tex").write_text("\\documentclass{article}\n\\oops\n")
    with pytest.raises(ImclError, match="Undefined control sequence"):
        paper.write()


def test_the_discussion_says_what_the_table_shows(study):
    others = ["output", "kernel", "output+kernel", "output+intermediate+kernel"]
    others += ["elr", "elr+kernel"]
    study["studies"]["quick"]["methods"] = ["base", "control", *others, "all"]
    values = ACCURACY | {"control": [0.81, 0.84, 0.87], "all": [0.90, 0.93, 0.94]}
    values |= {"output+kernel": [0.82, 0.83, 0.90], "elr": [0.70, 0.73, 0.74]}
    values |= {"output+intermediate+kernel": [0.83, 0.84, 0.88], "elr+kernel": [0.81, 0.82, 0.86]}
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(study):
        made = record(cell, values[cell.method])
        cell.record.write_text(json.dumps(made))
    tables.write(summary.write(study))
    text = " ".join(Path("paper/build/discussion.tex").read_text().split())
    assert r"base is right on 82.0 $\pm$ 5.0\,\% of the images, 1.0 points less than at its" in text
    assert r"fits 50.0\,\% of the labels" in text
    assert r"by +10.3 $\pm$ 1.4 points (significant)." in text
    assert r"any way changes it by +2.0 $\pm$ 2.5 points, and the ways change" in text
    assert r"change that by +8.3 $\pm$ 2.9 (significant)." in text
    by = "change it by these points:"
    alone = r"output +10.3 $\pm$ 1.4 (significant), kernel +2.0 $\pm$ 2.5."
    assert f"Single ways {by} {alone}" in text
    pair, triple = r"+3.0 $\pm$ 6.6", r"+3.0 $\pm$ 2.5"
    together = f"output+kernel {pair}, output+intermediate+kernel {triple}."
    assert f"Combinations of ways {by} {together}" in text
    assert rf"Peers {by} elr $-$9.7 $\pm$ 1.4 (significant)." in text
    assert rf"Peers with ways {by} elr+kernel +1.0 $\pm$ 2.5." in text
    assert r"\item No module is duplicated. \emph{not tested} (0 of 1 readings" in text


def test_the_discussion_is_silent_on_what_was_not_tested(study):
    """Without a control nothing is said of the views; equal differences are no test."""
    study["studies"]["quick"]["methods"] = ["base", "all"]
    grid.RECORDS.mkdir(parents=True)
    for cell in grid.cells(study):
        gain = 0.04 if cell.method == "all" else 0.0
        made = record(cell, [value + gain for value in ACCURACY["base"]])
        cell.record.write_text(json.dumps(made))
    tables.write(summary.write(study))
    text = " ".join(Path("paper/build/discussion.tex").read_text().split())
    assert "change the accuracy by +4.0 points." in text
    assert "To see as many augmentations" not in text
    assert "significant" not in text


def test_the_search_says_nothing_of_settings_that_a_study_does_not_use(study):
    study["studies"]["rung"] = {**study["studies"]["quick"], "methods": ["base_lr10"]}
    study["calibration"]["rungs"] = ["rung"]
    write_records(study)
    folder = Path("paper/results/rung/records")
    folder.mkdir(parents=True)
    (cell,) = grid.cells(study, "rung")
    (folder / cell.record.name).write_text(json.dumps(record(cell, [0.5] * 3)))
    made = summary.write(study)
    assert "training" in study["calibration"]["chosen"]
    assert set(made["chosen"]) == {"output", "kernel"}  # `quick` trains at another rate


def test_a_method_that_lacks_a_setting_is_in_no_aggregate_over_it(study):
    study["studies"]["quick"]["backbones"] = ["resnet18", "vgg16"]
    cells = write_records(study)
    next(c for c in cells if (c.backbone, c.method) == ("vgg16", "kernel")).record.unlink()
    found = {t.name: t for t in tables.build(summary.write(study, partial=True))}
    rows = found["aggregate"].rows()
    assert rows["kernel"]["all"].text == "–"
    assert rows["output"]["all"].text.startswith("+10.")
