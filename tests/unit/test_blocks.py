"""Studies of several blocks: their cells, what is refused, and their tables."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from studies import Study, by_name

from imcl.analysis import claims, summary
from imcl.errors import UsageError
from imcl.present import figures, tables
from imcl.present.by_method import parts
from imcl.study import grid, listing, methods, schema
from imcl.study.load import checked
from imcl.study.settings import Settings

PARAMS: dict[str, Any] = {
    "study": "whole",
    "studies": {
        "whole": {
            "backbones": ["vgg16"],
            "seeds": [2, 1],
            "width": 8,
            "ways": {"clean": {"output": {"weight": 1.0, "temperature": 3.0}}},
            "training": {"epochs": 20, "warmup_epochs": 1},
            "blocks": [
                {"datasets": ["digits"], "noise": ["clean"], "methods": ["base", "output"]},
                {
                    "datasets": ["digits"],
                    "noise": ["n20"],
                    "methods": ["base", "elr"],
                    "backbones": ["resnet18", "vgg16"],
                    "seeds": [1, 2, 3],
                    "training": {"epochs": 10},
                },
                {
                    "datasets": ["other"],
                    "noise": ["clean"],
                    "methods": ["output"],
                    "width": 4,
                    "ways": {"clean": {"output": {"weight": 7.0}}},
                },
            ],
        }
    },
    "datasets": {
        "digits": {"source": "digits", "padding": 1, "flip": False},
        "other": {"source": "digits", "padding": 0, "flip": False},
    },
    "noise": {"n20": {"kind": "symmetric", "rate": 0.2, "noise_seed": 0}},
}


def changed(**study: Any) -> dict[str, Any]:
    raw = deepcopy(PARAMS)
    raw["studies"]["whole"] |= study
    return raw


def block(index: int, **changes: Any) -> dict[str, Any]:
    raw = deepcopy(PARAMS)
    raw["studies"]["whole"]["blocks"][index] |= changes
    return raw


def settings(raw: dict[str, Any] = PARAMS) -> Settings:
    return checked(raw, Path("params.yaml"))


def faults(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(UsageError) as refused:
        settings(raw)
    return str(refused.value).splitlines()


# cells ------------------------------------------------------------------------------------------


def test_the_cells_are_those_of_the_blocks_in_order():
    assert [cell.name for cell in grid.cells(settings())] == [
        "digits-clean-vgg16-base",
        "digits-clean-vgg16-output",
        "digits-n20-resnet18-base",
        "digits-n20-resnet18-elr",
        "digits-n20-vgg16-base",
        "digits-n20-vgg16-elr",
        "other-clean-vgg16-output",
    ]


def test_a_block_takes_over_what_it_leaves_out():
    clean, noisy, other = (
        next(cell for cell in grid.cells(settings()) if cell.name == name)
        for name in (
            "digits-clean-vgg16-output",
            "digits-n20-vgg16-elr",
            "other-clean-vgg16-output",
        )
    )
    assert (clean.seeds, clean.width, clean.training.epochs) == ([1, 2], 8, 20)
    assert (noisy.seeds, noisy.width, noisy.training.epochs) == ([1, 2, 3], 8, 10)
    assert noisy.training.warmup_epochs == 1  # of the study, beside the block's own epochs
    assert (other.seeds, other.width, other.training.epochs) == ([1, 2], 4, 20)
    # The block's own weight, and the study's own temperature.
    assert (clean.ways["output"].weight, clean.ways["output"].temperature) == (1.0, 3.0)
    assert (other.ways["output"].weight, other.ways["output"].temperature) == (7.0, 3.0)


def test_a_block_has_the_digests_of_a_study_of_its_own():
    alone = deepcopy(PARAMS)
    whole = alone["studies"]["whole"]
    own = whole.pop("blocks")[1]
    alone["studies"]["whole"] = {
        **whole,
        "ways": {},
        **own,
        "training": {"epochs": 10, "warmup_epochs": 1},
    }
    of_block = {cell.name: cell.digest for cell in grid.cells(settings()) if cell.noise}
    assert {cell.name: cell.digest for cell in grid.cells(settings(alone))} == of_block


def test_the_same_cell_in_two_blocks_is_one():
    again = {"datasets": ["digits"], "noise": ["clean"], "methods": ["output", "kernel"]}
    cells = grid.cells(settings(changed(blocks=[*PARAMS["studies"]["whole"]["blocks"], again])))
    names = [cell.name for cell in cells]
    assert names.count("digits-clean-vgg16-output") == 1
    assert names[-1] == "digits-clean-vgg16-kernel"


@pytest.mark.parametrize("stated", ["combinations", ["combinations"], ["base", "combinations"]])
def test_combinations_are_the_sixteen(stated):
    found = [cell.method for cell in grid.cells(settings(block(0, methods=stated)))][:16]
    assert found == methods.combined()
    assert len(set(found)) == 16
    more = settings(block(0, methods=["combinations", "control"]))
    assert [cell.method for cell in grid.cells(more)][16] == "control"


def test_the_settings_of_each_block_are_listed():
    shown = {(row["section"], row["setting"]): row["value"] for row in listing.rows(settings())}
    assert shown["training", "epochs"] == 20
    assert shown["studies.whole.blocks[1].training", "epochs"] == 10
    assert shown["studies.whole.blocks[2].ways.clean.output", "weight"] == 7.0
    assert ("studies.whole.blocks[1].training", "warmup_epochs") not in shown


# bad input --------------------------------------------------------------------------------------

PLACE = "params.yaml: studies.whole"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (block(1, datasets=["digit"]), f"{PLACE}.blocks[1].datasets[0]: unknown dataset 'digit'"),
        (block(1, noise=["n50"]), f"{PLACE}.blocks[1].noise[0]: unknown noise 'n50'"),
        (block(1, methods=["bas"]), f"{PLACE}.blocks[1].methods[0]: unknown method 'bas'"),
        (block(2, methods=["combination"]), f"{PLACE}.blocks[2].methods[0]: unknown method"),
        (block(2, methods="base"), f"{PLACE}.blocks[2].methods: 'base' is not a list"),
        (block(2, backbones=["vgg"]), f"{PLACE}.blocks[2].backbones[0]: unknown backbone 'vgg'"),
        (block(0, seeds=[]), f"{PLACE}.blocks[0].seeds: [] is empty; give at least one"),
        (block(0, width=1), f"{PLACE}.blocks[0].width: 1 is out of range"),
        (block(0, anchors={}), f"{PLACE}.blocks[0].anchors: unknown key 'anchors'"),
        (block(0, training={"epochs": 1}), f"{PLACE}.blocks[0].training: warmup_epochs 1 must be"),
        (
            block(1, ways={"clean": {"kernel": {"weight": 1.0}}}),
            f"{PLACE}.blocks[1].ways.clean: unknown noise of the block 'clean'",
        ),
        (
            changed(ways={"n50": {"kernel": {"weight": 1.0}}}),
            f"{PLACE}.ways.n50: unknown noise of the study 'n50'",
        ),
        (changed(blocks=[]), f"{PLACE}.blocks: [] is empty; give at least one"),
        (changed(blocks=[{}]), f"{PLACE}.blocks[0]: missing: datasets, noise, methods, here or at"),
        (changed(blocks=["x"]), f"{PLACE}.blocks[0]: 'x' is not a mapping"),
        (
            changed(anchors={"digits-clean-resnet18-base": 0.5}),
            f"{PLACE}.anchors: 'digits-clean-resnet18-base' is not a cell of the study",
        ),
        (
            block(2, seeds=[*range(90_000)], methods=["base", "output"]),
            f"{PLACE}: 180,016 networks are too many",
        ),
    ],
)
def test_what_is_wrong_with_a_block_is_said_with_its_place(raw, fault):
    found = faults(raw)
    assert any(line.startswith(fault) for line in found), found


def test_two_cells_of_one_name_that_differ_are_refused():
    again = {"datasets": ["digits"], "noise": ["clean"], "methods": ["output"], "seeds": [1]}
    [fault] = faults(changed(blocks=[*PARAMS["studies"]["whole"]["blocks"], again]))
    assert fault == (
        f"{PLACE}: blocks[0] and blocks[3] both have the cell digits-clean-vgg16-output, but "
        "differ: seeds [1, 2] -> [1]; leave it out of one"
    )


def test_what_a_way_does_not_use_makes_no_other_cell():
    """The variant `augment` has no dropout_rate, so the digest is the same."""
    again = {
        "datasets": ["digits"],
        "noise": ["clean"],
        "methods": ["output"],
        "ways": {"clean": {"output": {"dropout_rate": 0.9}}},
    }
    cells = grid.cells(settings(changed(blocks=[*PARAMS["studies"]["whole"]["blocks"], again])))
    assert len(cells) == 7


def test_combinations_alone_are_checked_as_their_list_is():
    raw = block(0, methods="combinations", datasets=["digits"])
    raw["studies"]["whole"]["anchors"] = {"digits-clean-vgg16-typo": 0.5}
    assert faults(raw)[0].startswith(f"{PLACE}.anchors: 'digits-clean-vgg16-typo' is not a cell")
    raw = block(0, methods="combinations", seeds=[*range(20_000)])
    assert faults(raw)[0].startswith(f"{PLACE}: 320,014 networks are too many")


def test_methods_that_are_compared_have_the_same_options_of_a_way():
    again = {
        "datasets": ["digits"],
        "noise": ["clean"],
        "methods": ["output+kernel"],
        "ways": {"clean": {"output": {"weight": 9.0}}},
    }
    [fault] = faults(changed(blocks=[*PARAMS["studies"]["whole"]["blocks"], again]))
    assert "digits-clean-vgg16-output and digits-clean-vgg16-output+kernel are compared" in fault
    assert "ways.output.weight 1.0 -> 9.0" in fault


def test_methods_that_are_compared_are_trained_alike():
    again = {"datasets": ["digits"], "noise": ["clean"], "methods": ["kernel"], "width": 16}
    [fault] = faults(changed(blocks=[*PARAMS["studies"]["whole"]["blocks"], again]))
    assert fault == (
        f"{PLACE}: blocks[0] and blocks[3]: digits-clean-vgg16-base and digits-clean-vgg16-kernel "
        "are compared, but differ: width 8 -> 16; give them the same"
    )


def test_the_schema_knows_blocks():
    for raw, fits in [
        (PARAMS, True),
        (block(0, methods="combinations"), True),
        (block(0, methods="base"), False),
        (block(0, width=1), False),
        (changed(blocks=[]), False),
    ]:
        assert jsonschema.Draft202012Validator(schema.schema()).is_valid(raw) == fits
    lacking = deepcopy(PARAMS)
    del lacking["studies"]["whole"]["blocks"]
    assert not jsonschema.Draft202012Validator(schema.schema()).is_valid(lacking)


# tables -----------------------------------------------------------------------------------------

NOISES = {
    **{f"n{rate}": {"kind": "symmetric", "rate": rate / 100, "noise_seed": 0} for rate in (20, 50)},
    **{f"pair{rate}": {"kind": "pair", "rate": rate / 100, "noise_seed": 0} for rate in (20, 40)},
}


@pytest.fixture
def study(tmp_path) -> Study:
    """Clean digits for one method more, and four noises; `kernel` has another seed than base."""
    study = Study.make(tmp_path)
    study.raw["noise"] |= NOISES
    study.plan |= {
        "blocks": [
            {
                "noise": ["clean"],
                "methods": ["base", "output", "kernel"],
                "training": {"epochs": 2},
            },
            {"noise": [*NOISES], "methods": ["base", "output"], "training": {"epochs": 3}},
            {"noise": ["clean"], "methods": ["all"], "seeds": [2, 3, 4], "training": {"epochs": 2}},
        ]
    }
    study.plan["training"] |= {"warmup_epochs": 0}
    return study


def accuracies(cell: grid.Cell) -> list[float]:
    """Base gains a point from seed to seed; the others are a point, or for `all` two, better."""
    better = {"base": 0.0, "all": 0.02}.get(cell.method, 0.01 + 0.001 * (cell.noise is None))
    jitter = {1: 0.0, 2: 0.001, 3: 0.0, 4: 0.3}
    return [
        0.5 + 0.01 * seed + (better + jitter[seed] if cell.method != "base" else 0)
        for seed in cell.seeds
    ]


def test_many_noises_make_a_table_for_each_kind(study, monkeypatch):
    study.write(accuracies)
    documents = study.documents()
    found = by_name(documents)
    assert [part.name for part in parts(documents.summary, "digits")] == [
        "digits-clean",
        "digits-symmetric",
        "digits-pair",
    ]
    rows = found["accuracy-digits-symmetric"].rows()
    assert list(rows) == ["resnet18/base", "resnet18/output"]  # no row for what no cell plans
    assert list(rows["resnet18/base"]) == ["n20", "n50"]
    assert rows["resnet18/base"]["n20"].mean == pytest.approx(52)
    assert found["accuracy-digits-pair"].caption.startswith("digits, pair labels: test accuracy")
    monkeypatch.setattr(figures, "_save", lambda figure, folder, name: folder / f"{name}.png")
    figures_folder = study.project.build / "figures"
    figures_folder.mkdir(parents=True)
    shown = [figure.name for figure in figures.write(study.project, documents)]
    assert {"error-digits-clean.png", "noise-digits-pair.png"} <= {*shown}
    tables.write(study.project, documents)
    text = (study.project.build / "appendix.tex").read_text(encoding="utf-8")
    for kind in ("clean", "symmetric", "pair"):
        assert text.count(rf"\section{{All measures: digits, {kind} labels}}") == 1
    for name, table in found.items():
        # The accuracies stand in the table of the effects.
        if table.shown and "digits-" in name and not name.startswith("accuracy"):
            assert rf"\input{{build/tables/{name}.tex}}" in text


def test_methods_with_other_seeds_are_compared_over_those_that_both_have(study):
    study.write(accuracies)
    made = summary.build(study.project, study.settings)
    [row] = [row for row in made["cells"] if row["method"] == "all"]
    difference = row["difference_to_base"]
    assert (row["seeds"], difference["seeds"]) == ([2, 3, 4], [2, 3])
    assert difference["values"] == pytest.approx([0.021, 0.02])
    assert difference["n"] == 2
    assert not difference["significant"]  # two seeds are too few
    captions = {name: table.caption for name, table in study.tables().items()}
    assert "Mean of n = 3 seeds" in captions["accuracy-digits-clean"]
    study.raw["studies"]["quick"]["blocks"][2]["seeds"] = [1, 2, 3, 4]
    study.write(accuracies)
    assert "Mean of n = 3 to 4 seeds" in study.tables()["accuracy-digits-clean"].caption
    study.raw["studies"]["quick"]["blocks"][2]["seeds"] = [4]
    study.write(accuracies)
    alone = summary.build(study.project, study.settings)
    [row] = [row for row in alone["cells"] if row["method"] == "all"]
    assert "difference_to_base" not in row


def test_a_comparison_is_planned_where_base_is_and_shares_a_seed(study):
    study.plan["blocks"][1]["methods"] = ["output"]  # without base
    study.plan["blocks"][2]["seeds"] = [4, 5]
    study.write(lambda cell: [0.5 + 0.01 * seed for seed in cell.seeds])
    counted = summary.build(study.project, study.settings)["comparisons"]["digits"]["base"]
    assert (counted["planned"], counted["made"], counted["pairs"]) == (2, 2, 3)
    assert counted["least_permutation_p"] == 0.25
    text = study.written("appendix.tex")
    for kind, there in (("clean", True), ("symmetric", False), ("pair", False)):
        shown = rf"\includegraphics{{build/figures/difference-to-base-digits-{kind}.pdf}}" in text
        assert shown == there, kind


def test_a_claim_is_judged_over_the_seeds_that_both_have(study):
    study.raw["claims"]["ledger"] = {
        "gain": {
            "says": "All ways gain.",
            "measure": "accuracy",
            "methods": ["all"],
            "against": ["base"],
            "datasets": ["digits"],
            "noise": ["clean"],
            "backbones": ["resnet18"],
        }
    }
    study.raw["claims"]["evidence"] = {"seeds": 2, "width": 8, "epochs": 2}
    study.write(accuracies)
    [claim] = claims.judge(study.project, study.settings)
    [comparison] = claim["readings"][0]["comparisons"]
    assert comparison["seeds"] == [2, 3]
    assert comparison["values"] == pytest.approx([2.1, 2.0])
    assert comparison["n"] == 2
    study.raw["claims"]["evidence"] = {"seeds": 3, "width": 8, "epochs": 2}
    [claim] = claims.judge(study.project, study.settings)
    assert claim["readings"][0]["comparisons"][0]["size"] is None  # three seeds each, two shared


def test_settings_that_differ_are_shown_with_where_they_hold(study):
    study.raw["datasets"]["part"] = study.raw["datasets"]["digits"] | {"padding": 2}
    study.plan["blocks"].append(
        {"datasets": ["part"], "noise": ["clean"], "methods": ["base"], "training": {"epochs": 4}}
    )
    study.write(accuracies)
    rows = study.tables()["settings"].rows()
    assert rows["training/epochs (part)"]["value"].text == "4"
    assert rows["training/epochs (digits/clean)"]["value"].text == "2"
    assert rows["study/seeds (digits/clean)"]["value"].text == "2, 3, 4"
    assert rows["backbone/width"]["value"].text == "8"
    said = study.tables()["text"].rows()
    assert "4 (digits (part))" in said["StudyEpochs"]["value"].text
    assert said["StudyWidth"]["value"].text == "8"
