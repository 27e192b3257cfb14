"""From records by hand to tables."""

from dataclasses import replace

import pytest
from handmade import record, write
from studies import ACCURACY, Study, by_name, rows_of

from imcl.analysis.search import Search
from imcl.errors import ImclError
from imcl.present import html, render, tables


@pytest.fixture
def study(tmp_path) -> Study:
    return Study.make(tmp_path)


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Study:
    """The study with its records, unchanged."""
    study = Study.make(tmp_path_factory.mktemp("study"))
    study.write(ACCURACY)
    return study


@pytest.fixture(scope="module")
def built(usual) -> dict[str, render.Table]:
    """Its tables."""
    return usual.tables()


def test_accuracy_and_bold_by_hand(built):
    # Standard deviations 2, 3 and 2.08 points; t(2) = 4.303; half-widths 4.97, 7.45, 5.17.
    assert rows_of(built["accuracy-digits"]) == {
        "base": ["82.0 ± 5.0"],
        "kernel": ["84.0 ± 7.5"],
        "output": ["**92.3 ± 5.2**"],
    }


def test_differences_are_paired_and_holm_corrected(built):
    found = rows_of(built["difference-to-base-digits"])
    assert "base" not in found
    assert found["kernel"] == ["+2.0 ± 2.5", "0.074"]
    # Smaller p of two, so doubled: t = 10.33 / (0.577 / sqrt 3) = 31, p = 0.00104.
    assert found["output"] == ["**+10.3 ± 1.4**", "0.002"]
    assert rows_of(built["effects-digits"]) == {
        "base": ["82.0 ± 5.0", ""],
        "kernel": ["84.0 ± 7.5", "+2.0 ± 2.5"],
        "output": ["92.3 ± 5.2", "**+10.3 ± 1.4**"],
    }


@pytest.mark.parametrize(("seeds", "shown"), [(6, False), (7, True)])
def test_the_permutation_test_is_shown_where_it_can_be_significant(study, seeds, shown):
    """Of n pairs it gives 2 / 2^n at least, here doubled for two comparisons."""
    study.plan["seeds"] = [*range(1, seeds + 1)]
    higher = {"base": 0.0, "kernel": 0.01, "output": 0.1}
    study.write(lambda c: [0.5 + (1 + s / 99) * higher[c.method] for s in c.seeds])
    found = rows_of(study.tables()["difference-to-base-digits"])["output"]
    assert (len(found) == 3) == shown
    if shown:
        assert found[2] == f"{2 * 2 / 2**seeds:.3f}"
    said = "cannot be significant and is not shown" in study.written("numbers.tex")
    assert said == (not shown)


def test_with_many_noises_the_differences_stand_alone_beside_the_accuracy_of_base(study):
    study.plan["noise"] = ["clean", "n20", "n50"]
    study.write(ACCURACY)
    found = study.tables()["effects-digits"]
    assert rows_of(found)["base"] == ["82.0 ± 5.0"] * 3
    assert [e.split(" ")[0] for e in rows_of(found)["kernel"]] == ["+2.0"] * 3
    assert found.columns[2:] == ["clean", "n20", "n50"]


def test_the_text_counts_what_the_table_shows(built):
    said = {name: row["value"].text for name, row in built["text"].rows().items()}
    counts = [said[f"{what} digits"] for what in ("compared", "higher", "better", "worse")]
    assert counts == ["2", "2", "1", "0"]


def test_captions_say_what_earlier_code_computed(study):
    def migrate(cell, made):
        if cell.method != "base":
            change, earlier = "a revision is now 2", "the loss was halved"
            made["migrated"] = {"digest": "0" * 12, "change": change, "earlier": earlier}

    study.plan["datasets"] = ["digits", "cifar10_5k"]
    study.write(ACCURACY, lambda cell, made: cell.dataset.name == "digits" and migrate(cell, made))
    found = study.tables()
    said = "2 of 3 records were made by earlier code, in which the loss was halved."
    for name in WITH_INTERVALS:
        if name != "aggregate":
            assert found[name].caption.endswith(said), name
            assert "earlier" not in found[name.replace("digits", "cifar10_5k")].caption
    assert found["aggregate"].caption.endswith(said.replace("of 3", "of 6"))
    assert study.written("numbers.tex").count(said.replace("of 3", "of 6")) == 1
    page = html.write(study.project, study.documents()).read_text(encoding="utf-8")
    assert page.count(said.replace("of 3", "of 6")) == 2  # the charts, `aggregate`


def test_captions_say_what_holms_correction_covers(study):
    study.plan |= {
        "datasets": ["digits", "cifar10_5k"],
        "methods": ["base", "output", "kernel", "control", "all"],
    }
    values = {**ACCURACY, "control": [0.81, 0.83, 0.86], "all": [0.84, 0.86, 0.89]}
    there = {"digits": list(values), "cifar10_5k": ["base", "kernel"]}
    study.write(lambda c: values[c.method] if c.method in there[c.dataset.name] else None)
    captions = {name: table.caption for name, table in study.tables().items()}
    over = "Holm's correction over the"
    assert f"{over} 4 comparisons with base)." in captions["accuracy-digits"]
    assert f"{over} 4 comparisons with base. Bold" in captions["difference-to-base-digits"]
    # All is 3 points above control in each seed, which gives no p: output alone is tested.
    assert f"{over} 1 comparison with control. Bold" in captions["difference-to-control-digits"]
    so_far = f"{over} 1 comparison with base made so far, of 4 planned"
    assert f"{so_far})." in captions["accuracy-cifar10_5k"]
    assert f"{so_far}. Bold" in captions["difference-to-base-cifar10_5k"]
    assert "difference-to-control-cifar10_5k" not in captions  # control has no record there
    tables.write(study.project, study.documents())
    text = (study.project.build / "results.tex").read_text()
    assert text.count("The correction covers the comparisons made so far; 3 more are planned.") == 1


def test_captions_do_not_mention_tests_that_were_not_made(study):
    study.plan["seeds"] = [1]
    study.write({method: values[:1] for method, values in ACCURACY.items()})
    found = study.tables()
    for name in ("accuracy-digits", "difference-to-base-digits", "aggregate"):
        caption = found[name].caption
        assert not any(word in caption for word in ("Holm", "Bold", "interval", "bootstrap")), name


def test_an_aggregate_over_other_settings_than_all_is_left_out(study):
    study.plan["backbones"] = ["resnet18", "vgg16"]
    missing = [("resnet18", "kernel"), ("vgg16", "output")]
    study.write(lambda c: None if (c.backbone, c.method) in missing else ACCURACY[c.method])
    found = study.tables()
    assert "aggregate" not in found


def test_a_method_that_lacks_a_setting_is_in_no_aggregate_over_it(study):
    study.plan["backbones"] = ["resnet18", "vgg16"]
    missing = ("vgg16", "kernel")
    study.write(lambda c: None if (c.backbone, c.method) == missing else ACCURACY[c.method])
    rows = study.tables()["aggregate"].rows()
    assert "kernel" not in rows
    assert rows["output"]["all"].text.startswith("+10.")


def test_costs_are_compared_on_one_kind_of_machine_alone(study):
    def change(cell, made):
        if cell.method == "output":
            made["environment"]["device_name"] = "another machine"
        if cell.method == "kernel":
            for cost in made["cost"]:
                cost |= {"training_seconds": 4.0, "peak_memory_bytes": 300}

    study.write(ACCURACY)
    assert study.tables()["cost-digits"].shown
    study.write(ACCURACY, change)
    assert not study.tables()["cost-digits"].shown
    assert rows_of(study.tables()["cost-digits"]) == {
        "base": ["2,345", "1.00", "1.00"],
        "output": ["2,345", "–", "–"],
        "kernel": ["2,345", "2.00", "3.00"],
    }


def test_every_setting_of_a_study_is_in_its_table(study):
    study.plan["noise"] = ["n50"]
    study.write(ACCURACY)
    rows = study.tables()["settings"].groups
    shown = {tuple(entry.text for entry in row) for group in rows for row in group}
    assert {
        ("study", "seeds", "1, 2, 3"),
        ("digits", "padding", "1"),
        ("digits", "flip", "False"),
        ("n50", "kind", "symmetric"),
        ("n50", "rate", "0.5"),
    } <= shown
    assert not any(part == "n20" for part, *_ in shown)


def test_the_text_counts_the_verdicts(usual):
    documents = usual.documents()
    verdicts = ["reproduced", "partly", "not reproduced", "not tested", "not tested", "reproduced"]
    sizes = ["reduced", "full", "reduced", None, None, "full"]
    judged = [
        {**claim, "verdict": verdict, "size": size}
        for claim, verdict, size in zip(documents.claims[:6], verdicts, sizes, strict=True)
    ]
    text = by_name(replace(documents, claims=judged))["text"]
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
    """The differences of kernel by seed are 1, 2, 3 and 2, 4, 6, so their means 1.5, 3 and 4.5."""
    study.plan |= {"backbones": ["resnet18", "vgg16"], "methods": ["base", "kernel"]}
    study.write(
        lambda cell: [
            0.5 + 0.01 * (2 if cell.backbone == "vgg16" else 1) * k * (cell.method == "kernel")
            for k in (1, 2, 3)
        ]
    )
    row = study.tables()["aggregate"].rows()["kernel"]
    assert row["all"].value["mean"] == pytest.approx(3)
    assert row["all"].text == "+3.0 ± 3.7"  # 4.303 * 1.5 / sqrt 3
    assert row["all"].value["n"] == 3
    assert len(row["all"].sources) == 4


def test_two_seeds_are_never_bold(study):
    study.plan["seeds"] = [1, 2]
    study.write({"base": [0.8, 0.82], "kernel": [0.8, 0.82], "output": [0.9, 0.920001]})
    found = study.tables()
    assert "**" not in str(rows_of(found["accuracy-digits"]))
    assert rows_of(found["difference-to-base-digits"])["kernel"] == ["+0.0", "1.000"]


def test_a_control_is_compared_with_what_sees_as_many_augmentations(study):
    study.plan["methods"].append("control")
    study.write({**ACCURACY, "control": [0.89, 0.92, 0.93]})
    found = rows_of(study.tables()["difference-to-control-digits"])
    assert found["output"][0] == "+1.0"  # in each pair: no interval
    assert list(found) == ["output"]


def test_where_a_gain_comes_from_by_hand(study):
    study.plan["methods"] = ["base", "control", "all"]
    values = {
        "base": [0.80, 0.82, 0.84],
        "control": [0.81, 0.84, 0.87],  # +1, +2, +3
        "all": [0.84, 0.86, 0.88],  # +4 each; to control +3, +2, +1
    }

    def change(cell, made):
        if cell.method == "all":
            for run in made["runs"]:
                run["final"]["ece"] = 0.4

    study.write(values, change)
    found = study.tables()["gain-digits"].rows()["resnet18/clean"]
    assert {name: entry.text for name, entry in found.items()} == {
        "fitted (%)": "50.0",  # as handmade says, in each seed
        "views": "+2.0 ± 2.5",
        "ways": "+2.0 ± 2.5",
        "all − base": "+4.0",
        "ECE": "10.0 to 40.0",
    }
    assert len(found["ways"].sources) == 2


def test_a_study_without_base_or_all_says_nothing_of_where_a_gain_comes_from(built):
    assert "gain-digits" not in built


def test_the_search_shows_what_lost_and_marks_what_was_chosen(study):
    study.raw["search"] = {
        "rungs": [{"epochs": 0.5, "seeds": [1], "keep": 2}, {"seeds": [1, 2]}],
        "candidates": {
            "base": [{}, {}, {}],
            "output": [
                {"output": {"variant": "spatial", "weight": 3.0}},
                {"output": {"weight": 1.0}},
                {},
            ],
        },
    }
    study.plan |= {"methods": ["base", "output"], "noise": ["n50"]}
    study.plan["chosen"] = {"digits-n50-resnet18-base": {"options": {}, "reason": "best & first"}}
    study.write(ACCURACY)
    accuracy = {1: 0.25, 2: 0.3, 3: 0.2}
    for rung in Search(study.project, study.settings).rungs():
        for cell in rung.cells:
            number = int(cell.method[-1])
            made = record(cell, [accuracy[number]] * len(cell.seeds))
            for run in made["runs"]:
                run["final"]["true_accuracy"] = 0.5 + 0.1 * (number == 1)
            write(study.project, cell, made)

    table = study.tables()["search"]

    found = {name: [entry.text for entry in row.values()] for name, row in table.rows().items()}
    place = "digits/n50/resnet18/output"
    assert {name: row for name, row in found.items() if "output" in name} == {
        f"{place}/1/1": ["variant spatial, weight 3", "7", "1", "25.0", "60.0", "–"],
        f"{place}/2/1": ["weight 1", "7", "1", "30.0", "50.0", "–"],
        f"{place}/3/1": ["as without a search", "7", "1", "20.0", "50.0", "–"],
        f"{place}/1/2": ["variant spatial, weight 3", "14", "2", "25.0", "60.0", "–"],
        f"{place}/2/2": ["weight 1", "14", "2", "30.0", "50.0", "10.0"],
    }
    bold = [name for name, row in table.rows().items() if row["held out"].bold]
    assert bold == [f"digits/n50/resnet18/{m}/2/{n}" for m in ("base", "output") for n in (1, 2)]
    (source,) = table.rows()[f"{place}/2/2"]["held out"].sources
    assert "output@2" in source
    text = study.written("appendix.tex")
    assert r"\item[digits-n50-resnet18-base] best \& first." in text


def test_settings_and_choices_of_a_study_are_told_by_noise(study):
    study.plan |= {
        "noise": ["clean", "n20", "n50"],
        "ways": {
            "clean": {"kernel": {"weight": 30.0}},
            "n50": {"output": {"variant": "dropout"}},
        },
    }
    study.plan["methods"] = [*study.plan["methods"], "default"]
    study.plan["chosen"] = {
        "digits-n20-resnet18-kernel": {"options": {"kernel": {"weight": 3.0}}, "reason": "best"}
    }
    study.write(lambda c: ACCURACY["base"] if c.method == "base" and not c.noise else None)
    documents = study.documents()
    lines = [row for group in by_name(documents)["settings"].groups for row in group]
    own = ("output", "kernel", "digits-n20-resnet18-kernel")
    rows = [" ".join(e.text for e in row) for row in lines if row[0].text in own]
    assert rows == [
        "output variant (clean, n20) augment",
        "output variant (n50) dropout",
        "output weight 45",
        "output ramp_up_steps 2000",
        "output misfit_power 3",
        "output temperature 2",
        "output parts 2",
        "output dropout_rate (n50) 0.3",  # the other variant uses none
        "kernel variant cosine",
        "kernel weight (clean) 30",
        "kernel weight (n20, n50) 10",
        "kernel ramp_up_steps 2000",
        "digits-n20-resnet18-kernel kernel.weight 3",  # before the ten above
    ]
    default = [row[1].text for row in lines if row[0].text == "default"]
    assert default == [
        f"{way}.{key}" for way, used in documents.summary["default"].items() for key in used
    ]


def test_tables_of_another_study_are_deleted(usual):
    folder = usual.project.build / "tables"
    folder.mkdir(parents=True)
    (folder / "accuracy-mnist.tex").write_text("old")
    written = {table.name for table in tables.write(usual.project, usual.documents())}
    assert {path.stem for path in folder.iterdir()} == written
    assert all((folder / f"{name}.md").exists() for name in written)


def test_markdown_of_a_table():
    table = render.Table(
        "t", "A caption.", ["a", "b"], [[[render.Entry("1"), render.Entry("2", True)]]]
    )
    lines = render.markdown(table).splitlines()
    assert lines[0] == "| a   | b     |"
    assert lines[2] == "| 1   | **2** |"
    assert lines[-1] == "A caption."


# what an interval covers --------------------------------------------------------------------------

ALONE = "the same in all runs, so intervals cover the training's randomness alone."


@pytest.mark.parametrize(
    ("draws", "said"),
    [
        ({}, ""),
        ({"noise": "same"}, f"The noise is {ALONE}"),
        ({"noise": "same", "subset": "same"}, f"The noise and the subset are {ALONE}"),
        (
            {"noise": "same", "subset": "same", "held-out share": "same"},
            f"The noise, the subset and the held-out share are {ALONE}",
        ),
        (
            {"noise": "anew", "subset": "anew"},
            "The noise and the subset are drawn anew for each run, so intervals cover that too.",
        ),
        (
            {"noise": "anew", "subset": "same"},
            "The noise is drawn anew for each run, so intervals cover that too. "
            "The subset is the same in all runs, so intervals do not cover that.",
        ),
        (
            {"noise": "mixed"},
            "The noise is drawn anew for each run in some cells, whose intervals cover that too, "
            "and the same in all runs in others, whose intervals do not.",
        ),
    ],
)
def test_what_intervals_cover_in_words(draws, said):
    assert render.coverage(draws) == said


def test_over_how_many_seeds_in_words():
    assert render.protocol([3, 3]) == "Mean of n = 3 seeds ± 95 % t-interval."
    assert render.protocol([3], intervals=False) == "Mean of n = 3 seeds."
    assert render.protocol([1]) == "One seed."


def test_a_file_that_is_not_utf_8_is_refused_unchanged(built, tmp_path):
    path = tmp_path / "README.md"
    path.write_bytes(b"<!-- x -->\n\xff<!-- /x -->\n")
    with pytest.raises(ImclError, match=rf"^{path}: is not UTF-8 text \(byte 11\)$"):
        render.insert(path, "x", built["accuracy-digits"])
    assert path.read_bytes() == b"<!-- x -->\n\xff<!-- /x -->\n"


WITH_INTERVALS = (
    *("accuracy-digits", "difference-to-base-digits", "oracle-digits", "calibration-digits"),
    *("redundancy-digits", "aggregate", "error-digits", "noise-digits"),
)


def test_captions_of_clean_labels_of_a_whole_dataset_say_nothing_of_draws(built):
    for name in WITH_INTERVALS:
        assert "seeds ± 95 % t-interval." in built[name].title
        assert "all runs" not in built[name].caption


def test_captions_say_what_intervals_cover(study):
    study.plan |= {"noise": ["clean", "n50"]}
    study.write(ACCURACY)
    found = study.tables()
    for name in WITH_INTERVALS:
        assert found[name].caption.endswith(f"The noise is {ALONE}")
    assert "runs" not in found["cost-digits"].caption  # it has no intervals
    assert study.written("numbers.tex").count(f"The noise is {ALONE}") == 1


def test_captions_say_that_labels_are_drawn_for_each_run(study):
    study.raw["noise"]["n50"]["noise_seed"] = "per_run"
    study.plan |= {"noise": ["clean", "n50"]}

    def rates(cell, made):
        for run, rate in zip(made["runs"], (0.75, 0.25, 0.5), strict=True):
            if cell.noise:
                matrix = [[1 - rate, rate], [0.0, 1.0]]
                run["noise"] |= {"realised_rate": rate - 0.06, "transition_matrix": matrix}

    study.write(ACCURACY, rates)
    built = study.tables()
    anew = "The noise is drawn anew for each run, so intervals cover that too."
    for name in WITH_INTERVALS:
        assert built[name].caption.endswith(anew)
    data = {
        f"{row[0].name} {row[1].name}": [e.text for e in row] for row in built["data"].groups[0]
    }
    assert data["digits n50"][5:] == ["50.00 %", "44.00 %", "3 draws"]  # the mean of three rates
    assert data["digits clean"][-1] == "abababababab"
    assert built["data"].caption.endswith(
        "If each run draws its own, rates are means over the runs."
    )
    noisy = [row for row in study.documents().summary["cells"] if row["noise"] == "n50"]
    assert [row["realised_rate"] for row in noisy] == pytest.approx([0.44] * 3)
    transition = built["transition-digits"]
    assert [entry.text for entry in transition.groups[0][0]] == ["n50", "0", "50", "50"]
    assert transition.caption.endswith("mean over the runs.")
    page = html.write(study.project, study.documents()).read_text(encoding="utf-8")
    assert page.count(anew) >= 1 + len(WITH_INTERVALS) - 2  # the charts, the tables
    for index in range(3):
        assert f"<code>{f'{index:02d}' * 32}</code>" in page


def test_the_caption_says_where_paired_seeds_had_different_devices(study):
    said = "paired seeds were trained on different devices"
    study.write(ACCURACY)
    assert said not in study.tables()["difference-to-base-digits"].caption

    def elsewhere(cell, made):
        if cell.method == "kernel":
            made["environment"]["device_name"] = "another"

    def begun_elsewhere(cell, made):
        if cell.method == "output":
            made["runs"][0]["elsewhere"] = [{"epochs": 1, "differs": {"device_name": "another"}}]

    for change in (elsewhere, begun_elsewhere):
        study.write(ACCURACY, change)
        found = study.tables()
        assert f"In 1 of 2 comparisons, {said}." in found["difference-to-base-digits"].caption
        costs = found["cost-digits"].rows()
        lacking = [name for name, row in costs.items() if row["clean time"].mean is None]
        assert lacking == [f"resnet18/{'kernel' if change is elsewhere else 'output'}"]
